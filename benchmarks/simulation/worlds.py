"""Made-up worlds to grow zoos in: datasets without images, and what training a network on one of them would give.

`smooth` is drawn from the surrogate's own prior. `rough` is not: accuracy saturates with size, from where differs by
dataset; kernel sizes and depths have thresholds; how hard a dataset is, its features hardly tell; luck has heavy
tails; and one training in fifty fails.
Axes: D datasets, N pairs, F columns, W waves of a random function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import torch
from torch import Tensor

from tans_core.acquisition.hypervolume import CostScale, raw_accuracy
from tans_core.acquisition.inputs import PairEncoder
from tans_core.acquisition.surrogates.kernel import PRIOR_VARIANCES
from tans_core.records import Candidate, DatasetRecord, Features, Observation
from tans_core.search_space.space import SearchSpace

WAVES = 1_000
FEATURES, INSTANCES = 32, 40

Truth = Callable[[Tensor, Tensor], Tensor]  # datasets (N,), networks (N, F) -> scaled accuracies (N,), without luck


@dataclass(frozen=True, eq=False)
class World:
    """Datasets, a search space, and the outcome of every pair."""

    datasets: tuple[DatasetRecord, ...]
    search_space: SearchSpace
    encoder: PairEncoder
    truth: Truth
    seed: int
    heavy_tails: bool
    index: dict[str, int] = field(default_factory=dict)

    def scaled(self, dataset_N: Tensor, topology_NT: Tensor) -> Tensor:
        """What each pair's training really gives, its luck in it: a function of the pair."""
        smooth_N = self.truth(dataset_N, self.encoder.networks(topology_NT))
        luck = [self._luck(pair) for pair in zip(dataset_N.tolist(), topology_NT.tolist())]
        return (smooth_N + torch.tensor(luck, dtype=torch.float64)).clamp(-0.2, 1.0)

    def counts(self, dataset_N: Tensor, topology_NT: Tensor) -> Tensor:
        """Right answers in validation, int64 (N,); a function of the pair."""
        counts = []
        for pair, scaled in zip(zip(dataset_N.tolist(), topology_NT.tolist()), self.scaled(dataset_N, topology_NT)):
            dataset = self.datasets[pair[0]]
            accuracy = torch.full((validation_images(dataset),), raw_accuracy(scaled.item(), dataset.chance))
            counts.append(int(torch.bernoulli(accuracy, generator=self._generator("counts", pair)).sum()))
        return torch.tensor(counts)

    def observe(self, candidate: Candidate) -> Observation:
        """The pair, trained."""
        dataset = self.index[candidate.fingerprint]
        correct = self.counts(torch.tensor([dataset]), torch.tensor([candidate.topology]))
        return Observation(candidate, int(correct), validation_images(self.datasets[dataset]))

    def _luck(self, pair: tuple[int, list[int]]) -> float:
        generator = self._generator("luck", pair)
        normal, tail, fails = torch.randn(1, generator=generator), torch.rand(2, generator=generator), 0.02
        scale = PRIOR_VARIANCES[-1] ** 0.5
        if not self.heavy_tails:
            return scale * normal.item()
        return -0.5 if tail[0] < fails else scale * normal.item() / max(0.3, tail[1].item())

    def _generator(self, purpose: str, pair: tuple[int, list[int]]) -> torch.Generator:
        digest = blake2b(f"{self.seed}/{purpose}/{pair}".encode(), digest_size=7).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest))


def validation_images(dataset: DatasetRecord) -> int:
    return sum(dataset.counts["validation"])


def make_world(name: str, datasets: int, search_space: SearchSpace, image_size: int, seed: int) -> World:
    """The world of that name: "smooth" or "rough"."""
    generator = torch.Generator().manual_seed(seed)
    records = made_up_datasets(datasets, generator)
    encoder = PairEncoder(records, search_space, CostScale(search_space, image_size))
    truth = {"smooth": _smooth, "rough": _rough}[name](encoder, search_space, generator)
    index = {record.fingerprint: number for number, record in enumerate(records)}
    return World(tuple(records), search_space, encoder, truth, seed, name == "rough", index)


