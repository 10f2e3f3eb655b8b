"""A Delta table to which rows are only added, but for what its owner drops.

An append lands on the very version that was read, or not at all: that is how one committer, or two,
can check keys in memory and still never write one twice.

Commits do not age: now and then small files are merged, and what no version needs that was the newest within the
last KEPT_S is deleted, files and log. Who reads meanwhile has that long; who has not goes on with the newest version.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import time
from collections.abc import Callable, Collection, Sequence

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from pipeline.running.waiting import Wait
from pipeline.zoo.location import Location
from tans_core.errors import ZooError

_ON_TOP = CommitProperties(max_commit_retries=0)  # refused if anyone committed since we read
_OTHERS_LIMIT_S = 60.0
_COMMITS_BEFORE_UPKEEP = 64  # one file a commit: a thousand take a second to read
_COMPACT_BYTES = 4 * 2**20  # larger files are left alone, else each compaction would rewrite the whole table
KEPT_S = 300  # files and log of a version that is not the newest any more: so long may a reader of it take
_CLOSED = "delta.appendOnly"
_KEPT = {
    "delta.deletedFileRetentionDuration": f"interval {KEPT_S} seconds",
    "delta.logRetentionDuration": f"interval {KEPT_S} seconds",
}


_used_in: int | None = None  # the process whose threads serve Delta: one runtime a process, which no fork survives


def _refuse_in_a_fork() -> None:
    """To be called before Delta is: it panics in a child that was forked from a process which had used it.

    Raises:
        ZooError: this is such a child.
    """
    global _used_in
    if _used_in not in (None, os.getpid()):
        raise ZooError(
            f"this process ({os.getpid()}) was forked from one ({_used_in}) that had used a zoo, and Delta tables do "
            "not work in it: start processes by spawn, as multiprocessing.get_context('spawn') does"
        )
    _used_in = os.getpid()


def _in_words(error: Exception) -> str:
    """Delta's message on one line, without its colours and arrows."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|↳", "", str(error)).split())


