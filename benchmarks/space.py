"""How fast a space answers, and how well a probe foretells a fine-tuning.

Speed is the time of one thread itself, so that what else runs here does not count: embedding and searching places that
are drawn, limits and the order's rules included, and the probe of a row. What a probe foretells is seen on datasets of
`meta-train` by rows of other sources: each is probed, then fine-tuned for five epochs, and so are the zoo's starting
weights in its shape. At most `MOST_TRAIN` images are learned; what counts is test, which nothing here is chosen by.
Every run is kept in a file of lines: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import write
from benchmarks.runs import Result, kept, mean, run_missing
from pipeline.network.load_network import find_row
from pipeline.zoo import Zoo
from pipeline.zoo.upkeep.verify import zoo_search_space
from tans_core.cross_modal.encoders import ARCHITECTURE, SpaceModel, SpaceShape
from tans_core.cross_modal.features import stratified
from tans_core.datasets.opening import open_dataset
from tans_core.evaluation.starts import run_from
from tans_core.retrieval.constraints import Limits, RowCosts, within
from tans_core.retrieval.index import Index
from tans_core.retrieval.probe import MOST_IMAGES, probe
from tans_core.retrieval.rank import Measured, rank
from tans_core.training.fine_tune import network_from
from tans_core.training.recipe import recipe_alone

QUERIES = ("brain-regions", "clipart-symbols", "mnist-digits", "thai-letters", "ufo-materials")
ROWS_EACH, EPOCHS, MOST_TRAIN = 4, 5, 160
DATASETS = 140  # of the paper's zoo, whose rows the drawn places stand for
REPEATS = 20


@dataclass(frozen=True, order=True)
class Task:
    """A row, or the starting weights in its shape, on a query."""

    query: str
    row: str
    start: str


def probed_and_tuned(task: Task, zoo: str, data: Path) -> Result:
    """Counts before training and after; a probe's seconds are without reading weights and pictures."""
    torch.set_num_threads(1)
    store = Zoo.open(zoo)
    row, search_space = find_row(store, task.row), zoo_search_space(store)
    dataset = open_dataset(f"parquet:{data}/meta-train/{task.query}.parquet", store.settings.image_size)
    dataset = replace(dataset, train=stratified(dataset.train, dataset.labels, MOST_TRAIN))
    architecture, weights = search_space.architecture(row.identity.topology), store.load_weights(row)
    recipe = replace(recipe_alone(row.identity.recipe), epochs=EPOCHS, mirror=False)
    key = f"{task.query}/{task.row}"
    network = network_from(task.start, search_space, architecture, weights, len(dataset.class_names), key)
    began = time.thread_time()
    right_N = probe(network, dataset, search_space, batch_size=recipe.batch_size, key=key)
    probe_s = time.thread_time() - began
    run = run_from(
        task.start, search_space, architecture, weights, dataset, recipe, key=key, curve_on=dataset.validation
    )
    return {
        **asdict(task),
        "from_dataset": row.dataset_name,
        "probe_correct": int(right_N.sum()),
        "probe_total": len(right_N),
        "probe_s": probe_s,
        "test_correct": run.test_correct,
        "test_total": run.test_total,
    }


def tasks_of(zoo: str) -> list[Task]:
    """`ROWS_EACH` rows of other sources for each query, drawn by its name; each row and its shape without a source."""
    snapshot = Zoo.open(zoo).snapshot()
    source = {record.name: record.source for record in snapshot.datasets.values()}
    tasks = []
    for query in QUERIES:
        others = sorted(row.key for row in snapshot.rows if row.source != source[query])
        for key in random.Random(query).sample(others, ROWS_EACH):
            tasks += [Task(query, key, "retrieved"), Task(query, key, "start")]
    return tasks


