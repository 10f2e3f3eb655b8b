"""The journal: what happened to a zoo, in order. Decisions, failures, starts and stops of drivers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from pipeline.zoo.schema import JOURNAL, SCHEMA_VERSION
from pipeline.zoo.table import AppendTable
from tans_core.records import canonical_json


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `payload` is JSON: what its writer said about it."""

    sequence: int  # its place, from 0
    time: datetime  # UTC
    kind: str  # "decision", "failure", "start", "stop", ...
    run: str  # the driver's
    payload: dict[str, Any]


class Journal:
    """Events are only ever added."""

    def __init__(self, table: AppendTable) -> None:
        self._table = table
        self._known: int | None = None  # the table's version at which _next was right
        self._next = 0

    def append(self, run: str, events: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Add events (kind, payload) in their order, in one commit.

        Raises:
            ValueError: a payload is no JSON, or holds a NaN; nothing is written.
            ZooError: no room.
        """
        if not events:
            return
        now = datetime.now(UTC)
        records = [
            {
                "event": uuid.uuid4().hex,
                "time": now,
                "kind": kind,
                "run": run,
                "payload": canonical_json(payload).decode(),
                "schema": SCHEMA_VERSION,
            }
            for kind, payload in events
        ]
        self._known = self._table.append(lambda: self._missing(records))
        self._next += len(records)

    def events(self, kind: str | None = None) -> tuple[Event, ...]:
        """All events, or those of a kind, first to last."""
        self._table.refresh()
        there = self._table.read(predicate=f"kind = '{kind}'" if kind else None)
        records = sorted(there.to_pylist(), key=lambda record: record["sequence"])
        return tuple(
            Event(one["sequence"], one["time"].astimezone(UTC), one["kind"], one["run"], json.loads(one["payload"]))
            for one in records
        )

    def _missing(self, records: Sequence[dict[str, Any]]) -> pa.Table | None:
        """The records that are not in the table, numbered from its end; None if all are."""
        if self._known != self._table.version:
            there = self._table.read(["sequence", "event"]).to_pydict()
            if records[0]["event"] in there["event"]:  # an append that failed after it was written
                self._next = there["sequence"][there["event"].index(records[0]["event"])]
                return None
            self._known, self._next = self._table.version, max(there["sequence"], default=-1) + 1
        numbered = [record | {"sequence": self._next + place} for place, record in enumerate(records)]
        return pa.Table.from_pylist(numbered, schema=JOURNAL)
