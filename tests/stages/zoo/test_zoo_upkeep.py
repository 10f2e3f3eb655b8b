"""Commits that do not age: small files are merged, what nobody needs is deleted, and every version can still be had."""

import threading
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from zoo_examples import DATASETS, new_zoo, outcome

from pipeline.zoo import Zoo
from pipeline.zoo.upkeep.compact import compact_zoo, tables_in
from tans_core.errors import ZooError

RETENTION = ("delta.deletedFileRetentionDuration", "delta.logRetentionDuration")


def forget_at_once(zoo: Zoo) -> None:
    """As if what is not needed now had not been for long."""
    for name in tables_in(Path(zoo.uri)):
        table = DeltaTable(f"{zoo.uri}/{name}")
        table.alter.set_table_properties({each: "interval 0 seconds" for each in RETENTION})


def files(zoo: Zoo, table: str = "rows") -> list[str]:
    return [path.name for path in Path(zoo.uri, table).rglob("*") if path.is_file()]


def keys(numbers) -> list[str]:
    return [outcome(number).job.key for number in numbers]


def test_files_of_commits_go_by_themselves_and_no_row_with_them(tmp_path: Path):
    zoo = new_zoo(tmp_path)
    forget_at_once(zoo)
    for number in range(140):
        zoo.commit([outcome(number)], DATASETS)
        zoo.journal.append("run-a", [("decision", {"n": number})])
    assert len(files(zoo)) < 2 * 64 + 20 and len(files(zoo, "journal")) < 2 * 64 + 20, "two of each commit before"
    reader = Zoo.open(tmp_path)
    assert [row.key for row in reader.snapshot().rows] == keys(range(140))
    assert [event.payload["n"] for event in reader.journal.events()] == list(range(140))
    assert zoo.commit([outcome(number) for number in range(141)], DATASETS)[0].key == outcome(140).job.key


def test_what_was_needed_minutes_ago_stays_for_who_reads_it(tmp_path: Path):
    zoo = new_zoo(tmp_path, rows=3)
    reader = DeltaTable(f"{zoo.uri}/rows")
    compact_zoo(zoo.uri)
    assert len(DeltaTable(f"{zoo.uri}/rows").file_uris()) == 1
    assert pa.table(reader.scan(columns=["key"])).num_rows == 3
    assert len(DeltaTable(f"{zoo.uri}/rows", version=2).file_uris()) == 2


def test_who_holds_an_older_version_reads_the_newest_when_its_files_are_gone(tmp_path: Path):
    zoo = new_zoo(tmp_path, rows=3)
    forget_at_once(zoo)
    reader, driver = Zoo.open(tmp_path), Zoo.open(tmp_path)
    reader.row_count()
    zoo.commit([outcome(3, run="run-b")], DATASETS)
    compact_zoo(zoo.uri)
    assert len(driver.commit([outcome(number) for number in range(5)], DATASETS)) == 1
    assert [row.attempt.run for row in reader.snapshot().rows] == ["run-a"] * 3 + ["run-b", "run-a"]


def test_a_version_is_read_when_none_of_its_files_and_nothing_of_its_log_is_there(tmp_path: Path):
    zoo = new_zoo(tmp_path)
    forget_at_once(zoo)
    versions = {}
    for number in range(5):
        zoo.commit([outcome(number), outcome(10 + number)], DATASETS)
        versions[zoo.version] = [pair for one in range(number + 1) for pair in (one, 10 + one)]
    compact_zoo(zoo.uri)
    oldest = min(versions)
    with pytest.raises(Exception, match=r"(?i)version|log|file"):
        pa.table(DeltaTable(f"{zoo.uri}/rows", version=oldest).scan())
    for version, numbers in versions.items():
        assert [row.key for row in Zoo.open(tmp_path).snapshot(version).rows] == keys(numbers)
    with pytest.raises(ZooError, match="has no version 999"):
        zoo.snapshot(999)


def test_rows_of_an_older_tans_have_no_version_and_are_told_apart_from_newer_ones(tmp_path: Path):
    zoo = new_zoo(tmp_path, rows=2)
    table = DeltaTable(f"{zoo.uri}/rows")
    table.alter.set_table_properties({"delta.appendOnly": "false"})
    table.update({"version": "null"})
    zoo = Zoo.open(tmp_path)
    for number in (2, 3):
        zoo.commit([outcome(number)], DATASETS)
    newest = zoo.version
    assert [len(zoo.snapshot(version).rows) for version in (newest, newest - 1, newest - 2)] == [4, 3, 2]
    forget_at_once(zoo)
    compact_zoo(zoo.uri)
    assert len(Zoo.open(tmp_path).snapshot(newest - 1).rows) == 3
    with pytest.raises(ZooError, match=f"no version {newest - 2}"):
        Zoo.open(tmp_path).snapshot(newest - 2)


def test_compact_says_what_it_saved_and_keeps_rows_events_and_settings(tmp_path: Path):
    zoo = new_zoo(tmp_path, rows=30)
    forget_at_once(zoo)
    before = {name: len(files(zoo, name)) for name in tables_in(tmp_path)}
    done = compact_zoo(zoo.uri)
    assert {each.table: each.files_before for each in done.tables} == before
    assert {each.table: each.files for each in done.tables} == {name: len(files(zoo, name)) for name in before}
    rows = next(each for each in done.tables if each.table == "rows")
    assert rows.files_before > 60 and rows.files < 10 and rows.bytes < rows.bytes_before / 3
    assert [row.key for row in zoo.snapshot().rows] == keys(range(30))
    properties = DeltaTable(f"{zoo.uri}/rows").metadata().configuration
    assert properties["delta.appendOnly"] == "true" and properties[RETENTION[0]] == "interval 0 seconds"


def test_a_file_that_was_written_and_never_committed_goes_when_it_is_old(tmp_path: Path):
    zoo = new_zoo(tmp_path, rows=1)
    forget_at_once(zoo)
    lost = tmp_path / "rows" / "part-00000-lost.zstd.parquet"
    lost.write_bytes(b"half of it")
    compact_zoo(zoo.uri)
    assert not lost.exists() and zoo.row_count() == 1


def test_upkeep_beside_a_driver_loses_and_doubles_nothing(tmp_path: Path):
    zoo = new_zoo(tmp_path)
    errors: list[Exception] = []
    done = threading.Event()

    def tidy() -> None:
        while not done.is_set():
            try:
                compact_zoo(zoo.uri)
            except ZooError as error:
                if "could not be tidied" not in str(error):
                    errors.append(error)

    thread = threading.Thread(target=tidy)
    thread.start()
    for number in range(40):
        zoo.commit([outcome(number)], DATASETS)
    done.set()
    thread.join()
    assert not errors
    assert [row.key for row in Zoo.open(tmp_path).snapshot().rows] == keys(range(40))
