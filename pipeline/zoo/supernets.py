"""The supernets that datasets' pairs are cut out of: their table, and their files, checked before use.

The table lies in `dataset_supernets/`, the files in `supernets/` beside the starting weights: where a Delta table lies,
vacuuming removes what is not its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from torch import Tensor

from pipeline.zoo.location import Location
from pipeline.zoo.table import AppendTable
from pipeline.zoo.weights import is_there, put_weights, read_checked, weights_files
from tans_core.errors import WeightsError
from tans_core.jobs import SupernetOutcome
from tans_core.lineage import SupernetIdentity, supernet_of
from tans_core.records import (
    Attempt,
    CurvePoint,
    DatasetRecord,
    PairIdentity,
    Row,
    Seconds,
    WeightsReference,
    Worker,
    ZooSettings,
    canonical_json,
)
from tans_core.search_space import make_search_space
from tans_core.search_space.space import SearchSpace
from tans_core.training.from_supernet import whole_weights
from tans_core.training.weights import STORED

TABLE, FILES = "dataset_supernets", "supernets"

COLUMNS = pa.schema(
    [
        ("sequence", pa.int64()),  # order of commits, from 0
        ("key", pa.string()),
        ("fingerprint", pa.string()),
        ("dataset", pa.string()),
        ("search_space", pa.string()),
        ("width", pa.float64()),
        ("image_size", pa.int64()),
        ("recipe", pa.string()),  # JSON
        ("supernet", pa.string()),  # the starting weights
        ("seed", pa.int64()),
        ("curve", pa.list_(pa.struct([("epoch", pa.int64()), ("train_loss", pa.float64())]))),
        ("load_s", pa.float64()),
        ("train_s", pa.float64()),
        ("evaluate_s", pa.float64()),
        ("write_s", pa.float64()),
        ("weights_path", pa.string()),  # relative to the zoo
        ("weights_blake2b", pa.string()),
        ("weights_size_bytes", pa.int64()),
        ("weights_dtype", pa.string()),
        ("worker", pa.string()),
        ("node", pa.string()),
        ("device", pa.string()),
        ("attempt_run", pa.string()),
        ("attempt_number", pa.int64()),
        ("committed_at", pa.timestamp("us", tz="UTC")),
        ("versions", pa.string()),  # JSON
        ("schema", pa.int64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class KeptSupernet:
    """A dataset's supernet, trained and committed."""

    key: str
    attempt: Attempt
    identity: SupernetIdentity
    dataset_name: str
    curve: tuple[CurvePoint, ...]
    seconds: Seconds
    weights: WeightsReference
    worker: Worker
    versions: dict[str, str]


