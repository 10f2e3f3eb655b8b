"""The campaign's zoos as Parquet files that a repository can hold: parts of under 2 MB, tensors in 8 bits.

`rows-*.parquet` and `datasets-*.parquet` have the columns of the zoo's own tables (`pipeline/zoo/schema.py`), but that
each tensor is int8 times a scale of its row: its largest absolute value is 127. Weights and hashes of images are not
there. Parts are filled in order, so that a longer campaign leaves full ones as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.zoo import schema
from tans_core.records import DatasetRecord, Row

ROWS_A_PART, DATASETS_A_PART = 128, 4
_TENSORS = {"rows": ("response",), "datasets": ("train_features", "validation_features", "test_features")}
_NO_TIME = datetime(2000, 1, 1, tzinfo=UTC)  # when a row was committed says nothing here


def write_tables(folder: Path, rows: Sequence[Row], datasets: Iterable[DatasetRecord]) -> list[Path]:
    """Write all parts; returns their paths.

    Args:
        rows: in an order that does not change when the campaign goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = pa.concat_tables(
        [schema.dataset_to_arrow(each, place, _NO_TIME) for place, each in enumerate(datasets)]
    ).drop_columns(["image_hashes"])
    return [
        *_write_parts(folder, "rows", schema.rows_to_arrow(rows, 0, _NO_TIME, version=1), ROWS_A_PART),
        *_write_parts(folder, "datasets", known, DATASETS_A_PART),
    ]


def read_tables(folder: Path) -> tuple[tuple[Row, ...], dict[str, DatasetRecord]]:
    """The rows in the campaign's order, and the datasets by fingerprint.

    Tensors differ from the zoo's by at most 1/254 of the largest value of theirs; weights are not to be had.
    """
    return (
        schema.rows_from_arrow(_read_parts(folder, "rows")),
        schema.datasets_from_arrow(_read_parts(folder, "datasets")),
    )


def _write_parts(folder: Path, name: str, table: pa.Table, size: int) -> list[Path]:
    narrow = _with_tensors(table, name, _narrow)
    paths = []
    for place, first in enumerate(range(0, len(narrow), size)):
        paths.append(folder / f"{name}-{place:03}.parquet")
        pq.write_table(narrow.slice(first, size), paths[-1], compression="zstd", compression_level=9)
    return paths


def _read_parts(folder: Path, name: str) -> pa.Table:
    parts = [pq.read_table(path) for path in sorted(folder.glob(f"{name}-*.parquet"))]
    return _with_tensors(pa.concat_tables(parts), name, _wide)


def _with_tensors(table: pa.Table, name: str, change: Callable[[dict[str, Any], str], None]) -> pa.Table:
    records = table.to_pylist()
    for record in records:
        for column in _TENSORS[name]:
            change(record, column)
    scales = [pa.field(f"{column}_scale", pa.float32()) for column in _TENSORS[name]]
    return pa.Table.from_pylist(records, schema=pa.schema([*table.schema, *scales]) if change is _narrow else None)


def _narrow(record: dict[str, Any], column: str) -> None:
    values = np.frombuffer(record[column], np.float16).astype(np.float32)
    scale = np.abs(values).max(initial=0) / 127 or 1.0
    record[column] = np.rint(values / scale).astype(np.int8).tobytes()
    record[f"{column}_scale"] = float(scale)


def _wide(record: dict[str, Any], column: str) -> None:
    values = np.frombuffer(record[column], np.int8) * np.float32(record.pop(f"{column}_scale"))
    record[column] = values.astype(np.float16).tobytes()
