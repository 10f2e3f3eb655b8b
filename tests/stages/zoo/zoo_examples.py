"""Small zoos, datasets and outcomes, with every column filled."""

from pathlib import Path

import torch

from pipeline.zoo import Zoo
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
    Seconds,
    TrainedPair,
    Worker,
    ZooSettings,
)
from tans_core.training.weights import encode_weights

SETTINGS = ZooSettings(
    zoo_id="0f" * 16,
    preset="smoke",
    schema=Zoo.SCHEMA_VERSION,
    search_space="ofa-lite",
    width=1.0,
    image_size=32,
    recipe={"epochs": 2, "peak_lr": 0.03, "mirror": None},
    supernet="ab" * 16,
    noise="cd" * 16,
    seed=7,
)


def dataset_record(fingerprint: str = "f1" * 16, name: str = "Vögel & Co") -> DatasetRecord:
    generator = torch.Generator().manual_seed(1)
    sides = {}
    for side, count in (("train", 6), ("validation", 4), ("test", 0)):
        sides[f"{side}_ND"] = torch.rand(count, 5, generator=generator).half().float()
        sides[f"{side}_labels_N"] = torch.arange(count) % 3
    return DatasetRecord(
        fingerprint=fingerprint,
        spec="starter:birds",
        name=name,
        source="birds",
        licence="CC0",
        class_names=("Amsel", "tit", "鳥"),
        counts={"train": [2, 2, 2], "validation": [2, 1, 1], "test": [0, 0, 0]},
        chance=1 / 3,
        channels=3,
        mirror=True,
        features=Features(**sides),
        image_hashes=bytes(range(160)),
    )


DATASET = dataset_record()
DATASETS = {DATASET.fingerprint: DATASET}


def outcome(number: int, run: str = "run-a", weights: bytes | None = None, feature_dim: int = 16) -> Outcome:
    """Pair `number` of a driver's run: the same number is the same key."""
    generator = torch.Generator().manual_seed(number)
    topology = (3, 5, 7, number)
    identity = PairIdentity(
        fingerprint=DATASET.fingerprint,
        search_space=SETTINGS.search_space,
        topology=topology,
        width=SETTINGS.width,
        image_size=SETTINGS.image_size,
        mode="standalone",
        recipe={**SETTINGS.recipe, "mirror": True},
        supernet=SETTINGS.supernet,
        seed=SETTINGS.seed,
    )
    choice = Choice(
        candidate=Candidate(DATASET.fingerprint, topology),
        decision=number,
        chosen_by="random" if number == 0 else "hypervolume",
        reason="largest expected gain",
        predicted_mean=None if number == 0 else 0.7,
        predicted_std=None if number == 0 else 0.1,
        expected_gain=None if number == 0 else 0.02,
        candidates_scored=300,
        runners_up=(("f2" * 16, 0.01),),
    )
    job = Job(
        key=identity.key,
        name=f"birds {number}",
        identity=identity,
        attempt=Attempt(run, 1),
        choice=choice,
        deadline_s=60,
    )
    trained = TrainedPair(
        costs=Costs(params=2_000_000 + number, flops=3_000_000_000 + number),
        val_correct_by_class=(2, 0, 1),
        val_total_by_class=(2, 1, 1),
        test_correct_by_class=(0, 1, 1),
        test_total_by_class=(1, 1, 1),
        response=torch.randn(8, feature_dim, generator=generator).half(),
        curve=(CurvePoint(1, 1.5), CurvePoint(2, 0.25, 3, 4)),
        weights=encode_weights({"w": torch.randn(4, 4, generator=generator)}) if weights is None else weights,
    )
    return Outcome(
        job=job, worker=Worker("trainer-00", "a node", "cpu"), seconds=Seconds(0.5, 2.0, 0.25, 0.125), trained=trained
    )


def new_zoo(folder: Path, rows: int = 0) -> Zoo:
    zoo = Zoo.create(folder, SETTINGS)
    zoo.record_dataset(DATASET)
    for number in range(rows):
        zoo.commit([outcome(number)], DATASETS)
    return zoo


def weights_file(zoo: Zoo, place: int = 0) -> Path:
    return Path(zoo.uri) / zoo.snapshot().rows[place].weights.path
