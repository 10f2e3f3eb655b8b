"""`tans zoo show`: what is in a zoo."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.zoo import Zoo
from tans_core.records import ZooSettings


@dataclass(frozen=True, kw_only=True)
class ShownRow:
    key: str
    dataset: str
    source: str
    val_accuracy: float
    val_total: int
    test_accuracy: float
    test_total: int
    params: int
    flops: int
    latency_ms: float | None  # median on the device measured last
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
    rows: tuple[ShownRow, ...]


def show_zoo(zoo: str) -> ShownZoo:
    """Read a zoo.

    Raises:
        ZooError: there is none, or it is of a newer schema.
    """
    store = Zoo.open(zoo)
    snapshot = store.snapshot()
    latency_ms = {latency.key: latency.p50_ms for latency in store.latencies()}
    rows = [
        ShownRow(
            key=row.key,
            dataset=row.dataset_name,
            source=row.source,
            val_accuracy=row.val_accuracy,
            val_total=row.val_total,
            test_accuracy=row.test_accuracy,
            test_total=sum(row.test_total_by_class),
            params=row.costs.params,
            flops=row.costs.flops,
            latency_ms=latency_ms.get(row.key),
            chosen_by=row.choice.chosen_by,
            predicted_accuracy=row.choice.predicted_mean,
            reason=row.choice.reason,
        )
        for row in snapshot.rows
    ]
    events = store.journal.events()
    return ShownZoo(
        uri=store.uri,
        version=snapshot.version,
        settings=snapshot.settings,
        datasets=len(snapshot.datasets),
        datasets_with_rows=len({row.identity.fingerprint for row in snapshot.rows}),
        failures=sum(event.kind == "failure" and event.payload["final"] for event in events),
        rows=tuple(sorted(rows, key=lambda row: (row.dataset, -row.val_accuracy, row.key))),
    )
