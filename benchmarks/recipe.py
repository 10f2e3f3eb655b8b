"""Which recipe of fine-tuning gains at equal seconds? Candidates on left-out datasets of `meta-train` alone.

Each candidate differs from the recipe as it was in what its name says, and learns at most `MOST_TRAIN` images of each
dataset. Of several rates the best in validation counts; accuracy is on test. What a run costs is processor time. Every
run is kept in a file of lines: the same command goes on where it was stopped; the table is of the candidates that are
whole.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.machine import write
from benchmarks.recipe_loop import BASE, MOST_TRAIN, Candidate, train
from benchmarks.runs import best_in_validation, interval, kept, mean, run_missing
from tans_core.cross_modal.features import keeps_class_when_mirrored
from tans_core.datasets.opening import open_dataset
from tans_core.records import ImageDataset
from tans_core.search_space import make_search_space
from tans_core.search_space.ofa_lite import lite0_backbone
from tans_core.training.augment import ImageBatches
from tans_core.training.fine_tune import transfer
from tans_core.training.loop import CPU, confusion, seeded, to_device
from tans_core.training.weights import decode_weights, encode_weights

# Of six sources that no starting weights of ours have seen: photographs, a measurement, drawings, glyphs, textures.
DATASETS = (
    "nebula-types",
    "opencv-photographs",
    "brain-regions",
    "wesnoth-units",
    "thai-letters",
    "ufo-materials",
)
MOST_JUDGED = 500  # pictures of test, and of training beyond those learned
ROW_OF = "emoji-objects"  # where the row that some runs start from was trained, by the recipe as it was
SEEDS = (0,)
STARTS = ("smallest", "row")  # the smallest subnet: of Lite0, and trained on another source


CANDIDATES = (
    BASE,
    Candidate(name="closed head, no training", epochs=0, head="closed", norm="source", rates=(0.0,)),
    Candidate(name="closed head, no training, norm of the query", epochs=0, head="closed", norm="query", rates=(0.0,)),
    Candidate(name="closed head, no training, norm chosen", epochs=0, head="closed", norm="chosen", rates=(0.0,)),
    Candidate(name="closed head of batches", head="batch"),
    Candidate(name="closed head, norm chosen and frozen", head="closed", norm="chosen", rates=(0.003,)),
    Candidate(name="slower body", body=0.3, rates=(0.1,)),
    Candidate(name="weight averaging", average=0.9),
    Candidate(name="96 px", image_size=96),
    Candidate(name="11 epochs", epochs=11),
    Candidate(name="closed head afterwards", refit=True),
    Candidate(name="norm biases faster", norm_bias=8.0),
    Candidate(name="Adam", adam=True, rates=(0.001,)),
    Candidate(name="96 px, 64 px first", image_size=96, small_first=True),
    Candidate(name="alternating flip", alternate=True),
    Candidate(name="mixup", mixup=0.2),
)


@dataclass(frozen=True, order=True)
class Task:
    """One run."""

    candidate: str
    dataset: str
    start: str
    rate: float
    seed: int


def tasks(candidates: Sequence[Candidate]) -> list[Task]:
    """All runs, candidate by candidate, so that what is there at any time can be compared."""
    return [
        Task(candidate.name, dataset, start, rate, seed)
        for candidate in candidates
        for seed in SEEDS
        for dataset in DATASETS
        for start in STARTS
        for rate in candidate.rates
    ]


class _Bench:
    """What runs share: datasets and subnets, made once."""

    def __init__(self, data: Path, out: Path) -> None:
        self._data, self._space, self._backbone = data, make_search_space("ofa-lite"), lite0_backbone()
        self._read: dict[tuple[str, int], ImageDataset] = {}
        self._mirror: dict[str, bool] = {}
        smallest = torch.tensor([[*[3] * 21, *[3] * 21, *[2] * 5]])
        layout = self._space.layout  # type: ignore[attr-defined]
        self._smallest = self._space.architecture(layout.mask(smallest)[0].tolist())
        self._row: dict[str, Tensor] = {}
        self._row_file = out / "recipe-row.safetensors"

    def network(self, start: str, classes: int, key: str) -> nn.Module:
        if start != "row":
            return self._space.subnet(self._smallest, classes, seeded(key, "classifier"))
        return transfer(self._space, self._smallest, self.row(), classes, key)

    def row(self) -> dict[str, Tensor]:
        """Weights of the smallest subnet trained on another source, by the recipe as it was; kept in a file."""
        if not self._row and self._row_file.exists():
            self._row = decode_weights(self._row_file.read_bytes())
        if not self._row:
            source = self.dataset(ROW_OF, 64)
            row = to_device(
                self._space.subnet(self._smallest, len(source.class_names), seeded("row", "classifier")), CPU
            )
            mirror = self.mirror(ROW_OF)
            train(row, source, self._space, replace(BASE, epochs=8), 0.03, key="row", mirror=mirror, most=None)
            self._row = row.state_dict()
            self._row_file.write_bytes(encode_weights(self._row))
        return self._row

    def dataset(self, name: str, image_size: int) -> ImageDataset:
        if (name, image_size) not in self._read:
            self._read[name, image_size] = open_dataset(f"parquet:{self._data}/meta-train/{name}.parquet", image_size)
        return self._read[name, image_size]

    def mirror(self, name: str) -> bool:
        if name not in self._mirror:
            self._mirror[name] = keeps_class_when_mirrored(self.dataset(name, 64), self._backbone)
        return self._mirror[name]

    def run(self, task: Task, candidate: Candidate) -> dict[str, Any]:
        dataset, key = self.dataset(task.dataset, candidate.image_size), f"{task.dataset}/{task.seed}"
        classes = len(dataset.class_names)
        mirror = self.mirror(task.dataset)
        small = self.dataset(task.dataset, 64) if candidate.small_first else None
        network = self.network(task.start, classes, key)
        began_s = time.process_time()
        train(to_device(network, CPU), dataset, self._space, candidate, task.rate, key=key, mirror=mirror, small=small)
        cpu_s = time.process_time() - began_s
        batches = ImageBatches(dataset, self._space, CPU)
        judged_N = torch.cat([dataset.test, dataset.train[MOST_TRAIN:]])[:MOST_JUDGED]
        found: dict[str, Any] = {**asdict(task), "cpu_s": cpu_s, "train_images": min(MOST_TRAIN, len(dataset.train))}
        for side, index_N in (("val", dataset.validation), ("test", judged_N)):
            count_KK = confusion(network, batches, index_N, classes)
            found |= {f"{side}_correct": int(count_KK.trace()), f"{side}_total": int(count_KK.sum())}
        return found


@functools.cache
def _bench(data: Path, out: Path) -> _Bench:
    torch.set_num_threads(1)
    return _Bench(data, out)


def _run(task: Task, data: Path, out: Path) -> dict[str, Any]:
    return _bench(data, out).run(task, next(each for each in CANDIDATES if each.name == task.candidate))


def complete(done: dict[Task, dict[str, Any]]) -> list[dict[str, Any]]:
    """Results of the candidates all of whose runs are there."""
    whole = [candidate for candidate in CANDIDATES if all(task in done for task in tasks([candidate]))]
    return [done[task] for task in tasks(whole)]


def summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean accuracy in percent of each candidate, what it is over `BASE` with a 95 % interval, and what it costs.

    Of a candidate's rates the one with the most validation images right counts (of equal ones the first); its
    accuracy is on test. A dataset counts once, however many pictures and starts it has: the interval is over datasets.
    `cost` is processor time as a multiple of the base's.

    Args:
        results: of every candidate, dataset, start and seed; of some candidates more than one rate.
    """
    chosen = best_in_validation(results, ("candidate", "dataset", "start", "seed"))
    datasets = sorted({result["dataset"] for result in results})

    def mean_of(name: str, measure: Callable[[dict[str, Any]], float], dataset: str | None, start: str | None) -> float:
        found = [
            measure(result)
            for place, result in chosen.items()
            if place[0] == name and dataset in (None, place[1]) and start in (None, place[2])
        ]
        return mean(found)

    def side(name: str, start: str | None) -> dict[str, Any]:
        gains = [mean_of(name, _percent, each, start) - mean_of(BASE.name, _percent, each, start) for each in datasets]
        return {
            "accuracy": mean([mean_of(name, _percent, each, start) for each in datasets]),
            "over_base_points": mean(gains),
            "over_base_interval": interval(gains),
            "cost": mean_of(name, _seconds, None, start) / mean_of(BASE.name, _seconds, None, start),
        }

    names = dict.fromkeys(result["candidate"] for result in results)
    starts = sorted({result["start"] for result in results})
    return {
        "datasets": datasets,
        "most_train_images": MOST_TRAIN,
        "seeds": sorted({result["seed"] for result in results}),
        "base": asdict(BASE),
        "candidates": {
            name: {"all": side(name, None)} | {start: side(name, start) for start in starts} for name in names
        },
        "by_dataset": {
            name: {each: {start: mean_of(name, _percent, each, start) for start in starts} for each in datasets}
            for name in names
        },
    }


def _percent(result: dict[str, Any]) -> float:
    return 100 * result["test_correct"] / result["test_total"]


def _seconds(result: dict[str, Any]) -> float:
    return result["cpu_s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the collection: meta-train/ is read")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    lines = given.out / "recipe.jsonl"
    wanted, done = tasks(CANDIDATES), kept(lines, Task)
    if not done.keys() >= set(wanted):
        _bench(given.data, given.out).row()  # once, before the workers begin
    run = functools.partial(_run, data=given.data, out=given.out)
    run_missing(wanted, done, lines, given.workers, run, lambda run: f"{run['candidate']}, {run['dataset']}")
    write(given.out / "recipe.json", summary(complete(done)))


if __name__ == "__main__":
    main()
