"""One Gaussian process over all pairs: accuracy from dataset and network, its noise from the counts.

A dataset without rows is judged by those that resemble it. Fitting (BoTorch, seconds) is apart from conditioning
(plain linear algebra, milliseconds), so that a decision never waits for a fit.
Axes: N pairs with labels, C candidates, F columns of a pair (see `inputs`), D datasets.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import botorch.settings
import torch
from botorch.exceptions import BotorchError
from botorch.models import SingleTaskGP
from botorch.optim.fit import fit_gpytorch_mll_scipy
from gpytorch.kernels import Kernel
from gpytorch.means import ConstantMean
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import NormalPrior
from torch import Tensor, nn

from tans_core.acquisition.inputs import Design, Labels

MAX_ROWS = 800  # the cost of a fit grows with their cube
MIN_STD = 1e-4
IN_CACHE = 512  # candidates at a time: 12,000 at once take twice as long
PRIOR_MEAN, PRIOR_MEAN_STD = 0.5, 0.25  # of scaled accuracies
# Parts of the variance of scaled accuracies, before any row: what resembling datasets share, a dataset's own,
# what resembling networks share, what they share on resembling datasets, and each pair's own (seeds, luck).
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
        FitFailed: a label that is not finite, a matrix that cannot be factored, a search that finds nothing finite.
    """
    X_NF, y_N1, variance_N1 = (
        part[-MAX_ROWS:] for part in (X_NF, labels.accuracy_N[:, None], labels.variance_N[:, None])
    )
    kernel, mean = _PairKernel(design), ConstantMean(constant_prior=NormalPrior(PRIOR_MEAN, PRIOR_MEAN_STD))
    mean.initialize(constant=torch.tensor(PRIOR_MEAN, dtype=torch.float64))
    try:
        with botorch.settings.validate_input_scaling(False):  # scaled accuracies keep their unit
            model = SingleTaskGP(
                X_NF, y_N1, train_Yvar=variance_N1, covar_module=kernel, mean_module=mean, outcome_transform=None
            )
            found = fit_gpytorch_mll_scipy(ExactMarginalLogLikelihood(model.likelihood, model))
    except (BotorchError, RuntimeError, ValueError) as error:  # gpytorch's and LAPACK's are RuntimeErrors
        raise FitFailed(f"{type(error).__name__}: {error}") from error
    constant = next(mean.parameters()).item()
    dataset, network, variances = (tuple(part.exp().tolist()) for part in kernel.parameters())
    if not all(map(isfinite, [found.fval, constant, *dataset, *network, *variances])):
        raise FitFailed(f"the search ended at a likelihood of {found.fval}: {found.message}")
    return Hyperparameters(len(X_NF), constant, dataset, network, variances)


@dataclass(frozen=True, eq=False)
class Posterior:
    """The surrogate after its rows; from `condition`."""

    hyperparameters: Hyperparameters
    design: Design
    X_NF: Tensor
    accuracy_at_rows_N: Tensor  # expected true accuracy of the very networks that the labels measured
    weight_N: Tensor
    inverse_cholesky_NN: Tensor

    def predict(self, X_CF: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the scaled accuracy of new pairs, float64 (C,); no noise of counting."""
        means, variances = zip(*map(self._predict_part, X_CF.split(IN_CACHE)))
        return torch.cat(means), torch.cat(variances).clamp_min(MIN_STD**2).sqrt()

    def _predict_part(self, X_CF: Tensor) -> tuple[Tensor, Tensor]:
        covariance_CN = _covariance(self.design, self.hyperparameters, X_CF, self.X_NF)
        mean_C = self.hyperparameters.mean + covariance_CN @ self.weight_N
        explained_C = (covariance_CN @ self.inverse_cholesky_NN.T).square_().sum(dim=1)
        return mean_C, sum(self.hyperparameters.variances) - explained_C


def condition(hyperparameters: Hyperparameters, design: Design, X_NF: Tensor, labels: Labels) -> Posterior:
    """The surrogate given its rows (N may be 0; of more than `MAX_ROWS` the last count).

    Equal pairs count as two networks of one kind: each has its own deviation from what they share.
    """
    X_NF, y_N, noise_N = (part[-MAX_ROWS:] for part in (X_NF, labels.accuracy_N, labels.variance_N))
    covariance_NN = _covariance(design, hyperparameters, X_NF, X_NF)
    covariance_NN.diagonal().add_(hyperparameters.variances[-1] + noise_N)
    cholesky_NN = torch.linalg.cholesky(covariance_NN)
    weight_N = torch.cholesky_solve((y_N - hyperparameters.mean)[:, None], cholesky_NN)[:, 0]
    inverse_NN = torch.linalg.solve_triangular(cholesky_NN, torch.eye(len(y_N), dtype=y_N.dtype), upper=False)
    return Posterior(hyperparameters, design, X_NF, y_N - noise_N * weight_N, weight_N, inverse_NN)


def _covariance(design: Design, hyperparameters: Hyperparameters, X_AF: Tensor, X_BF: Tensor) -> Tensor:
    """Covariance of accuracies of different pairs, (A, B)."""
    dataset, network, variances = (
        torch.tensor(values, dtype=torch.float64)
        for values in (
            hyperparameters.dataset_lengthscales,
            hyperparameters.network_lengthscales,
            hyperparameters.variances,
        )
    )
    return _shared_covariance(design, dataset, network, variances, X_AF, X_BF)


def _shared_covariance(
    design: Design, dataset_G: Tensor, network_G: Tensor, variance_5: Tensor, X_AF: Tensor, X_BF: Tensor
) -> Tensor:
    """Additive in dataset and network, plus their product; datasets are compared once, not once a pair."""
    scaled_DF = design.dataset_DF / _each_column(dataset_G, design.dataset_groups)
    alike_DD = _matern(scaled_DF, scaled_DF)
    own_DD = torch.eye(len(alike_DD), dtype=alike_DD.dtype)
    by_dataset_DD = variance_5[0] * alike_DD + variance_5[1] * own_DD
    by_network_DD = variance_5[2] + variance_5[3] * alike_DD
    network_F = _each_column(network_G, design.network_groups)
    alike_AB = _matern(X_AF[:, 1:] / network_F, X_BF[:, 1:] / network_F)
    index_A, index_B = X_AF[:, 0].long(), X_BF[:, 0].long()
    return by_dataset_DD[:, index_B][index_A] + by_network_DD[:, index_B][index_A] * alike_AB


def _each_column(lengthscale_G: Tensor, groups: tuple[int, ...]) -> Tensor:
    return lengthscale_G.repeat_interleave(torch.tensor(groups))


def _matern(A_AF: Tensor, B_BF: Tensor) -> Tensor:
    """Matern 5/2 over Euclidean distances."""
    square_AB = (A_AF.square().sum(1)[:, None] + B_BF.square().sum(1) - 2 * A_AF @ B_BF.T).clamp_min(1e-15)
    distance_AB = (5 * square_AB).sqrt()
    return (1 + distance_AB + 5 / 3 * square_AB) * (-distance_AB).exp()


class _PairKernel(Kernel):
    """`_shared_covariance` with priors on the logarithms of its parameters, for the fit."""

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
        shared = _shared_covariance(self._design, dataset, network, variances, x1, x2)
        if x1.shape == x2.shape and torch.equal(x1, x2):
            shared = shared + variances[-1] * torch.eye(len(x1), dtype=shared.dtype)
        return shared