class AppendTable:
    """One table of a zoo in the hands of one thread."""

    def __init__(self, location: Location, name: str) -> None:
        """Open the table.

        Raises:
            ZooError: it is gone or damaged.
        """
        self._uri = location.table(name)
        self._options = location.storage_options
        self._table = self._open()
        self._tidied = self.version

    @staticmethod
    def create(location: Location, name: str, schema: pa.Schema) -> None:
        """Make an empty table; one that is there is left as it is."""
        _refuse_in_a_fork()
        try:
            write_deltalake(  # DeltaTable.create would note the absolute path in the log
                location.table(name),
                schema.empty_table(),
                mode="ignore",
                configuration={_CLOSED: "true", "delta.dataSkippingNumIndexedCols": "3", **_KEPT},
                storage_options=location.storage_options,
            )
        except (DeltaError, OSError) as error:
            raise ZooError(
                f"the table {location.table(name)} cannot be made: {_in_words(error)}; make room if the disk is full, "
                "or name another place"
            ) from error

    @property
    def version(self) -> int:
        """The version in hand: as of the last `refresh`, append or upkeep."""
        return self._table.version()

    @property
    def columns(self) -> list[str]:
        """Names, of the version in hand: an older table may lack some."""
        return [field.name for field in self._table.schema().fields]

    def refresh(self) -> None:
        """Take note of what others committed."""
        _refuse_in_a_fork()
        try:
            self._table.update_incremental()
        except (DeltaError, OSError) as error:
            raise self._unreadable(error) from error

    def read(
        self, columns: Sequence[str] | None = None, predicate: str | None = None, version: int | None = None
    ) -> pa.Table:
        """Rows of the version in hand (or of an older one), in no particular order.

        Where the files of the version in hand were deleted meanwhile, the newest is taken in hand instead.
        By Delta's own scan: after its other readers a process may abort at its end, with code 134.

        Raises:
            ZooError: no such version, or a file that is gone or damaged.
        """
        _refuse_in_a_fork()
        if version not in (None, self.version):
            return self._scan(self._open(version), columns, predicate)
        there = self.version
        try:
            return self._scan(self._table, columns, predicate)
        except ZooError:
            self.refresh()
            if self.version == there:
                raise
            return self._scan(self._table, columns, predicate)

    def _scan(self, table: DeltaTable, columns: Sequence[str] | None, predicate: str | None) -> pa.Table:
        try:
            return pa.table(table.scan(columns=list(columns) if columns else None, predicate=predicate))
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    def append(self, make: Callable[[], pa.Table | None]) -> int:
        """Add what `make` returns, once; it is asked anew whenever others came first, and None ends it.

        An error of the store ends it too, except when the table moved all the same: then `make` looks
        at what is there before anything is written again.

        Returns:
            The version that has it; the one in hand may be newer, with rows of others.

        Raises:
            ZooError: the store refuses (no room, say), or others came first too often.
        """
        jitter, attempt = random.Random(), 0
        wait = Wait(f"other writers of {self._uri}", _OTHERS_LIMIT_S, self._others_came_first)
        while True:
            data = make()
            if data is None:
                return self.version
            if self._append_on_top(data):
                landed = self.version
                self._tidy_now_and_then()
                return landed
            wait.check()
            attempt = min(attempt + 1, 7)
            time.sleep(jitter.uniform(0, 0.01 * 2**attempt))

    def _append_on_top(self, data: pa.Table) -> bool:
        _refuse_in_a_fork()
        before = self.version
        try:
            write_deltalake(  # "merge": a column that an older zoo lacks is added, null in its rows
                self._table, data, mode="append", schema_mode="merge", commit_properties=_ON_TOP
            )
        except (DeltaError, OSError) as error:
            self.refresh()
            if self.version == before:
                raise ZooError(
                    f"{data.num_rows} rows cannot be added to {self._uri}: {_in_words(error)}; "
                    "make room if the disk is full, and run the same command again"
                ) from error
            return False
        return True

    def remove(self, column: str, values: Collection[str]) -> int:
        """Take out the rows whose column has one of the values; returns how many there were.

        The table is closed to removals again afterwards, also by the next one if this process dies in between.

        Raises:
            ZooError: the store refuses, or others committed in between: the same call may be made again.
        """
        self.refresh()
        quoted = [value.replace("'", "''") for value in sorted(values)]
        listed = ", ".join(f"'{value}'" for value in quoted)
        try:
            self._table.alter.set_table_properties({_CLOSED: "false"}, commit_properties=_ON_TOP)
            try:
                gone = self._table.delete(f"{column} in ({listed})", commit_properties=_ON_TOP)
            finally:
                self._table.update_incremental()
                self._table.alter.set_table_properties({_CLOSED: "true"}, commit_properties=_ON_TOP)
        except (DeltaError, OSError) as error:
            raise ZooError(
                f"rows of {self._uri} could not be dropped: {_in_words(error)}; run the same command again"
            ) from error
        return gone["num_deleted_rows"]

    def tidy(self) -> None:
        """Merge small files, and delete what no version needs that was the newest within the time kept.

        Each step is whole or not there: who dies between any two, or in one, leaves a table that is.

        Raises:
            ZooError: the store refuses, or others committed in between; the rows are safe, and a later call does it.
        """
        self.refresh()
        try:
            there = self._table.metadata().configuration
            if not there.keys() >= _KEPT.keys() or there.get(_CLOSED) != "true":  # an older tans, a removal cut off
                properties = {**_KEPT, **there, _CLOSED: "true"}
                self._table.alter.set_table_properties(properties, commit_properties=_ON_TOP)
            self._table.optimize.compact(target_size=_COMPACT_BYTES, commit_properties=_ON_TOP)
            self._table.update_incremental()  # to vacuum, a file that is not in hand belongs to nobody
            self._table.vacuum(dry_run=False, full=True)  # full: what died before its commit, too
            self._table.create_checkpoint()
            self._table.cleanup_metadata()
        except (DeltaError, OSError) as error:
            raise ZooError(
                f"{self._uri} could not be tidied: {_in_words(error)}; the next commits try again"
            ) from error

    def _tidy_now_and_then(self) -> None:
        """Once in so many versions, whoever makes them. Refused: next time, for the rows themselves are safe."""
        if self.version // _COMMITS_BEFORE_UPKEEP == self._tidied // _COMMITS_BEFORE_UPKEEP:
            return
        with contextlib.suppress(ZooError):
            self.tidy()
        self._tidied = self.version

    def _open(self, version: int | None = None) -> DeltaTable:
        _refuse_in_a_fork()
        try:
            return DeltaTable(self._uri, version=version, storage_options=self._options)
        except (DeltaError, OSError) as error:
            if version is not None:
                raise ZooError(f"{self._uri} has no version {version}: {_in_words(error)}") from error
            if isinstance(error, TableNotFoundError):
                raise ZooError(f"the table {self._uri} is gone: put it back from a copy of the zoo") from error
            raise self._unreadable(error) from error

    def _others_came_first(self) -> ZooError:
        return ZooError(f"{self._uri}: others committed first for {_OTHERS_LIMIT_S:.0f} s; end the other writers")

    def _unreadable(self, error: Exception) -> ZooError:
        return ZooError(f"the table {self._uri} cannot be read: {_in_words(error)}; put it back from a copy of the zoo")
