"""A Gaussian process over any number of rows: each dataset exactly, all datasets through inducing points.

Within a block (the rows of a dataset; of a large one, those of a range of costs) covariances are those of the exact
process. Between blocks they are what M inducing variables carry: the offset of every dataset, exactly, and what
networks share at well-spread rows. So no row is left out, whatever their number: the partially independent
conditional (Snelson & Ghahramani 2007), with inducing variables for the parts of an additive kernel.

Let u be the inducing variables, whitened: u ~ N(0, 1). A pair is f = psi u + r, where r is independent between blocks,
with what of the exact covariance u does not explain. Given each block's covariance of r, its luck and its counting
noise, the rows are noisy observations of the M numbers u: a Bayesian linear model.
Axes: M inducing variables, Z inducing pairs, N rows, n of one of B blocks, P more, C other pairs, Q networks,
D datasets, F columns of a pair or a network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

import torch
from torch import Tensor

from tans_core.acquisition.inputs import Design, Labels
from tans_core.acquisition.surrogates.exact import MIN_STD, bordered
from tans_core.acquisition.surrogates.fit import spread_rows
from tans_core.acquisition.surrogates.kernel import Hyperparameters, PairKernel

JITTER = 1e-6  # of the inducing pairs' covariance, as a share of its diagonal


@dataclass(frozen=True, eq=False)
class Inducing:
    """What blocks share: offsets of all datasets, and the rest of the kernel at Z pairs."""

    kernel: PairKernel
    X_ZF: Tensor
    offset_DD: Tensor  # Cholesky factor of the datasets' covariance
    cholesky_ZZ: Tensor  # of the pairs' covariance without the datasets'

    @classmethod
    def at(cls, kernel: PairKernel, X_ZF: Tensor) -> Inducing:
        index_Z = X_ZF[:, 0].long()
        covariance_ZZ = kernel.by_network_DD[index_Z][:, index_Z] * kernel.alike(X_ZF[:, 1:], X_ZF[:, 1:])
        covariance_ZZ.diagonal().mul_(1 + JITTER)
        return cls(kernel, X_ZF, torch.linalg.cholesky(kernel.by_dataset_DD), torch.linalg.cholesky(covariance_ZZ))

    def psi(self, dataset: int, alike_ZC: Tensor) -> Tensor:
        """Of networks on a dataset, given how they resemble those of the inducing pairs: (M, C)."""
        covariance_ZC = self.kernel.by_network_DD[dataset, self.X_ZF[:, 0].long(), None] * alike_ZC
        white_ZC = torch.linalg.solve_triangular(self.cholesky_ZZ, covariance_ZC, upper=False)
        return torch.cat([self.offset_DD[dataset, :, None].expand(-1, alike_ZC.shape[1]), white_ZC])


@dataclass(frozen=True, eq=False)
class Block:
    """Rows that are compared exactly."""

    dataset: int
    place_n: Tensor  # where they stand among all rows
    X_nF: Tensor
    labels: Labels
    alone_nn: Tensor  # Cholesky factor of their labels' covariance, as if there were no other block
    rest_nn: Tensor  # that of what the inducing variables leave
    white_nM: Tensor  # the latter's inverse times psi
    white_n: Tensor  # and times the labels' distances from the mean

    def __len__(self) -> int:
        return len(self.place_n)

    def given(self, place_P: Tensor, X_PF: Tensor, labels: Labels, inducing: Inducing, mean: float) -> Block:
        """With P more rows; costs P (n^2 + n M)."""
        kernel = inducing.kernel
        covariance_nP, covariance_PP = kernel(self.X_nF, X_PF), kernel(X_PF, X_PF)
        covariance_PP.diagonal().add_(kernel.luck + labels.variance_N)
        alone_nP = torch.linalg.solve_triangular(self.alone_nn, covariance_nP, upper=False)
        alone_PP = torch.linalg.cholesky(covariance_PP - alone_nP.T @ alone_nP)
        psi_MP = inducing.psi(self.dataset, kernel.alike(inducing.X_ZF[:, 1:], X_PF[:, 1:]))
        rest_nP = torch.linalg.solve_triangular(self.rest_nn, covariance_nP, upper=False) - self.white_nM @ psi_MP
        rest_PP = torch.linalg.cholesky(covariance_PP - psi_MP.T @ psi_MP - rest_nP.T @ rest_nP)
        seen_PM = psi_MP.T - rest_nP.T @ self.white_nM
        new_P1 = (labels.scaled_N - mean - rest_nP.T @ self.white_n)[:, None]
        white_PM1 = torch.linalg.solve_triangular(rest_PP, torch.cat([seen_PM, new_P1], dim=1), upper=False)
        return Block(
            self.dataset,
            torch.cat([self.place_n, place_P]),
            torch.cat([self.X_nF, X_PF]),
            self.labels + labels,
            bordered(self.alone_nn, alone_nP, alone_PP),
            bordered(self.rest_nn, rest_nP, rest_PP),
            torch.cat([self.white_nM, white_PM1[:, :-1]]),
            torch.cat([self.white_n, white_PM1[:, -1]]),
        )


@dataclass(frozen=True)
class Partition:
    """Which block a pair belongs to: its dataset's, or of a large dataset's that of its first cost."""

    edges: tuple[tuple[float, ...], ...]  # of each dataset, where its blocks meet

    @classmethod
    def of(cls, X_NF: Tensor, datasets: int, block_rows: int) -> Partition:
        """Blocks of at most `block_rows` of these rows."""
        edges = []
        for index in range(datasets):
            cost_n = X_NF[X_NF[:, 0] == index][:, -2]
            parts = max(1, ceil(len(cost_n) / block_rows))
            shares = torch.arange(1, parts, dtype=torch.float64) / parts
            edges.append(tuple(cost_n.quantile(shares).tolist()) if parts > 1 else ())
        return cls(tuple(edges))

    @cached_property
    def first_D(self) -> Tensor:
        """The first block of each dataset."""
        return torch.tensor([0] + [len(edges) + 1 for edges in self.edges]).cumsum(0)

    @property
    def datasets(self) -> list[int]:
        """Of each block."""
        return [index for index, edges in enumerate(self.edges) for _ in range(len(edges) + 1)]

    def blocks(self, dataset: int, network_QF: Tensor) -> list[tuple[int, Tensor]]:
        """The blocks of a dataset that networks belong to, each with their places."""
        first = int(self.first_D[dataset])
        if not self.edges[dataset]:
            return [(first, torch.arange(len(network_QF)))]
        part_Q = torch.bucketize(network_QF[:, -2].contiguous(), torch.tensor(self.edges[dataset], dtype=torch.float64))
        return [(first + part, (part_Q == part).nonzero()[:, 0]) for part in part_Q.unique().tolist()]


@dataclass(frozen=True, eq=False)
class Blocks:
    """A `Surrogate`; from `condition`."""

    hyperparameters: Hyperparameters
    inducing: Inducing
    partition: Partition
    blocks: tuple[Block, ...]
    precision_MM: Tensor  # of the inducing variables, given the rows
    target_M: Tensor  # it times their mean

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    @cached_property
    def cholesky_MM(self) -> Tensor:
        return torch.linalg.cholesky(self.precision_MM)

    @cached_property
    def inducing_M(self) -> Tensor:
        """The mean of the inducing variables."""
        return torch.cholesky_solve(self.target_M[:, None], self.cholesky_MM)[:, 0]

    @cached_property
    def weights(self) -> list[tuple[Tensor, Tensor]]:
        """Of each block: what psi is multiplied by (M), and what the covariances with its rows are (n)."""
        weights = []
        for block in self.blocks:
            left_n = block.white_n - block.white_nM @ self.inducing_M
            weight_n = torch.linalg.solve_triangular(block.rest_nn.T, left_n[:, None], upper=True)[:, 0]
            weights.append((self.inducing_M - block.white_nM.T @ left_n, weight_n))
        return weights

    @cached_property
    def shared_BZ(self) -> Tensor:
        """What a block's networks are expected to be by how they resemble those of the inducing pairs."""
        inducing = self.inducing
        weight_ZB = torch.stack([weight_M[len(inducing.offset_DD) :] for weight_M, _ in self.weights], dim=1)
        weight_ZB = torch.linalg.solve_triangular(inducing.cholesky_ZZ.T, weight_ZB, upper=True)
        covariance_DZ = inducing.kernel.by_network_DD[:, inducing.X_ZF[:, 0].long()]
        return covariance_DZ[self.partition.datasets] * weight_ZB.T

    @property
    def scaled_at_rows_N(self) -> Tensor:
        scaled_N = torch.empty(len(self), dtype=torch.float64)
        for block, (_, weight_n) in zip(self.blocks, self.weights):
            scaled_N[block.place_n] = block.labels.scaled_N - block.labels.variance_N * weight_n
        return scaled_N

    def given(self, X_PF: Tensor, labels: Labels) -> Blocks:
        """Costs P (n^2 + M^2)."""
        blocks, precision_MM, target_M = list(self.blocks), self.precision_MM, self.target_M
        for index in X_PF[:, 0].unique().int().tolist():
            there = (X_PF[:, 0] == index).nonzero()[:, 0]
            for number, part in self.partition.blocks(index, X_PF[there, 1:]):
                rows, block = there[part], blocks[number]
                mean = self.hyperparameters.mean
                grown = block.given(len(self) + rows, X_PF[rows], labels[rows], self.inducing, mean)
                white_PM, white_P = grown.white_nM[len(block) :], grown.white_n[len(block) :]
                precision_MM = torch.addmm(precision_MM, white_PM.T, white_PM)
                target_M = target_M + white_PM.T @ white_P
                blocks[number] = grown
        return replace(self, blocks=tuple(blocks), precision_MM=precision_MM, target_M=target_M)

    def means(self, X_CF: Tensor) -> Tensor:
        mean_C = torch.empty(len(X_CF), dtype=torch.float64)
        for index in X_CF[:, 0].unique().int().tolist():
            there = (X_CF[:, 0] == index).nonzero()[:, 0]
            mean_C[there] = self._means(index, X_CF[there, 1:])
        return mean_C

    def survey(self, network_QF: Tensor, datasets: int) -> BlocksSurvey:
        return BlocksSurvey(self, network_QF, datasets)

    def _means(self, dataset: int, network_QF: Tensor) -> Tensor:
        kernel = self.inducing.kernel
        mean_Q = torch.empty(len(network_QF), dtype=torch.float64)
        for number, part_Q in self.partition.blocks(dataset, network_QF):
            block, (weight_M, weight_n) = self.blocks[number], self.weights[number]
            alike_ZQ = kernel.alike(self.inducing.X_ZF[:, 1:], network_QF[part_Q])
            alike_nQ = kernel.alike(block.X_nF[:, 1:], network_QF[part_Q])
            own_Q = kernel.by_dataset_DD[dataset, dataset] * weight_n.sum()
            own_Q = own_Q + kernel.by_network_DD[dataset, dataset] * (weight_n @ alike_nQ)
            mean_Q[part_Q] = own_Q + weight_M @ self.inducing.psi(dataset, alike_ZQ)
        return self.hyperparameters.mean + mean_Q


