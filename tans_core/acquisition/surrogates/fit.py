"""Hyperparameters from rows: the most probable ones, by BoTorch, in seconds and in a thread of its own."""

from __future__ import annotations

from math import isfinite

import botorch.settings
import torch
from botorch.exceptions import BotorchError
from botorch.models import SingleTaskGP
from botorch.optim.core import OptimizationStatus
from botorch.optim.fit import fit_gpytorch_mll_scipy
from gpytorch.means import ConstantMean
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import NormalPrior
from torch import Tensor

from tans_core.acquisition.inputs import PRIOR_MEAN, Design, Labels
from tans_core.acquisition.surrogates.kernel import FittedKernel, Hyperparameters

PRIOR_MEAN_STD = 0.25


class FitFailed(Exception):
    """The hyperparameters cannot be fitted to these rows."""


def fit(design: Design, X_NF: Tensor, labels: Labels) -> Hyperparameters:
    """Most probable hyperparameters given rows; a function of its arguments alone, safe in a thread of its own.

    Args:
        design: the columns.
        X_NF: pairs, from `PairEncoder.encode`; the cost grows with their cube.
        labels: their scaled accuracies and variances.

    Raises:
        FitFailed: a label that is not finite, a matrix that cannot be factored, a search that ended before it found
            a best, or found nothing finite.
    """
    kernel, mean = FittedKernel(design), ConstantMean(constant_prior=NormalPrior(PRIOR_MEAN, PRIOR_MEAN_STD))
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


def spread_rows(rows: int, wanted: int) -> Tensor:
    """Places of at most `wanted` rows, spread over all: the newest are a search's favourites and say little."""
    return torch.randperm(rows, generator=torch.Generator().manual_seed(0))[:wanted].sort().values
