"""Other people's tools read the tables, in a folder called `my zoo é`: the README's own lines, as they stand there.

They read by Delta's `scan`, because after its other readers a process may abort at its end (2 of 40 did), and ask for
the table's schema, because `scan` alone gives views of strings, on which pandas can neither compare nor group nor sort.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from zoo_examples import DATASET, DATASETS, dataset_record, new_zoo, outcome

from pipeline.on_ray.session import ray_session
from pipeline.zoo import Zoo
from pipeline.zoo.latency import Latency

ROOT = Path(__file__).parents[3]
DIGITS = dataset_record("f2" * 16, "mnist-digits")
OF_DIGITS = [103, 101, 102]  # decisions of its rows, in the order of their commits
TABLES = ("rows", "datasets", "journal", "latencies")


def planted(folder: Path, rows: int) -> Zoo:
    """A zoo of so many rows of one dataset, three of another between them, and a row in each other table."""
    zoo = new_zoo(folder, rows=rows)
    zoo.record_dataset(DIGITS)
    for decision in OF_DIGITS:
        made = outcome(decision)
        identity = replace(made.job.identity, fingerprint=DIGITS.fingerprint)
        job = replace(made.job, identity=identity, key=identity.key)
        zoo.commit([replace(made, job=job)], DATASETS | {DIGITS.fingerprint: DIGITS})
    zoo.journal.append("run-a", [("start", {"rows": rows})])
    zoo.write_latencies([Latency("k", "cpu", 1, 1.0, 2.0, 3.0, 15)])
    return zoo


def maintain(zoo: Zoo) -> None:
    """What an owner of Delta tables does now and then: one file for many, and none that nobody needs."""
    for name in TABLES:
        table = DeltaTable(f"{zoo.uri}/{name}")
        table.optimize.compact()
        table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)


@pytest.fixture(scope="module", params=["new", "compacted by tans", "compacted and vacuumed"])
def zoo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    zoo = planted(tmp_path_factory.mktemp("readers") / "my zoo é" / "zoo", 66 if "tans" in request.param else 3)
    if "vacuumed" in request.param:
        maintain(zoo)
        assert [len(DeltaTable(f"{zoo.uri}/{name}").file_uris()) for name in TABLES] == [1] * 4
    return zoo


def readme_lines() -> tuple[list[str], dict[str, str]]:
    """What all tools begin with, and the line of each."""
    page = (ROOT / "README.md").read_text().partition("## A zoo is Delta tables")[2]
    lines = [line for line in page.partition("```python\n")[2].partition("```")[0].splitlines() if line]
    tools = {line.rpartition("# ")[2]: line for line in lines if line.startswith("best = ")}
    return [line for line in lines if line not in tools.values()], tools


def run_readme(tool: str, zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that exist after the README's lines for a tool, beside its zoo."""
    monkeypatch.chdir(Path(zoo.uri).parent)
    begin, tools = readme_lines()
    names: dict[str, Any] = {}
    exec("\n".join([*begin, tools[tool]]), names)
    return names


def test_the_readme_has_a_line_for_each_tool():
    assert set(readme_lines()[1]) == {"pyarrow", "pandas", "Polars", "DuckDB", "Ray Data"}


def test_e8_e9_pandas_compares_groups_and_sorts_strings(zoo: Zoo, monkeypatch: pytest.MonkeyPatch):
    names = run_readme("pandas", zoo, monkeypatch)
    assert names["best"].decision.tolist() == sorted(OF_DIGITS)
    rows = names["rows"].to_pandas()
    assert rows[rows.dataset == DIGITS.name].sort_values("sequence").decision.tolist() == OF_DIGITS
    assert rows[rows.dataset.isin([DIGITS.name, "nobody"])].shape[0] == 3
    assert rows.groupby("dataset").size().to_dict() == {DATASET.name: zoo.row_count() - 3, DIGITS.name: 3}
    assert rows.sort_values(["dataset", "decision"]).decision.tolist()[-3:] == sorted(OF_DIGITS)
    assert rows[rows.chosen_by.str.startswith("hyper")].shape[0] == zoo.row_count() - 1
    assert (rows.val_correct / rows.val_total == 0.75).all()
    assert list(rows.set_index("sequence").topology[1]) == [3, 5, 7, 1]
    assert list(rows.class_names[0]) == list(DATASET.class_names)


