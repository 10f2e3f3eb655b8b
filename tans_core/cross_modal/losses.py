"""Contrastive losses, both ways: each query finds its network, each network its query.

Axes: K datasets of a batch, one row each. `negative_KK[i, j]` says whether j may be a negative of i; those of one
source never are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

MARGIN = 0.2  # of the authors' code
TEMPERATURE = 0.1


class Loss(Protocol):
    """Of a batch's similarities and who may be a negative; each has a use for one of the two numbers, or for none."""

    def __call__(self, similarity_KK: Tensor, negative_KK: Tensor, *, margin: float, temperature: float) -> Tensor: ...


def negatives(sources: Sequence[str]) -> Tensor:
    """Which datasets may be each other's negatives, bool (K, K): those of different sources."""
    return torch.tensor([[one != other for other in sources] for one in sources])


def infonce(
    similarity_KK: Tensor, negative_KK: Tensor, *, margin: float = MARGIN, temperature: float = TEMPERATURE
) -> Tensor:
    """Cross-entropy of the matching entry (the diagonal) among it and the negatives, mean over both ways."""
    matching = torch.eye(len(similarity_KK), dtype=torch.bool)
    logits = (similarity_KK / temperature).masked_fill(~(negative_KK | matching), -torch.inf)
    target = torch.arange(len(logits))
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def sum_of_hinges(
    similarity_KK: Tensor, negative_KK: Tensor, *, margin: float = MARGIN, temperature: float = TEMPERATURE
) -> Tensor:
    """max(0, margin + s- - s+), summed over all negatives of both ways; mean over the datasets.

    What the authors' code trains (VSE), where the sum is over the datasets too.
    """
    match_K = similarity_KK.diagonal()
    to_models = (margin + similarity_KK - match_K[:, None]).clamp(min=0)
    to_queries = (margin + similarity_KK - match_K[None, :]).clamp(min=0)
    return ((to_models + to_queries) * negative_KK).sum() / len(match_K)


def printed(
    similarity_KK: Tensor, negative_KK: Tensor, *, margin: float = MARGIN, temperature: float = TEMPERATURE
) -> Tensor:
    """Equation 3 as printed: max(0, margin - log(exp(s+) / exp(sum of s-))), mean over datasets and ways.

    For the ablation only: it is 0 as soon as the negatives' sum is low enough, however near one of them is.
    """
    match_K, others_KK = similarity_KK.diagonal(), similarity_KK * negative_KK
    ways = [margin - match_K + others_KK.sum(dim=axis) for axis in (0, 1)]
    return torch.stack(ways).clamp(min=0).mean()


LOSSES: dict[str, Loss] = {"infonce": infonce, "hinges": sum_of_hinges, "printed": printed}
