"""`tans zoo gc`: files of weights that belong to no row, left by a driver that died or by rows that were dropped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.running.signals import stop_on_signals
from pipeline.zoo import supernets, weights
from pipeline.zoo.location import Location, locate
from pipeline.zoo.store import Zoo
from pipeline.zoo.table import AppendTable
from pipeline.zoo.upkeep.compact import tables_in
from pipeline.zoo.weights import weights_files

# A folder of weights, and the tables that name what is needed of it, by their column `weights_path`.
NAMED_BY: dict[str, tuple[str, ...]] = {weights.FOLDER: ("rows",), supernets.FILES: (supernets.TABLE,)}

YOUNG_S = 3600  # a file that is younger may wait for its row, whoever writes it


@dataclass(frozen=True, kw_only=True)
class Orphan:
    path: str  # relative to the zoo
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What `tans zoo gc --json` prints."""

    uri: str
    deleted: bool  # else they were only looked for
    orphans: tuple[Orphan, ...]
    young: int  # files without a row that are younger than an hour: left


def collect_garbage(zoo: str, delete: bool = False, young_s: float = YOUNG_S) -> Collected:
    """Look for weights that no row names; delete them only when asked to.

    While files are deleted, the zoo is held as by a driver, so that none is running that has written weights and not
    yet their row.

    Args:
        young_s: files younger than that stay.

    Raises:
        ZooError: there is no zoo, or a driver is growing it and `delete` is asked for.
    """
    location, start = locate(zoo), Zoo.open(zoo).start_file
    with stop_on_signals(goes_on=False) as stop, Zoo.claimed(zoo, "gc", stop) if delete else nullcontext():
        found = sorted(path for path in _orphans(location) if path != start)
        oldest = time.time() - young_s
        old = [(path, status) for path, status in ((path, path.stat()) for path in found) if status.st_mtime < oldest]
        if delete:
            for path, _ in old:
                path.unlink(missing_ok=True)
                with suppress(OSError):  # not empty
                    path.parent.rmdir()
    folder = location.folder
    return Collected(
        uri=location.uri,
        deleted=delete,
        orphans=tuple(
            Orphan(path=path.relative_to(folder).as_posix(), size_bytes=status.st_size) for path, status in old
        ),
        young=len(found) - len(old),
    )


def _orphans(location: Location) -> Iterator[Path]:
    """Files are listed before rows are read: what is committed in between is no orphan."""
    there = tables_in(location.folder)  # a zoo of an older schema has not all
    for folder, tables in NAMED_BY.items():
        files = weights_files(location.folder, folder)
        needed = {
            path
            for name in tables
            if name in there
            for path in AppendTable(location, name).read(["weights_path"])["weights_path"].to_pylist()
        }
        yield from (location.folder / path for path in files - needed)