def made_up_datasets(count: int, generator: torch.Generator) -> list[DatasetRecord]:
    """Datasets in families of four or so, with 2 to 20 classes and 40 to 400 validation images."""
    families_GF = 2 * torch.randn(max(1, count // 4), FEATURES, generator=generator)
    family_D = torch.randint(len(families_GF), (count,), generator=generator)
    return [_record(index, families_GF[family], generator) for index, family in enumerate(family_D.tolist())]


def _record(index: int, family_F: Tensor, generator: torch.Generator) -> DatasetRecord:
    classes = int(2 + 18 * torch.rand(1, generator=generator).square())
    images = int(40 * 10 ** torch.rand(1, generator=generator))
    centre_F = family_F + torch.randn(FEATURES, generator=generator)
    spread = 0.5 + 2 * torch.rand(1, generator=generator)
    means_CF = centre_F + spread * torch.randn(classes, FEATURES, generator=generator)
    labels = torch.arange(INSTANCES) % classes
    sides = {side: means_CF[labels] + torch.randn(INSTANCES, FEATURES, generator=generator) for side in "abc"}
    per_class = [images // classes + (place < images % classes) for place in range(classes)]
    return DatasetRecord(
        fingerprint=f"{index:032x}",
        spec=f"world:{index}",
        name=f"dataset-{index}",
        source=f"source-{index}",
        licence="none",
        class_names=tuple(map(str, range(classes))),
        counts={"train": [4 * number for number in per_class], "validation": per_class, "test": per_class},
        chance=1 / classes,
        channels=3,
        mirror=True,
        features=Features(
            train_ND=sides["a"],
            train_labels_N=labels,
            validation_ND=sides["b"],
            validation_labels_N=labels,
            test_ND=sides["c"],
            test_labels_N=labels,
        ),
    )


def _smooth(encoder: PairEncoder, search_space: SearchSpace, generator: torch.Generator) -> Truth:
    """A draw from the surrogate's prior, by random waves."""
    dataset_DF = encoder.design.dataset_DF
    lengthscale_dataset = 4.0 * torch.exp(0.5 * torch.randn(dataset_DF.shape[1], generator=generator))
    width = encoder.networks(search_space.sample(1, generator)).shape[1]
    groups = torch.exp(0.5 * torch.randn(len(encoder.design.network_groups), generator=generator))
    lengthscale_network = 2.0 * groups.repeat_interleave(torch.tensor(encoder.design.network_groups))
    assert len(lengthscale_network) == width
    datasets = (dataset_DF / lengthscale_dataset).double()
    shared, offset, network, product, _ = PRIOR_VARIANCES
    difficulty_D = 0.5 + shared**0.5 * _waves([datasets.shape[1]], generator)(datasets)
    difficulty_D += offset**0.5 * torch.randn(len(datasets), dtype=torch.float64, generator=generator)
    of_network = _waves([width], generator)
    of_both = _waves([datasets.shape[1], width], generator)

    def truth(dataset_N: Tensor, network_NF: Tensor) -> Tensor:
        scaled_NF = network_NF / lengthscale_network
        both_NF = torch.cat([datasets[dataset_N], scaled_NF], dim=1)
        return difficulty_D[dataset_N] + network**0.5 * of_network(scaled_NF) + product**0.5 * of_both(both_NF)

    return truth


def _waves(widths: Sequence[int], generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """A random function of variance 1 whose covariance is a product of Matern 5/2s, one of so many columns each."""
    blocks = []
    for width in widths:
        normal = torch.randn(WAVES, width, dtype=torch.float64, generator=generator)
        square = torch.randn(WAVES, 5, dtype=torch.float64, generator=generator).square().sum(dim=1, keepdim=True)
        blocks.append(normal / (square / 5).sqrt())  # Student's t with 5 degrees of freedom
    wave_WF = torch.cat(blocks, dim=1)
    phase_W = 2 * torch.pi * torch.rand(WAVES, dtype=torch.float64, generator=generator)
    weight_W = torch.randn(WAVES, dtype=torch.float64, generator=generator)

    def function(x_NF: Tensor) -> Tensor:
        return (2 / WAVES) ** 0.5 * ((x_NF @ wave_WF.T + phase_W).cos() @ weight_W)

    return function


def _rough(encoder: PairEncoder, search_space: SearchSpace, generator: torch.Generator) -> Truth:
    """Nothing that the surrogate assumes: thresholds, saturation, and difficulty that features hardly tell."""
    dataset_DF = encoder.design.dataset_DF
    count, width = len(dataset_DF), encoder.networks(search_space.sample(1, generator)).shape[1]

    def uniform_D(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, dtype=torch.float64, generator=generator)

    told_D = torch.tanh(dataset_DF @ torch.randn(dataset_DF.shape[1], dtype=torch.float64, generator=generator) / 3)
    ceiling_D = (0.65 + 0.1 * told_D + uniform_D(-0.25, 0.3)).clamp(0.1, 0.98)
    drop_D, half_D, family_D = (
        uniform_D(0.05, 0.5),
        uniform_D(0.05, 0.4),
        torch.randint(4, (count,), generator=generator),
    )
    step_GF = torch.randn(4, width, dtype=torch.float64, generator=generator)
    step_GF *= (torch.rand(4, width, generator=generator) < 0.2) * 0.04

    def truth(dataset_N: Tensor, network_NF: Tensor) -> Tensor:
        cost_N = network_NF[:, -2:].mean(dim=1)
        lost_N = drop_D[dataset_N] * (half_D[dataset_N] / (half_D[dataset_N] + cost_N)).square()
        steps_N = ((network_NF > 0).double() * step_GF[family_D[dataset_N]]).sum(dim=1)
        return ceiling_D[dataset_N] - lost_N + steps_N

    return truth
