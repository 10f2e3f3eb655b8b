"""Rows that were cut out of a supernet: a reference to it and what is their own; checked as a whole."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from zoo_examples import SETTINGS, dataset_record, new_zoo, outcome

from pipeline.pools import perform
from pipeline.zoo import Zoo
from pipeline.zoo.show import show_zoo
from pipeline.zoo.upkeep.drop import drop_rows
from pipeline.zoo.upkeep.gc import collect_garbage
from pipeline.zoo.upkeep.merge import merge_zoos
from pipeline.zoo.upkeep.verify import trained_again, verify_weights
from tans_core.errors import WeightsError
from tans_core.records import Worker
from tans_core.search_space import make_search_space
from tans_core.training.from_supernet import whole_weights
from tans_core.training.loop import CPU, keep_going
from tans_core.training.weights import decode_weights, load_into
from tests.jobs import cut_job_of, supernet_job_of
from tests.synthetic import patterns

WORKER = Worker("trainer-03", "node-1", "cpu")


@pytest.fixture(scope="module")
def space():
    return make_search_space("ofa-lite")


@pytest.fixture(scope="module")
def made(space):
    """A dataset, its supernet and two pairs cut out of it, as the workers return them."""
    torch.set_num_threads(1)
    dataset = patterns(each=12)
    job = supernet_job_of(dataset, space)
    supernet = perform(job, dataset, space, WORKER, time.monotonic(), keep_going, CPU)
    weights = supernet.trained.weights
    pairs = [
        perform(cut_job_of(job, space, number), dataset, space, WORKER, time.monotonic(), keep_going, CPU, weights)
        for number in (0, 1)
    ]
    return dataset, supernet, pairs


@pytest.fixture
def zoo(tmp_path: Path, space, made) -> Zoo:
    dataset, supernet, pairs = made
    record = replace(dataset_record(dataset.fingerprint, "stripes"), class_names=dataset.class_names)
    zoo = Zoo.create(tmp_path / "zoo", replace(SETTINGS, supernet=space.supernet_hash))
    zoo.record_dataset(record)
    zoo.commit_supernet(supernet, record)
    zoo.commit(pairs, {record.fingerprint: record})
    return zoo


def kept(zoo: Zoo) -> Path:
    (supernet,) = zoo.supernets.all().values()
    return Path(zoo.uri) / supernet.weights.path


def test_a_supernet_is_committed_once_and_comes_back_as_it_was(zoo, made):
    dataset, outcome, _ = made
    record = zoo.datasets()[dataset.fingerprint]
    again = Zoo.open(zoo.uri).commit_supernet(replace(outcome, worker=replace(WORKER, name="other")), record)
    (supernet,) = Zoo.open(zoo.uri).supernets.all().values()
    assert again == supernet and supernet.worker == WORKER
    assert (supernet.key, supernet.identity) == (outcome.job.key, outcome.job.identity)
    assert (supernet.dataset_name, supernet.curve) == ("stripes", outcome.trained.curve)
    assert supernet.seconds == outcome.seconds and supernet.attempt == outcome.job.attempt
    assert zoo.supernets.read(supernet) == outcome.trained.weights
    assert kept(zoo).parts[-3] == "supernets"  # and no Delta table there, whose vacuum would take it away
    assert not (Path(zoo.uri) / "supernets" / "_delta_log").exists()


def test_a_row_is_put_together_with_its_supernet(zoo, made, space):
    _, supernet, pairs = made
    for row, pair in zip(zoo.snapshot().rows, pairs, strict=True):
        own = decode_weights(pair.trained.weights)
        expected = whole_weights(space, supernet.trained.weights, row.identity.topology, own)
        found = Zoo.open(zoo.uri).load_weights(row)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        network = space.random_subnet(space.architecture(row.identity.topology), 3, torch.Generator())
        load_into(network, found)
        assert zoo.has_weights(row) and (Path(zoo.uri) / row.weights.path).stat().st_size < 500_000


def test_rows_come_back_with_their_mode_and_with_who_made_them(zoo, made):
    for row, pair in zip(Zoo.open(zoo.uri).snapshot().rows, made[2], strict=True):
        assert (row.identity, row.key, row.worker) == (pair.job.identity, pair.job.key, WORKER)


@pytest.mark.parametrize("what", ["gone", "changed", "cut"])
def test_a_supernet_that_is_gone_or_changed_is_named_with_the_way_out(zoo, what, space):
    path = kept(zoo)
    whole = path.read_bytes()
    path.unlink() if what == "gone" else path.write_bytes(whole[:-1] if what == "cut" else whole[:-1] + b"x")
    row = zoo.snapshot().rows[0]
    with pytest.raises(WeightsError, match=f"row {row.key}: the supernet of stripes.*put the file back from a copy"):
        zoo.load_weights(row)
    assert zoo.has_weights(row) == (what == "changed")
    problems = list(verify_weights(zoo, space))
    assert len(problems) == 3 and all("the supernet of stripes" in problem for problem in problems)
    path.write_bytes(whole)
    assert list(verify_weights(zoo, space)) == []


def test_a_supernet_without_a_row_is_named_too(zoo):
    row = zoo.snapshot().rows[0]
    stranger = replace(row, identity=replace(row.identity, seed=3))
    with pytest.raises(WeightsError, match=r"the supernet of stripes .* is not in .*: put .* dataset_supernets"):
        zoo.load_weights(stranger)
    assert not zoo.has_weights(stranger)


def test_verify_cuts_a_row_again_out_of_the_kept_supernet(zoo, made, space):
    dataset, (row, _) = made[0], zoo.snapshot().rows
    supernet = zoo.supernets.read(zoo.supernets.of(row))
    assert trained_again(row, dataset, space, supernet=supernet) is None
    lie = replace(row, val_correct_by_class=tuple(1 + right for right in row.val_correct_by_class))
    assert "trained again it gets" in (trained_again(lie, dataset, space, supernet=supernet) or "")


def test_bytes_of_a_supernet_are_shared_out_over_its_rows(zoo):
    shown, size = show_zoo(zoo.uri), kept(zoo).stat().st_size
    own = [row.weights.size_bytes for row in zoo.snapshot().rows]
    assert sorted(row.weights_bytes for row in shown.rows) == sorted(each + round(size / 2) for each in own)
    assert (shown.supernets, shown.weights_bytes) == (1, size + sum(own))
    assert {row.mode for row in shown.rows} == {"from_supernet"}
    assert {row.parent for row in shown.rows} == set(zoo.supernets.all())


def test_a_standalone_row_has_no_parent(tmp_path: Path):
    (row,) = show_zoo(new_zoo(tmp_path / "zoo", rows=1).uri).rows
    assert (row.mode, row.parent) == ("standalone", None)


def test_a_file_of_a_supernet_without_a_row_is_an_orphan(zoo):
    assert zoo.orphans() == 0
    zoo.start_file.write_bytes(b"the starting weights, which are none")
    assert zoo.orphans() == 0
    (kept(zoo).parent / "0123.safetensors").write_bytes(b"a driver died here")
    assert zoo.orphans() == 1


def test_the_examples_rows_keep_who_made_them(tmp_path: Path):
    zoo = new_zoo(tmp_path / "zoo", rows=1)
    assert zoo.snapshot().rows[0].worker == outcome(0).worker


def test_gc_leaves_the_supernets_that_are_committed_and_the_start(zoo):
    start, lost = zoo.start_file, kept(zoo).with_name("lost.safetensors")
    for path in (start, lost):
        path.write_bytes(b"weights")
    found = collect_garbage(zoo.uri, delete=True, young_s=0)
    assert [each.path.rpartition("/")[2] for each in found.orphans] == ["lost.safetensors"]
    assert start.exists() and not lost.exists()
    assert all(zoo.load_weights(row) for row in zoo.snapshot().rows)


def test_a_dropped_dataset_takes_its_supernet_along(zoo):
    done = drop_rows(zoo.uri, dataset="stripes")
    assert done.entries == {"latencies": 0, "rows": 2, "dataset_supernets": 1, "datasets": 1}
    assert (Zoo.open(zoo.uri).supernets.all(), done.weights) == ({}, 3)
    assert len(collect_garbage(zoo.uri, delete=True, young_s=0).orphans) == 3


def test_a_merge_brings_supernets_so_that_rows_are_whole(zoo, tmp_path, space):
    for _ in range(2):
        merge_zoos([zoo.uri], str(tmp_path / "merged"))
    merged = Zoo.open(tmp_path / "merged")
    assert merged.supernets.all() == zoo.supernets.all()
    assert len(merged.snapshot().rows) == 2 and list(verify_weights(merged, space)) == []
