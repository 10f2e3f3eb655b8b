"""`tans zoo drop`: rows or a dataset leave a zoo, with what refers to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.running.signals import stop_on_signals
from pipeline.zoo import supernets
from pipeline.zoo.location import Location, locate
from pipeline.zoo.store import Zoo
from pipeline.zoo.table import AppendTable
from pipeline.zoo.upkeep.compact import tables_in
from tans_core.errors import ConfigError
from tans_core.records import DatasetRecord, Row, ZooSnapshot

# Tables that refer to a row by its `key`, and to a dataset by its `fingerprint`; what they refer to goes last.
OF_A_ROW = ("latencies", "rows")
OF_A_DATASET = (supernets.TABLE, "datasets")

_SHORTEST = 4  # characters of a key or fingerprint


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """What `tans zoo drop --json` prints."""

    uri: str
    keys: tuple[str, ...]  # of the rows
    datasets: tuple[str, ...]  # fingerprints
    entries: dict[str, int]  # of each table, that went
    weights: int  # files that no row needs any more: `tans zoo gc --delete` deletes them


def drop_rows(zoo: str, rows: Sequence[str] = (), dataset: str | None = None, run: str = "drop") -> Dropped:
    """Take rows, or all rows of a dataset and the dataset, out of a zoo, with their latencies and its supernets.

    The zoo is held as by a driver meanwhile. The journal keeps what went; a later build may choose a dropped pair
    again, and training it gives what it gave. A drop that is cut off is finished by the same call.

    Args:
        rows: keys, or beginnings that only one row has.
        dataset: its name or fingerprint, or the beginning of that.
        run: in whose name it stands in the journal.

    Raises:
        ConfigError: nothing was named, no row or dataset is called so, or more than one, or another row goes on from
            one of them.
        ZooError: there is no zoo, a driver is growing it, or a table refuses.
    """
    if not rows and dataset is None:
        raise ConfigError("name rows by their keys, or a dataset by --dataset")
    location = locate(zoo)
    Zoo.open(zoo)  # an error here names the zoo, and makes no folder
    with stop_on_signals(goes_on=False) as stop, Zoo.claimed(zoo, run, stop):
        store = Zoo.open(zoo)
        snapshot, cut_out_of = store.snapshot(), store.supernets.all().values()
        gone = {row.key: row for name in rows for row in [_row_called(name, snapshot)]}
        records = [_dataset_called(dataset, snapshot)] if dataset is not None else []
        fingerprints = [record.fingerprint for record in records]
        gone |= {row.key: row for row in snapshot.rows if row.identity.fingerprint in fingerprints}
        _refuse_parents(gone, snapshot)
        names = [record.name for record in records]
        what = {"rows": len(gone), "keys": sorted(gone), "fingerprints": fingerprints, "names": names}
        store.journal.append(run, [("drop", {"version": snapshot.version + 1, **what})])
        entries = _removed(location, OF_A_ROW, "key", list(gone)) | _removed(
            location, OF_A_DATASET, "fingerprint", fingerprints
        )
        needed = {row.weights.path for row in store.snapshot().rows}
        left = {each.weights.path for each in cut_out_of if each.identity.fingerprint in fingerprints}
    return Dropped(
        uri=store.uri,
        keys=tuple(sorted(gone)),
        datasets=tuple(fingerprints),
        entries=entries,
        weights=len({row.weights.path for row in gone.values()} - needed | left),
    )


def _removed(location: Location, tables: Sequence[str], column: str, values: Sequence[str]) -> dict[str, int]:
    there = tables_in(location.folder) if values else ()  # a zoo of an older schema has not all
    return {name: AppendTable(location, name).remove(column, values) for name in tables if name in there}


def _refuse_parents(gone: Mapping[str, Row], snapshot: ZooSnapshot) -> None:
    """A row that another goes on from is needed for it."""
    for row in snapshot.rows:
        if row.identity.parent in gone and row.key not in gone:
            raise ConfigError(
                f"the row {row.key} goes on from {row.identity.parent}: name both, or leave both in {snapshot.uri}"
            )


def _row_called(name: str, snapshot: ZooSnapshot) -> Row:
    found = [row for row in snapshot.rows if len(name) >= _SHORTEST and row.key.startswith(name)]
    if len(found) != 1:
        raise ConfigError(
            f"{len(found)} rows of {snapshot.uri} have a key that begins with {name!r}: give a key that `tans zoo "
            f"show` lists, or at least {_SHORTEST} characters that only one begins with"
        )
    return found[0]


def _dataset_called(name: str, snapshot: ZooSnapshot) -> DatasetRecord:
    found = [
        record
        for record in snapshot.datasets.values()
        if record.name == name or (len(name) >= _SHORTEST and record.fingerprint.startswith(name))
    ]
    if len(found) != 1:
        others = ", ".join(
            sorted(f"{each.name} ({each.fingerprint[:6]})" for each in found or snapshot.datasets.values())
        )
        raise ConfigError(f"{len(found)} datasets of {snapshot.uri} are called {name!r}; give one of {others}")
    return found[0]
