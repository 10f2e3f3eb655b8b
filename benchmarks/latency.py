"""Is a predicted latency right? A table of this device, made as a user makes it, on networks that it never saw.

One thread, single images. The networks are timed after the table is done, in rounds of their own, so that what changes
on the machine meanwhile counts against the table. Beside it the error that the table found by itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import write
from pipeline.network.latency_table import latency_table
from pipeline.running.threads import one_thread
from pipeline.zoo.latency import read_table
from tans_core.search_space import make_search_space
from tans_core.search_space.latency import relative_errors
from tans_core.search_space.timing import ROUNDS, clock_of, in_rounds, whole
from tans_core.training.loop import CPU

UNSEEN, SEED = 30, 1  # the table itself draws with seed 0
IMAGE_SIZES = (64, 96)


def compared(name: str, image_size: int, out: Path) -> dict[str, Any]:
    """Make a table, time other networks, predict them."""
    made = latency_table(search_space=name, image_size=image_size, out=out)
    search_space = make_search_space(name)
    drawn_CT = search_space.sample(UNSEEN, torch.Generator().manual_seed(SEED))
    calls = [whole(search_space, topology, 2, image_size, 1, CPU) for topology in drawn_CT.tolist()]
    with one_thread():
        took_ms_C = in_rounds(calls, clock_of(CPU, threads=1), CPU, ROUNDS).quantile(0.5, dim=0)
    return {
        "image_size": image_size,
        "predicted_ms": read_table(out).latency_ms(drawn_CT).tolist(),
        "measured_ms": took_ms_C.tolist(),
        "own_error_median": made.error_median,
        "own_error_p95": made.error_p95,
        "own_unseen": made.unseen,
        "load_average_before": made.load_average,
        "table_s": made.wall_s,
    }


def summary(comparisons: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Relative errors at the first image size, and those at each.

    Args:
        comparisons: as `compared` gives them, one an image size.
    """
    by_size = {}
    for each in comparisons:
        predicted_C, measured_C = (
            torch.tensor(each[name], dtype=torch.float64) for name in ("predicted_ms", "measured_ms")
        )
        error_C = relative_errors(predicted_C, measured_C)
        by_size[str(each["image_size"])] = {
            **each,
            "relative_error_median": error_C.quantile(0.5).item(),
            "relative_error_p95": error_C.quantile(0.95).item(),
        }
    first = by_size[str(comparisons[0]["image_size"])]
    return {
        "relative_error_median": first["relative_error_median"],
        "relative_error_p95": first["relative_error_p95"],
        "networks": len(first["measured_ms"]),
        "seed": SEED,
        "by_image_size": by_size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--search-space", default="ofa-lite")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    write(
        given.out / "latency.json",
        summary(
            [
                compared(given.search_space, size, given.out / f"latency-table-{given.search_space}-{size}.json")
                for size in IMAGE_SIZES
            ]
        ),
    )


if __name__ == "__main__":
    main()
