"""Small worlds for the tests of this room: two search spaces without networks, datasets without images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tans_core.errors import InvalidTopology
from tans_core.records import (
    Architecture,
    Attempt,
    Candidate,
    Choice,
    Costs,
    DatasetRecord,
    Features,
    Observation,
    PairIdentity,
    Row,
    Seconds,
    WeightsReference,
)


class CostedSpace:
    """Stages of two blocks, the second of which may be left out: kernels, then expansions, then depths.

    With one stage it has fewer choices and 16 members: 4 of depth 1 and 12 of depth 2.
    """

    name = "costed"
    width = 1.0
    feature_dim = 8
    supernet_hash = "0" * 32
    input_mean = (127.0, 127.0, 127.0)
    input_std = (128.0, 128.0, 128.0)

    def __init__(self, stages: int) -> None:
        self.stages = stages
        self.topology_length = 5 * stages
        first = second = ((3, 5, 7), (3, 4, 6))
        if stages == 1:
            first, second = ((3, 5), (3, 6)), ((3, 5, 7), (3,))
        values = [first[0], second[0]] * stages + [first[1], second[1]] * stages + [(1, 2)] * stages
        self._choices = [torch.tensor(choices) for choices in values]

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        columns = [c[torch.randint(len(c), (count,), generator=generator)] for c in self._choices]
        return self._masked(torch.stack(columns, dim=1))

    def mutate(self, topology_CT: Tensor, generator: torch.Generator, rate: float = 0.1) -> Tensor:
        changed = torch.rand(topology_CT.shape, generator=generator) < rate
        one = torch.randint(self.topology_length, (len(topology_CT), 1), generator=generator)
        changed = changed.scatter(1, one, True) | (topology_CT == 0)
        fresh = torch.stack([c[torch.randint(len(c), (len(topology_CT),), generator=generator)] for c in self._choices])
        return self._masked(torch.where(changed, fresh.T, topology_CT))

    def _masked(self, topology_CT: Tensor) -> Tensor:
        shallow = topology_CT[:, 4 * self.stages :] == 1
        seconds = torch.arange(1, 2 * self.stages, 2)
        masked = topology_CT.clone()
        for columns in (seconds, seconds + 2 * self.stages):
            masked[:, columns] = torch.where(shallow, 0, masked[:, columns])
        return masked

    def architecture(self, topology: Sequence[int]) -> Architecture:
        if len(topology) != self.topology_length:
            raise InvalidTopology(f"{len(topology)} numbers, {self.topology_length} expected")
        masked = self._masked(torch.tensor([list(topology)]))[0].tolist()
        cut = 2 * self.stages
        return Architecture(tuple(masked[:cut]), tuple(masked[cut : 2 * cut]), tuple(masked[2 * cut :]))

    def costs(self, topology_CT: Tensor, image_size: int, classes: int) -> tuple[Tensor, Tensor]:
        kernel, ratio = topology_CT[:, : 2 * self.stages], topology_CT[:, 2 * self.stages : 4 * self.stages]
        size = torch.arange(1, 2 * self.stages + 1)
        params = (ratio * (40 * size + kernel**2)) @ size + 8 * classes
        flops = (ratio * (40 * size + kernel**2)) @ size.flip(0) * image_size + 8 * classes
        return params, flops

    def memory(self, topology_CT: Tensor, image_size: int, classes: int | Tensor, batch: int = 1) -> Tensor:
        return topology_CT.sum(dim=1) * image_size * batch + classes

    def subnet(self, architecture: Architecture, classes: int, generator: torch.Generator) -> nn.Module:
        raise NotImplementedError

    def random_subnet(self, architecture: Architecture, classes: int, generator: torch.Generator) -> nn.Module:
        raise NotImplementedError

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        raise NotImplementedError

    def export_config(self, network: nn.Module) -> dict[str, Any]:
        raise NotImplementedError


def dataset_record(index: int, classes: int = 4, feature_dim: int = 32, instances: int = 40) -> DatasetRecord:
    """Dataset `index` of a world: classes are clouds of features around means of their own."""
    generator = torch.Generator().manual_seed(index)
    means_CD = torch.randn(classes, feature_dim, generator=generator)
    labels = torch.arange(instances) % classes

    def clouds() -> Tensor:
        return means_CD[labels] + torch.randn(instances, feature_dim, generator=generator)

    return DatasetRecord(
        fingerprint=f"{index:032x}",
        spec=f"world:{index}",
        name=f"dataset-{index}",
        source=f"source-{index % 3}",
        licence="none",
        class_names=tuple(str(label) for label in range(classes)),
        counts={"train": [40] * classes, "validation": [15] * classes, "test": [15] * classes},
        chance=1 / classes,
        channels=3,
        mirror=True,
        features=Features(
            train_ND=clouds(),
            train_labels_N=labels,
            validation_ND=clouds(),
            validation_labels_N=labels,
            test_ND=clouds(),
            test_labels_N=labels,
        ),
    )


def looking_like(index: int, centre: float) -> DatasetRecord:
    """A dataset that others are told from by where its features lie, and by nothing else."""
    record = dataset_record(0)
    features = record.features
    sides = {side: getattr(features, side) + centre for side in ("train_ND", "validation_ND", "test_ND")}
    return replace(record, fingerprint=f"{index:032x}", name=f"dataset-{index}", features=replace(features, **sides))


def trained(candidate: Candidate, space: CostedSpace) -> Observation:
    """What training a pair gives here: larger networks are better, datasets differ; with the noise of 60 images."""
    dataset = int(candidate.fingerprint, 16)
    params, _ = space.costs(torch.tensor([candidate.topology]), 8, 4)
    largest = space.costs(torch.tensor([[7] * 2 * space.stages + [6] * 2 * space.stages + [2] * space.stages]), 8, 4)[0]
    accuracy = 0.4 + 0.05 * (dataset % 5) + 0.3 * (params / largest).item()
    generator = torch.Generator().manual_seed(hash((dataset, candidate.topology)) % 2**31)
    return Observation(candidate, int((torch.rand(60, generator=generator) < accuracy).sum()), 60)


def row(dataset: DatasetRecord, topology: tuple[int, ...], validation: tuple[int, int], test: tuple[int, int]) -> Row:
    """A row of a zoo with these (correct, total) counts."""
    identity = PairIdentity(
        fingerprint=dataset.fingerprint,
        search_space="costed",
        topology=topology,
        width=1.0,
        image_size=64,
        mode="standalone",
        recipe={},
        supernet="0" * 32,
        seed=0,
    )
    return Row(
        key=identity.key,
        attempt=Attempt("run", 1),
        identity=identity,
        dataset_name=dataset.name,
        source=dataset.source,
        class_names=dataset.class_names,
        costs=Costs(1, 1),
        val_correct_by_class=(validation[0],),
        val_total_by_class=(validation[1],),
        test_correct_by_class=(test[0],),
        test_total_by_class=(test[1],),
        response=torch.zeros(8, 2, dtype=torch.float16),
        curve=(),
        seconds=Seconds(),
        weights=WeightsReference("weights/none", "0" * 32, 0, "float32"),
        choice=Choice(Candidate(dataset.fingerprint, topology), 0, "random", "test"),
        versions={},
    )
