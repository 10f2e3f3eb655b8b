"""Other people's tools read the tables, in a folder called `my zoo é`: the one-liners of the README.

All by Delta's `scan`: after its `to_pandas` a process may abort at its end (2 of 40 did), and list columns of
strings need pandas' Arrow types.
"""

from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from zoo_examples import DATASET, new_zoo

from pipeline.on_ray.session import ray_session
from pipeline.zoo.latency import Latency


@pytest.fixture(scope="module", params=[3, 66], ids=["appended", "compacted"])
def zoo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readers") / "my zoo é"
    zoo = new_zoo(folder, rows=request.param)
    zoo.journal.append("run-a", [("start", {"rows": request.param})])
    zoo.write_latencies([Latency("k", "cpu", 1, 1.0, 2.0, 3.0, 15)])
    return folder


def row_count(zoo: Path) -> int:
    return len(list((zoo / "weights").rglob("*.safetensors")))


def test_e8_e9_pandas(zoo: Path):
    rows = pa.table(DeltaTable(zoo / "rows").scan()).to_pandas(types_mapper=pd.ArrowDtype)
    assert len(rows) == row_count(zoo)
    assert (rows.val_correct / rows.val_total == 0.75).all()
    assert rows.dataset.unique().tolist() == [DATASET.name]
    assert list(rows.set_index("sequence").topology[1]) == [3, 5, 7, 1]


def test_e8_e9_polars(zoo: Path):
    rows = pl.DataFrame(DeltaTable(zoo / "rows").scan())
    assert rows.height == row_count(zoo)
    assert rows.select(pl.col("val_correct") / pl.col("val_total")).to_series().unique().to_list() == [0.75]
    assert rows["committed_at"].dtype == pl.Datetime("us", "UTC")


def test_e8_e9_duckdb(zoo: Path):
    rows = DeltaTable(zoo / "rows").scan()  # noqa: F841  DuckDB finds it by its name
    best = "select dataset, count(*), max(val_correct / val_total), max(curve[2].val_total) from rows group by 1"
    assert duckdb.execute(best).fetchall() == [(DATASET.name, row_count(zoo), 0.75, 4)]


@pytest.mark.parametrize("table", ["rows", "datasets", "journal", "latencies"])
def test_e8_e9_every_table_is_read_by_all_three(zoo: Path, table: str):
    there = DeltaTable(zoo / table)
    scanned = there.scan()  # noqa: F841
    counts = {
        pa.table(there.scan()).to_pandas(types_mapper=pd.ArrowDtype).shape[0],
        pl.DataFrame(there.scan()).height,
        duckdb.execute("select * from scanned").df().shape[0],
    }
    assert len(counts) == 1 and counts != {0}


@pytest.mark.ray
def test_e8_e9_ray_data(tmp_path: Path):
    zoos = {
        name: new_zoo(tmp_path / name / "my zoo é", rows=rows) for name, rows in {"few": 3, "compacted": 66}.items()
    }
    for zoo in zoos.values():
        zoo.journal.append("run-a", [("start", {})])
        zoo.write_latencies([Latency("k", "cpu", 1, 1.0, 2.0, 3.0, 15)])
    with ray_session(None, cpus=1):
        import ray

        for zoo in zoos.values():
            rows = ray.data.read_delta(f"{zoo.uri}/rows").take_all()
            assert sorted(row["sequence"] for row in rows) == list(range(zoo.row_count()))
            assert {row["val_correct"] for row in rows} == {3}
            others = {name: ray.data.read_delta(f"{zoo.uri}/{name}") for name in ("datasets", "journal", "latencies")}
            assert {name: len(table.take_all()) for name, table in others.items()} == dict.fromkeys(others, 1)
