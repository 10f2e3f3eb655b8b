"""Hypervolume of a dataset's front: accuracy up, two costs down; parameters and multiply-accumulates unless asked.

Scaled accuracies are 0 for chance and 1 for perfect, scaled costs quantiles among random networks of the search
space; the box reaches from scaled accuracy 0 to 1 and to a reference in each cost, and volumes are shares of it.
Axes: C candidates, R rows, K steps of the front, M corners of its longest staircase, 2 costs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

import numpy as np
import pygmo
import torch
from torch import Tensor

from tans_core.errors import ConfigError
from tans_core.records import DatasetRecord, Row
from tans_core.search_space.latency import LatencyTable
from tans_core.search_space.space import SearchSpace

SCALE_SAMPLES = 10_000
SCALE_CLASSES = 2  # a classifier adds the same to every network of a dataset, so quantiles do not know it


REF_COST = 1.1  # of each scaled cost: the dearest network still counts for something
COST_SCALINGS = ("quantiles", "range")  # among the random networks: mean rank, or share of the way up
COSTS = {"params": "params", "flops": "FLOPs", "latency": "latency", "memory": "memory"}  # name -> for people


def check_costs(costs: Sequence[str]) -> None:
    """Raise ConfigError for anything but two different ones of `COSTS`."""
    if len(costs) != 2 or len({*costs}) != 2 or not {*costs} <= COSTS.keys():
        raise ConfigError(f"--costs takes two of {', '.join(COSTS)}, as params,flops; got {','.join(costs)}")


class CostScale:
    """Two costs beside those of random networks of a search space: 0 the smallest drawn, 1 the largest.

    `ref_cost` is the reference of both: what is as dear counts for nothing.
    """

    def __init__(
        self,
        search_space: SearchSpace,
        image_size: int,
        costs: Sequence[str] = ("params", "flops"),
        latency: LatencyTable | None = None,
        scaling: str = "quantiles",
        ref_cost: float = REF_COST,
    ) -> None:
        """Draw the networks and price them.

        Args:
            costs: two of `COSTS`; memory is the peak of inference on one image.
            latency: what "latency" is predicted by.
            scaling: one of `COST_SCALINGS`.

        Raises:
            ConfigError: other costs, or "latency" without a table.
        """
        check_costs(costs)
        if "latency" in costs and latency is None:
            raise ConfigError(
                "latency is no cost without a table of this device's: make one with `tans latency-table`, in the zoo "
                "or as a file for --latency-table"
            )
        self.names = tuple(COSTS[name] for name in costs)
        self._costs_asked, self._latency = tuple(costs), latency
        self._search_space = search_space
        self._image_size = image_size
        drawn_ST = search_space.sample(SCALE_SAMPLES, torch.Generator().manual_seed(0))
        self.ref_cost = ref_cost
        steps = {"quantiles": _quantiles, "range": _range}[scaling]
        self._steps = [steps(cost_S) for cost_S in self._costs(drawn_ST)]

    def __call__(self, topology_NT: Tensor) -> Tensor:
        """Scaled costs of masked topologies: float64 (N, 2), 0 to 1."""
        scaled = [np.interp(cost_N, *steps) for cost_N, steps in zip(self._costs(topology_NT), self._steps)]
        return torch.from_numpy(np.stack(scaled, axis=1))

    def _costs(self, topology_NT: Tensor) -> list[np.ndarray]:
        return [self._cost(name, topology_NT).double().numpy() for name in self._costs_asked]

    def _cost(self, name: str, topology_NT: Tensor) -> Tensor:
        if name == "latency":
            assert self._latency is not None
            return self._latency.latency_ms(topology_NT)
        if name == "memory":
            return self._search_space.memory(topology_NT, self._image_size, SCALE_CLASSES)
        return self._search_space.costs(topology_NT, self._image_size, SCALE_CLASSES)[name == "flops"]


def _quantiles(cost_S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct costs and the mean rank of each, from 0 to 1."""
    values, counts = np.unique(cost_S, return_counts=True)
    if len(values) == 1:
        return values, np.zeros(1)
    rank = np.cumsum(counts) - (counts + 1) / 2
    return values, (rank - rank[0]) / (rank[-1] - rank[0])


