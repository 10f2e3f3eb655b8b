"""What the surrogate sees of a pair: its dataset in some ten numbers, its network by topology and costs.

Axes: N pairs, D datasets, F their numbers, T topology.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from tans_core.acquisition.hypervolume import CostScale, raw_accuracy, scaled_accuracy
from tans_core.records import DatasetRecord
from tans_core.search_space.space import SearchSpace

COMPONENTS = 8  # of the datasets' mean features
STANDARDISING_SAMPLES = 1_000
PRIOR_MEAN = 0.5  # scaled accuracy that is expected before any row
LEAST_LABEL = -1.0  # as far below chance as perfect is above it


@dataclass(frozen=True, eq=False)
class Design:
    """The columns that the surrogate compares. Columns of one group share a lengthscale.

    A pair is a row [index of its dataset, its network's columns]; datasets are looked up in `dataset_DF`.
    """

    dataset_DF: Tensor  # float64
    dataset_groups: tuple[int, ...]  # widths, together F
    network_groups: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Labels:
    """Scaled accuracies with the variance of counting them, float64 (N,)."""

    scaled_N: Tensor
    variance_N: Tensor

    def __add__(self, other: Labels) -> Labels:
        return Labels(torch.cat([self.scaled_N, other.scaled_N]), torch.cat([self.variance_N, other.variance_N]))

    def __getitem__(self, rows: slice | Tensor) -> Labels:
        return Labels(self.scaled_N[rows], self.variance_N[rows])


class Labeller:
    """Makes labels of one dataset's counts, row by row in the order of their arrival.

    A label is at least `LEAST_LABEL`: where chance is 0.99, 50 % would be -49 and outweigh all other rows, and how
    far below chance a useless network lies says nothing. The bound is not 0, so that luck around chance evens out.

    Its variance is binomial at the accuracy that was expected before: the mean of the dataset's earlier rows and of
    one imagined row at `PRIOR_MEAN`. At its own accuracy, a lucky row would seem surer than an unlucky one and pull
    the mean up (1.3 points at 54 of 60), 60 of 60 would be certain. Later rows change no label, so a build may be
    cut anywhere.
    """

    def __init__(self, chance: float) -> None:
        self._chance = chance
        self._sum, self._rows = raw_accuracy(PRIOR_MEAN, chance), 1

    def label(self, correct: int, total: int) -> tuple[float, float]:
        """Take in a row's counts: its scaled accuracy and the variance of counting it."""
        variance = self.variance(total)
        self._sum, self._rows = self._sum + correct / total, self._rows + 1
        return max(LEAST_LABEL, scaled_accuracy(correct / total, self._chance)), variance

    def variance(self, total: int) -> float:
        """Of the scaled accuracy that the next row will count on so many images."""
        expected = self._sum / self._rows
        return expected * (1 - expected) / total / (1 - self._chance) ** 2


@dataclass(frozen=True, eq=False)
class LabelledPairs:
    """Rows, and pending pairs beside them, as the surrogate and the fronts see them."""

    dataset_N: Tensor  # int64, index into the zoo's datasets
    topology_NT: Tensor  # int64, masked
    X_NF: Tensor  # from `PairEncoder.encode`; its last two columns are the scaled costs
    labels: Labels

    @property
    def costs_N2(self) -> Tensor:
        return self.X_NF[:, -2:]

    def __len__(self) -> int:
        return len(self.dataset_N)

    def __add__(self, other: LabelledPairs) -> LabelledPairs:
        return LabelledPairs(
            torch.cat([self.dataset_N, other.dataset_N]),
            torch.cat([self.topology_NT, other.topology_NT]),
            torch.cat([self.X_NF, other.X_NF]),
            self.labels + other.labels,
        )


class PairEncoder:
    """Turns pairs of the zoo's datasets and its search space into rows for the surrogate."""

    def __init__(self, datasets: Sequence[DatasetRecord], search_space: SearchSpace, cost_scale: CostScale) -> None:
        drawn_ST = search_space.sample(STANDARDISING_SAMPLES, torch.Generator().manual_seed(1))
        example = search_space.architecture(drawn_ST[0].tolist())
        topology_groups = (len(example.kernel_sizes), len(example.expand_ratios), len(example.depths))
        widths_T = torch.tensor([width for width in topology_groups for _ in range(width)])
        self._mean_T = drawn_ST.double().mean(0)
        self._scale_T = drawn_ST.double().std(0, correction=0).clamp_min(1e-6) * widths_T.sqrt()
        self.cost_scale = cost_scale
        components_DF = _principal_components([dataset.features.train_ND for dataset in datasets])
        numbers_DF = torch.tensor([_numbers(dataset) for dataset in datasets], dtype=torch.float64).reshape(-1, 4)
        numbers_DF = (numbers_DF - numbers_DF.mean(0)) / numbers_DF.std(0, correction=0).clamp_min(1e-6)
        self.design = Design(
            dataset_DF=torch.cat([components_DF, numbers_DF], dim=1),
            dataset_groups=(components_DF.shape[1],) + (1,) * numbers_DF.shape[1],
            network_groups=(*topology_groups, 1, 1),
        )

    def encode(self, dataset_N: Tensor, topology_NT: Tensor) -> Tensor:
        """Rows [index of the dataset, columns of the network], float64 (N, 1 + T + 2)."""
        return torch.cat([dataset_N.double()[:, None], self.networks(topology_NT)], dim=1)

    def networks(self, topology_NT: Tensor) -> Tensor:
        """Rows [standardised topology, scaled costs], float64 (N, T + 2).

        Kernel sizes, expansion ratios and depths each add up to variance 1, whatever their number.
        """
        standardised_NT = (topology_NT.double() - self._mean_T) / self._scale_T
        return torch.cat([standardised_NT, self.cost_scale(topology_NT)], dim=1)

    def labelled(
        self,
        dataset_N: Sequence[int],
        topology_NT: Sequence[tuple[int, ...]],
        scaled_N: Sequence[float],
        variance_N: Sequence[float],
    ) -> LabelledPairs:
        """Pairs with scaled accuracies and their variances, as from `Labeller`; N may be 0."""
        datasets = torch.tensor(dataset_N, dtype=torch.int64)
        topologies = torch.tensor(topology_NT, dtype=torch.int64).reshape(len(datasets), len(self._mean_T))
        labels = Labels(*(torch.tensor(part, dtype=torch.float64) for part in (scaled_N, variance_N)))
        return LabelledPairs(datasets, topologies, self.encode(datasets, topologies), labels)


def _numbers(dataset: DatasetRecord) -> tuple[float, ...]:
    """Classes, chance, training images, and how well class means of the frozen features tell validation apart."""
    train_images = sum(dataset.counts["train"])
    return log(len(dataset.class_names)), dataset.chance, log(train_images), _nearest_mean_accuracy(dataset)


def _nearest_mean_accuracy(dataset: DatasetRecord) -> float:
    """Share of validation instances whose nearest class mean of the training instances is of their class."""
    features = dataset.features
    classes = features.train_labels_N.unique()
    means_CD = torch.stack([features.train_ND[features.train_labels_N == label].mean(0) for label in classes])
    nearest_N = torch.cdist(features.validation_ND.double(), means_CD.double()).argmin(1)
    return (classes[nearest_N] == features.validation_labels_N).double().mean().item()


def _principal_components(features: Sequence[Tensor]) -> Tensor:
    """Mean features of each dataset along their main directions, to mean square 1 a dataset: float64 (D, F)."""
    if not features:  # a build that was stopped before the first dataset was looked at
        return torch.zeros(0, 0, dtype=torch.float64)
    mean_DF = torch.stack([train_ND.double().mean(0) for train_ND in features])
    centred_DF = mean_DF - mean_DF.mean(0)
    left, strength, _ = torch.linalg.svd(centred_DF, full_matrices=False)
    components_DF = (left * strength)[:, :COMPONENTS]
    return components_DF / components_DF.square().sum(1).mean().sqrt().clamp_min(1e-9)
