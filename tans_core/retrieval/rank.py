"""From a query's place to a list of networks: the nearest, and among them those that learned something.

A row of the shortlist scores

    similarity + WEIGHT * (scaled accuracy + what its prediction differs by beyond the predictor's error)

Similarity is that of its dataset's nearest row: rows of one dataset have seen the same, so that among them the
measured accuracy decides. It is scaled by (a - chance) / (1 - chance), because datasets have different chances.
Predictions are compared with that of the row which is first without them; what they differ by less than the
predictor's error on datasets that it never saw counts for nothing. `WEIGHT` is small: accuracies of different datasets
say how easy these were rather than how much a network can teach, so they decide between datasets that are as near.

Neither how many are shown nor a limit has a part in the order: a shorter list is the head of a longer one, and a limit
takes rows out and moves none.
Axes: R rows, E the space, X facts, S the shortlist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softshrink

from tans_core.cross_modal.encoders import SpaceModel
from tans_core.retrieval.index import Index, Neighbour

SHORTLIST = 100  # nearest rows that are scored; the others follow by nearness
WEIGHT = 0.05  # similarity that perfect accuracy is worth over chance; the two nearest datasets are often 0.1 apart


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of the rows, in the order of the index."""

    datasets: Sequence[str]  # fingerprints
    accuracies: Sequence[float]  # in validation, on the row's dataset
    chances: Sequence[float]  # of those datasets

    def scaled_accuracy(self, place: int) -> float:
        """0 for chance and below, 1 for perfect."""
        chance = self.chances[place]
        return max(0.0, (self.accuracies[place] - chance) / (1 - chance))


@dataclass(frozen=True, slots=True)
class Ranked:
    """A row by its place in the index, its cosine to the query, and the accuracy predicted for it there."""

    place: int
    similarity: float
    predicted_accuracy: float


def rank(
    model: SpaceModel,
    index: Index,
    measured: Measured,
    query_E: Tensor,
    facts_X: Tensor,
    allowed_R: Tensor,
    top: int,
    *,
    error: float | None,
) -> list[Ranked]:
    """The first `top` of the allowed rows: the shortlist by score, then the others by nearness; ties by key.

    Args:
        allowed_R: bool.
        error: of the predictor on datasets that it never saw, 0 to 1; None: not known, no prediction counts.
    """
    with torch.no_grad():
        exact_R = model.predict(query_E[None], facts_X[None], index.architecture_RA).tolist()
    predicted_R = [round(each, 6) for each in exact_R]  # its last bits depend on where a row stands
    shortlist = index.top(query_E, SHORTLIST, torch.ones_like(allowed_R))
    ordered = _by_score(shortlist, [predicted_R[each.place] for each in shortlist], index.keys, measured, error)
    beyond_R = allowed_R.clone()
    beyond_R[[each.place for each in shortlist]] = False
    found = [each for each in ordered if allowed_R[each.place]] + index.top(query_E, top, beyond_R)
    return [Ranked(each.place, each.similarity, predicted_R[each.place]) for each in found[:top]]


def _by_score(
    shortlist: Sequence[Neighbour],
    predicted_S: Sequence[float],
    keys: Sequence[str],
    measured: Measured,
    error: float | None,
) -> list[Neighbour]:
    nearest: dict[str, float] = {}  # similarity of each dataset's nearest row: the shortlist begins with the nearest
    for each in shortlist:
        nearest.setdefault(measured.datasets[each.place], each.similarity)
    score_S = [
        nearest[measured.datasets[each.place]] + WEIGHT * measured.scaled_accuracy(each.place) for each in shortlist
    ]

    def by(score_S: Sequence[float]) -> list[int]:
        return sorted(
            range(len(shortlist)), key=lambda at: (-score_S[at], -shortlist[at].similarity, keys[shortlist[at].place])
        )

    if error is not None and shortlist:
        first = predicted_S[by(score_S)[0]]
        beyond_S = softshrink(torch.tensor(predicted_S, dtype=torch.float64) - first, error).tolist()
        score_S = [score + WEIGHT * beyond for score, beyond in zip(score_S, beyond_S)]
    return [shortlist[at] for at in by(score_S)]
