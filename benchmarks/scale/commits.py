"""Rows committed one by one through the store, with their events in the journal: the last thousand beside the second.

Rows are as large as real ones (a response of 8 x 1,280, a curve of 15 epochs), only their weights are tiny. A build
commits at most once a second; here commits come as fast as they can, so what readers are given (KEPT_S seconds) is
shortened to as many commits as they would be then: what lies about at the end is what a build at full speed has.
Started again it goes on, thousand by thousand.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from deltalake import DeltaTable

from pipeline.growing.growth import COMMIT_S
from pipeline.running.progress import say
from pipeline.zoo import Zoo
from pipeline.zoo.table import KEPT_S
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
from tans_core.training.recipe import Recipe
from tans_core.training.weights import encode_weights

ROWS, DATASETS, CLASSES, EPOCHS = 14_000, 140, 20, 15
THOUSAND = 1000
SNAPSHOTS = 5
GROWING = ("rows", "journal")  # the tables that grow with every pair

SETTINGS = ZooSettings(
    zoo_id="0" * 32,
    preset="laptop",
    schema=Zoo.SCHEMA_VERSION,
    search_space="ofa-lite",
    width=1.0,
    image_size=64,
    recipe=asdict(Recipe(epochs=EPOCHS)),
    supernet="1" * 32,
    noise="2" * 32,
    seed=0,
)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Means over the rows from `first` on, one of each a row; `cpu` is of all threads of the process."""

    first: int
    rows: int
    commit_ms: float
    journal_ms: float
    commit_cpu_ms: float
    journal_cpu_ms: float


