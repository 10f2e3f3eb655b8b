"""Weights that belong to no row are listed, and deleted when that is asked for, the lock is had and they are old."""

import os
from pathlib import Path

import pytest
from zoo_examples import DATASETS, new_zoo, outcome, weights_file

from pipeline.running.signals import StopRequest
from pipeline.zoo import Zoo
from pipeline.zoo.upkeep.gc import collect_garbage
from tans_core.errors import ZooError


@pytest.fixture
def lost(tmp_path: Path) -> Path:
    """A zoo of two rows; and a file of weights of long ago, whose driver died before the row."""
    new_zoo(tmp_path, rows=2)
    path = tmp_path / "weights" / "ab" / ("ab" * 16 + ".safetensors")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"four")
    os.utime(path, (1, 1))
    return path


def paths(found) -> list[tuple[str, int]]:
    return [(each.path, each.size_bytes) for each in found.orphans]


def test_nothing_is_deleted_unless_that_is_asked_for(tmp_path: Path, lost: Path):
    wanted = [(lost.relative_to(tmp_path).as_posix(), 4)]
    found = collect_garbage(str(tmp_path))
    assert (paths(found), found.deleted, lost.exists()) == (wanted, False, True)
    deleted = collect_garbage(str(tmp_path), delete=True)
    assert (paths(deleted), deleted.deleted, lost.exists(), lost.parent.exists()) == (wanted, True, False, False)
    assert paths(collect_garbage(str(tmp_path))) == []


def test_weights_of_rows_stay_however_old_and_shared(tmp_path: Path, lost: Path):
    zoo = Zoo.open(tmp_path)
    zoo.commit([outcome(number, weights=weights_file(zoo).read_bytes()) for number in (2, 3)], DATASETS)
    for path in (tmp_path / "weights").rglob("*.safetensors"):
        os.utime(path, (1, 1))
    assert len(collect_garbage(str(tmp_path), delete=True).orphans) == 1
    assert all(zoo.load_weights(row) for row in zoo.snapshot().rows)


def test_the_starting_weights_of_the_zoo_stay(tmp_path: Path, lost: Path):
    start = Zoo.open(tmp_path).start_file
    start.parent.mkdir()
    start.write_bytes(b"start")
    os.utime(start, (1, 1))
    collect_garbage(str(tmp_path), delete=True)
    assert start.exists()


def test_what_may_still_wait_for_its_row_stays(tmp_path: Path, lost: Path):
    os.utime(lost)
    half = lost.with_name(".half.tmp")
    half.write_bytes(b"")
    found = collect_garbage(str(tmp_path), delete=True)
    assert (paths(found), found.young) == ([], 2)
    assert lost.exists() and half.exists()


def test_nothing_is_deleted_while_a_driver_grows_the_zoo(tmp_path: Path, lost: Path):
    with Zoo.claimed(tmp_path, "a build", StopRequest()):
        assert len(collect_garbage(str(tmp_path)).orphans) == 1
        with pytest.raises(ZooError, match="is alive: wait for it"):
            collect_garbage(str(tmp_path), delete=True)
    assert lost.exists()
