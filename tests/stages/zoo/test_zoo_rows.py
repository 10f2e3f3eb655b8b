"""What is committed comes back, once a key, in order, wherever the zoo lies by then."""

import json
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from zoo_examples import DATASET, DATASETS, SETTINGS, dataset_record, new_zoo, outcome

from pipeline.zoo import Zoo
from pipeline.zoo.latency import Latency
from tans_core.errors import ConfigError, ZooError
from tans_core.records import content_hash


def assert_same(one, other):
    """Records with tensors have no equality of their own."""
    for name in one.__dataclass_fields__:
        mine, theirs = getattr(one, name), getattr(other, name)
        if isinstance(mine, torch.Tensor):
            assert torch.equal(mine, theirs) and mine.dtype == theirs.dtype, name
        elif name == "features":
            assert_same(mine, theirs)
        else:
            assert mine == theirs, name


def test_a_row_comes_back_as_it_was_committed(tmp_path: Path):
    zoo = new_zoo(tmp_path / "zoo")
    committed = zoo.commit([outcome(0), outcome(1)], DATASETS)
    read = Zoo.open(tmp_path / "zoo").snapshot(responses=True).rows
    assert len(read) == 2
    for mine, theirs in zip(committed, read, strict=True):
        assert_same(mine, theirs)
    row = read[1]
    given = outcome(1)
    assert given.trained is not None
    assert row.identity.key == row.key == given.job.key
    assert (row.dataset_name, row.class_names, row.choice) == (DATASET.name, DATASET.class_names, given.job.choice)
    assert (row.costs, row.curve, row.seconds) == (given.trained.costs, given.trained.curve, given.seconds)
    assert row.weights.blake2b == content_hash(given.trained.weights)
    assert row.versions["torch"] == torch.__version__.partition("+")[0]
    assert row.response is not None and torch.equal(row.response, given.trained.response)
    assert [row.response for row in zoo.snapshot().rows] == [None, None]


def test_a_dataset_comes_back_with_its_features(tmp_path: Path):
    zoo = Zoo.create(tmp_path, SETTINGS)
    kept = zoo.record_dataset(DATASET)
    assert_same(kept, DATASET)
    assert_same(Zoo.open(tmp_path).snapshot().datasets[DATASET.fingerprint], DATASET)
    assert kept.features.train_ND.dtype == torch.float32


def test_a_zoo_from_before_hashes_of_images_were_kept_is_read_and_grows(tmp_path: Path):
    """Written by tans as it was then: one dataset, two rows."""
    with zipfile.ZipFile(Path(__file__).parent / "zoo_before_image_hashes.zip") as file:
        file.extractall(tmp_path)
    zoo = Zoo.open(tmp_path / "zoo")
    (there,) = zoo.snapshot().datasets.values()
    assert_same(there, replace(DATASET, image_hashes=b""))
    assert_same(zoo.record_dataset(DATASET), there)
    newer = zoo.record_dataset(dataset_record("f0" * 16, "newer"))
    zoo.commit([outcome(2)], DATASETS)
    snapshot = Zoo.open(tmp_path / "zoo").snapshot()
    assert [each.image_hashes for each in snapshot.datasets.values()] == [b"", newer.image_hashes]
    assert newer.image_hashes == DATASET.image_hashes
    assert [row.key for row in snapshot.rows] == [outcome(number).job.key for number in range(3)]
    assert zoo.load_weights(snapshot.rows[0])["w"].shape == (4, 4)


def test_a_dataset_is_kept_once_and_in_the_precision_in_which_it_comes_back(tmp_path: Path):
    zoo = Zoo.create(tmp_path, SETTINGS)
    fine = torch.full((6, 5), 1 / 3)
    kept = zoo.record_dataset(replace(DATASET, features=replace(DATASET.features, train_ND=fine)))
    assert torch.equal(kept.features.train_ND, fine.half().float())
    again = zoo.record_dataset(replace(DATASET, name="another name"))
    assert again.name == DATASET.name
    zoo.record_dataset(dataset_record("f0" * 16, "later"))
    assert [record.name for record in zoo.snapshot().datasets.values()] == [DATASET.name, "later"]


def test_e11_a_key_has_one_row_within_a_batch_and_between_batches(tmp_path: Path):
    zoo = new_zoo(tmp_path)
    assert len(zoo.commit([outcome(0), outcome(0, run="run-b"), outcome(1)], DATASETS)) == 2
    assert zoo.commit([outcome(0, run="run-c"), outcome(1)], DATASETS) == []
    assert Zoo.open(tmp_path).commit([outcome(1)], DATASETS) == []
    assert [row.attempt.run for row in zoo.snapshot().rows] == ["run-a", "run-a"]


