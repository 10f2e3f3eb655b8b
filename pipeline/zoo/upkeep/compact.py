"""`tans zoo compact`: fewer and smaller files in a zoo's tables, as commits do it by themselves now and then."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.zoo.location import locate
from pipeline.zoo.settings import read_settings
from pipeline.zoo.table import KEPT_S, AppendTable


@dataclass(frozen=True, kw_only=True)
class TidiedTable:
    """A table's folder before and after, its log included."""

    table: str
    files_before: int
    files: int
    bytes_before: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """What `tans zoo compact --json` prints."""

    uri: str
    kept_s: int  # files that were needed so short a time ago are still there
    tables: tuple[TidiedTable, ...]


def compact_zoo(zoo: str) -> Compacted:
    """Merge the small files of all tables and delete what nobody can be reading any more.

    A driver may grow the zoo meanwhile; weights are not touched. Rows stay, and older versions can be had from
    `Zoo.snapshot` as before.

    Raises:
        ZooError: there is no zoo, or a table refuses: others commit too often, say.
    """
    location = locate(zoo)
    read_settings(location.folder)
    return Compacted(
        uri=location.uri,
        kept_s=KEPT_S,
        tables=tuple(
            _tidied(AppendTable(location, name), location.folder / name) for name in tables_in(location.folder)
        ),
    )


def tables_in(folder: Path) -> list[str]:
    """Names of a zoo's tables."""
    return sorted(path.parent.name for path in folder.glob("*/_delta_log"))


def _tidied(table: AppendTable, folder: Path) -> TidiedTable:
    files_before, bytes_before = _size(folder)
    table.tidy()
    files, size = _size(folder)
    return TidiedTable(table=folder.name, files_before=files_before, files=files, bytes_before=bytes_before, bytes=size)


def _size(folder: Path) -> tuple[int, int]:
    """Files and their bytes; one that goes meanwhile counts as it was listed."""
    sizes = []
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue
    return len(sizes), sum(sizes)
