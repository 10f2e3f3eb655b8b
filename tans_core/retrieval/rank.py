"""From a query's place to one order of candidates: rows, and the starting weights without a source.

A row of the shortlist scores

    similarity + WEIGHT * (scaled accuracy + what its prediction differs by beyond the predictor's error)

Similarity is that of its dataset's nearest row: rows of one dataset have seen the same, so that among them the
measured accuracy decides. It is scaled by (a - chance) / (1 - chance), because datasets have different chances; rows
of a dataset that counts cannot tell apart (`level_with`) share that of the best of them, and the smaller comes first.
Predictions are compared with that of the row which is first without them; what they differ by less than the
predictor's error on datasets that it never saw counts for nothing. `WEIGHT` is small: accuracies of different datasets
say how easy these were rather than how much a network can teach, so they decide between datasets that are as near.

The starting weights stand behind the rows of datasets that are at least as near to the query as `bar`, and before all
others: a source is taken where it is nearer than strangers are. Datasets are compared by their own places, which no
network's training has blurred. The starting weights come in the architectures of the zoo's rows, and of those only in
what no smaller one is predicted to equal: each row of the zoo is a training from them, so that the prediction for an
architecture is theirs.

Neither how many are shown nor a limit has a part in the order: a shorter list is the head of a longer one, and a limit
takes rows out and moves none.
Axes: R rows, K datasets, E the space, X facts, S the shortlist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softshrink

from tans_core.cross_modal.encoders import SpaceModel
from tans_core.evaluation.noise import level_with
from tans_core.retrieval.index import Index, Neighbour

SHORTLIST = 100  # nearest rows that are scored; the others follow by nearness
WEIGHT = 0.05  # similarity that perfect accuracy is worth over chance; the two nearest datasets are often 0.1 apart


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """What is known of the rows, in the order of the index, and of their datasets."""

    dataset_R: Tensor  # int64, place of each row's dataset
    correct_R: Tensor  # int64, in validation, on the row's dataset
    total_R: Tensor  # int64
    params_R: Tensor  # float64
    chance_K: Tensor  # float64

    def count(self, place: int) -> tuple[int, int]:
        return int(self.correct_R[place]), int(self.total_R[place])

    def dataset(self, place: int) -> int:
        return int(self.dataset_R[place])

    def scaled_accuracy(self, place: int) -> float:
        """0 for chance and below, 1 for perfect."""
        (correct, total), chance = self.count(place), self.chance_K[self.dataset(place)].item()
        return max(0.0, (correct / total - chance) / (1 - chance))


@dataclass(frozen=True, slots=True)
class Ranked:
    """A row by its place in the index, or its architecture from the starting weights, and what is known of it."""

    place: int
    similarity: float | None  # cosine to the query; None: the starting weights
    predicted_accuracy: float  # on the query
    beyond: float = 0.0  # the part of the prediction's difference to the first row's that is more than the error

    @property
    def is_start(self) -> bool:
        return self.similarity is None


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The head of the order; whether an allowed row is of a dataset as near as the bar."""

    head: tuple[Ranked, ...]
    is_known: bool