def foretold(results: Sequence[Result]) -> dict[str, Any]:
    """How a probe goes with what fine-tuning gave: rank correlation over a query's rows, and rows beside starts."""
    by_query: dict[str, list[Result]] = {}
    for each in sorted(results, key=lambda each: (each["query"], each["row"], each["start"])):
        by_query.setdefault(each["query"], []).append(each)

    def share(each: Result, what: str) -> float:
        return 100 * each[f"{what}_correct"] / each[f"{what}_total"]

    rows = {query: [each for each in members if each["start"] == "retrieved"] for query, members in by_query.items()}
    of_rows = {
        query: spearman([share(each, "probe") for each in members], [share(each, "test") for each in members])
        for query, members in rows.items()
    }
    of_all = {
        query: spearman([share(each, "probe") for each in members], [share(each, "test") for each in members])
        for query, members in by_query.items()
    }
    pairs = [
        (row, start)
        for members in by_query.values()
        for row in members
        for start in members
        if row["row"] == start["row"] and (row["start"], start["start"]) == ("retrieved", "start")
    ]
    return {
        "couples": sum(map(len, rows.values())),
        "spearman_of_rows_mean": mean(list(of_rows.values())),
        "spearman_of_rows": of_rows,
        "spearman_with_starts_mean": mean(list(of_all.values())),
        "spearman_with_starts": of_all,
        "row_over_start_before_points": mean([share(row, "probe") - share(start, "probe") for row, start in pairs]),
        "row_over_start_after_points": mean([share(row, "test") - share(start, "test") for row, start in pairs]),
    }


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Rank correlation, equal values at the mean of their ranks; 0 where one of the two never varies."""
    ranks = torch.stack([_ranks(one), _ranks(other)])
    found = torch.corrcoef(ranks)[0, 1].item()
    return found if found == found else 0.0


def _ranks(values: Sequence[float]) -> Tensor:
    value_N = torch.tensor(values, dtype=torch.float64)
    below_N = (value_N[None, :] < value_N[:, None]).sum(dim=1)
    equal_N = (value_N[None, :] == value_N[:, None]).sum(dim=1)
    return below_N + (equal_N + 1) / 2


def search_ms(rows: int) -> float:
    """Median milliseconds of limits, search and order over so many drawn rows."""
    generator = torch.Generator().manual_seed(0)
    model = SpaceModel(SpaceShape(feature_dim=1280, topology_length=47, response_length=2560, dim=128, hidden=128))
    place_RE = torch.nn.functional.normalize(torch.randn(rows, 128, generator=generator), dim=1)
    index = Index(
        [f"{row:032x}" for row in range(rows)], place_RE, torch.randn(rows, ARCHITECTURE, generator=generator)
    )
    measured = Measured(
        dataset_R=torch.randint(0, DATASETS, (rows,), generator=generator),
        correct_R=torch.randint(20, 60, (rows,), generator=generator),
        total_R=torch.full((rows,), 60),
        params_R=torch.randint(1_300_000, 4_000_000, (rows,), generator=generator).double(),
        chance_K=torch.full((DATASETS,), 0.1).double(),
    )
    costs = RowCosts(
        params_R=measured.params_R,
        flops_R=10 * measured.params_R,
        latency_ms_R=measured.params_R / 1e6,
        memory_mb_R=measured.params_R / 1e5,
    )
    query_E = torch.nn.functional.normalize(torch.randn(128, generator=generator), dim=0)
    facts_X, near_K = torch.tensor([0.1, 3.0, 0.5]), torch.rand(DATASETS, generator=generator)
    limits = Limits(max_params=3e6, max_latency_ms=2.5)

    def ask() -> None:
        rank(model, index, measured, query_E, facts_X, near_K, within(limits, costs), 10, error=0.1, bar=0.5)

    return 1000 * _median_s(ask)


def embed_s(rows: int) -> float:
    """Median seconds of places for so many drawn rows."""
    generator = torch.Generator().manual_seed(0)
    model = SpaceModel(SpaceShape(feature_dim=1280, topology_length=47, response_length=2560, dim=128, hidden=128))
    topology_RT = torch.randn(rows, 47, generator=generator)
    response_RF = torch.randn(rows, 2560, generator=generator)

    def embed() -> None:
        with torch.no_grad():
            model.embed_models(topology_RT, response_RF)

    return _median_s(embed)


def _median_s(work: Callable[[], None]) -> float:
    seconds = []
    for _ in range(REPEATS):
        began = time.thread_time()
        work()
        seconds.append(time.thread_time() - began)
    return median(seconds)


def largest_probe_s(zoo: str, data: Path) -> float:
    """Seconds of a probe of `MOST_IMAGES` images through the zoo's largest network."""
    store = Zoo.open(zoo)
    row = max(store.snapshot().rows, key=lambda row: row.costs.flops)
    search_space = zoo_search_space(store)
    dataset = open_dataset(f"parquet:{data}/meta-train/{QUERIES[0]}.parquet", store.settings.image_size)
    assert len(dataset.train) >= MOST_IMAGES
    architecture, classes = search_space.architecture(row.identity.topology), len(dataset.class_names)
    seconds = []
    for _ in range(3):
        network = network_from("start", search_space, architecture, {}, classes, "probe")
        began = time.thread_time()
        probe(network, dataset, search_space, batch_size=32, key="probe")
        seconds.append(time.thread_time() - began)
    return median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the collection: meta-train/")
    parser.add_argument(
        "--zoo", default="runs/bench/pool-zoo", help="with rows of meta-train; `make bench-pool` grows one"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    tasks, lines = tasks_of(given.zoo), given.out / "space.jsonl"
    done = kept(lines, Task)
    run = partial(probed_and_tuned, zoo=given.zoo, data=given.data)
    run_missing(tasks, done, lines, given.workers, run, lambda run: f"{run['query']} {run['start']} {run['row'][:8]}")
    torch.set_num_threads(1)
    write(
        given.out / "space.json",
        {
            "search_14k_ms": search_ms(14_000),
            "search_1m_ms": search_ms(1_000_000),
            "embed_14k_s": embed_s(14_000),
            "probe_s": largest_probe_s(given.zoo, given.data),
            "probe_images": MOST_IMAGES,
            **foretold([done[task] for task in tasks]),
            "starting_weights": Zoo.open(given.zoo).settings.supernet,
        },
    )


if __name__ == "__main__":
    main()
