"""`tans zoo show`: what is in a zoo, and what happened to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.zoo import Zoo
from pipeline.zoo.history.journal_words import in_words
from pipeline.zoo.latency import device_name, row_latencies, table_of
from tans_core.lineage import parent_of
from tans_core.records import DatasetRecord, Row, ZooSettings


@dataclass(frozen=True, kw_only=True)
class ShownRow:
    key: str
    dataset: str  # its name; where several datasets have that name, with the beginning of the fingerprint
    source: str
    val_accuracy: float
    val_total: int
    test_accuracy: float
    test_total: int
    params: int
    flops: int
    mode: str  # "standalone", or "from_supernet": cut out of its dataset's supernet
    parent: str | None  # key of that supernet, or of the row that this one goes on from
    weights_bytes: int  # its own, and its share of the supernet that rows were cut out of
    weights_dtype: str  # of matrices; vectors are always float32
    latency_ms: float | None  # on this processor, one thread; where nothing is known of it, on the device measured last
    latency_predicted: bool  # by the zoo's latency table: the row was never timed here
    chosen_by: str
    predicted_accuracy: float | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class ShownZoo:
    """A zoo at its newest version, best rows of each dataset first."""

    uri: str
    version: int
    settings: ZooSettings
    datasets: int  # once seen
    datasets_with_rows: int
    failures: int  # pairs left
    supernets: int  # of datasets
    weights_bytes: int  # of all rows and supernets; rows of equal weights share a file
    rows: tuple[ShownRow, ...]


@dataclass(frozen=True, kw_only=True)
class ShownEvent:
    """An event of the journal, in words and whole."""

    time: datetime  # UTC
    kind: str
    run: str
    words: str
    payload: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ShownJournal:
    """What happened to a zoo, first to last."""

    uri: str
    events: tuple[ShownEvent, ...]


def show_journal(zoo: str) -> ShownJournal:
    """Read a zoo's journal.

    Raises:
        ZooError: there is no zoo, or it is of a newer schema.
    """
    store = Zoo.open(zoo)
    events = [
        ShownEvent(time=each.time, kind=each.kind, run=each.run, words=in_words(each), payload=each.payload)
        for each in store.journal.events()
    ]
    return ShownJournal(uri=store.uri, events=tuple(events))


def show_zoo(zoo: str) -> ShownZoo:
    """Read a zoo.

    Raises:
        ZooError: there is none, or it is of a newer schema.
    """
    store = Zoo.open(zoo)
    snapshot = store.snapshot()
    names = distinct_names(snapshot.datasets)
    latencies = _latencies(store, snapshot.rows)
    supernets = store.supernets.all()
    children = Counter(parent_of(row.identity) for row in snapshot.rows)
    shares = {key: round(each.weights.size_bytes / max(1, children[key])) for key, each in supernets.items()}
    files = {each.weights.path: each.weights.size_bytes for each in (*snapshot.rows, *supernets.values())}
    rows = [
        ShownRow(
            key=row.key,
            dataset=names[row.identity.fingerprint],
            source=row.source,
            val_accuracy=row.val_accuracy,
            val_total=row.val_total,
            test_accuracy=row.test_accuracy,
            test_total=sum(row.test_total_by_class),
            params=row.costs.params,
            flops=row.costs.flops,
            mode=row.identity.mode,
            parent=parent_of(row.identity),
            weights_bytes=row.weights.size_bytes + shares.get(parent_of(row.identity) or "", 0),
            weights_dtype=row.weights.dtype,
            latency_ms=latency_ms,
            latency_predicted=predicted,
            chosen_by=row.choice.chosen_by,
            predicted_accuracy=row.choice.predicted_mean,
            reason=row.choice.reason,
        )
        for row, (latency_ms, predicted) in zip(snapshot.rows, latencies, strict=True)
    ]
    events = store.journal.events()
    return ShownZoo(
        uri=store.uri,
        version=snapshot.version,
        settings=snapshot.settings,
        datasets=len(snapshot.datasets),
        datasets_with_rows=len({row.identity.fingerprint for row in snapshot.rows}),
        failures=sum(event.kind == "failure" and event.payload["final"] for event in events),
        supernets=len(supernets),
        weights_bytes=sum(files.values()),
        rows=tuple(sorted(rows, key=lambda row: (row.dataset, -row.val_accuracy, row.key))),
    )


def _latencies(store: Zoo, rows: Sequence[Row]) -> list[tuple[float | None, bool]]:
    measured, table = store.latencies(), table_of(None, store.latency_tables(), store.settings)
    here = row_latencies(rows, measured, table, device_name(), 1)
    if any(latency_ms is not None for latency_ms, _ in here):
        return here
    anywhere = {latency.key: latency.p50_ms for latency in measured}
    return [(anywhere.get(row.key), False) for row in rows]


def distinct_names(datasets: Mapping[str, DatasetRecord]) -> dict[str, str]:
    """Names for people, by fingerprint: where several datasets have one name, with the beginning of the fingerprint."""
    often = Counter(record.name for record in datasets.values())
    return {
        fingerprint: record.name if often[record.name] == 1 else f"{record.name} ({fingerprint[:6]})"
        for fingerprint, record in datasets.items()
    }
