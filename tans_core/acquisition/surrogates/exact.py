"""The exact Gaussian process: every row beside every other, at a cost that grows with the square of the rows.

Axes: N pairs with labels, P more of them, C other pairs, Q networks, D datasets, F columns of a pair or a network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tans_core.acquisition.inputs import Design, Labels
from tans_core.acquisition.surrogates.kernel import Hyperparameters, PairKernel

MIN_STD = 1e-4
IN_CACHE = 2**18  # entries of a matrix at a time


@dataclass(frozen=True, eq=False)
class Exact:
    """A `Surrogate`; from `condition`."""

    hyperparameters: Hyperparameters
    kernel: PairKernel
    X_NF: Tensor
    labels: Labels
    cholesky_NN: Tensor  # of the labels' covariance
    white_N: Tensor  # its inverse times the labels' distances from the mean

    def __len__(self) -> int:
        return len(self.X_NF)

    @cached_property
    def weight_N(self) -> Tensor:
        return torch.linalg.solve_triangular(self.cholesky_NN.T, self.white_N[:, None], upper=True)[:, 0]

    @property
    def scaled_at_rows_N(self) -> Tensor:
        return self.labels.scaled_N - self.labels.variance_N * self.weight_N

    def given(self, X_PF: Tensor, labels: Labels) -> Exact:
        """Costs P N^2."""
        covariance_NP, covariance_PP = self.kernel(self.X_NF, X_PF), self.kernel(X_PF, X_PF)
        covariance_PP.diagonal().add_(self.kernel.luck + labels.variance_N)
        white_NP = torch.linalg.solve_triangular(self.cholesky_NN, covariance_NP, upper=False)
        cholesky_PP = torch.linalg.cholesky(covariance_PP - white_NP.T @ white_NP)
        new_P = labels.scaled_N - self.hyperparameters.mean - white_NP.T @ self.white_N
        white_P = torch.linalg.solve_triangular(cholesky_PP, new_P[:, None], upper=False)[:, 0]
        return Exact(
            self.hyperparameters,
            self.kernel,
            torch.cat([self.X_NF, X_PF]),
            self.labels + labels,
            bordered(self.cholesky_NN, white_NP, cholesky_PP),
            torch.cat([self.white_N, white_P]),
        )

    def means(self, X_CF: Tensor) -> Tensor:
        parts = X_CF.split(max(1, IN_CACHE // max(1, len(self))))
        return torch.cat([self.hyperparameters.mean + self.kernel(part, self.X_NF) @ self.weight_N for part in parts])

    def survey(self, network_QF: Tensor, datasets: int) -> ExactSurvey:
        alike_NQ = self.kernel.alike(self.X_NF[:, 1:], network_QF)
        dataset_N = self.X_NF[:, 0].long()
        mean_D = self.hyperparameters.mean + self.kernel.by_dataset_DD[:datasets, dataset_N] @ self.weight_N
        mean_DQ = mean_D[:, None] + (self.kernel.by_network_DD[:datasets, dataset_N] * self.weight_N) @ alike_NQ
        return ExactSurvey(self, dataset_N, alike_NQ, mean_DQ)


@dataclass(frozen=True, eq=False)
class ExactSurvey:
    """A `Survey`; from `Exact.survey`."""

    posterior: Exact
    dataset_N: Tensor
    alike_NQ: Tensor
    mean_DQ: Tensor

    def std(self, dataset: int, part_Q: Tensor) -> Tensor:
        """Costs N^2 each."""
        return self._std(dataset, part_Q, slice(None), self.posterior.cholesky_NN)

    def most_std(self) -> Tensor:
        """A bound is the deviation given the rows of that dataset alone: further rows only shrink it."""
        rows_of = [(self.dataset_N == index).nonzero()[:, 0] for index in range(len(self.mean_DQ))]
        cholesky_NN, all_Q = self.posterior.cholesky_NN, slice(None)
        alone = (torch.linalg.cholesky(cholesky_NN[rows] @ cholesky_NN[rows].T) for rows in rows_of)
        bounds = [self._std(index, all_Q, rows, low) for index, (rows, low) in enumerate(zip(rows_of, alone))]
        return torch.stack(bounds)

    def _std(self, dataset: int, part_Q: Tensor | slice, rows: Tensor | slice, cholesky: Tensor) -> Tensor:
        """Given some of the rows, with the Cholesky factor of their covariance."""
        kernel, index_N = self.posterior.kernel, self.dataset_N[rows]
        covariance = kernel.by_network_DD[dataset, index_N, None] * self.alike_NQ[rows][:, part_Q]
        covariance += kernel.by_dataset_DD[dataset, index_N, None]
        white = torch.linalg.solve_triangular(cholesky, covariance, upper=False)
        variance_Q = sum(self.posterior.hyperparameters.variances) - white.square_().sum(dim=0)
        return variance_Q.clamp_min(MIN_STD**2).sqrt()


def condition(hyperparameters: Hyperparameters, design: Design, X_NF: Tensor, labels: Labels) -> Exact:
    """The surrogate given rows; N may be 0.

    Raises:
        LinAlgError: their covariance cannot be factored.
    """
    kernel = PairKernel.of(design, hyperparameters)
    none = Labels(*torch.zeros(2, 0, dtype=torch.float64))
    nothing = Exact(hyperparameters, kernel, X_NF[:0], none, torch.zeros(0, 0, dtype=torch.float64), none.scaled_N)
    return nothing.given(X_NF, labels)


def bordered(cholesky_NN: Tensor, white_NP: Tensor, corner_PP: Tensor) -> Tensor:
    """A Cholesky factor with P more rows; `white_NP` is transposed left of the corner."""
    upper = torch.cat([cholesky_NN, torch.zeros_like(white_NP)], dim=1)
    return torch.cat([upper, torch.cat([white_NP.T, corner_PP], dim=1)])
