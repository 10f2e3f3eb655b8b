"""A made-up world in which it is known which network suits which dataset.

A dataset is a point in 6 dimensions; its images' features lie around a linear picture of it. A network's response is a
linear picture of its dataset's point and of its topology; its accuracy grows with how easy its dataset is and with its
size. A row helps a query the more the nearer their points are, and the more it learned.

Where its sides contradict each other, no leak stays unseen. The datasets then stand on a circle, as easy as they stand
to the right. Training pictures of a dataset lie where it stands, those of validation a quarter of the circle further,
those of test opposite; and what is accurate in validation is not in test, dataset by dataset and row by row.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tans_core.jobs import Job, Outcome
from tans_core.records import (
    Attempt,
    Candidate,
    Choice,
    Costs,
    CurvePoint,
    DatasetRecord,
    Features,
    PairIdentity,
    Row,
    Seconds,
    TrainedPair,
    WeightsReference,
    Worker,
    ZooSettings,
    ZooSnapshot,
)
from tans_core.training.weights import encode_weights

CLASSES, LATENT, TOPOLOGY, RESPONSE = 4, 6, 9, 24

SETTINGS = ZooSettings(
    zoo_id="5e" * 16,
    preset="smoke",
    schema=2,
    search_space="ofa-lite",
    width=1.0,
    image_size=32,
    recipe={"epochs": 1},
    supernet="ab" * 16,
    noise="cd" * 16,
    seed=0,
)


@dataclass(frozen=True, kw_only=True)
class World:
    """Every number follows from `seed`."""

    datasets: int = 12
    rows_each: int = 3
    sources: int = 8
    feature_dim: int = 48
    seed: int = 0
    sides_contradict: bool = False  # with a multiple of four datasets
    ease: Tensor = field(init=False)  # of each dataset, in logits
    point: Tensor = field(init=False)  # of each dataset

    def __post_init__(self) -> None:
        ease = 1.2 * torch.randn(self.datasets, generator=self.random("ease"))
        point = torch.randn(self.datasets, LATENT, generator=self.random("points"))
        if self.sides_contradict:
            assert self.datasets % 4 == 0
            angle = torch.arange(self.datasets) * 2 * torch.pi / self.datasets
            ease = 2 * angle.cos()
            point = torch.zeros_like(point)
            point[:, 0], point[:, 1] = 3 * angle.cos(), 3 * angle.sin()
        object.__setattr__(self, "ease", ease)
        object.__setattr__(self, "point", point)

    def random(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 1000 + sum(purpose.encode()))

    def features(self, point: Tensor, ease: float, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images of one dataset: around its point, classes the farther apart the easier it is."""
        picture = torch.randn(LATENT, self.feature_dim, generator=self.random("picture"))
        centres = torch.randn(CLASSES, self.feature_dim, generator=generator)
        centres = centres - centres.mean(dim=0)
        labels = torch.arange(count) % CLASSES
        noise = torch.randn(count, self.feature_dim, generator=generator)
        apart = torch.sigmoid(torch.tensor(ease)) * centres[labels]
        return (point @ picture + apart + noise).half().float(), labels

    def records(self) -> list[DatasetRecord]:
        return [self._record(number) for number in range(self.datasets)]

    def topologies(self) -> Tensor:
        """Of all rows, dataset by dataset: kernels 3, 5 or 7."""
        rows = self.datasets * self.rows_each
        return 3 + 2 * torch.randint(0, 3, (rows, TOPOLOGY), generator=self.random("topologies"))

    def size(self) -> Tensor:
        """What a network's topology adds to its accuracy, in logits."""
        return (0.5 if self.sides_contradict else 1.5) * (self.topologies().float().mean(dim=1) - 5)

    def learned(self) -> Tensor:
        """Accuracy of each row on its dataset, 0 for chance and 1 for perfect, without the luck of counting."""
        return torch.sigmoid(self.ease.repeat_interleave(self.rows_each) + self.size())

    def worth(self, point: Tensor) -> Tensor:
        """What each row is worth as a start for a query at this point."""
        distance = (self.point - point).norm(dim=1).repeat_interleave(self.rows_each)
        return 0.5 * self.learned() - distance

    def outcomes(self) -> list[Outcome]:
        records, generator, topologies = self.records(), self.random("outcomes"), self.topologies()
        of_test = self.random("test counts")
        of_point = torch.randn(LATENT, RESPONSE, generator=generator)
        of_topology = torch.randn(TOPOLOGY, RESPONSE, generator=generator) / 3
        outcomes = []
        for number, (topology, learned) in enumerate(zip(topologies, self.learned())):
            place = number // self.rows_each
            response = self.point[place] @ of_point + (topology.float() - 5) @ of_topology
            response = response + 0.3 * torch.randn(8, RESPONSE, generator=generator)
            chance = 1 / CLASSES
            accuracy = chance + (1 - chance) * learned
            if self.sides_contradict:
                correct, test_correct = round(200 * accuracy.item()), round(100 * (1 + chance - accuracy.item()))
            else:
                correct = int(torch.binomial(torch.tensor(200.0), accuracy, generator=generator))
                test_correct = int(torch.binomial(torch.tensor(100.0), accuracy, generator=of_test))
            fingerprint = records[place].fingerprint
            outcomes.append(_outcome(number, fingerprint, topology, response.half(), correct, test_correct))
        return outcomes

    def snapshot(self) -> ZooSnapshot:
        records = {record.fingerprint: record for record in self.records()}
        rows = tuple(_row(each, records[each.job.identity.fingerprint]) for each in self.outcomes())
        return ZooSnapshot(uri="a world", version=1, settings=SETTINGS, rows=rows, datasets=records)

    def _way(self, number: int, steps: int) -> Tensor:
        """From where a dataset's pictures lie to where those of the dataset lie that stands so many steps further."""
        picture = torch.randn(LATENT, self.feature_dim, generator=self.random("picture"))
        return (self.point[(number + steps) % self.datasets] - self.point[number]) @ picture

    def _record(self, number: int) -> DatasetRecord:
        generator, point = self.random(f"dataset {number}"), self.point[number]
        ease = 0.0 if self.sides_contradict else self.ease[number].item()
        features, labels = self.features(point, ease, 80, generator)
        if self.sides_contradict:
            features[40:60] += self._way(number, self.datasets // 4)
            features[60:] += self._way(number, self.datasets // 2)
        return DatasetRecord(
            fingerprint=f"{number:032x}",
            spec=f"folder:{number}",
            name=f"dataset {number}",
            source=f"source {number % self.sources}",
            licence="CC0-1.0",
            class_names=tuple(f"class {label}" for label in range(CLASSES)),
            counts={side: [count] * CLASSES for side, count in (("train", 10), ("validation", 5), ("test", 5))},
            chance=1 / CLASSES,
            channels=3,
            mirror=True,
            features=Features(
                train_ND=features[:40],
                train_labels_N=labels[:40],
                validation_ND=features[40:60],
                validation_labels_N=labels[40:60],
                test_ND=features[60:],
                test_labels_N=labels[60:],
            ),
        )


def _outcome(
    number: int, fingerprint: str, topology: Tensor, response: Tensor, correct: int, test_correct: int
) -> Outcome:
    identity = PairIdentity(
        fingerprint=fingerprint,
        search_space=SETTINGS.search_space,
        topology=tuple(topology.tolist()),
        width=SETTINGS.width,
        image_size=SETTINGS.image_size,
        mode="standalone",
        recipe=SETTINGS.recipe,
        supernet=SETTINGS.supernet,
        seed=number,
    )
    choice = Choice(Candidate(fingerprint, identity.topology), number, "random", "a world's")
    job = Job(key=identity.key, name="", identity=identity, attempt=Attempt("run", 1), choice=choice, deadline_s=60)
    trained = TrainedPair(
        costs=Costs(params=1_000_000 + 1000 * number, flops=20_000_000 - 1000 * number),
        val_correct_by_class=(correct,),
        val_total_by_class=(200,),
        test_correct_by_class=(test_correct,),
        test_total_by_class=(100,),
        response=response,
        curve=(CurvePoint(1, 1.0),),
        weights=encode_weights({"w": torch.full((2,), float(number))}),
    )
    return Outcome(job=job, worker=Worker("trainer-00", "a node", "cpu"), seconds=Seconds(), trained=trained)


def _row(outcome: Outcome, record: DatasetRecord) -> Row:
    job, trained = outcome.job, outcome.trained
    assert trained is not None
    return Row(
        key=job.key,
        attempt=job.attempt,
        identity=job.identity,
        dataset_name=record.name,
        source=record.source,
        class_names=record.class_names,
        costs=trained.costs,
        val_correct_by_class=trained.val_correct_by_class,
        val_total_by_class=trained.val_total_by_class,
        test_correct_by_class=trained.test_correct_by_class,
        test_total_by_class=trained.test_total_by_class,
        response=trained.response,
        curve=trained.curve,
        seconds=outcome.seconds,
        weights=WeightsReference("weights/none", "0" * 32, 0, "float32"),
        choice=job.choice,
        versions={},
    )