def _range(cost_S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest cost, and 0 and 1."""
    ends = np.array([cost_S.min(), cost_S.max()])
    return ends, np.array([0.0, float(ends[1] > ends[0])])


def front_volume(scaled_R: Sequence[float] | np.ndarray, costs_R2: np.ndarray, ref_cost: float = REF_COST) -> float:
    """Share of the box that a dataset's rows dominate; the only call of pygmo.

    Rows that add nothing (accuracy not above chance, a cost at or beyond the reference) are left out first,
    since pygmo refuses some of them and gives -0.0 for others.

    Args:
        scaled_R: scaled accuracies; below 0 counts as 0, above 1 as 1.
        costs_R2: scaled costs, shape (R, 2); R may be 0.

    Raises:
        ValueError: an entry is NaN.
    """
    points_R3 = np.column_stack([-np.clip(np.asarray(scaled_R, float), None, 1), np.reshape(costs_R2, (-1, 2))])
    if np.isnan(points_R3).any():
        raise ValueError(f"a front holds NaN: (-scaled accuracy, two costs) = {points_R3.tolist()}")
    reference = np.array([0.0, ref_cost, ref_cost])
    inside_R3 = points_R3[(points_R3 < reference).all(axis=1)]
    if len(inside_R3) == 0:
        return 0.0
    volume = pygmo.hypervolume(inside_R3).compute(reference)  # pyright: ignore[reportAttributeAccessIssue]
    return float(volume) / ref_cost**2


@dataclass(frozen=True, eq=False)
class FrontLevels:
    """The front cut at its accuracies, from the highest down to 0: each cut is a staircase over the costs.

    Just above `level_K[k]` the first k rows of `rows_F` are at least as accurate; at it, one more is.
    """

    level_K: Tensor  # float64, descending, the last is 0
    rows_F: tuple[int, ...]  # indices of the rows that make the front, F = K - 1
    corner_x_KM: Tensor  # corners of the staircase below level k, by rising first cost; padded with the reference
    corner_y_KM: Tensor
    ref_cost: float

    def areas(self, costs_C2: Tensor) -> Tensor:
        """Cost area that opens to each candidate at each level, float64 (C, K), as a share of the box.

        A candidate of these scaled costs that reaches scaled accuracy a adds `gain_at(a, level_K, areas)`. One at
        or beyond the reference in a cost opens nothing.
        """
        costs_C2 = costs_C2.clamp_max(self.ref_cost)
        x_C11, y_C11 = costs_C2[:, 0, None, None], costs_C2[:, 1, None, None]
        corner_x_CKM = torch.maximum(self.corner_x_KM, x_C11)
        left_CK1 = x_C11.expand(-1, len(self.level_K), -1)
        right_CK1 = torch.full_like(left_CK1, self.ref_cost)
        width = torch.cat([corner_x_CKM, right_CK1], dim=2) - torch.cat([left_CK1, corner_x_CKM], dim=2)
        height_left = torch.full_like(left_CK1, self.ref_cost) - y_C11
        height = torch.cat([height_left, torch.maximum(self.corner_y_KM, y_C11) - y_C11], dim=2)
        below_CK = (width * height).sum(dim=2)  # not dominated just below the level, down to the next
        whole_C1 = (self.ref_cost - costs_C2).prod(dim=1, keepdim=True)
        above_CK = torch.cat([whole_C1, below_CK[:, :-1]], dim=1)
        opens_CK = torch.cat([above_CK[:, :-1] - below_CK[:, :-1], above_CK[:, -1:]], dim=1)
        return opens_CK.clamp_min(0) / self.ref_cost**2


def front_levels(
    level_R: Sequence[float] | np.ndarray, costs_R2: np.ndarray, ref_cost: float = REF_COST
) -> FrontLevels:
    """Sort a dataset's rows into its front, cut at each of their accuracies.

    Args:
        level_R: scaled accuracies of the rows; below 0 counts as 0, above 1 as 1.
        costs_R2: their scaled costs, shape (R, 2); R may be 0.

    Raises:
        ValueError: an entry is NaN.
    """
    levels = np.clip(np.asarray(level_R, float), 0, 1)
    costs = np.reshape(np.asarray(costs_R2, float), (-1, 2))
    if np.isnan(levels).any() or np.isnan(costs).any():
        raise ValueError(f"a front holds NaN: scaled accuracies {levels.tolist()}, costs {costs.tolist()}")
    order = np.lexsort((costs.sum(axis=1), -levels))
    counts_R = (levels[order] > 0) & (costs[order].max(axis=1, initial=0) < ref_cost)
    rows: list[int] = []
    stairs: list[list[tuple[float, float]]] = []
    corners: list[tuple[float, float]] = []
    for row, (x, y) in zip(order[counts_R].tolist(), costs[order[counts_R]].tolist()):
        at = bisect_right(corners, (x, inf))  # those before it are at most as dear in the first cost
        if at and corners[at - 1][1] <= y:
            continue
        corners = sorted([(left, low) for left, low in corners if left < x or low < y] + [(x, y)])
        rows.append(row)
        stairs.append(corners)
    stairs.append(corners)  # at accuracy 0 no row joins
    longest = max(len(stair) for stair in stairs)
    padded = [stair + [(ref_cost, ref_cost)] * (longest - len(stair)) for stair in stairs]
    corner_KM2 = torch.tensor(padded, dtype=torch.float64).reshape(len(stairs), longest, 2)
    level_K = torch.tensor([*levels[rows], 0.0], dtype=torch.float64)
    return FrontLevels(level_K, tuple(rows), corner_KM2[..., 0], corner_KM2[..., 1], ref_cost)


def scaled_accuracy(accuracy: float, chance: float) -> float:
    """0 for chance, 1 for perfect, negative below chance."""
    return (accuracy - chance) / (1 - chance)


def raw_accuracy(scaled: float, chance: float) -> float:
    """The share of right answers, 0 to 1, that `scaled` stands for."""
    return min(1.0, max(0.0, chance + (1 - chance) * scaled))


def hypervolume_mean(
    datasets: Sequence[DatasetRecord],
    rows: Sequence[Row],
    scale: CostScale,
    side: Literal["validation", "test"] = "validation",
) -> float:
    """Mean over `datasets` of the volume their rows dominate, 0 for one without rows; 0 to 1.

    From the counts as they are (the choice itself looks at posterior means). The front is always chosen by
    validation; side "test" values the networks of that front by their test accuracies. Rows of datasets that are not
    given are left out.
    """
    if not datasets:
        return 0.0
    rows_of: dict[str, list[Row]] = {dataset.fingerprint: [] for dataset in datasets}
    for row in rows:
        if row.identity.fingerprint in rows_of:
            rows_of[row.identity.fingerprint].append(row)
    return float(np.mean([_volume(dataset, rows_of[dataset.fingerprint], scale, side) for dataset in datasets]))


def _volume(
    dataset: DatasetRecord, rows: Sequence[Row], scale: CostScale, side: Literal["validation", "test"]
) -> float:
    if not rows:
        return 0.0
    scaled_R = [scaled_accuracy(row.val_accuracy, dataset.chance) for row in rows]
    costs_R2 = scale(torch.tensor([row.identity.topology for row in rows])).numpy()
    if side == "validation":
        return front_volume(scaled_R, costs_R2, scale.ref_cost)
    front = list(front_levels(scaled_R, costs_R2, scale.ref_cost).rows_F)
    test_F = [scaled_accuracy(rows[row].test_accuracy, dataset.chance) for row in front]
    return front_volume(test_F, costs_R2[front], scale.ref_cost)


class GrowingHypervolume:
    """`hypervolume_mean` in validation of rows as they come: a new row costs its dataset's front alone."""

    def __init__(self, datasets: Sequence[DatasetRecord], scale: CostScale) -> None:
        self._scale = scale
        self._chance = {dataset.fingerprint: dataset.chance for dataset in datasets}
        self._front_F3 = {fingerprint: np.zeros((0, 3)) for fingerprint in self._chance}  # scaled accuracy, two costs
        self._volume = dict.fromkeys(self._chance, 0.0)

    def add(self, rows: Sequence[Row]) -> float:
        """Take in rows, each once; those of other datasets are left out. Returns the mean of all so far."""
        known = [row for row in rows if row.identity.fingerprint in self._chance]
        if known:
            costs_R2 = self._scale(torch.tensor([row.identity.topology for row in known])).numpy()
            for row, cost_2 in zip(known, costs_R2):
                fingerprint = row.identity.fingerprint
                point_3 = (scaled_accuracy(row.val_accuracy, self._chance[fingerprint]), *cost_2)
                self._front_F3[fingerprint] = np.vstack([self._front_F3[fingerprint], point_3])
            for fingerprint in {row.identity.fingerprint for row in known}:
                point_R3, reference = self._front_F3[fingerprint], self._scale.ref_cost
                front = list(front_levels(point_R3[:, 0], point_R3[:, 1:], reference).rows_F)
                self._front_F3[fingerprint] = point_R3[front]
                self._volume[fingerprint] = front_volume(point_R3[front, 0], point_R3[front, 1:], reference)
        return float(np.mean(list(self._volume.values()))) if self._volume else 0.0
