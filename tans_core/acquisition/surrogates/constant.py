"""The control: one mean and one deviation for every pair that was not trained. What is won beyond it, a surrogate won.

Axes: N pairs with labels, P more of them, C other pairs, Q networks, D datasets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tans_core.acquisition.inputs import PRIOR_MEAN, Design, Labels
from tans_core.acquisition.surrogates.kernel import PRIOR_VARIANCES, Hyperparameters

LEAST_VARIANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Constant:
    """A `Surrogate`; from `condition`."""

    hyperparameters: Hyperparameters
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels.scaled_N)

    @cached_property
    def mean(self) -> float:
        return self.labels.scaled_N.mean().item() if len(self) else PRIOR_MEAN

    @cached_property
    def variance(self) -> float:
        """Of true accuracies: what the labels vary by beyond the noise of counting."""
        if len(self) < 2:
            return sum(PRIOR_VARIANCES)
        return max(LEAST_VARIANCE, (self.labels.scaled_N.var() - self.labels.variance_N.mean()).item())

    @property
    def scaled_at_rows_N(self) -> Tensor:
        trust_N = self.variance / (self.variance + self.labels.variance_N)
        return self.mean + trust_N * (self.labels.scaled_N - self.mean)

    def given(self, X_PF: Tensor, labels: Labels) -> Constant:
        return Constant(self.hyperparameters, self.labels + labels)

    def means(self, X_CF: Tensor) -> Tensor:
        return torch.full((len(X_CF),), self.mean, dtype=torch.float64)

    def survey(self, network_QF: Tensor, datasets: int) -> ConstantSurvey:
        mean_DQ = torch.full((datasets, len(network_QF)), self.mean, dtype=torch.float64)
        return ConstantSurvey(mean_DQ, self.variance**0.5)


@dataclass(frozen=True, eq=False)
class ConstantSurvey:
    """A `Survey`."""

    mean_DQ: Tensor
    deviation: float

    def std(self, dataset: int, part_Q: Tensor) -> Tensor:
        return torch.full((len(part_Q),), self.deviation, dtype=torch.float64)

    def most_std(self) -> Tensor:
        return torch.full_like(self.mean_DQ, self.deviation)


def condition(hyperparameters: Hyperparameters, design: Design, X_NF: Tensor, labels: Labels) -> Constant:
    """The surrogate given rows; N may be 0."""
    return Constant(hyperparameters, labels)
