"""The covariance of pairs, and what is assumed of its hyperparameters before any row.

Axes: A, B pairs or networks, D datasets, F columns of a pair or a network (see `inputs`), G groups of columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gpytorch.kernels import Kernel as GPyTorchKernel
from gpytorch.priors import NormalPrior
from torch import Tensor, nn

from tans_core.acquisition.inputs import PRIOR_MEAN, Design

# Parts of the variance of scaled accuracies, before any row: what resembling datasets share, each dataset's offset
# from that, what resembling networks share, what they share on resembling datasets, and each pair's luck (seeds).
PRIOR_VARIANCES = (0.03, 0.01, 0.01, 0.005, 0.002)
PRIOR_DATASET_LENGTHSCALE, PRIOR_NETWORK_LENGTHSCALE = 4.0, 2.0
PRIOR_LOG_STD = 1.0  # of lengthscales and of variances


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


@dataclass(frozen=True, eq=False)
class PairKernel:
    """Covariance of scaled accuracies of different pairs: by_dataset + by_network * alike.

    Additive in dataset and network, plus their product; datasets are compared once, not once a pair.
    """

    by_dataset_DD: Tensor
    by_network_DD: Tensor
    lengthscale_F: Tensor  # of a network's columns
    luck: float  # variance of a pair alone

    @classmethod
    def of(cls, design: Design, hyperparameters: Hyperparameters) -> PairKernel:
        lengthscales = hyperparameters.dataset_lengthscales, hyperparameters.network_lengthscales
        parts = (*lengthscales, hyperparameters.variances)
        dataset_G, network_G, variance_5 = (torch.tensor(part, dtype=torch.float64) for part in parts)
        return cls.of_tensors(design, dataset_G, network_G, variance_5)

    @classmethod
    def of_tensors(cls, design: Design, dataset_G: Tensor, network_G: Tensor, variance_5: Tensor) -> PairKernel:
        scaled_DF = design.dataset_DF / _each_column(dataset_G, design.dataset_groups)
        alike_DD = _matern(scaled_DF, scaled_DF)
        one_DD = torch.eye(len(alike_DD), dtype=alike_DD.dtype)
        return cls(
            by_dataset_DD=variance_5[0] * alike_DD + variance_5[1] * one_DD,
            by_network_DD=variance_5[2] + variance_5[3] * alike_DD,
            lengthscale_F=_each_column(network_G, design.network_groups),
            luck=variance_5[4].item(),
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
    square_AB = (left @ right.T).clamp_min_(1e-14)  # 5 |a - b|^2 in one product
    distance_AB = square_AB.sqrt()
    if square_AB.requires_grad:
        return (1 + distance_AB).add(square_AB, alpha=1 / 3) * (-distance_AB).exp()
    square_AB.mul_(1 / 3).add_(distance_AB).add_(1)
    return square_AB.mul_(distance_AB.neg_().exp_())


class FittedKernel(GPyTorchKernel):
    """`PairKernel` with priors on the logarithms of its parameters, for the fit."""

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
        shared = PairKernel.of_tensors(self._design, dataset, network, variances)(x1, x2)
        if x1.shape == x2.shape and torch.equal(x1, x2):
            shared = shared + variances[-1] * torch.eye(len(x1), dtype=shared.dtype)
        return shared