def rank(
    model: SpaceModel,
    index: Index,
    measured: Measured,
    query_E: Tensor,
    facts_X: Tensor,
    similarity_K: Tensor,
    allowed_R: Tensor,
    top: int,
    *,
    error: float | None,
    bar: float | None,
) -> Ranking:
    """The first `top` of the allowed rows and their architectures without a source; ties by nearness, size and key.

    Args:
        similarity_K: of the query to the datasets.
        allowed_R: bool.
        error: of the predictor on datasets that it never saw, 0 to 1; None: not known, no prediction counts.
        bar: similarity of strangers; None: not known, the starting weights come last.
    """
    with torch.no_grad():
        predicted_R = model.predict(query_E[None], facts_X[None], index.architecture_RA).double()
    about_R = index.similarities(query_E)
    shortlist = index.top(query_E, SHORTLIST, torch.ones_like(allowed_R), about_R)
    predicted_S = [_round(predicted_R[each.place]) for each in shortlist]
    ordered = _by_score(shortlist, predicted_S, index.keys, measured, error)
    beyond_R = allowed_R.clone()
    beyond_R[[each.place for each in shortlist]] = False
    near_R = torch.ones_like(allowed_R) if bar is None else (similarity_K >= bar)[measured.dataset_R]

    def side(side_R: Tensor) -> list[Ranked]:
        """Those of the shortlist by score, then the others by nearness."""
        first = [each for each in ordered if allowed_R[each.place] and side_R[each.place]]
        if len(first) >= top:
            return first
        behind = index.top(query_E, top, beyond_R & side_R, about_R)
        return first + [Ranked(each.place, each.similarity, _round(predicted_R[each.place])) for each in behind]

    head = side(near_R)
    if len(head) < top:
        starts = _starts(predicted_R, measured.params_R, allowed_R, index.keys, error)
        head += [Ranked(place, None, _round(predicted_R[place])) for place in starts]
    if len(head) < top:
        head += side(~near_R)
    return Ranking(head=tuple(head[:top]), is_known=bool((allowed_R & near_R).any()))


def _by_score(
    shortlist: Sequence[Neighbour],
    predicted_S: Sequence[float],
    keys: Sequence[str],
    measured: Measured,
    error: float | None,
) -> list[Ranked]:
    nearest: dict[int, float] = {}  # row of each dataset: the shortlist begins with the nearest
    for each in shortlist:
        nearest.setdefault(measured.dataset(each.place), each.similarity)
    near_S = [nearest[measured.dataset(each.place)] for each in shortlist]
    score_S = [near + WEIGHT * level for near, level in zip(near_S, _levels(shortlist, measured))]

    def by(score_S: Sequence[float]) -> list[int]:
        def order(at: int) -> tuple[float, float, float, str]:
            place = shortlist[at].place
            return -score_S[at], -near_S[at], measured.params_R[place].item(), keys[place]

        return sorted(range(len(shortlist)), key=order)

    beyond_S = [0.0] * len(shortlist)
    if error is not None and shortlist:
        first = predicted_S[by(score_S)[0]]
        beyond_S = softshrink(torch.tensor(predicted_S, dtype=torch.float64) - first, error).tolist()
        score_S = [score + WEIGHT * beyond for score, beyond in zip(score_S, beyond_S)]
    return [Ranked(shortlist[at].place, shortlist[at].similarity, predicted_S[at], beyond_S[at]) for at in by(score_S)]


def _levels(shortlist: Sequence[Neighbour], measured: Measured) -> list[float]:
    """Scaled accuracy of each row, or that of the best row of its dataset that counts cannot tell it from."""
    of_dataset: dict[int, list[int]] = {}
    for at, each in enumerate(shortlist):
        of_dataset.setdefault(measured.dataset(each.place), []).append(at)
    levels = [0.0] * len(shortlist)
    for members in of_dataset.values():
        left = sorted(members, key=lambda at: -measured.scaled_accuracy(shortlist[at].place))
        while left:
            best = shortlist[left[0]].place
            level = [at for at in left if level_with(measured.count(best), measured.count(shortlist[at].place))]
            for at in level:
                levels[at] = measured.scaled_accuracy(best)
            left = [at for at in left if at not in level]
    return levels


def _starts(
    predicted_R: Tensor, params_R: Tensor, allowed_R: Tensor, keys: Sequence[str], error: float | None
) -> list[int]:
    """Rows in whose architectures the starting weights are worth naming, the best first.

    The smallest, and what is predicted above it by more than the error; from there on again.
    """
    chosen: list[int] = []
    eligible_R = allowed_R
    while eligible_R.any():
        least = params_R[eligible_R].min()
        equal: list[int] = (eligible_R & (params_R == least)).nonzero().squeeze(1).tolist()
        chosen.insert(0, min(equal, key=lambda place: keys[place]))
        if error is None:
            break
        eligible_R = eligible_R & (predicted_R > predicted_R[chosen[0]] + error)
    return chosen


def _round(value: Tensor) -> float:
    """A prediction's last bits depend on where its row stands in the index."""
    return round(value.item(), 6)