def measure(folder: Path) -> dict[str, Any]:
    """Fill the zoo, and say what its last thousand rows cost beside its second, and what lies there at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    paces = _fill(folder / "zoo", folder / "paces.jsonl")
    zoo = folder / "zoo"
    return {
        "rows": Zoo.open(zoo).row_count(),
        **growth(paces),
        **_at_end(zoo),
        "paces": [asdict(pace) for pace in paces],
    }


def growth(paces: Sequence[Pace]) -> dict[str, float]:
    """The last thousand rows over the second; of several runs at one thousand, only whole thousands count."""
    whole = [pace for pace in paces if pace.rows == THOUSAND]
    second, last = whole[1], whole[-1]
    return {
        "commit_growth": last.commit_ms / second.commit_ms,
        "journal_growth": last.journal_ms / second.journal_ms,
        "commit_cpu_growth": last.commit_cpu_ms / second.commit_cpu_ms,
        "journal_cpu_growth": last.journal_cpu_ms / second.journal_cpu_ms,
    }


def _fill(folder: Path, lines: Path) -> list[Pace]:
    datasets = {record.fingerprint: record for record in map(_dataset, range(DATASETS))}
    if not Zoo.exists(folder):
        zoo = Zoo.create(folder, SETTINGS)
        for record in datasets.values():
            zoo.record_dataset(record)
    zoo = Zoo.open(folder)
    paces = [Pace(**json.loads(line)) for line in lines.read_text().splitlines()] if lines.exists() else []
    while (first := zoo.row_count()) < ROWS:
        pace = _pace(zoo, datasets, first, min(THOUSAND - first % THOUSAND, ROWS - first))
        _give_readers_as_many_commits(folder, (pace.commit_ms + pace.journal_ms) / 1000)
        paces.append(pace)
        with lines.open("a") as file:
            file.write(json.dumps(asdict(pace)) + "\n")
        say(f"{first + pace.rows} rows: a commit {pace.commit_ms:.1f} ms, its events {pace.journal_ms:.1f} ms")
    return paces


def _give_readers_as_many_commits(zoo: Path, row_s: float) -> None:
    kept_s = max(1, round(KEPT_S / COMMIT_S * row_s))
    for name in GROWING:
        properties = ("delta.deletedFileRetentionDuration", "delta.logRetentionDuration")
        DeltaTable(f"{zoo}/{name}").alter.set_table_properties(
            {each: f"interval {kept_s} seconds" for each in properties}
        )


def _pace(zoo: Zoo, datasets: dict[str, DatasetRecord], first: int, rows: int) -> Pace:
    wall, cpu = [0.0, 0.0], [0.0, 0.0]
    for number in range(first, first + rows):
        outcome = _outcome(number)
        choice = asdict(outcome.job.choice)
        events = [("decision", {"key": outcome.job.key, "attempt": 1, "choice": choice}), ("commit", {"rows": 1})]
        acts = (lambda: zoo.commit([outcome], datasets), lambda: zoo.journal.append("run", events))  # noqa: B023
        for place, act in enumerate(acts):
            began, cpu_began = time.perf_counter(), time.process_time()
            act()
            wall[place] += time.perf_counter() - began
            cpu[place] += time.process_time() - cpu_began
    commit, journal = (1000 * each / rows for each in wall)
    commit_cpu, journal_cpu = (1000 * each / rows for each in cpu)
    return Pace(
        first=first,
        rows=rows,
        commit_ms=commit,
        journal_ms=journal,
        commit_cpu_ms=commit_cpu,
        journal_cpu_ms=journal_cpu,
    )


def _at_end(zoo: Path) -> dict[str, Any]:
    sizes = {name: [path.stat().st_size for path in (zoo / name).rglob("*") if path.is_file()] for name in GROWING}
    return {
        "files_at_end": sum(len(each) for each in sizes.values()),
        "bytes_at_end": {name: sum(each) for name, each in sizes.items()},
        "snapshot_14k_s": _median_s(lambda: Zoo.open(zoo).snapshot()),
        "snapshot_with_responses_s": _median_s(lambda: Zoo.open(zoo).snapshot(responses=True)),
        "journal_14k_s": _median_s(lambda: Zoo.open(zoo).journal.events()),
    }


def _median_s(act) -> float:
    took_s = []
    for _ in range(SNAPSHOTS):
        began = time.perf_counter()
        act()
        took_s.append(time.perf_counter() - began)
    return statistics.median(took_s)


def _fingerprint(number: int) -> str:
    return f"{number:032x}"


def _dataset(number: int) -> DatasetRecord:
    sides = {}
    for side, count in (("train", 160), ("validation", 40), ("test", 40)):
        generator = torch.Generator().manual_seed(number)
        sides |= {
            f"{side}_ND": torch.rand(count, 64, generator=generator),
            f"{side}_labels_N": torch.arange(count) % CLASSES,
        }
    return DatasetRecord(
        fingerprint=_fingerprint(number),
        spec=f"folder:{number}",
        name=f"dataset {number}",
        source=f"source {number % 60}",
        licence="none",
        class_names=tuple(f"class {each}" for each in range(CLASSES)),
        counts={"train": [32] * CLASSES, "validation": [8] * CLASSES, "test": [8] * CLASSES},
        chance=1 / CLASSES,
        channels=3,
        mirror=True,
        features=Features(**sides),
    )


def _outcome(number: int) -> Outcome:
    generator = torch.Generator().manual_seed(number)
    topology = tuple(torch.randint(2, 7, (45,), generator=generator).tolist())
    fingerprint = _fingerprint(number % DATASETS)
    identity = PairIdentity(
        fingerprint=fingerprint,
        search_space=SETTINGS.search_space,
        topology=topology,
        width=SETTINGS.width,
        image_size=SETTINGS.image_size,
        mode="standalone",
        recipe=SETTINGS.recipe,
        supernet=SETTINGS.supernet,
        seed=SETTINGS.seed,
    )
    runners_up = tuple((_fingerprint((number + each) % DATASETS), 0.01 / each) for each in range(1, 4))
    choice = Choice(
        Candidate(fingerprint, topology), number, "hypervolume", "largest gain", 0.7, 0.1, 0.02, 300, runners_up
    )
    val_correct = tuple(torch.randint(0, 9, (CLASSES,), generator=generator).tolist())
    trained = TrainedPair(
        costs=Costs(2_000_000 + number, 30_000_000 + number),
        val_correct_by_class=val_correct,
        val_total_by_class=(8,) * CLASSES,
        test_correct_by_class=val_correct,
        test_total_by_class=(8,) * CLASSES,
        response=torch.randn(8, 1280, generator=generator).half(),
        curve=tuple(CurvePoint(epoch, 1 / epoch) for epoch in range(1, EPOCHS + 1)),
        weights=encode_weights({"w": torch.randn(4, generator=generator)}),
    )
    job = Job(
        key=identity.key, name=str(number), identity=identity, attempt=Attempt("run", 1), choice=choice, deadline_s=60
    )
    return Outcome(
        job=job, worker=Worker("trainer-00", "node", "cpu"), seconds=Seconds(0.5, 12.0, 1.0, 0.1), trained=trained
    )
