"""Busy is not yet fast: pairs per second of a whole build, against a bare loop of two processes over the same pairs.

The build starts Ray, looks at the datasets, decides, trains, commits and measures latencies; the bare loop opens the
same datasets, trains the same pairs and writes their weights. One after the other, in one run; no dataset is in the
cache of decoded ones when either begins.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas
import torch

from benchmarks.machine import write
from pipeline.growing.build_zoo import BuildSummary, build_zoo
from pipeline.zoo import Zoo
from pipeline.zoo.upkeep.verify import zoo_search_space
from tans_core.datasets.opening import open_datasets
from tans_core.records import PairIdentity, Row
from tans_core.training.standalone import train_pair

RAYS_NICENESS = 15  # of its workers: what else runs on the machine treats both alike


def bare_worker(zoo: str, specs: list[str], image_size: int, queue, out: Path) -> None:
    """Train what the queue gives, from the zoo's starting weights, until it gives None."""
    torch.set_num_threads(1)
    os.nice(RAYS_NICENESS)
    datasets = {dataset.fingerprint: dataset for dataset in open_datasets(specs, image_size)}
    search_space = None
    while (identity := queue.get()) is not None:
        search_space = search_space or zoo_search_space(Zoo.open(zoo))
        pair, _ = train_pair(identity, datasets[identity.fingerprint], search_space)
        (out / f"{identity.key}.safetensors").write_bytes(pair.weights)


def bare_loop(
    zoo: str, specs: list[str], image_size: int, identities: list[PairIdentity], workers: int, out: Path
) -> float:
    """Seconds of the bare loop."""
    out.mkdir(parents=True)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for identity in [*identities, *[None] * workers]:
        queue.put(identity)
    began = time.monotonic()
    processes = [context.Process(target=bare_worker, args=(zoo, specs, image_size, queue, out)) for _ in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(list(out.iterdir())) == len(identities)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the collection: meta-train/")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--pairs", type=int, default=80)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    zoo, bare = given.out / "pool-zoo", given.out / "pool-bare"
    cache = given.out / "pool-cache"
    for folder in (zoo, bare, cache):
        shutil.rmtree(folder, ignore_errors=True)
    os.environ["XDG_CACHE_HOME"] = str(cache.absolute())
    specs = [f"parquet:{given.data}/meta-train/*.parquet"]
    built = build_zoo(str(zoo), specs, pairs=given.pairs, preset_name="laptop", workers=given.workers)
    rows = Zoo.open(str(zoo)).snapshot().rows
    bare_s = bare_loop(str(zoo), specs, 64, [row.identity for row in rows], given.workers, bare)
    write(given.out / "pool.json", summary(built, bare_s, rows))


def summary(built: BuildSummary, bare_s: float, rows: Sequence[Row]) -> dict[str, Any]:
    """The build beside the bare loop's seconds, and how well it foresaw what it chose.

    The rank correlation is Spearman's, between the accuracy predicted before training and the one counted in
    validation, over the rows that the surrogate chose; None for fewer than three.
    """
    predicted = pandas.DataFrame(
        [(row.choice.predicted_mean, row.val_accuracy) for row in rows if row.choice.predicted_mean is not None]
    )
    return {
        "pairs": built.pairs,
        "failures": built.failures,
        "workers": built.workers,
        "build_s": built.wall_s,
        "bare_s": bare_s,
        "throughput_vs_bare": bare_s / built.wall_s,
        "utilisation": built.utilisation,
        "decision_ms_median": built.decision_ms_median,
        "decision_ms_p95": built.decision_ms_p95,
        "refit_s": built.refit_s,
        "hypervolume_mean": built.hypervolume_mean,
        "predicted_rank_correlation": predicted.corr("spearman").iloc[0, 1] if len(predicted) > 2 else None,
        "predicted_pairs": len(predicted),
    }


if __name__ == "__main__":
    main()
