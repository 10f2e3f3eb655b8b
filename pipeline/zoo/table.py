"""A Delta table to which rows are only added.

An append lands on the very version that was read, or not at all: that is how one committer, or two,
can check keys in memory and still never write one twice.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import time
from collections.abc import Callable, Sequence

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from pipeline.running.waiting import Wait
from pipeline.zoo.location import Location
from tans_core.errors import ZooError

_ON_TOP = CommitProperties(max_commit_retries=0)  # refused if anyone committed since we read
_OTHERS_LIMIT_S = 60.0
_FILES_BEFORE_COMPACTION = 64  # one file a commit: a thousand take a second to read
_COMPACT_BYTES = 4 * 2**20  # larger files are left alone, else each compaction would rewrite the whole table


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
        self._files = len(self._table.file_uris())

    @staticmethod
    def create(location: Location, name: str, schema: pa.Schema) -> None:
        """Make an empty table; one that is there is left as it is."""
        _refuse_in_a_fork()
        try:
            write_deltalake(  # DeltaTable.create would note the absolute path in the log
                location.table(name),
                schema.empty_table(),
                mode="ignore",
                configuration={"delta.appendOnly": "true", "delta.dataSkippingNumIndexedCols": "3"},
                storage_options=location.storage_options,
            )
        except (DeltaError, OSError) as error:
            raise ZooError(
                f"the table {location.table(name)} cannot be made: {_in_words(error)}; make room if the disk is full, "
                "or name another place"
            ) from error

    @property
    def version(self) -> int:
        """The version in hand: as of the last `refresh` or append."""
        return self._table.version()

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

        By Delta's own scan: after its other readers a process may abort at its end, with code 134.

        Raises:
            ZooError: no such version, or a file that is gone or damaged.
        """
        _refuse_in_a_fork()
        table = self._table if version in (None, self.version) else self._open(version)
        try:
            return pa.table(table.scan(columns=list(columns) if columns else None, predicate=predicate))
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    def append(self, make: Callable[[], pa.Table | None]) -> None:
        """Add what `make` returns, once; it is asked anew whenever others came first, and None ends it.

        An error of the store ends it too, except when the table moved all the same: then `make` looks
        at what is there before anything is written again.

        Raises:
            ZooError: the store refuses (no room, say), or others came first too often.
        """
        jitter, attempt = random.Random(), 0
        wait = Wait(f"other writers of {self._uri}", _OTHERS_LIMIT_S, self._others_came_first)
        while True:
            data = make()
            if data is None:
                return
            if self._append_on_top(data):
                self._compact_now_and_then()
                return
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
        self._files += 1
        return True

    def _compact_now_and_then(self) -> None:
        """Merge small files. Old versions stay readable: nothing is deleted."""
        if self._files < _FILES_BEFORE_COMPACTION:
            return
        self._files = 0
        # Refused (someone came first, no room): next time. The rows themselves are safe already.
        with contextlib.suppress(DeltaError, OSError):
            self._table.optimize.compact(target_size=_COMPACT_BYTES, commit_properties=_ON_TOP)

    def _open(self, version: int | None = None) -> DeltaTable:
        _refuse_in_a_fork()
        try:
            return DeltaTable(self._uri, version=version, storage_options=self._options)
        except TableNotFoundError as error:
            raise ZooError(f"the table {self._uri} is gone: put it back from a copy of the zoo") from error
        except (DeltaError, OSError) as error:
            if version is not None:
                raise ZooError(f"{self._uri} has no version {version}: {_in_words(error)}") from error
            raise self._unreadable(error) from error

    def _others_came_first(self) -> ZooError:
        return ZooError(f"{self._uri}: others committed first for {_OTHERS_LIMIT_S:.0f} s; end the other writers")

    def _unreadable(self, error: Exception) -> ZooError:
        return ZooError(f"the table {self._uri} cannot be read: {_in_words(error)}; put it back from a copy of the zoo")
