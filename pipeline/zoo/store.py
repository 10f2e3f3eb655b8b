"""The zoo: Delta tables and a weights folder under one root. Nothing inside names the root, so it may be moved.

    zoo.json     what the zoo keeps for life; written last, so that a folder that has it is whole
    rows/        trained pairs          datasets/    datasets once seen
    journal/     events                 latencies/   networks on devices
    weights/     ab/abcdef....safetensors   latency_tables/  one a device and setting
    supernets/   HASH.safetensors, the starting weights where no package brings them;
                 ab/abcdef....safetensors, those of datasets    dataset_supernets/  their table
    driver.lock  who grows it now

Promised: a key has one row, whoever writes and whenever they die; a row's weights are on the disk before it.
A `Zoo` belongs to one thread. One driver at a time is kept by `ZooLock`, not here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
from torch import Tensor

from pipeline.running.files import write_new, write_whole
from pipeline.running.progress import say
from pipeline.running.signals import StopRequest
from pipeline.zoo import migrations, schema, supernets
from pipeline.zoo.history.journal import Journal
from pipeline.zoo.latency import TABLES, Latency, read_table, table_name, write_table
from pipeline.zoo.location import Location, locate
from pipeline.zoo.lock import ZooLock
from pipeline.zoo.settings import SETTINGS, make_folder, read_settings
from pipeline.zoo.supernets import KeptSupernet
from pipeline.zoo.table import AppendTable
from pipeline.zoo.weights import is_there, put_weights, read_weights, weights_files
from tans_core.errors import ConfigError, ZooError
from tans_core.jobs import Outcome, SupernetOutcome
from tans_core.records import Attempt, DatasetRecord, Row, ZooSettings, ZooSnapshot
from tans_core.search_space.latency import LatencyTable

_TABLES = {
    "rows": schema.ROWS,
    "datasets": schema.DATASETS,
    "journal": schema.JOURNAL,
    "latencies": schema.LATENCIES,
    supernets.TABLE: supernets.COLUMNS,
}
_OURS = {SETTINGS, *_TABLES, "weights", "driver.lock", TABLES, supernets.FILES}


class Zoo:
    """A zoo that is there. Make one with `create`, else `open` it."""

    SCHEMA_VERSION = schema.SCHEMA_VERSION

    def __init__(self, location: Location, settings: ZooSettings) -> None:
        self.uri = location.uri
        self.settings = settings
        self.journal = Journal(AppendTable(location, "journal"))
        self._folder = location.folder
        self._rows = AppendTable(location, "rows")
        self._datasets = AppendTable(location, "datasets")
        self._latencies = AppendTable(location, "latencies")
        self.supernets = supernets.DatasetSupernets(location, settings)
        self._known: int | None = None  # the version of `rows` at which the next two were right
        self._attempts: dict[str, Attempt] = {}  # of each committed key
        self._next = 0  # sequence of the next row

    @staticmethod
    def exists(uri: str | os.PathLike[str]) -> bool:
        """Whether there is a zoo, of any schema."""
        return (locate(uri).folder / SETTINGS).is_file()

    @staticmethod
    @contextmanager
    def claimed(uri: str | os.PathLike[str], run: str, stop: StopRequest, wait: bool = False) -> Iterator[None]:
        """Hold the lock of a zoo that is there or is to be made: of two that begin one, only one makes it.

        A folder that was made for it and is still empty at the end goes again.

        Args:
            stop: who leaves at once by it lets the lock go.
            wait: for another driver, see `ZooLock`.

        Raises:
            ConfigError: files of someone else are there.
            ZooError: the folder cannot be made, or another driver holds the lock.
        """
        folder = locate(uri).folder
        made = not folder.exists()
        if not Zoo.exists(uri):
            make_folder(folder, _OURS)
        lock = ZooLock(uri, run, wait)
        stop.before_leaving(lock.let_go_at_once)
        try:
            with lock:
                yield
        finally:
            if made:
                with suppress(OSError):  # not empty
                    folder.rmdir()

    @classmethod
    def create(cls, uri: str | os.PathLike[str], settings: ZooSettings, start: bytes | None = None) -> Zoo:
        """Make an empty zoo in a folder that is not there, is empty, or holds what an earlier `create` left half-done.

        Args:
            start: its starting weights as a file, where it is to keep them.

        Raises:
            ConfigError: files of someone else are there.
            ZooError: a zoo is there already, or the folder cannot be written.
        """
        assert settings.schema == schema.SCHEMA_VERSION
        location = locate(uri)
        folder = location.folder
        make_folder(folder, _OURS)
        for name, columns in _TABLES.items():
            AppendTable.create(location, name, columns)
        made = cls(location, settings)
        try:
            if start is not None:
                made.start_file.parent.mkdir(exist_ok=True)
                write_whole(made.start_file, start)
            new = write_new(folder / SETTINGS, json.dumps(asdict(settings), indent=2, allow_nan=False).encode())
        except OSError as error:
            raise ZooError(f"{folder} cannot be written to: {error.strerror}; make room there") from error
        if not new:
            raise ZooError(f"there is a zoo at {folder} already: leave it, or choose another place")
        return made

    @classmethod
    def open(cls, uri: str | os.PathLike[str]) -> Zoo:
        """Open a zoo, wherever it was moved to.

        Raises:
            ZooError: there is none, it is damaged, or it is of a schema that this version cannot read.
        """
        location = locate(uri)
        return cls(location, read_settings(location.folder))

    @classmethod
    def open_to_grow(cls, uri: str | os.PathLike[str]) -> Zoo:
        """Open a zoo that this driver has claimed; one of an older schema is of the newest from now on.

        Raises:
            ZooError: as `open`, or it cannot be written.
        """
        location = locate(uri)
        settings = read_settings(location.folder)
        return cls(location, migrations.raised(location, settings, location.folder / SETTINGS))

    # --- reading --------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The newest version of the rows."""
        self._rows.refresh()
        return self._rows.version

    def row_count(self) -> int:
        """How many pairs are trained and committed."""
        self._rows.refresh()
        return self._rows.read(["sequence"]).num_rows

    def snapshot(self, version: int | None = None, responses: bool = False) -> ZooSnapshot:
        """All rows at the newest version, or at an older one; datasets are those seen until now.

        Older versions need none of their files: a row knows the version with which it came.

        Args:
            responses: read them too; they are most of a row.

        Raises:
            ZooError: no such version, or rows that it had were dropped since.
        """
        self._rows.refresh()
        columns = None if responses else [name for name in self._rows.columns if not name.startswith("response")]
        if version in (None, self._rows.version):
            rows = self._rows.read(columns)
            version = self._rows.version
        else:
            rows = self._rows_at(version, columns)
        return ZooSnapshot(
            uri=self.uri,
            version=version,
            settings=self.settings,
            rows=schema.rows_from_arrow(rows),
            datasets=self.datasets(),
        )

    def datasets(self) -> dict[str, DatasetRecord]:
        """All datasets once seen, by fingerprint, in the order in which they were first seen."""
        self._datasets.refresh()
        return schema.datasets_from_arrow(self._datasets.read())

    def load_weights(self, row: Row) -> dict[str, Tensor]:
        """A row's state dict on the CPU, put together with its dataset's supernet where it was cut out of that.

        Sizes, hashes and values are checked first.

        Raises:
            WeightsError: a file is gone, changed, or holds values that are not finite.
        """
        own = read_weights(self._folder, row)
        return self.supernets.whole(row, own) if row.identity.mode == "from_supernet" else own

    def has_weights(self, row: Row) -> bool:
        """Whether a row's weights are there in their size. Cheap; what was changed inside is seen by `load_weights`."""
        whole = row.identity.mode != "from_supernet" or self.supernets.is_there(row.identity)
        return whole and is_there(self._folder, row.weights)

    def latencies(self) -> tuple[Latency, ...]:
        """The latest measurement of each network on each device at each batch size."""
        self._latencies.refresh()
        return schema.latencies_from_arrow(self._latencies.read())

    def latency_tables(self) -> tuple[LatencyTable, ...]:
        """Those of its search space and image size, one a device, batch size and number of threads.

        A file among them that is no table, or one of a newer tans, is said and left out.
        """
        tables, kept = [], self.settings
        for path in sorted((self._folder / TABLES).glob("*.json")):
            try:
                tables.append(read_table(path))
            except ConfigError as error:
                say(f"left out: {error}")
        return tuple(table for table in tables if table.setting.is_for(kept.search_space, kept.width, kept.image_size))

    @property
    def start_file(self) -> Path:
        """Where the zoo keeps its starting weights, if it keeps any: those of EfficientNet-Lite0 need no file."""
        return self._folder / supernets.FILES / f"{self.settings.supernet}.safetensors"

    def orphans(self) -> int:
        """Files of weights, of pairs and of supernets, that belong to no row: a driver died between the two."""
        self._rows.refresh()
        of_rows = set(self._rows.read(["weights_path"])["weights_path"].to_pylist())
        return len(weights_files(self._folder) - of_rows) + len(self.supernets.orphans())

    # --- writing ----------------------------------------------------------------------------------

    def commit(self, outcomes: Sequence[Outcome], datasets: Mapping[str, DatasetRecord]) -> list[Row]:
        """Weights first, then rows: those whose keys are not there yet, each once, in one append.

        Args:
            outcomes: trained ones; failures belong in the journal.
            datasets: by fingerprint, those that the outcomes are of.

        Returns:
            The new rows in their order. After an error the same call may be made again.

        Raises:
            ZooError: no room for weights or rows; no row of this call is there, all earlier ones are.
        """
        self._take_note()
        versions = _versions()
        rows: dict[str, Row] = {}
        for outcome in outcomes:
            if outcome.job.key not in self._attempts and outcome.job.key not in rows:
                rows[outcome.job.key] = self._row(outcome, datasets[outcome.job.identity.fingerprint], versions)
        return self._add(rows)

    def adopt(self, rows: Sequence[Row], read: Callable[[Row], bytes]) -> list[Row]:
        """Rows of another zoo, with their responses, whose keys are not there yet; weights first, as `commit`.

        Args:
            read: a row's weights file.
        """
        self._take_note()
        new = {row.key: row for row in rows if row.key not in self._attempts}
        for row in new.values():
            put_weights(self._folder, read(row), row.weights.dtype)
        return self._add(new)

    def commit_supernet(self, outcome: SupernetOutcome, dataset: DatasetRecord) -> KeptSupernet:
        """A dataset's supernet: its file, then its row, once by key; see `DatasetSupernets.commit`."""
        return self.supernets.commit(outcome, dataset, _versions())

    def record_dataset(self, dataset: DatasetRecord) -> DatasetRecord:
        """Keep a dataset, once; a fingerprint that is there already is left as it is.

        Returns:
            The record as the zoo keeps it: features are float16. Use it rather than what you gave, so that
            a build decides by the same numbers before and after it is started again.
        """
        recorded_at = datetime.now(UTC)

        def missing() -> pa.Table | None:
            there = self._datasets.read(["fingerprint", "sequence"]).to_pydict()
            if dataset.fingerprint in there["fingerprint"]:
                return None
            return schema.dataset_to_arrow(dataset, max(there["sequence"], default=-1) + 1, recorded_at)

        self._datasets.refresh()
        self._datasets.append(missing)
        return self.datasets()[dataset.fingerprint]

    def write_latencies(self, latencies: Sequence[Latency]) -> None:
        """Add measurements; the latest of a network, device and batch size is the one that counts."""
        if latencies:
            measured = schema.latencies_to_arrow(latencies, datetime.now(UTC))
            self._latencies.append(lambda: measured)

    def write_latency_table(self, table: LatencyTable) -> Path:
        """Keep a table; one of the same setting goes. Returns its file.

        Raises:
            ZooError: it cannot be written.
        """
        path = self._folder / table_name(table.setting)
        try:
            write_table(path, table)
        except OSError as error:
            raise ZooError(f"{path} cannot be written: {error.strerror}; make room there") from error
        return path

    # --- inside -----------------------------------------------------------------------------------

    def _rows_at(self, version: int, columns: Sequence[str] | None) -> pa.Table:
        dropped = [event for event in self.journal.events("drop") if event.payload["version"] > version]
        if dropped:
            raise ZooError(
                f"{self.uri} has no version {version} any more: {dropped[0].payload['rows']} rows were dropped with "
                f"version {dropped[0].payload['version']}; take that or a newer one, or a copy of the zoo from before"
            )
        if version < self._rows.version and "version" in self._rows.columns:
            until = schema.rows_until(self._rows.read(["sequence", "version"]), version)
            if until is not None:
                return self._rows.read(columns, f"sequence < {until}")
        return self._rows.read(version=version)

    def _take_note(self) -> None:
        """Read the keys, if anyone but us committed since we last knew them."""
        if self._known == self._rows.version:
            return
        there = self._rows.read(["sequence", "key", "attempt_run", "attempt_number"]).to_pydict()
        attempts = map(Attempt, there["attempt_run"], there["attempt_number"])
        self._attempts = dict(zip(there["key"], attempts, strict=True))
        self._next = max(there["sequence"], default=-1) + 1
        self._known = self._rows.version

    def _add(self, rows: Mapping[str, Row]) -> list[Row]:
        if not rows:
            return []
        self._take_note_of(rows, self._rows.append(lambda: self._missing(rows)))
        return [row for row in rows.values() if self._attempts[row.key] == row.attempt]

    def _missing(self, rows: Mapping[str, Row]) -> pa.Table | None:
        self._take_note()
        new = [row for key, row in rows.items() if key not in self._attempts]
        if not new:
            return None
        return schema.rows_to_arrow(new, self._next, datetime.now(UTC), self._rows.version + 1)

    def _take_note_of(self, rows: Mapping[str, Row], landed: int) -> None:
        """After an append: all of them are there now, ours or someone else's."""
        for key, row in rows.items():
            if key not in self._attempts:
                self._attempts[key] = row.attempt
                self._next += 1
        self._known = landed

    def _row(self, outcome: Outcome, dataset: DatasetRecord, versions: dict[str, str]) -> Row:
        job, trained = outcome.job, outcome.trained
        assert trained is not None, "failures belong in the journal"
        kept, asked = self.settings, job.identity
        for name in ("search_space", "width", "image_size", "supernet"):
            assert getattr(asked, name) == getattr(kept, name), f"a pair of another zoo: {name} differs"
        return Row(
            key=job.key,
            attempt=job.attempt,
            identity=job.identity,
            dataset_name=dataset.name,
            source=dataset.source,
            class_names=dataset.class_names,
            costs=trained.costs,
            val_correct_by_class=trained.val_correct_by_class,
            val_total_by_class=trained.val_total_by_class,
            test_correct_by_class=trained.test_correct_by_class,
            test_total_by_class=trained.test_total_by_class,
            response=trained.response,
            curve=trained.curve,
            seconds=outcome.seconds,
            weights=put_weights(self._folder, trained.weights, trained.weights_dtype),
            choice=job.choice,
            versions=versions,
            worker=outcome.worker,
        )


def _versions() -> dict[str, str]:
    """What the rows of this process are made with."""
    return {name: version(name) for name in ("tans", "torch", "ofa")}
