"""`tans zoo merge`: the rows of zoos that grew apart, in one."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.running.progress import Progress
from pipeline.running.signals import stop_on_signals
from pipeline.zoo.location import locate
from pipeline.zoo.store import Zoo
from pipeline.zoo.weights import read_checked
from tans_core.errors import ConfigError
from tans_core.records import Row, ZooSettings

# Only networks that began from the same weights, and were measured on the same noise, are comparable.
SAME = ("search_space", "width", "image_size", "supernet", "noise")
_BATCH = 64  # rows a commit


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What `tans zoo merge --json` prints."""

    uri: str
    rows: int  # that came
    rows_there: int  # of the same keys: the one that was there stayed
    differing: tuple[str, ...]  # keys of those whose accuracy in validation is another (another processor, say)
    datasets: int  # that came
    latencies: int
    rows_now: int


def merge_zoos(zoos: Sequence[str], into: str, run: str = "merge") -> Merged:
    """Bring the rows of zoos, with datasets, weights and latencies, into another, or into a new one.

    A key has one row: where both have it, the one that is there stays. The zoos that are read are not changed, and
    what is cut off is finished by the same call.

    Args:
        into: a zoo, or a folder that is empty or not there yet; the settings of a new one are those of the first.
        run: in whose name it stands in the journal.

    Raises:
        ConfigError: their rows are not comparable; the message names the difference.
        ZooError: one of them is no zoo, or a driver is growing the one that rows are to come into.
        WeightsError: weights of one of them are gone or were changed; what came before stays.
    """
    others = [Zoo.open(zoo) for zoo in zoos]
    if locate(into).uri in (other.uri for other in others):
        raise ConfigError(f"{into} cannot be merged into itself: leave it out of the zoos to be read")
    settings = Zoo.open(into).settings if Zoo.exists(into) else others[0].settings
    for other in others:
        _refuse_other(other, settings, into)
    with stop_on_signals(goes_on=True) as stop, Zoo.claimed(into, run, stop):
        target = Zoo.open_to_grow(into) if Zoo.exists(into) else _new_like(others[0], into)
        before = target.snapshot()
        measured = len(target.latencies())
        differing: list[str] = []
        read = 0
        for other in others:
            rows = other.snapshot(responses=True).rows
            read += len(rows)
            here = target.snapshot().row_by_key
            differing += [row.key for row in rows if row.key in here and row.val_correct != here[row.key].val_correct]
            _bring(other, [row for row in rows if row.key not in here], target)
        now = target.snapshot()
        came = len(now.rows) - len(before.rows)
        merged = Merged(
            uri=target.uri,
            rows=came,
            rows_there=read - came,
            differing=tuple(differing),
            datasets=len(now.datasets) - len(before.datasets),
            latencies=len(target.latencies()) - measured,
            rows_now=len(now.rows),
        )
        target.journal.append(run, [("merge", {"zoos": [other.settings.zoo_id for other in others], "rows": came})])
    return merged


def _refuse_other(other: Zoo, settings: ZooSettings, into: str) -> None:
    for name in SAME:
        theirs, ours = getattr(other.settings, name), getattr(settings, name)
        if theirs != ours:
            raise ConfigError(
                f"{other.uri} and {into} have another {name} ({theirs} and {ours}): their rows are not comparable, "
                "so keep them apart"
            )


def _new_like(first: Zoo, into: str) -> Zoo:
    start = first.start_file.read_bytes() if first.start_file.exists() else None
    return Zoo.create(into, replace(first.settings, zoo_id=uuid.uuid4().hex, schema=Zoo.SCHEMA_VERSION), start)


def _bring(other: Zoo, rows: Sequence[Row], target: Zoo) -> None:
    """Datasets and their supernets first, so that a row is never there without its own."""
    for record in other.datasets().values():
        target.record_dataset(record)
    for supernet in other.supernets.all().values():
        target.supernets.adopt(supernet, other.supernets.read(supernet))
    progress = Progress()
    for begin in range(0, len(rows), _BATCH):
        progress.show(f"{begin} of {len(rows)} rows of {other.uri}")
        target.adopt(rows[begin : begin + _BATCH], lambda row: _weights(other, row))
    progress.clear()
    there = set(target.latencies())
    target.write_latencies([each for each in other.latencies() if each not in there])
    settings = {table.setting for table in target.latency_tables()}
    for table in other.latency_tables():
        if table.setting not in settings:
            target.write_latency_table(table)


def _weights(zoo: Zoo, row: Row) -> bytes:
    way_out = "put the file back from a copy of that zoo, or drop the row there (`tans zoo drop`)"
    return read_checked(locate(zoo.uri).folder, row.weights, f"row {row.key} of {zoo.uri}: its weights", way_out)