class BlocksSurvey:
    """A `Survey`."""

    def __init__(self, posterior: Blocks, network_QF: Tensor, datasets: int) -> None:
        self._posterior, self._network_QF = posterior, network_QF
        inducing, kernel = posterior.inducing, posterior.inducing.kernel
        self._alike_ZQ = kernel.alike(inducing.X_ZF[:, 1:], network_QF)
        total = sum(posterior.hyperparameters.variances)
        self.mean_DQ = torch.empty(datasets, len(network_QF), dtype=torch.float64)
        self._most_DQ = torch.empty_like(self.mean_DQ)
        mean_BQ = posterior.shared_BZ @ self._alike_ZQ  # what is not of the block itself
        for index in range(datasets):
            alone, shared = kernel.by_dataset_DD[index, index], kernel.by_network_DD[index, index]
            for number, part_Q in posterior.partition.blocks(index, network_QF):
                block, (weight_M, weight_n) = posterior.blocks[number], posterior.weights[number]
                offset = inducing.offset_DD[index] @ weight_M[: len(inducing.offset_DD)] + alone * weight_n.sum()
                alike_nQ = kernel.alike(block.X_nF[:, 1:], network_QF[part_Q])
                mean_Q = mean_BQ[number, part_Q] + shared * (weight_n @ alike_nQ)
                self.mean_DQ[index, part_Q] = posterior.hyperparameters.mean + offset + mean_Q
                one_n1 = torch.ones(len(block), 1, dtype=torch.float64)
                white_n1 = alone * torch.linalg.solve_triangular(block.alone_nn, one_n1, upper=False)
                white_nQ = (
                    torch.linalg.solve_triangular(block.alone_nn, alike_nQ, upper=False).mul_(shared).add_(white_n1)
                )
                self._most_DQ[index, part_Q] = _std(total - torch.linalg.vecdot(white_nQ, white_nQ, dim=0))

    def most_std(self) -> Tensor:
        return self._most_DQ

    def std(self, dataset: int, part_Q: Tensor) -> Tensor:
        """Costs n^2 + n M + M^2 each."""
        posterior, kernel = self._posterior, self._posterior.inducing.kernel
        alone, shared = kernel.by_dataset_DD[dataset, dataset], kernel.by_network_DD[dataset, dataset]
        variance_Q = torch.empty(len(part_Q), dtype=torch.float64)
        for number, at in posterior.partition.blocks(dataset, self._network_QF[part_Q]):
            block, networks = posterior.blocks[number], part_Q[at]
            psi_MQ = posterior.inducing.psi(dataset, self._alike_ZQ[:, networks])
            covariance_nQ = alone + shared * kernel.alike(block.X_nF[:, 1:], self._network_QF[networks])
            own_nQ = torch.linalg.solve_triangular(block.rest_nn, covariance_nQ, upper=False) - block.white_nM @ psi_MQ
            left_MQ = psi_MQ - block.white_nM.T @ own_nQ
            white_MQ = torch.linalg.solve_triangular(posterior.cholesky_MM, left_MQ, upper=False)
            total = sum(posterior.hyperparameters.variances)
            explained_Q = psi_MQ.square().sum(dim=0) + own_nQ.square().sum(dim=0) - white_MQ.square().sum(dim=0)
            variance_Q[at] = total - explained_Q
        return _std(variance_Q)