def test_e8_e9_polars(zoo: Zoo, monkeypatch: pytest.MonkeyPatch):
    names = run_readme("Polars", zoo, monkeypatch)
    assert names["best"]["decision"].to_list() == sorted(OF_DIGITS)
    rows = pl.DataFrame(names["rows"])
    assert dict(rows.group_by("dataset").len().iter_rows()) == {DATASET.name: zoo.row_count() - 3, DIGITS.name: 3}
    assert rows.sort("dataset")["dataset"][0] == DATASET.name
    assert rows.filter(pl.col("dataset").is_in([DIGITS.name])).height == 3
    assert rows["committed_at"].dtype == pl.Datetime("us", "UTC")


def test_e8_e9_duckdb(zoo: Zoo, monkeypatch: pytest.MonkeyPatch):
    names = run_readme("DuckDB", zoo, monkeypatch)
    assert [row[0] for row in names["best"].select("decision").fetchall()] == sorted(OF_DIGITS)
    rows = names["rows"]  # noqa: F841  DuckDB finds it by its name
    best = "select dataset, count(*), max(val_correct / val_total), max(curve[2].val_total) from rows group by 1"
    for _ in range(2):  # a stream would be empty the second time
        assert duckdb.sql(f"{best} order by 1").fetchall() == [
            (DATASET.name, zoo.row_count() - 3, 0.75, 4),
            (DIGITS.name, 3, 0.75, 4),
        ]


def test_e8_e9_plain_pyarrow(zoo: Zoo, monkeypatch: pytest.MonkeyPatch):
    names = run_readme("pyarrow", zoo, monkeypatch)
    assert names["best"]["decision"].to_pylist() == sorted(OF_DIGITS)
    rows = names["rows"]
    assert rows.schema.field("dataset").type == pa.string()
    assert rows.group_by("dataset").aggregate([("key", "count")]).num_rows == 2
    assert rows.filter(pc.field("dataset").isin([DIGITS.name])).num_rows == 3


@pytest.mark.parametrize("table", TABLES)
def test_e8_e9_every_table_is_read_by_all_of_them(zoo: Zoo, table: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(Path(zoo.uri).parent)
    names: dict[str, Any] = {}
    exec("\n".join(readme_lines()[0]).replace("zoo/rows", f"zoo/{table}"), names)
    rows = names["rows"]
    kinds = re.findall(r"\w+_view", str(rows.schema))
    frame = rows.to_pandas()
    counts = {rows.num_rows, len(frame), pl.DataFrame(rows).height, duckdb.sql("select * from rows").df().shape[0]}
    assert not kinds and len(counts) == 1 and counts != {0}
    strings = [frame[name].dropna() for name in frame.columns if isinstance(frame[name].dtype, pd.StringDtype)]
    assert any(map(len, strings)) and all((each == each.iloc[0]).any() for each in strings if len(each))


@pytest.mark.ray
def test_e8_e9_ray_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    zoos = {name: planted(tmp_path / name / "my zoo é" / "zoo", 3) for name in ("new", "compacted and vacuumed")}
    maintain(zoos["compacted and vacuumed"])
    with ray_session(None, cpus=1):
        import ray

        for zoo in zoos.values():
            names = run_readme("Ray Data", zoo, monkeypatch)
            assert [row["decision"] for row in names["best"].take_all()] == sorted(OF_DIGITS)
            grouped = ray.data.from_arrow(names["rows"]).groupby("dataset").count().take_all()
            assert {row["dataset"]: row["count()"] for row in grouped} == {DATASET.name: 3, DIGITS.name: 3}
            rows = ray.data.read_delta(f"{zoo.uri}/rows").take_all()  # where a cluster reads it itself
            assert sorted(row["sequence"] for row in rows) == list(range(zoo.row_count()))
            others = {name: ray.data.read_delta(f"{zoo.uri}/{name}").count() for name in TABLES[1:]}
            assert others == {"datasets": 2, "journal": 1, "latencies": 1}
