"""Weights on the disk: written whole or not at all, checked before use, and every damage is named."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from zoo_examples import DATASETS, SETTINGS, new_zoo, outcome, weights_file

from pipeline.network.load_network import load_network
from pipeline.zoo import Zoo
from pipeline.zoo.upkeep.verify import verify_weights
from tans_core.errors import WeightsError, ZooError
from tans_core.jobs import Job, Outcome
from tans_core.records import Candidate, Choice, PairIdentity, TrainedPair, Worker
from tans_core.search_space import make_search_space
from tans_core.search_space.space import SearchSpace
from tans_core.training.weights import encode_weights

LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    if LIBC.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, b"size=1m"):
        pytest.skip(f"mounting a small disk: {os.strerror(ctypes.get_errno())}")
    yield place
    LIBC.umount2(os.fsencode(place), 2)


def test_weights_lie_under_the_hash_of_their_bytes(tmp_path: Path):
    zoo = new_zoo(tmp_path, rows=1)
    reference = zoo.snapshot().rows[0].weights
    assert reference.path == f"weights/{reference.blake2b[:2]}/{reference.blake2b}.safetensors"
    given = outcome(0).trained
    assert given is not None
    assert weights_file(zoo).read_bytes() == given.weights
    assert len(given.weights) == reference.size_bytes


def test_pairs_with_equal_weights_share_a_file_that_is_written_once(tmp_path: Path):
    zoo, same = new_zoo(tmp_path), encode_weights({"w": torch.ones(3)})
    first = zoo.commit([outcome(0, weights=same)], DATASETS)[0]
    written = os.stat(weights_file(zoo))
    second = zoo.commit([outcome(1, weights=same)], DATASETS)[0]
    assert first.weights == second.weights
    again = os.stat(weights_file(zoo))
    assert (again.st_ino, again.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


def test_e28_a_damaged_file_is_replaced_not_written_over(tmp_path: Path):
    zoo, data = new_zoo(tmp_path), encode_weights({"w": torch.ones(3)})
    zoo.commit([outcome(0, weights=data)], DATASETS)
    path = weights_file(zoo)
    path.write_bytes(b"cut")
    with path.open("rb") as reader:
        zoo.commit([outcome(1, weights=data)], DATASETS)
        assert reader.read() == b"cut", "who has the old file open still reads the old file"
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "are gone"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), r"have \d+ bytes, not \d+"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x01"), "were changed"),
        (lambda path: path.write_bytes(b""), "have 0 bytes"),
    ],
)
def test_e28_damaged_weights_are_refused_with_row_and_path(tmp_path: Path, damage, message: str):
    zoo = new_zoo(tmp_path, rows=2)
    damage(weights_file(zoo, 1))
    row = zoo.snapshot().rows[1]
    with pytest.raises(WeightsError, match=message) as refusal:
        zoo.load_weights(row)
    assert row.key in str(refusal.value)
    assert row.weights.path in str(refusal.value)
    assert zoo.load_weights(zoo.snapshot().rows[0])


def test_a_disk_without_room_for_weights_leaves_nothing_half_written(tiny_disk: Path):
    zoo = new_zoo(tiny_disk / "zoo", rows=1)
    large = encode_weights({"w": torch.rand(2**19)})
    before = {path for path in tiny_disk.rglob("*") if path.is_file()}
    with pytest.raises(ZooError) as refusal:
        zoo.commit([outcome(1, weights=large)], DATASETS)
    assert f"needs {len(large):,} bytes" in str(refusal.value)
    assert str(tiny_disk / "zoo" / "weights") in str(refusal.value)
    assert {path for path in tiny_disk.rglob("*") if path.is_file()} == before
    zoo.commit([outcome(2)], DATASETS)
    assert [row.key for row in Zoo.open(zoo.uri).snapshot().rows] == [outcome(n).job.key for n in (0, 2)]


def test_a_disk_without_room_for_rows_loses_none_and_takes_them_later(tiny_disk: Path):
    zoo = new_zoo(tiny_disk / "zoo", rows=1)
    filler = tiny_disk / "filler"
    room = os.statvfs(tiny_disk)
    filler.write_bytes(bytes(room.f_bavail * room.f_bsize - 4096))  # a page: the weights fit, the row does not
    with pytest.raises(ZooError, match=r"1 rows cannot be added to .*rows.*make room"):
        zoo.commit([outcome(1, feature_dim=1280)], DATASETS)
    assert (zoo.row_count(), zoo.orphans()) == (1, 1)
    filler.unlink()
    assert len(zoo.commit([outcome(1, feature_dim=1280)], DATASETS)) == 1
    assert (Zoo.open(zoo.uri).row_count(), zoo.orphans()) == (2, 0)


def test_orphans_are_files_without_a_row(tmp_path: Path):
    zoo = new_zoo(tmp_path, rows=2)
    assert zoo.orphans() == 0
    weights_file(zoo).with_name(".half-written.tmp").write_bytes(b"x")
    weights_file(zoo).with_name("no-row.safetensors").write_bytes(b"x")
    assert zoo.orphans() == 2


# --- verify -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def search_space() -> SearchSpace:
    return make_search_space(SETTINGS.search_space)


def real_outcome(
    search_space: SearchSpace, number: int, weights: bytes | None = None, dtype: str = "float32"
) -> Outcome:
    """A pair with a network of the search space."""
    topology = tuple(search_space.sample(2, torch.Generator().manual_seed(3))[number].tolist())
    example = outcome(number)
    identity = PairIdentity(**{**vars(example.job.identity), "topology": topology})
    if weights is None:
        network = search_space.random_subnet(search_space.architecture(topology), 3, torch.Generator().manual_seed(0))
        weights = encode_weights(network.state_dict(), dtype)
    choice = Choice(Candidate(identity.fingerprint, topology), number, "random", "the start")
    job = Job(**{**vars(example.job), "key": identity.key, "identity": identity, "choice": choice})
    trained = TrainedPair(**{**vars(example.trained), "weights": weights, "weights_dtype": dtype})
    return Outcome(job=job, worker=Worker("trainer-00", "a node", "cpu"), seconds=example.seconds, trained=trained)


def test_e28_verify_finds_nothing_in_a_whole_zoo_and_each_kind_of_damage(tmp_path: Path, search_space: SearchSpace):
    zoo = new_zoo(tmp_path)
    rows = zoo.commit([real_outcome(search_space, 0), real_outcome(search_space, 1)], DATASETS)
    assert list(verify_weights(zoo, search_space)) == []

    changed = weights_file(zoo, 0)
    whole = changed.read_bytes()
    changed.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    weights_file(zoo, 1).unlink()
    foreign = zoo.commit([outcome(2)], DATASETS)[0]  # a topology of four, and weights of another network
    problems = list(verify_weights(zoo, search_space))
    assert len(problems) == 3
    for row, words, problem in zip([*rows, foreign], ["changed", "gone", "another network"], problems, strict=True):
        assert row.key in problem and words in problem


def test_rows_of_16_and_of_32_bits_stand_beside_each_other_and_load(tmp_path: Path, search_space: SearchSpace):
    zoo = new_zoo(tmp_path)
    given = [real_outcome(search_space, 0), real_outcome(search_space, 1, dtype="float16")]
    rows = zoo.commit(given, DATASETS)
    assert [row.weights.dtype for row in Zoo.open(tmp_path).snapshot().rows] == ["float32", "float16"]
    assert list(verify_weights(zoo, search_space)) == []
    for row, outcome_of in zip(rows, given, strict=True):
        assert outcome_of.trained is not None
        state = load_network(zoo.uri, row.key).state_dict()
        asked = search_space.random_subnet(
            search_space.architecture(row.identity.topology), 3, torch.Generator().manual_seed(0)
        ).state_dict()
        for name, tensor in state.items():
            narrow = row.weights.dtype == "float16" and tensor.ndim > 1
            assert torch.equal(tensor, asked[name].half().float() if narrow else asked[name]), name


def test_verify_finds_weights_of_another_shape(tmp_path: Path, search_space: SearchSpace):
    zoo = new_zoo(tmp_path)
    other = real_outcome(search_space, 1).trained
    assert other is not None
    row = zoo.commit([real_outcome(search_space, 0, weights=other.weights)], DATASETS)[0]
    (problem,) = verify_weights(zoo, search_space)
    assert row.key in problem and "another network" in problem