def _std(variance_Q: Tensor) -> Tensor:
    return variance_Q.clamp_min(MIN_STD**2).sqrt()


def condition(
    hyperparameters: Hyperparameters,
    design: Design,
    X_NF: Tensor,
    labels: Labels,
    inducing_pairs: int,
    block_rows: int,
) -> Blocks:
    """The surrogate given rows; N may be 0.

    Args:
        inducing_pairs: how many of the rows become inducing pairs, at most.
        block_rows: how many rows of these are in a block, at most.

    Raises:
        LinAlgError: a covariance cannot be factored.
    """
    kernel = PairKernel.of(design, hyperparameters)
    inducing = Inducing.at(kernel, X_NF[spread_rows(len(X_NF), inducing_pairs)])
    partition = Partition.of(X_NF, len(design.dataset_DF), block_rows)
    count = len(inducing.offset_DD) + len(inducing.X_ZF)
    square, line = torch.zeros(0, 0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    none = [
        Block(
            d,
            line.long(),
            X_NF[:0],
            Labels(line, line),
            square,
            square,
            torch.zeros(0, count, dtype=torch.float64),
            line,
        )
        for d in partition.datasets
    ]
    nothing = Blocks(
        hyperparameters,
        inducing,
        partition,
        tuple(none),
        torch.eye(count, dtype=torch.float64),
        torch.zeros(count, dtype=torch.float64),
    )
    return nothing.given(X_NF, labels)
