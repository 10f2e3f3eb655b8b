"""The benchmark zoo: pairs that are fixed beforehand, and tables from which its rows come back."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from benchmarks.campaign.__main__ import grow
from benchmarks.campaign.pairs import FixedPairs, fixed_pairs, networks, registered
from benchmarks.campaign.tables import ROWS_A_PART, read_tables, write_tables
from tans_core.acquisition.choose import CHOOSERS, check_chooser
from tans_core.errors import ConfigError
from tans_core.records import Candidate, Observation
from tans_core.search_space import make_search_space
from tests.worlds import World


@pytest.fixture(scope="module")
def search_space():
    return make_search_space("ofa-lite", 1.0)


def test_half_of_the_networks_are_common_to_all_datasets_and_the_rest_are_not(search_space):
    pairs = fixed_pairs(["a", "b"], search_space, common=3, own=3)
    of = {name: [pair.topology for pair in pairs if pair.fingerprint == name] for name in "ab"}
    assert [len(set(of[name])) for name in "ab"] == [6, 6]
    assert of["a"][:3] == of["b"][:3]
    assert not set(of["a"][3:]) & set(of["b"])


def test_the_networks_that_are_trained_by_themselves_are_among_the_common_ones(search_space):
    assert networks(search_space, "common", 8) == networks(search_space, "common", 25)[:8]


def test_each_pair_is_proposed_once_and_in_its_order():
    first, second, third, fourth = pairs = [Candidate("a", (number,)) for number in range(4)]
    chooser = FixedPairs(pairs)
    assert chooser.propose(0, []).candidate == first
    chooser.observe(Observation(first, 1, 2))
    chooser.exclude(second)
    assert chooser.propose(1, [third]).candidate == fourth
    assert chooser.propose(2, [third, fourth]) is None


def test_a_dataset_without_a_supernet_is_left_aside_until_it_has_one():
    early, late = pairs = [Candidate("a", (1,)), Candidate("b", (1,))]
    assert FixedPairs(pairs).propose(0, [], {"b": 1.0}).candidate == late
    assert FixedPairs(pairs).propose(0, [], {"a": 1.0, "b": 1.0}).candidate == early
    assert FixedPairs(pairs).propose(0, [], {}) is None


def test_a_small_campaign_gives_the_same_pairs_on_both_roads_and_goes_on(tmp_path: Path):
    specs = ["starter:lfw-faces", "starter:emoji-food"]
    settled = {"preset_name": "smoke", "workers": 0}
    first, _ = grow(tmp_path / "zoos", specs, 2, {"standalone": (1, 0)}, **settled)
    rows, known = grow(tmp_path / "zoos", specs, 2, {"from_supernet": (1, 1), "standalone": (1, 0)}, **settled)
    by_mode = {mode: [row for row in rows if row.identity.mode == mode] for mode in ("from_supernet", "standalone")}
    assert [len(by_mode[mode]) for mode in by_mode] == [4, 2]
    assert all(row.response.any() for row in rows)
    assert [row.key for row in by_mode["standalone"]] == [row.key for row in first]
    assert {row.candidate for row in by_mode["standalone"]} < {row.candidate for row in by_mode["from_supernet"]}
    assert {record.name for record in known.values()} == {"lfw-faces", "emoji-food"}


def test_the_campaigns_chooser_is_there_for_its_builds_alone():
    with registered(2, 1) as name:
        check_chooser(name)
    with pytest.raises(ConfigError, match="campaign"):
        check_chooser("campaign")
    assert "random" in CHOOSERS


def test_rows_and_datasets_come_back_from_their_tables(tmp_path: Path):
    snapshot = World(datasets=6, rows_each=4).snapshot()
    write_tables(tmp_path, snapshot.rows, snapshot.datasets.values())
    rows, datasets = read_tables(tmp_path)
    assert list(datasets) == list(snapshot.datasets)
    for row, before in zip(rows, snapshot.rows, strict=True):
        assert (row.key, row.identity, row.curve, row.costs) == (
            before.key,
            before.identity,
            before.curve,
            before.costs,
        )
        assert (row.val_correct, row.test_correct_by_class) == (before.val_correct, before.test_correct_by_class)
        assert_near(row.response, before.response)
    for record in datasets.values():
        before = snapshot.datasets[record.fingerprint].features
        assert_near(record.features.train_ND, before.train_ND)
        assert_near(record.features.test_ND, before.test_ND)
        assert record.features.validation_labels_N.equal(before.validation_labels_N)


def assert_near(found: torch.Tensor, before: torch.Tensor) -> None:
    """Half a step of 127, and what float16 rounds."""
    largest = before.float().abs().max()
    assert (found.float() - before.float()).abs().max() <= largest * (1 / 254 + 1 / 1024)
    assert not found.float().equal(torch.zeros_like(found.float()))


def test_a_longer_campaign_leaves_full_parts_as_they_are(tmp_path: Path):
    snapshot = World(datasets=12, rows_each=12).snapshot()
    assert len(snapshot.rows) > ROWS_A_PART
    before = write_tables(tmp_path, snapshot.rows[:ROWS_A_PART], snapshot.datasets.values())[0].read_bytes()
    after = write_tables(tmp_path, snapshot.rows, snapshot.datasets.values())
    assert after[0].read_bytes() == before
    assert [pq.read_table(path).num_rows for path in after[:2]] == [ROWS_A_PART, len(snapshot.rows) - ROWS_A_PART]


def test_what_is_all_zero_comes_back_as_zero(tmp_path: Path):
    snapshot = World(datasets=2, rows_each=1).snapshot()
    silent = replace(snapshot.rows[0], response=torch.zeros_like(snapshot.rows[0].response))
    write_tables(tmp_path, [silent], snapshot.datasets.values())
    assert not read_tables(tmp_path)[0][0].response.any()
