"""The zoo's tables in Arrow, and the way from records to rows and back.

Plain columns only: Delta turns uint8 into int8 and refuses float16, Polars misreads lists of fixed
size, and local timestamps raise the protocol above what other readers know. float16 tensors are bytes with a shape.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from pipeline.zoo.latency import Latency
from tans_core.lineage import parent_of
from tans_core.records import (
    Attempt,
    Candidate,
    Choice,
    Costs,
    CurvePoint,
    DatasetRecord,
    Features,
    PairIdentity,
    Row,
    Seconds,
    WeightsReference,
    Worker,
    canonical_json,
)

SCHEMA_VERSION = 2

_TIME = pa.timestamp("us", tz="UTC")
_INTS = pa.list_(pa.int64())
_SIDES = ("train", "validation", "test")

ROWS = pa.schema(
    [
        ("sequence", pa.int64()),  # order of commits, from 0
        ("key", pa.string()),
        ("fingerprint", pa.string()),
        ("dataset", pa.string()),
        ("source", pa.string()),
        ("class_names", pa.list_(pa.string())),
        ("val_correct", pa.int64()),
        ("val_total", pa.int64()),
        ("test_correct", pa.int64()),
        ("test_total", pa.int64()),
        ("val_correct_by_class", _INTS),
        ("val_total_by_class", _INTS),
        ("test_correct_by_class", _INTS),
        ("test_total_by_class", _INTS),
        ("params", pa.int64()),
        ("flops", pa.int64()),
        ("search_space", pa.string()),
        ("topology", pa.list_(pa.float32())),
        ("width", pa.float64()),
        ("image_size", pa.int64()),
        ("mode", pa.string()),
        ("recipe", pa.string()),  # JSON
        ("supernet", pa.string()),
        ("seed", pa.int64()),
        ("response", pa.binary()),  # float16, little endian
        ("response_shape", _INTS),
        (
            "curve",
            pa.list_(
                pa.struct(
                    [
                        ("epoch", pa.int64()),
                        ("train_loss", pa.float64()),
                        ("val_correct", pa.int64()),
                        ("val_total", pa.int64()),
                    ]
                )
            ),
        ),
        ("load_s", pa.float64()),
        ("train_s", pa.float64()),
        ("evaluate_s", pa.float64()),
        ("write_s", pa.float64()),
        ("weights_path", pa.string()),  # relative to the zoo
        ("weights_blake2b", pa.string()),
        ("weights_size_bytes", pa.int64()),
        ("weights_dtype", pa.string()),
        ("decision", pa.int64()),
        ("chosen_by", pa.string()),
        ("reason", pa.string()),
        ("predicted_mean", pa.float64()),
        ("predicted_std", pa.float64()),
        ("expected_gain", pa.float64()),
        ("candidates_scored", pa.int64()),
        ("runners_up", pa.list_(pa.struct([("fingerprint", pa.string()), ("gain", pa.float64())]))),
        ("attempt_run", pa.string()),
        ("attempt_number", pa.int64()),
        ("committed_at", _TIME),
        ("versions", pa.string()),  # JSON
        ("schema", pa.int64()),
        ("parent", pa.string()),  # key of the supernet, or of the row that this one goes on from; null: of neither
        ("worker", pa.string()),  # null, as node and device, in rows of schema 1
        ("node", pa.string()),
        ("device", pa.string()),
        ("version", pa.int64()),  # of this table, with which the row came; null in rows of an older tans
    ]
)

DATASETS = pa.schema(
    [
        ("sequence", pa.int64()),
        ("fingerprint", pa.string()),
        ("name", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("spec", pa.string()),  # where it was first seen; never needed again
        ("class_names", pa.list_(pa.string())),
        *[(f"{side}_counts", _INTS) for side in _SIDES],
        ("chance", pa.float64()),
        ("channels", pa.int64()),
        ("mirror", pa.bool_()),
        *[
            column
            for side in _SIDES
            for column in [
                (f"{side}_features", pa.binary()),  # float16, little endian
                (f"{side}_features_shape", _INTS),
                (f"{side}_features_labels", _INTS),
            ]
        ],
        ("recorded_at", _TIME),
        ("schema", pa.int64()),
        ("image_hashes", pa.binary()),  # 16 bytes an image; null in zoos from before they were kept
    ]
)

JOURNAL = pa.schema(
    [
        ("sequence", pa.int64()),
        ("event", pa.string()),  # random, so that a write can be looked for
        ("time", _TIME),
        ("kind", pa.string()),
        ("run", pa.string()),
        ("payload", pa.string()),  # JSON
        ("schema", pa.int64()),
    ]
)

LATENCIES = pa.schema(
    [
        ("key", pa.string()),
        ("device", pa.string()),
        ("batch", pa.int64()),
        ("p10_ms", pa.float64()),
        ("p50_ms", pa.float64()),
        ("p90_ms", pa.float64()),
        ("runs", pa.int64()),
        ("measured_at", _TIME),
        ("schema", pa.int64()),
    ]
)


# --- rows -----------------------------------------------------------------------------------------


def rows_to_arrow(rows: Sequence[Row], first_sequence: int, committed_at: datetime, version: int) -> pa.Table:
    """Args: version: that the table will have with them."""
    new = {"committed_at": committed_at, "schema": SCHEMA_VERSION, "version": version}
    records = [_row_columns(row) | {"sequence": first_sequence + place} | new for place, row in enumerate(rows)]
    return pa.Table.from_pylist(records, schema=ROWS)


def rows_from_arrow(table: pa.Table) -> tuple[Row, ...]:
    """Rows in the order of their commits; a response is None where its column was not read."""
    return tuple(_row(record) for record in _in_order(table))


def rows_until(table: pa.Table, version: int) -> int | None:
    """The sequence before which the rows of an older version stand; None where an older tans wrote too many to tell.

    Args:
        table: columns `sequence` and `version`.
    """
    came = dict(zip(table["sequence"].to_pylist(), table["version"].to_pylist(), strict=True))
    unknown = [sequence for sequence, its in came.items() if its is None]
    known = {sequence: its for sequence, its in came.items() if its is not None}
    later = [sequence for sequence, its in known.items() if its > version]
    if unknown and (len(later) == len(known) or max(unknown) > min(known)):
        return None
    return min(later, default=max(came, default=-1) + 1)


def _row_columns(row: Row) -> dict[str, Any]:
    identity, choice, response = row.identity, row.choice, row.response
    assert response is not None, "a row that was read without its response is there already"
    return {
        "key": row.key,
        "fingerprint": identity.fingerprint,
        "dataset": row.dataset_name,
        "source": row.source,
        "class_names": row.class_names,
        "val_correct": row.val_correct,
        "val_total": row.val_total,
        "test_correct": sum(row.test_correct_by_class),
        "test_total": sum(row.test_total_by_class),
        "val_correct_by_class": row.val_correct_by_class,
        "val_total_by_class": row.val_total_by_class,
        "test_correct_by_class": row.test_correct_by_class,
        "test_total_by_class": row.test_total_by_class,
        "params": row.costs.params,
        "flops": row.costs.flops,
        "search_space": identity.search_space,
        "topology": identity.topology,
        "width": identity.width,
        "image_size": identity.image_size,
        "mode": identity.mode,
        "recipe": canonical_json(identity.recipe).decode(),
        "supernet": identity.supernet,
        "seed": identity.seed,
        "response": _float16_bytes(response),
        "response_shape": response.shape,
        "curve": [asdict(point) for point in row.curve],
        "load_s": row.seconds.load,
        "train_s": row.seconds.train,
        "evaluate_s": row.seconds.evaluate,
        "write_s": row.seconds.write,
        "weights_path": row.weights.path,
        "weights_blake2b": row.weights.blake2b,
        "weights_size_bytes": row.weights.size_bytes,
        "weights_dtype": row.weights.dtype,
        "decision": choice.decision,
        "chosen_by": choice.chosen_by,
        "reason": choice.reason,
        "predicted_mean": choice.predicted_mean,
        "predicted_std": choice.predicted_std,
        "expected_gain": choice.expected_gain,
        "candidates_scored": choice.candidates_scored,
        "runners_up": [{"fingerprint": fingerprint, "gain": gain} for fingerprint, gain in choice.runners_up],
        "attempt_run": row.attempt.run,
        "attempt_number": row.attempt.number,
        "versions": canonical_json(row.versions).decode(),
        "parent": parent_of(identity),
        **({"worker": row.worker.name, "node": row.worker.node, "device": row.worker.device} if row.worker else {}),
    }


def _row(record: Mapping[str, Any]) -> Row:
    identity = PairIdentity(
        fingerprint=record["fingerprint"],
        search_space=record["search_space"],
        topology=tuple(int(value) for value in record["topology"]),
        width=record["width"],
        image_size=record["image_size"],
        mode=record["mode"],
        recipe=json.loads(record["recipe"]),
        supernet=record["supernet"],
        seed=record["seed"],
        parent=record.get("parent") if record["mode"] == "standalone" else None,
    )
    return Row(
        key=record["key"],
        attempt=Attempt(record["attempt_run"], record["attempt_number"]),
        identity=identity,
        dataset_name=record["dataset"],
        source=record["source"],
        class_names=tuple(record["class_names"]),
        costs=Costs(record["params"], record["flops"]),
        val_correct_by_class=tuple(record["val_correct_by_class"]),
        val_total_by_class=tuple(record["val_total_by_class"]),
        test_correct_by_class=tuple(record["test_correct_by_class"]),
        test_total_by_class=tuple(record["test_total_by_class"]),
        response=_float16_tensor(record["response"], record["response_shape"]) if "response" in record else None,
        curve=tuple(CurvePoint(**point) for point in record["curve"]),
        seconds=Seconds(record["load_s"], record["train_s"], record["evaluate_s"], record["write_s"]),
        weights=WeightsReference(
            record["weights_path"], record["weights_blake2b"], record["weights_size_bytes"], record["weights_dtype"]
        ),
        choice=_choice(record, identity),
        versions=json.loads(record["versions"]),
        worker=Worker(record["worker"], record["node"], record["device"]) if record.get("worker") else None,
    )


def _choice(record: Mapping[str, Any], identity: PairIdentity) -> Choice:
    return Choice(
        candidate=Candidate(identity.fingerprint, identity.topology),
        decision=record["decision"],
        chosen_by=record["chosen_by"],
        reason=record["reason"],
        predicted_mean=record["predicted_mean"],
        predicted_std=record["predicted_std"],
        expected_gain=record["expected_gain"],
        candidates_scored=record["candidates_scored"],
        runners_up=tuple((one["fingerprint"], one["gain"]) for one in record["runners_up"]),
    )


# --- datasets -------------------------------------------------------------------------------------


def dataset_to_arrow(dataset: DatasetRecord, sequence: int, recorded_at: datetime) -> pa.Table:
    record: dict[str, Any] = {
        "sequence": sequence,
        "fingerprint": dataset.fingerprint,
        "name": dataset.name,
        "source": dataset.source,
        "licence": dataset.licence,
        "spec": dataset.spec,
        "class_names": dataset.class_names,
        "chance": dataset.chance,
        "channels": dataset.channels,
        "mirror": dataset.mirror,
        "image_hashes": dataset.image_hashes or None,
        "recorded_at": recorded_at,
        "schema": SCHEMA_VERSION,
    }
    for side in _SIDES:
        features: Tensor = getattr(dataset.features, f"{side}_ND")
        record[f"{side}_counts"] = dataset.counts[side]
        record[f"{side}_features"] = _float16_bytes(features)
        record[f"{side}_features_shape"] = features.shape
        record[f"{side}_features_labels"] = getattr(dataset.features, f"{side}_labels_N").tolist()
    return pa.Table.from_pylist([record], schema=DATASETS)


def datasets_from_arrow(table: pa.Table) -> dict[str, DatasetRecord]:
    """Datasets by fingerprint, in the order in which they were first seen."""
    return {record["fingerprint"]: _dataset(record) for record in _in_order(table)}


def _dataset(record: Mapping[str, Any]) -> DatasetRecord:
    tensors: dict[str, Tensor] = {}
    for side in _SIDES:
        shape = record[f"{side}_features_shape"]
        tensors[f"{side}_ND"] = _float16_tensor(record[f"{side}_features"], shape).float()
        tensors[f"{side}_labels_N"] = torch.tensor(record[f"{side}_features_labels"], dtype=torch.int64)
    return DatasetRecord(
        fingerprint=record["fingerprint"],
        spec=record["spec"],
        name=record["name"],
        source=record["source"],
        licence=record["licence"],
        class_names=tuple(record["class_names"]),
        counts={side: record[f"{side}_counts"] for side in _SIDES},
        chance=record["chance"],
        channels=record["channels"],
        mirror=record["mirror"],
        features=Features(**tensors),
        image_hashes=record.get("image_hashes") or b"",
    )


# --- latencies ------------------------------------------------------------------------------------


def latencies_to_arrow(latencies: Sequence[Latency], measured_at: datetime) -> pa.Table:
    records = [asdict(latency) | {"measured_at": measured_at, "schema": SCHEMA_VERSION} for latency in latencies]
    return pa.Table.from_pylist(records, schema=LATENCIES)


def latencies_from_arrow(table: pa.Table) -> tuple[Latency, ...]:
    """The latest measurement of each network on each device, at each batch size."""
    names = [name for name in LATENCIES.names if name not in ("measured_at", "schema")]
    latest: dict[tuple[str, str, int], Latency] = {}
    for record in sorted(table.to_pylist(), key=lambda record: record["measured_at"]):
        latency = Latency(**{name: record[name] for name in names})
        latest[latency.key, latency.device, latency.batch] = latency
    return tuple(latest.values())


# --- both -----------------------------------------------------------------------------------------


def _in_order(table: pa.Table) -> list[dict[str, Any]]:
    """Records by sequence: Delta promises no order of its own."""
    return sorted(table.to_pylist(), key=lambda record: record["sequence"])


def _float16_bytes(tensor: Tensor) -> bytes:
    half = tensor.detach().cpu().to(torch.float16)
    assert torch.isfinite(half).all(), "features beyond float16 were never seen and would not come back"
    return half.numpy().tobytes()


def _float16_tensor(data: bytes, shape: Sequence[int]) -> Tensor:
    if not data:  # frombuffer refuses an empty buffer
        return torch.empty(tuple(shape), dtype=torch.float16)
    return torch.frombuffer(bytearray(data), dtype=torch.float16).reshape(tuple(shape))
