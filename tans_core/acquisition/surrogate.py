"""One Gaussian process over all pairs: scaled accuracy from dataset and network, its noise from the counts.

A dataset without rows is judged by those that resemble it. Fitting (BoTorch, seconds) is apart from conditioning
(plain linear algebra, milliseconds), so that a decision never waits for a fit.
Axes: N pairs with labels, C other pairs, Q networks, D datasets, F columns of a pair or a network (see `inputs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isfinite

import botorch.settings
import torch
from botorch.exceptions import BotorchError
from botorch.models import SingleTaskGP
from botorch.optim.core import OptimizationStatus
from botorch.optim.fit import fit_gpytorch_mll_scipy
from gpytorch.kernels import Kernel
from gpytorch.means import ConstantMean
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import NormalPrior
from torch import Tensor, nn

from tans_core.acquisition.inputs import PRIOR_MEAN, Design, Labels

MAX_ROWS = 800  # the cost of a fit grows with their cube
MIN_STD = 1e-4
IN_CACHE = 2**18  # entries of a matrix at a time
PRIOR_MEAN_STD = 0.25
# Parts of the variance of scaled accuracies, before any row: what resembling datasets share, each dataset's offset
# from that, what resembling networks share, what they share on resembling datasets, and each pair's luck (seeds).
PRIOR_VARIANCES = (0.03, 0.01, 0.01, 0.005, 0.002)
PRIOR_DATASET_LENGTHSCALE, PRIOR_NETWORK_LENGTHSCALE = 4.0, 2.0
PRIOR_LOG_STD = 1.0  # of lengthscales and of variances


class FitFailed(Exception):
    """The hyperparameters cannot be fitted to these rows."""


@dataclass(frozen=True)
class Hyperparameters:
    """Of the surrogate, with the number of rows they were fitted on (0: the priors' medians)."""

    rows: int
    mean: float
    dataset_lengthscales: tuple[float, ...]
    network_lengthscales: tuple[float, ...]
    variances: tuple[float, ...]  # in the order of PRIOR_VARIANCES


def prior_hyperparameters(design: Design) -> Hyperparameters:
    """What holds before the first fit."""
    return Hyperparameters(
        rows=0,
        mean=PRIOR_MEAN,
        dataset_lengthscales=(PRIOR_DATASET_LENGTHSCALE,) * len(design.dataset_groups),
        network_lengthscales=(PRIOR_NETWORK_LENGTHSCALE,) * len(design.network_groups),
        variances=PRIOR_VARIANCES,
    )


def fit(design: Design, X_NF: Tensor, labels: Labels) -> Hyperparameters:
    """Most probable hyperparameters given rows; a function of its arguments alone, safe in a thread of its own.

    Args:
        design: the columns.
        X_NF: pairs, from `PairEncoder.encode`; the last `MAX_ROWS` of them are used.
        labels: their scaled accuracies and variances.

    Raises:
        FitFailed: a label that is not finite, a matrix that cannot be factored, a search that ended before it found
            a best, or found nothing finite.
    """
    X_NF, labels = X_NF[-MAX_ROWS:], labels[-MAX_ROWS:]
    kernel, mean = _PairKernel(design), ConstantMean(constant_prior=NormalPrior(PRIOR_MEAN, PRIOR_MEAN_STD))
    mean.initialize(constant=torch.tensor(PRIOR_MEAN, dtype=torch.float64))
    try:
        with botorch.settings.validate_input_scaling(False):  # scaled accuracies keep their unit
            model = SingleTaskGP(
                X_NF,
                labels.scaled_N[:, None],
                train_Yvar=labels.variance_N[:, None],
                covar_module=kernel,
                mean_module=mean,
                outcome_transform=None,
            )
            found = fit_gpytorch_mll_scipy(ExactMarginalLogLikelihood(model.likelihood, model))
    except (BotorchError, RuntimeError, ValueError) as error:  # gpytorch's and LAPACK's are RuntimeErrors
        raise FitFailed(f"{type(error).__name__}: {error}") from error
    if found.status != OptimizationStatus.SUCCESS:
        raise FitFailed(f"the search ended after {found.step} steps: {found.message}")
    constant = next(mean.parameters()).item()
    dataset, network, variances = (tuple(part.exp().tolist()) for part in kernel.parameters())
    if not all(map(isfinite, [found.fval, constant, *dataset, *network, *variances])):
        raise FitFailed(f"the search ended at a likelihood of {found.fval}: {found.message}")
    return Hyperparameters(len(X_NF), constant, dataset, network, variances)


@dataclass(frozen=True, eq=False)
class Posterior:
    """The surrogate given rows; from `condition`.

    Equal pairs count as two networks of one kind: what they share is the same, their luck differs.
    """

    hyperparameters: Hyperparameters
    kernel: _Kernel
    X_NF: Tensor
    labels: Labels
    cholesky_NN: Tensor  # of the labels' covariance
    white_N: Tensor  # its inverse times the labels' distances from the mean

    @cached_property
    def weight_N(self) -> Tensor:
        return torch.linalg.solve_triangular(self.cholesky_NN.T, self.white_N[:, None], upper=True)[:, 0]

    @property
    def scaled_at_rows_N(self) -> Tensor:
        """Expected true scaled accuracy of the very networks that the labels measured."""
        return self.labels.scaled_N - self.labels.variance_N * self.weight_N

    def given(self, X_PF: Tensor, labels: Labels) -> Posterior:
        """The surrogate after P more rows; costs P N^2.

        Raises:
            LinAlgError: their covariance cannot be factored.
        """
        covariance_NP, covariance_PP = self.kernel(self.X_NF, X_PF), self.kernel(X_PF, X_PF)
        covariance_PP.diagonal().add_(self.hyperparameters.variances[-1] + labels.variance_N)
        white_NP = torch.linalg.solve_triangular(self.cholesky_NN, covariance_NP, upper=False)
        cholesky_PP = torch.linalg.cholesky(covariance_PP - white_NP.T @ white_NP)
        upper = torch.cat([self.cholesky_NN, torch.zeros_like(white_NP)], dim=1)
        lower = torch.cat([white_NP.T, cholesky_PP], dim=1)
        new_P = labels.scaled_N - self.hyperparameters.mean - white_NP.T @ self.white_N
        white_P = torch.linalg.solve_triangular(cholesky_PP, new_P[:, None], upper=False)[:, 0]
        return Posterior(
            self.hyperparameters,
            self.kernel,
            torch.cat([self.X_NF, X_PF]),
            self.labels + labels,
            torch.cat([upper, lower]),
            torch.cat([self.white_N, white_P]),
        )

    def means(self, X_CF: Tensor) -> Tensor:
        """Of the scaled accuracy of new pairs, float64 (C,)."""
        parts = X_CF.split(max(1, IN_CACHE // max(1, len(self.X_NF))))
        return torch.cat([self.hyperparameters.mean + self.kernel(part, self.X_NF) @ self.weight_N for part in parts])

    def survey(self, network_QF: Tensor, datasets: int) -> Survey:
        """What it expects of networks on each of the first `datasets` datasets."""
        alike_NQ = self.kernel.alike(self.X_NF[:, 1:], network_QF)
        dataset_N = self.X_NF[:, 0].long()
        mean_D = self.hyperparameters.mean + self.kernel.by_dataset_DD[:datasets, dataset_N] @ self.weight_N
        mean_DQ = mean_D[:, None] + (self.kernel.by_network_DD[:datasets, dataset_N] * self.weight_N) @ alike_NQ
        return Survey(self, dataset_N, alike_NQ, mean_DQ)


@dataclass(frozen=True, eq=False)
class Survey:
    """Scaled accuracies of networks on D datasets, before they are trained; from `Posterior.survey`.

    Standard deviations are of the true scaled accuracy, without the noise of counting.
    """

    posterior: Posterior
    dataset_N: Tensor
    alike_NQ: Tensor
    mean_DQ: Tensor

    def std(self, dataset: int, part_Q: Tensor) -> Tensor:
        """Standard deviations of some of the networks on one dataset; costs N^2 each."""
        return self._std(dataset, part_Q, slice(None), self.posterior.cholesky_NN)

    def most_std(self) -> Tensor:
        """Bounds of all standard deviations, (D, Q), for what `std` takes for one dataset.

        A bound is the deviation given the rows of that dataset alone: further rows only shrink it.

        Raises:
            LinAlgError: the covariance of a dataset's rows cannot be factored.
        """
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


def condition(hyperparameters: Hyperparameters, design: Design, X_NF: Tensor, labels: Labels) -> Posterior:
    """The surrogate given rows; N may be 0.

    Raises:
        LinAlgError: their covariance cannot be factored.
    """
    lengthscales = hyperparameters.dataset_lengthscales, hyperparameters.network_lengthscales
    kernel = _Kernel.of(
        design, *(torch.tensor(values, dtype=torch.float64) for values in (*lengthscales, hyperparameters.variances))
    )
    none = Labels(*torch.zeros(2, 0, dtype=torch.float64))
    nothing = Posterior(hyperparameters, kernel, X_NF[:0], none, torch.zeros(0, 0, dtype=torch.float64), none.scaled_N)
    return nothing.given(X_NF, labels)


@dataclass(frozen=True, eq=False)
class _Kernel:
    """Covariance of scaled accuracies of different pairs: by_dataset + by_network * alike.

    Additive in dataset and network, plus their product; datasets are compared once, not once a pair.
    """

    by_dataset_DD: Tensor
    by_network_DD: Tensor
    lengthscale_F: Tensor  # of a network's columns

    @classmethod
    def of(cls, design: Design, dataset_G: Tensor, network_G: Tensor, variance_5: Tensor) -> _Kernel:
        scaled_DF = design.dataset_DF / _each_column(dataset_G, design.dataset_groups)
        alike_DD = _matern(scaled_DF, scaled_DF)
        one_DD = torch.eye(len(alike_DD), dtype=alike_DD.dtype)
        return cls(
            by_dataset_DD=variance_5[0] * alike_DD + variance_5[1] * one_DD,
            by_network_DD=variance_5[2] + variance_5[3] * alike_DD,
            lengthscale_F=_each_column(network_G, design.network_groups),
        )

    def alike(self, network_AF: Tensor, network_BF: Tensor) -> Tensor:
        """(A, B), 1 for equal networks."""
        return _matern(network_AF / self.lengthscale_F, network_BF / self.lengthscale_F)

    def __call__(self, X_AF: Tensor, X_BF: Tensor) -> Tensor:
        """(A, B)."""
        alike_AB = self.alike(X_AF[:, 1:], X_BF[:, 1:])
        index_A, index_B = X_AF[:, 0].long(), X_BF[:, 0].long()
        return self.by_dataset_DD[:, index_B][index_A] + self.by_network_DD[:, index_B][index_A] * alike_AB


def _each_column(lengthscale_G: Tensor, groups: tuple[int, ...]) -> Tensor:
    return lengthscale_G.repeat_interleave(torch.tensor(groups))


def _matern(A_AF: Tensor, B_BF: Tensor) -> Tensor:
    """Matern 5/2 over Euclidean distances."""
    A_AF, B_BF = 5**0.5 * A_AF, 5**0.5 * B_BF
    one_A1, one_B1 = torch.ones_like(A_AF[:, :1]), torch.ones_like(B_BF[:, :1])
    left = torch.cat([-2 * A_AF, A_AF.square().sum(1, keepdim=True), one_A1], dim=1)
    right = torch.cat([B_BF, one_B1, B_BF.square().sum(1, keepdim=True)], dim=1)
    square_AB = (left @ right.T).clamp_min(1e-14)  # 5 |a - b|^2 in one product
    distance_AB = square_AB.sqrt()
    return (1 + distance_AB).add(square_AB, alpha=1 / 3) * (-distance_AB).exp()


class _PairKernel(Kernel):
    """`_Kernel` with priors on the logarithms of its parameters, for the fit."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        self._design = design
        prior = prior_hyperparameters(design)
        starts = {
            "log_dataset": prior.dataset_lengthscales,
            "log_network": prior.network_lengthscales,
            "log_variance": prior.variances,
        }
        for name, values in starts.items():
            start = torch.tensor(values, dtype=torch.float64).log()
            self.register_parameter(name, nn.Parameter(start.clone()))
            self.register_prior(f"{name}_prior", NormalPrior(start, torch.full_like(start, PRIOR_LOG_STD)), name)

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: object) -> Tensor:
        dataset, network, variances = (part.exp() for part in self.parameters())
        if diag:
            return variances.sum().expand(len(x1))
        shared = _Kernel.of(self._design, dataset, network, variances)(x1, x2)
        if x1.shape == x2.shape and torch.equal(x1, x2):
            shared = shared + variances[-1] * torch.eye(len(x1), dtype=shared.dtype)
        return shared
