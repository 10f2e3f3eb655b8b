"""A benchmark zoo over `meta-train`: networks cut from each dataset's supernet, and some trained by themselves.

Half of a dataset's networks are common to all datasets; those that are trained by themselves are among them, so that
both roads have the same pairs. The same command goes on where it was stopped, and writes the tables of what is there.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.campaign.pairs import registered
from benchmarks.campaign.tables import write_tables
from benchmarks.machine import write
from pipeline.growing.build_zoo import build_zoo
from pipeline.zoo import Zoo
from tans_core.records import DatasetRecord, Row

DATASETS = 40
ROADS = {"from_supernet": (25, 25), "standalone": (8, 0)}  # common networks of all datasets, and own ones of each


def grow(
    out: Path,
    specs: Sequence[str],
    datasets: int,
    roads: Mapping[str, tuple[int, int]],
    *,
    preset_name: str,
    workers: int,
    hours: float | None = None,
) -> tuple[list[Row], dict[str, DatasetRecord]]:
    """Grow, or go on growing, a zoo for each road; what all of them hold, rows in the order of their pairs."""
    rows, known = [], {}
    for mode, (common, own) in roads.items():
        zoo = str(out / mode)
        with registered(common, own) as acquisition:
            build_zoo(
                zoo,
                specs,
                pairs=datasets * (common + own),
                acquisition=acquisition,
                pair_mode=mode,
                preset_name=preset_name,
                workers=workers,
                hours=hours,
            )
        snapshot = Zoo.open(zoo).snapshot(responses=True)
        rows += sorted(snapshot.rows, key=lambda row: row.choice.decision)
        known |= snapshot.datasets
    return rows, known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the collection: meta-train/")
    parser.add_argument("--out", type=Path, default=Path("runs/campaign"), help="the zoos")
    parser.add_argument("--tables", type=Path, default=Path("benchmarks/tables/campaign"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--hours", type=float, help="of each road: no pair is begun after that time")
    given = parser.parse_args()
    specs = [f"parquet:{given.data}/meta-train/*.parquet"]
    rows, known = grow(
        given.out, specs, DATASETS, ROADS, preset_name="laptop", workers=given.workers, hours=given.hours
    )
    written = [path.stat().st_size for path in write_tables(given.tables, rows, known.values())]
    busy_s = {mode: sum(row.seconds.total for row in rows if row.identity.mode == mode) for mode in ROADS}
    counted = {mode: sum(row.identity.mode == mode for row in rows) for mode in ROADS}
    sizes = {"bytes": sum(written), "largest_part_bytes": max(written)}
    write(given.tables / "about.json", {"datasets": len(known), "rows": counted, "busy_s": busy_s, **sizes})


if __name__ == "__main__":
    main()
