"""A commit whose answer is lost, whose key came first from elsewhere, or whose weights cannot be written."""

import hashlib
from pathlib import Path

import pytest
from deltalake import DeltaTable
from zoo_examples import DATASETS, new_zoo, outcome

import pipeline.zoo.table
from pipeline.zoo import Zoo
from tans_core.errors import ZooError
from tans_core.jobs import Outcome
from tans_core.records import PairIdentity, Worker


@pytest.fixture
def lost_answer(monkeypatch: pytest.MonkeyPatch):
    """The next write to a table arrives, and the store's answer does not."""
    write, lost = pipeline.zoo.table.write_deltalake, []

    def write_and_lose(table, *arguments, **rest):
        if lost:
            return write(table, *arguments, **rest)
        lost.append(True)
        write(DeltaTable(table.table_uri), *arguments, **rest)  # what is in hand knows nothing of it
        raise OSError("the connection was cut")

    def cut() -> None:
        monkeypatch.setattr(pipeline.zoo.table, "write_deltalake", write_and_lose)

    return cut


def keys(zoo: Path) -> list[str]:
    return [row.key for row in Zoo.open(zoo).snapshot().rows]


def test_rows_whose_answer_was_lost_are_looked_for_and_not_written_again(tmp_path: Path, lost_answer):
    zoo = new_zoo(tmp_path)
    lost_answer()
    assert len(zoo.commit([outcome(0), outcome(1)], DATASETS)) == 2
    zoo.commit([outcome(2)], DATASETS)
    assert keys(tmp_path) == [outcome(number).job.key for number in range(3)]


def test_events_whose_answer_was_lost_are_looked_for_and_not_written_again(tmp_path: Path, lost_answer):
    journal = new_zoo(tmp_path).journal
    journal.append("run-a", [("start", {})])
    lost_answer()
    journal.append("run-a", [("decision", {"n": 0}), ("decision", {"n": 1})])
    journal.append("run-a", [("stop", {})])
    events = Zoo.open(tmp_path).journal.events()
    assert [(event.sequence, event.kind) for event in events] == [
        (0, "start"),
        (1, "decision"),
        (2, "decision"),
        (3, "stop"),
    ]


def test_a_key_that_another_driver_committed_meanwhile_keeps_its_one_row(tmp_path: Path):
    first = new_zoo(tmp_path)
    second = Zoo.open(tmp_path)  # has read the table, and does not know what comes now
    first.commit([outcome(0, run="run-a")], DATASETS)
    new = second.commit([outcome(0, run="run-b"), outcome(1, run="run-b")], DATASETS)
    assert [(row.key, row.attempt.run) for row in new] == [(outcome(1).job.key, "run-b")]
    rows = Zoo.open(tmp_path).snapshot().rows
    assert [(row.key, row.attempt.run) for row in rows] == [
        (outcome(0).job.key, "run-a"),
        (outcome(1).job.key, "run-b"),
    ]


def test_of_equal_keys_in_one_batch_the_first_is_the_row(tmp_path: Path):
    zoo = new_zoo(tmp_path)
    new = zoo.commit([outcome(0, run="run-a"), outcome(0, run="run-b")], DATASETS)
    assert [row.attempt.run for row in new] == ["run-a"]
    assert [row.attempt.run for row in Zoo.open(tmp_path).snapshot().rows] == ["run-a"]


def test_a_row_whose_weights_cannot_be_written_is_not_committed(tmp_path: Path):
    zoo = new_zoo(tmp_path)
    (tmp_path / "weights").write_text("a file where the folder should be")
    with pytest.raises(ZooError, match="run the same command again"):
        zoo.commit([outcome(0)], DATASETS)
    assert keys(tmp_path) == []
    (tmp_path / "weights").unlink()
    zoo.commit([outcome(0)], DATASETS)
    assert keys(tmp_path) == [outcome(0).job.key]


def test_the_name_of_weights_is_the_blake2b_of_their_bytes(tmp_path: Path):
    (row,) = new_zoo(tmp_path).commit([outcome(0)], DATASETS)
    trained = outcome(0).trained
    assert trained is not None
    digest = hashlib.blake2b(trained.weights, digest_size=16).hexdigest()
    assert (row.weights.path, row.weights.blake2b) == (f"weights/{digest[:2]}/{digest}.safetensors", digest)


@pytest.mark.parametrize(
    "change", [{"search_space": "ofa-mbv3"}, {"width": 1.2}, {"image_size": 64}, {"supernet": "00" * 16}]
)
def test_a_pair_of_another_zoo_is_not_committed(tmp_path: Path, change: dict):
    zoo, example = new_zoo(tmp_path), outcome(0)
    identity = PairIdentity(**{**vars(example.job.identity), **change})
    job = type(example.job)(**{**vars(example.job), "identity": identity, "key": identity.key})
    foreign = Outcome(
        job=job, worker=Worker("trainer-00", "a node", "cpu"), seconds=example.seconds, trained=example.trained
    )
    with pytest.raises(AssertionError, match=f"a pair of another zoo: {next(iter(change))} differs"):
        zoo.commit([foreign], DATASETS)
    assert keys(tmp_path) == []
