"""Are the networks that are found good? On the 8 `meta-test` datasets, which nothing else ever reads.

The retrieved row of an 80-pair zoo over `meta-train` is fine-tuned beside the same architecture from the zoo's
starting weights and from random ones. Each side takes the better of the same two rates by validation; test is read
for what was chosen. Beside them what people do without us: ridge regression on EfficientNet-Lite0's frozen features.
Every run is kept in a file of lines: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import write
from benchmarks.runs import best_in_validation, half_width, interval, kept, mean, run_missing
from pipeline.growing.build_zoo import build_zoo
from pipeline.network.load_network import find_row
from pipeline.space.meta_train import meta_train
from pipeline.space.search import SearchResult, search
from pipeline.zoo import Zoo
from pipeline.zoo.upkeep.verify import zoo_search_space
from tans_core.cross_modal.features import features_of, keeps_class_when_mirrored
from tans_core.datasets.opening import open_dataset
from tans_core.evaluation.starts import run_from
from tans_core.search_space.ofa_lite import lite0_backbone
from tans_core.training.head import closed_form_head, near_copies
from tans_core.training.recipe import recipe_alone

PAIRS, IMAGE_SIZE, FROZEN_SIZE = 80, 64, 96
RATES = (0.015, 0.04)
SEEDS = (0, 1, 2)
SIDES = (("retrieved", 5), ("start", 5), ("random", 5), ("random", 15))


@dataclass(frozen=True, order=True)
class Task:
    """One fine-tuning."""

    spec: str
    row: str
    start: str
    epochs: int
    rate: float
    seed: int


def fine_tune(task: Task, zoo: str, mirror: Mapping[str, bool]) -> dict[str, Any]:
    """Run one task on one thread; counts on validation and test.

    Args:
        mirror: whether the pictures of a SPEC may be mirrored.
    """
    torch.set_num_threads(1)
    store = Zoo.open(zoo)
    row = find_row(store, task.row)
    search_space = zoo_search_space(store)
    dataset = open_dataset(task.spec, IMAGE_SIZE)
    recipe = replace(recipe_alone(row.identity.recipe), epochs=task.epochs, peak_lr=task.rate, mirror=mirror[task.spec])
    run = run_from(
        task.start,
        search_space,
        search_space.architecture(row.identity.topology),
        store.load_weights(row),
        dataset,
        recipe,
        key=f"{task.spec}/{task.seed}",
        curve_on=dataset.validation,
    )
    return {**asdict(task), **asdict(run), "dataset": dataset.name, "from_dataset": row.dataset_name}


def best_row(found: SearchResult) -> str:
    """Key of the first row; the starting weights are a side of their own here."""
    return next(entry.key for entry in found.entries if entry.dataset is not None)


def frozen_ridge(spec: str) -> tuple[str, float]:
    """Name of a dataset, and test accuracy in percent of ridge regression on frozen features."""
    dataset, backbone = open_dataset(spec, IMAGE_SIZE), lite0_backbone()
    features_ND = features_of(dataset.images, backbone, (FROZEN_SIZE, FROZEN_SIZE))
    labels_N, train_N = dataset.labels, dataset.train
    copies = near_copies(dataset.images[train_N], labels_N[train_N])
    head = closed_form_head(features_ND[train_N], labels_N[train_N], len(dataset.class_names), copies)
    predicted_N = head.logits(features_ND[dataset.test]).argmax(dim=1)
    return dataset.name, 100 * (predicted_N == labels_N[dataset.test]).double().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the collection: meta-train/ and meta-test/")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    zoo, space = str(given.out / "zoo-80"), given.out / "space-80"
    build_zoo(
        zoo, [f"parquet:{given.data}/meta-train/*.parquet"], pairs=PAIRS, preset_name="laptop", image_size=IMAGE_SIZE
    )
    meta_train(zoo, space)
    specs = [f"parquet:{path}" for path in sorted((given.data / "meta-test").glob("*.parquet"))]
    rows = {spec: best_row(search(spec, zoo, space, top=1000)) for spec in specs}
    backbone = lite0_backbone()
    mirror = {spec: keeps_class_when_mirrored(open_dataset(spec, IMAGE_SIZE), backbone) for spec in specs}
    tasks = [
        Task(spec, rows[spec], start, epochs, rate, seed)
        for seed in SEEDS
        for spec in specs
        for start, epochs in SIDES
        for rate in RATES
    ]
    lines = given.out / "meta-test.jsonl"
    done = kept(lines, Task)
    run = partial(fine_tune, zoo=zoo, mirror=mirror)
    run_missing(
        tasks, done, lines, given.workers, run, lambda run: f"{run['dataset']} {run['start']} {run['epochs']} epochs"
    )
    frozen = dict(map(frozen_ridge, specs))
    beside = {"frozen_ridge_mean": mean(list(frozen.values())), "frozen_ridge": frozen, "frozen_size": FROZEN_SIZE}
    write(given.out / "meta-test.json", {**summary([done[task] for task in tasks]), **beside})


def summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean test accuracy in percent of each side, and paired differences with 95 % intervals.

    Each side's rate is chosen on validation (of equal ones the first), its test accuracy is read for that run alone.
    A dataset counts once, however many images it has; its interval is over seeds, that of the whole over datasets.

    Args:
        results: of every dataset, side, rate and seed.
    """
    chosen = best_in_validation(results, ("dataset", "start", "epochs", "seed"))
    names = sorted({result["dataset"] for result in results})

    def accuracy(name: str, start: str, epochs: int, seed: int) -> float:
        run = chosen[name, start, epochs, seed]
        return 100 * run["test_correct"] / run["test_total"]

    def side(start: str, epochs: int) -> float:
        return mean([accuracy(name, start, epochs, seed) for name in names for seed in SEEDS])

    by_dataset = {}
    for name in names:
        gains = [accuracy(name, "retrieved", 5, seed) - accuracy(name, "start", 5, seed) for seed in SEEDS]
        by_dataset[name] = {
            "from_dataset": chosen[name, "retrieved", 5, SEEDS[0]]["from_dataset"],
            "row": chosen[name, "retrieved", 5, SEEDS[0]]["row"],
            "test_images": chosen[name, "retrieved", 5, SEEDS[0]]["test_total"],
            **{
                f"{start}_{epochs}_epochs": [accuracy(name, start, epochs, seed) for seed in SEEDS]
                for start, epochs in SIDES
            },
            "retrieved_over_start_points": mean(gains),
            "retrieved_over_start_interval": interval(gains),
            "below_start_beyond_interval": mean(gains) + half_width(gains) < 0,
        }
    gains = [each["retrieved_over_start_points"] for each in by_dataset.values()]
    return {
        "retrieved_5_epochs_mean": side("retrieved", 5),
        "start_5_epochs_mean": side("start", 5),
        "random_5_epochs_mean": side("random", 5),
        "random_15_epochs_mean": side("random", 15),
        "retrieved_over_start_points": mean(gains),
        "retrieved_over_start_interval": interval(gains),
        "seeds": SEEDS,
        "rates": RATES,
        "datasets": by_dataset,
    }


if __name__ == "__main__":
    main()
