"""Rows and datasets leave a zoo with what refers to them, and a later build may choose them again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from zoo_examples import DATASET, DATASETS, dataset_record, new_zoo, outcome

from pipeline.running.signals import StopRequest
from pipeline.zoo import Zoo
from pipeline.zoo.latency import Latency
from pipeline.zoo.show import show_journal
from pipeline.zoo.table import AppendTable
from pipeline.zoo.upkeep.drop import drop_rows
from tans_core.errors import ConfigError, ZooError

OTHER = dataset_record("f2" * 16, "digits")


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    """Three rows of one dataset and one of another, each with a latency."""
    zoo = new_zoo(tmp_path, rows=3)
    zoo.record_dataset(OTHER)
    made = outcome(3)
    identity = replace(made.job.identity, fingerprint=OTHER.fingerprint)
    job = replace(made.job, identity=identity, key=identity.key)
    zoo.commit([replace(made, job=job)], DATASETS | {OTHER.fingerprint: OTHER})
    zoo.write_latencies([Latency(row.key, "cpu", 1, 1.0, 2.0, 3.0, 11) for row in zoo.snapshot().rows])
    return zoo


def keys(zoo: Zoo) -> list[str]:
    return [row.key for row in Zoo.open(zoo.uri).snapshot().rows]


def test_a_row_goes_with_its_latency_and_nothing_else_does(zoo: Zoo):
    before = keys(zoo)
    done = drop_rows(zoo.uri, rows=[before[1][:12]])
    assert (done.keys, done.datasets, done.entries, done.weights) == (
        (before[1],),
        (),
        {"latencies": 1, "rows": 1},
        1,
    )
    assert keys(zoo) == [before[0], before[2], before[3]]
    assert {each.key for each in zoo.latencies()} == set(keys(zoo))
    assert set(zoo.datasets()) == {DATASET.fingerprint, OTHER.fingerprint}
    assert pa.table(DeltaTable(f"{zoo.uri}/rows").scan(columns=["key"])).num_rows == 3, "for other programs too"


@pytest.mark.parametrize("name", ["digits", "f2" * 16, "f2f2"])
def test_a_dataset_goes_with_its_rows(zoo: Zoo, name: str):
    before = keys(zoo)
    done = drop_rows(zoo.uri, dataset=name)
    assert (done.keys, done.datasets) == ((before[3],), (OTHER.fingerprint,))
    assert keys(zoo) == before[:3] and set(zoo.datasets()) == {DATASET.fingerprint}


def test_tables_are_closed_to_removals_again(zoo: Zoo):
    drop_rows(zoo.uri, rows=keys(zoo)[:1])
    for name in ("rows", "latencies"):
        table = DeltaTable(f"{zoo.uri}/{name}")
        assert table.metadata().configuration["delta.appendOnly"] == "true"
        with pytest.raises(Exception, match=r"(?i)append"):
            table.delete("key = 'x'")


def test_a_dropped_pair_may_be_trained_again_and_stands_once(zoo: Zoo):
    before = keys(zoo)
    drop_rows(zoo.uri, rows=before[:1])
    for _ in range(2):
        Zoo.open(zoo.uri).commit([outcome(0, run="later")], DATASETS)
    assert keys(zoo) == [*before[1:], before[0]]
    assert len({row.choice.decision for row in zoo.snapshot().rows}) == 4


def test_versions_from_before_are_refused_and_those_since_are_there(zoo: Zoo):
    before = zoo.version
    drop_rows(zoo.uri, rows=keys(zoo)[:1])
    since = zoo.version
    zoo.commit([outcome(7)], DATASETS)
    assert [len(zoo.snapshot(version).rows) for version in (since, zoo.version)] == [3, 4]
    with pytest.raises(ZooError, match=f"no version {before} any more: 1 rows were dropped"):
        zoo.snapshot(before)


def test_the_journal_tells_what_went(zoo: Zoo):
    drop_rows(zoo.uri, dataset="digits")
    (event,) = show_journal(zoo.uri).events
    assert (event.kind, event.words) == ("drop", "1 rows and the datasets digits")


def test_nothing_is_dropped_by_a_name_that_is_wrong_or_not_one(zoo: Zoo):
    before = keys(zoo)
    for wanted, rows, dataset in (
        ("name rows by their keys", [], None),
        ("0 rows .* begins with 'zzzz'", ["zzzz"], None),
        (f"0 rows .* begins with '{before[0][:3]}'", [before[0][:3]], None),
        (r"0 datasets .* digits \(f2f2f2\)", [], "letters"),
    ):
        with pytest.raises(ConfigError, match=wanted):
            drop_rows(zoo.uri, rows=rows, dataset=dataset)
    assert keys(zoo) == before
    with Zoo.claimed(zoo.uri, "a build", StopRequest()), pytest.raises(ZooError, match="is alive"):
        drop_rows(zoo.uri, dataset="digits")
    assert keys(zoo) == before


def test_a_drop_that_was_cut_off_is_finished_by_the_same_call(zoo: Zoo, monkeypatch: pytest.MonkeyPatch):
    before, remove = keys(zoo), AppendTable.remove

    def until_the_dataset_itself(table: AppendTable, column: str, values: Sequence[str]) -> int:
        if column == "fingerprint":
            raise ZooError("no room")
        return remove(table, column, values)

    with monkeypatch.context() as cut:
        cut.setattr(AppendTable, "remove", until_the_dataset_itself)
        with pytest.raises(ZooError, match="no room"):
            drop_rows(zoo.uri, dataset="digits")
    assert set(zoo.datasets()) == {DATASET.fingerprint, OTHER.fingerprint} and keys(zoo) == before[:3]
    drop_rows(zoo.uri, dataset="digits")
    assert set(zoo.datasets()) == {DATASET.fingerprint}