class DatasetSupernets:
    """Those of one zoo, in the hands of one thread."""

    def __init__(self, location: Location, settings: ZooSettings) -> None:
        self._folder, self._settings = location.folder, settings
        self._table = AppendTable(location, TABLE) if settings.schema >= 2 else None
        self._known: dict[str, KeptSupernet] = {}
        self._space: SearchSpace | None = None  # for shapes alone

    def all(self) -> dict[str, KeptSupernet]:
        """By key, in the order of their commits."""
        if self._table is None:
            return {}
        self._table.refresh()
        records = sorted(self._table.read().to_pylist(), key=lambda record: record["sequence"])
        self._known = {record["key"]: _supernet(record) for record in records}
        return dict(self._known)

    def commit(self, outcome: SupernetOutcome, dataset: DatasetRecord, versions: Mapping[str, str]) -> KeptSupernet:
        """The file first, then its row, unless the key has one; returns the one that is there then.

        Raises:
            ZooError: no room; after an error the same call may be made again.
        """
        assert self._table is not None, "a zoo of an older schema is raised before it is grown"
        job, trained = outcome.job, outcome.trained
        assert trained is not None, "failures belong in the journal"
        if job.key in (there := self.all()):
            return there[job.key]
        made = KeptSupernet(
            key=job.key,
            attempt=job.attempt,
            identity=job.identity,
            dataset_name=dataset.name,
            curve=trained.curve,
            seconds=outcome.seconds,
            weights=put_weights(self._folder, trained.weights, STORED, FILES),
            worker=outcome.worker,
            versions=dict(versions),
        )
        self._table.append(lambda: self._missing(made))
        return self.all()[job.key]

    def adopt(self, supernet: KeptSupernet, data: bytes) -> None:
        """One of another zoo, unless the key has one: its file, then its row.

        Raises:
            ZooError: no room.
        """
        assert self._table is not None, "a zoo of an older schema is raised before it is grown"
        if supernet.key not in self.all():
            put_weights(self._folder, data, STORED, FILES)
            self._table.append(lambda: self._missing(supernet))

    def read(self, supernet: KeptSupernet) -> bytes:
        """Its weights, whole and unchanged.

        Raises:
            WeightsError: they are gone or were changed.
        """
        whose = f"the supernet of {supernet.dataset_name}, out of which its pairs are cut: its weights"
        way_out = "put the file back from a copy of the zoo; rows of other datasets and standalone ones need none of it"
        return read_checked(self._folder, supernet.weights, whose, way_out)

    def is_there(self, pair: PairIdentity) -> bool:
        """Whether the supernet of a pair has its file, in its size."""
        supernet = self._found(supernet_of(pair).key)
        return supernet is not None and is_there(self._folder, supernet.weights)

    def of(self, row: Row) -> KeptSupernet:
        """That a row was cut out of.

        Raises:
            WeightsError: the zoo has none.
        """
        supernet = self._found(supernet_of(row.identity).key)
        if supernet is None:
            raise WeightsError(
                f"row {row.key}: the supernet of {row.dataset_name} that it was cut out of is not in {self._folder}: "
                f"put the folder {TABLE} back from a copy of the zoo"
            )
        return supernet

    def whole(self, row: Row, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state dict of a row that was cut out of a supernet, given what is its own.

        Raises:
            WeightsError: the supernet is gone, was changed or is of another network.
        """
        supernet = self.of(row)
        if self._space is None:
            self._space = make_search_space(self._settings.search_space, self._settings.width)
        try:
            return whole_weights(self._space, self.read(supernet), row.identity.topology, own)
        except WeightsError as error:
            raise WeightsError(f"row {row.key}: {error}") from error

    def orphans(self) -> set[str]:
        """Files of supernets that are in no row: a driver died between the two."""
        kept = {supernet.weights.path for supernet in self.all().values()}
        start = f"{FILES}/{self._settings.supernet}.safetensors"
        return weights_files(self._folder, FILES) - kept - {start}

    def _found(self, key: str) -> KeptSupernet | None:
        """Read anew where it is not known: another process may have committed it."""
        return self._known.get(key) or self.all().get(key)

    def _missing(self, made: KeptSupernet) -> pa.Table | None:
        assert self._table is not None
        there = self._table.read(["key", "sequence"]).to_pydict()
        if made.key in there["key"]:
            return None
        columns = _columns(made) | {
            "sequence": max(there["sequence"], default=-1) + 1,
            "committed_at": datetime.now(UTC),
            "schema": self._settings.schema,
        }
        return pa.Table.from_pylist([columns], schema=COLUMNS)


def _columns(made: KeptSupernet) -> dict[str, Any]:
    identity = made.identity
    return {
        "key": made.key,
        "fingerprint": identity.fingerprint,
        "dataset": made.dataset_name,
        "search_space": identity.search_space,
        "width": identity.width,
        "image_size": identity.image_size,
        "recipe": canonical_json(identity.recipe).decode(),
        "supernet": identity.supernet,
        "seed": identity.seed,
        "curve": [{"epoch": point.epoch, "train_loss": point.train_loss} for point in made.curve],
        **{f"{name}_s": value for name, value in asdict(made.seconds).items()},
        **{f"weights_{name}": value for name, value in asdict(made.weights).items()},
        "worker": made.worker.name,
        "node": made.worker.node,
        "device": made.worker.device,
        "attempt_run": made.attempt.run,
        "attempt_number": made.attempt.number,
        "versions": canonical_json(made.versions).decode(),
    }


def _supernet(record: Mapping[str, Any]) -> KeptSupernet:
    identity = SupernetIdentity(
        fingerprint=record["fingerprint"],
        search_space=record["search_space"],
        width=record["width"],
        image_size=record["image_size"],
        recipe=json.loads(record["recipe"]),
        supernet=record["supernet"],
        seed=record["seed"],
    )
    return KeptSupernet(
        key=record["key"],
        attempt=Attempt(record["attempt_run"], record["attempt_number"]),
        identity=identity,
        dataset_name=record["dataset"],
        curve=tuple(CurvePoint(**point) for point in record["curve"]),
        seconds=Seconds(record["load_s"], record["train_s"], record["evaluate_s"], record["write_s"]),
        weights=WeightsReference(*(record[f"weights_{name}"] for name in ("path", "blake2b", "size_bytes", "dtype"))),
        worker=Worker(record["worker"], record["node"], record["device"]),
        versions=json.loads(record["versions"]),
    )
