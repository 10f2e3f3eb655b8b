"""A driver that is killed by SIGKILL at any step of a commit leaves a whole zoo, and the next run goes on.

Real processes, killed at places planted in them; from one forkserver, because importing takes longer than the rest.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from test_zoo_upkeep import forget_at_once
from zoo_examples import DATASETS, new_zoo, outcome

import pipeline.zoo.store
import pipeline.zoo.table
from pipeline.zoo import Zoo
from pipeline.zoo.upkeep.compact import compact_zoo
from pipeline.zoo.upkeep.drop import drop_rows
from pipeline.zoo.upkeep.gc import collect_garbage

ROWS = 30
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["torch", "deltalake", "pipeline.zoo.store"])


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_when(seen: Callable[[], bool]) -> None:
    """As soon as it is so: Delta works without Python's lock, so that a thread of ours can look meanwhile."""

    def look() -> None:
        while not seen():
            pass
        die()

    threading.Thread(target=look, daemon=True).start()


def plant(place: str, rows: Path) -> None:
    table = pipeline.zoo.table.AppendTable
    if place == "before the weights":
        pipeline.zoo.store.put_weights = die
    elif place == "between weights and row":
        pipeline.zoo.table.write_deltalake = die
    elif place == "after the row":
        table._tidy_now_and_then = die
    else:
        pipeline.zoo.table._COMMITS_BEFORE_UPKEEP = 1
        tidy, there = table.tidy, {path.name for path in rows.rglob("*.*")}

        def tidy_and_die(its: pipeline.zoo.table.AppendTable) -> None:
            with_row = {path.name for path in rows.rglob("*.*")}
            if place == "inside compaction":  # its file is there, its commit may be
                dies_when(lambda: any(path.name not in with_row for path in rows.glob("*.parquet")))
            elif place == "inside vacuum":
                dies_when(lambda: not there <= {*os.listdir(rows), *os.listdir(rows / "_delta_log")})
            elif place == "after vacuum":
                DeltaTable.create_checkpoint = die
            elif place == "after the checkpoint":
                DeltaTable.cleanup_metadata = die
            tidy(its)
            die()

        table.tidy = tidy_and_die


def commit_and_die(folder: str, place: str) -> None:
    plant(place, Path(folder) / "rows")
    Zoo.open(folder).commit([outcome(ROWS), outcome(ROWS + 1)], DATASETS)


def drop_and_die(folder: str, place: str) -> None:
    delete = DeltaTable.delete

    def delete_and_die(table: DeltaTable, *given, **rest):
        gone = delete(table, *given, **rest) if place == "after the rows" else None
        if table.table_uri.rstrip("/").endswith("/rows"):
            die()
        return gone or delete(table, *given, **rest)

    DeltaTable.delete = delete_and_die
    drop_rows(folder, rows=[outcome(0).job.key])


def killed(act: Callable[[str, str], None], folder: Path, place: str) -> None:
    process = PROCESSES.Process(target=act, args=(str(folder), place))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, place


def keys(numbers) -> list[str]:
    return [outcome(number).job.key for number in numbers]


def assert_whole(folder: Path, numbers) -> None:
    """As tans and as another program sees it: a row for each key, its weights there and right."""
    zoo = Zoo.open(folder)
    rows = zoo.snapshot().rows
    assert [row.key for row in rows] == keys(numbers)
    assert all(zoo.load_weights(row) for row in rows)
    assert pa.table(DeltaTable(f"{folder}/rows").scan(columns=["key"])).num_rows == len(rows)


@pytest.mark.parametrize(
    ("place", "landed"),
    [
        ("before the weights", False),
        ("between weights and row", False),
        ("after the row", True),
        ("inside compaction", True),
        ("inside vacuum", True),
        ("after vacuum", True),
        ("after the checkpoint", True),
    ],
)
def test_a_driver_killed_in_a_commit_leaves_a_whole_zoo_that_grows_on(tmp_path: Path, place: str, landed: bool):
    forget_at_once(new_zoo(tmp_path, rows=ROWS))
    killed(commit_and_die, tmp_path, place)
    assert_whole(tmp_path, range(ROWS + 2 if landed else ROWS))
    waiting = collect_garbage(str(tmp_path), young_s=0).orphans
    assert len(waiting) == (2 if place == "between weights and row" else 0)

    zoo = Zoo.open(tmp_path)  # the next run does what the first one did, and goes on
    zoo.commit([outcome(ROWS), outcome(ROWS + 1)], DATASETS)
    zoo.commit([outcome(ROWS + 2)], DATASETS)
    compact_zoo(str(tmp_path))
    assert_whole(tmp_path, range(ROWS + 3))
    assert collect_garbage(str(tmp_path), young_s=0).orphans == ()
    assert len(list((tmp_path / "rows").rglob("*.*"))) < 10, "what the dead one left is gone"


@pytest.mark.parametrize("place", ["before the rows", "after the rows"])
def test_a_drop_that_is_killed_is_finished_by_the_same_call_and_the_tables_are_closed(tmp_path: Path, place: str):
    new_zoo(tmp_path, rows=3)
    killed(drop_and_die, tmp_path, place)
    if place == "before the rows":
        assert_whole(tmp_path, range(3))
        drop_rows(str(tmp_path), rows=[outcome(0).job.key])
    compact_zoo(str(tmp_path))
    assert_whole(tmp_path, range(1, 3))
    for name in ("rows", "latencies"):
        assert DeltaTable(f"{tmp_path}/{name}").metadata().configuration["delta.appendOnly"] == "true"