def test_e11_two_writers_at_once_never_double_a_key_and_lose_none(tmp_path: Path):
    new_zoo(tmp_path)
    gate, returned, errors = threading.Barrier(2), [], []

    def write(run: str, numbers: range) -> None:
        try:
            zoo = Zoo.open(tmp_path)
            gate.wait()
            for number in numbers:
                returned.extend(zoo.commit([outcome(number, run=run), outcome(number + 1, run=run)], DATASETS))
        except Exception as error:
            errors.append(error)

    threads = [
        threading.Thread(target=write, args=("run-a", range(0, 12))),
        threading.Thread(target=write, args=("run-b", range(11, -1, -1))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    rows = Zoo.open(tmp_path).snapshot().rows
    assert {row.key for row in rows} == {outcome(number).job.key for number in range(13)}
    assert len(rows) == 13
    assert sorted((row.key, row.attempt) for row in rows) == sorted((row.key, row.attempt) for row in returned)


def test_e11_rows_come_in_the_order_of_their_commits_beyond_a_compaction(tmp_path: Path):
    zoo = new_zoo(tmp_path, rows=70)  # compacted after 64 files
    wanted = [outcome(number).job.key for number in range(70)]
    assert [row.key for row in zoo.snapshot().rows] == wanted
    assert len(list((tmp_path / "rows").glob("*.parquet"))) > 70, "a compaction has written a file of its own"
    assert zoo.row_count() == 70
    assert zoo.commit([outcome(70)], DATASETS)[0].key == Zoo.open(tmp_path).snapshot().rows[-1].key


def test_a_snapshot_of_an_older_version_has_the_rows_of_then(tmp_path: Path):
    zoo = new_zoo(tmp_path, rows=1)
    then = zoo.version
    zoo.commit([outcome(1)], DATASETS)
    assert zoo.version > then
    assert (len(zoo.snapshot(then).rows), len(zoo.snapshot().rows)) == (1, 2)
    with pytest.raises(ZooError, match="has no version 999"):
        zoo.snapshot(999)


def test_a_reader_that_was_open_before_sees_what_was_committed_since(tmp_path: Path):
    zoo = new_zoo(tmp_path)
    reader = Zoo.open(tmp_path)
    zoo.commit([outcome(0)], DATASETS)
    zoo.journal.append("run-a", [("start", {})])
    assert (reader.row_count(), reader.version, len(reader.snapshot().rows)) == (1, 1, 1)
    assert len(reader.journal.events()) == 1


def test_e7_a_zoo_whose_parent_was_renamed_loads_and_grows(tmp_path: Path):
    new_zoo(tmp_path / "before" / "zoo", rows=2)
    (tmp_path / "before").rename(tmp_path / "after é #1")
    zoo = Zoo.open(tmp_path / "after é #1" / "zoo")
    assert zoo.settings == SETTINGS
    assert zoo.load_weights(zoo.snapshot().rows[1])["w"].shape == (4, 4)
    zoo.commit([outcome(2)], DATASETS)
    zoo.journal.append("run-b", [("start", {})])
    assert Zoo.open(zoo.uri).row_count() == 3
    telling = [path for path in Path(zoo.uri).rglob("*") if path.is_file() and b"/before" in path.read_bytes()]
    assert not telling, "nothing inside names the place"


def test_the_journal_gives_events_in_order_whoever_wrote_them(tmp_path: Path):
    first, second = new_zoo(tmp_path).journal, Zoo.open(tmp_path).journal
    first.append("run-a", [("start", {"cores": 2}), ("decision", {"gain": 0.5, "name": "Vögel", "none": None})])
    second.append("run-b", [("start", {})])
    first.append("run-a", [("stop", {"pairs": [1, 2]})])
    first.append("run-a", [])
    events = Zoo.open(tmp_path).journal.events()
    assert [(event.sequence, event.run, event.kind) for event in events] == [
        (0, "run-a", "start"),
        (1, "run-a", "decision"),
        (2, "run-b", "start"),
        (3, "run-a", "stop"),
    ]
    assert events[1].payload == {"gain": 0.5, "name": "Vögel", "none": None}
    with pytest.raises(ValueError):
        first.append("run-a", [("decision", {"gain": float("nan")})])


def test_the_latest_latency_of_a_device_counts(tmp_path: Path):
    zoo = new_zoo(tmp_path)
    old, other = Latency("k", "cpu: a", 1, 1.0, 2.0, 3.0, 15), Latency("k", "cpu: b", 1, 4.0, 5.0, 6.0, 15)
    zoo.write_latencies([old, other])
    new = replace(old, p50_ms=2.5)
    zoo.write_latencies([new])
    zoo.write_latencies([])
    assert set(Zoo.open(tmp_path).latencies()) == {new, other}


def test_a_zoo_of_a_newer_schema_is_refused(tmp_path: Path):
    new_zoo(tmp_path)
    kept = json.loads((tmp_path / "zoo.json").read_text())
    (tmp_path / "zoo.json").write_text(json.dumps({**kept, "schema": 3, "a field of the future": 1}))
    assert Zoo.exists(tmp_path)
    with pytest.raises(ZooError, match=r"has schema 3, this version of tans reads schemas 1 to 2: .*newer"):
        Zoo.open(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}'])
def test_settings_that_are_damaged_are_named(tmp_path: Path, text: str):
    new_zoo(tmp_path)
    (tmp_path / "zoo.json").write_text(text)
    with pytest.raises(ZooError, match=r"zoo\.json .*: put it back"):
        Zoo.open(tmp_path)


def test_a_table_that_is_gone_is_named(tmp_path: Path):
    new_zoo(tmp_path)
    (tmp_path / "journal").rename(tmp_path / "elsewhere")
    with pytest.raises(ZooError, match=r"journal is gone"):
        Zoo.open(tmp_path)


def test_a_place_without_a_zoo_is_refused(tmp_path: Path):
    assert not Zoo.exists(tmp_path / "none")
    with pytest.raises(ZooError, match=r"there is no zoo at .*none"):
        Zoo.open(tmp_path / "none")


def test_a_folder_with_other_things_does_not_become_a_zoo(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match=r"holds 'thesis\.tex'"):
        Zoo.create(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_zoo_is_not_made_twice(tmp_path: Path):
    new_zoo(tmp_path)
    with pytest.raises(ZooError, match=r"there is a zoo at .* already"):
        Zoo.create(tmp_path, replace(SETTINGS, seed=8))
    assert Zoo.open(tmp_path).settings.seed == 7
