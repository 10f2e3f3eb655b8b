"""From a query's place to a list of networks: the nearest are found, then predicted accuracy picks among them.

Axes: R rows, E the space, X facts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tans_core.cross_modal.encoders import SpaceModel
from tans_core.retrieval.index import Index


@dataclass(frozen=True, slots=True)
class Ranked:
    """A row by its place in the index, its cosine to the query, and the accuracy predicted for it there."""

    place: int
    similarity: float
    predicted_accuracy: float


def rank(
    model: SpaceModel, index: Index, query_E: Tensor, facts_X: Tensor, allowed_R: Tensor, top: int
) -> list[Ranked]:
    """The `top` nearest allowed rows (eq. 6), best predicted accuracy first; ties by similarity, then by key."""
    nearest = index.top(query_E, top, allowed_R)
    if not nearest:
        return []
    with torch.no_grad():
        predicted = model.predict(
            query_E.expand(len(nearest), -1),
            facts_X.expand(len(nearest), -1),
            index.embedding_RE[[each.place for each in nearest]],
        )
    found = [
        Ranked(each.place, each.similarity, round(accuracy, 6)) for each, accuracy in zip(nearest, predicted.tolist())
    ]
    return sorted(found, key=lambda each: (-each.predicted_accuracy, -each.similarity, index.keys[each.place]))
