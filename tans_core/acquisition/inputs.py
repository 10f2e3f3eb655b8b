"""What the surrogate sees of a pair: its dataset in some ten numbers, its network by topology and costs.

Axes: N pairs, D datasets, F their numbers, T topology.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from tans_core.acquisition.hypervolume import CostScale, scaled_accuracy
from tans_core.records import DatasetRecord
from tans_core.search_space.space import SearchSpace

COMPONENTS = 8  # of the datasets' mean features
STANDARDISING_SAMPLES = 1_000


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
    """Scaled accuracies with the variance of their counts, float64 (N,)."""

    accuracy_N: Tensor
    variance_N: Tensor

    def __add__(self, other: Labels) -> Labels:
        return Labels(torch.cat([self.accuracy_N, other.accuracy_N]), torch.cat([self.variance_N, other.variance_N]))

    def __getitem__(self, rows: slice) -> Labels:
        return Labels(self.accuracy_N[rows], self.variance_N[rows])


def label(correct: float, total: int, chance: float) -> tuple[float, float]:
    """Scaled accuracy of `correct` of `total`, and its binomial variance.

    The variance is that of a share smoothed by one success and one failure: 32 of 32 is not certainty.
    """
    smoothed = (correct + 1) / (total + 2)
    return scaled_accuracy(correct / total, chance), smoothed * (1 - smoothed) / total / (1 - chance) ** 2


@dataclass(frozen=True, eq=False)
class LabelledPairs:
    """Rows, and pending pairs beside them, as the surrogate and the fronts see them."""

    dataset_N: Tensor  # int64, index into the build's datasets
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
    """Turns pairs of the build's datasets and the zoo's search space into rows for the surrogate."""

    def __init__(self, datasets: Sequence[DatasetRecord], search_space: SearchSpace, image_size: int) -> None:
        drawn_ST = search_space.sample(STANDARDISING_SAMPLES, torch.Generator().manual_seed(1))
        example = search_space.architecture(drawn_ST[0].tolist())
        topology_groups = (len(example.kernel_sizes), len(example.expand_ratios), len(example.depths))
        widths_T = torch.tensor([width for width in topology_groups for _ in range(width)])
        self._mean_T = drawn_ST.double().mean(0)
        self._scale_T = drawn_ST.double().std(0, correction=0).clamp_min(1e-6) * widths_T.sqrt()
        self.cost_scale = CostScale(search_space, image_size)
        components_DF = _principal_components([dataset.features.train_ND for dataset in datasets])
        numbers_DF = torch.tensor([_numbers(dataset) for dataset in datasets], dtype=torch.float64)
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
        accuracy_N: Sequence[float],
        variance_N: Sequence[float],
    ) -> LabelledPairs:
        """Pairs with scaled accuracies and their variances, as from `label`; N may be 0."""
        datasets = torch.tensor(dataset_N, dtype=torch.int64)
        topologies = torch.tensor(topology_NT, dtype=torch.int64).reshape(len(datasets), len(self._mean_T))
        accuracies, variances = (torch.tensor(part, dtype=torch.float64) for part in (accuracy_N, variance_N))
        return LabelledPairs(datasets, topologies, self.encode(datasets, topologies), Labels(accuracies, variances))


def _numbers(dataset: DatasetRecord) -> tuple[float, ...]:
    """Classes, chance, training images, and how well class means of the frozen features tell validation apart."""
    train_images = sum(dataset.counts["train"])
    return log(len(dataset.class_names)), dataset.chance, log(train_images), _nearest_mean_accuracy(dataset)


def _nearest_mean_accuracy(dataset: DatasetRecord) -> float:
    """Share of validation instances whose nearest class mean of the training instances is their own."""
    features = dataset.features
    classes = features.train_labels_N.unique()
    means_CD = torch.stack([features.train_ND[features.train_labels_N == label].mean(0) for label in classes])
    nearest_N = torch.cdist(features.validation_ND.double(), means_CD.double()).argmin(1)
    return (classes[nearest_N] == features.validation_labels_N).double().mean().item()


def _principal_components(features: Sequence[Tensor]) -> Tensor:
    """Mean features of each dataset along their main directions, to mean square 1 a dataset: float64 (D, F)."""
    mean_DF = torch.stack([train_ND.double().mean(0) for train_ND in features])
    centred_DF = mean_DF - mean_DF.mean(0)
    left, strength, _ = torch.linalg.svd(centred_DF, full_matrices=False)
    components_DF = (left * strength)[:, :COMPONENTS]
    return components_DF / components_DF.square().sum(1).mean().sqrt().clamp_min(1e-9)
