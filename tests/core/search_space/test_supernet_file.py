"""Supernets as files: what goes in comes out to the last bit, and what is not whole or of another kind is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tans_core.datasets.sources.parquet import STARTER as STARTER_DATASETS
from tans_core.errors import ConfigError, WeightsError
from tans_core.search_space import make_search_space, ofa_lite
from tans_core.search_space.supernet_file import (
    SeenDataset,
    SupernetCard,
    encode_supernet,
    halved,
    read_supernet,
    state_hash,
)


@pytest.fixture(scope="module")
def lite0():
    return make_search_space("ofa-lite")


@pytest.fixture(scope="module")
def state(lite0):
    return halved(lite0.supernet.state_dict())


@pytest.fixture(scope="module")
def card(state):
    seen = (SeenDataset(name="faces", fingerprint="f0", images=12, licence="CC0-1.0"),)
    return SupernetCard(
        search_space="ofa-lite",
        width=1.0,
        hash=state_hash(state),
        begun_from="aa",
        datasets=seen,
        image_size=64,
        steps=7,
    )


@pytest.fixture
def file(tmp_path, state, card):
    path = tmp_path / "supernet.safetensors"
    path.write_bytes(encode_supernet(state, card))
    return path


def test_kernels_and_matrices_are_rounded_to_16_bits_and_the_few_others_are_not(lite0, state):
    whole = lite0.supernet.state_dict()
    for name, value in state.items():
        wanted = whole[name].half().float() if value.ndim > 1 else whole[name]
        assert torch.equal(value, wanted), name
    assert state["first_conv.conv.weight"].dtype == torch.float32


def test_a_file_gives_back_weights_and_card_in_half_the_bytes(file, state, card):
    weights, said = read_supernet(file)
    assert said == card and weights.keys() == state.keys()
    assert all(torch.equal(weights[name], value) for name, value in state.items())
    assert file.stat().st_size < 9_000_000 < 0.6 * sum(value.nbytes for value in state.values())


def test_weights_that_16_bits_do_not_hold_stay_in_32(lite0, tmp_path):
    state = lite0.supernet.state_dict()
    card = SupernetCard(search_space="ofa-lite", width=1.0, hash=lite0.supernet_hash, begun_from="aa")
    (tmp_path / "whole.safetensors").write_bytes(encode_supernet(state, card))
    assert make_search_space("ofa-lite", init=tmp_path / "whole.safetensors").supernet_hash == lite0.supernet_hash


def test_a_space_begins_from_a_file_and_gives_it_on(file, card, lite0):
    space = make_search_space("ofa-lite", init=str(file))
    assert space.supernet_hash == card.hash
    assert space.start_file() == file.read_bytes()
    assert lite0.start_file() is None and make_search_space("ofa-lite", init="imagenet").start_file() is None


def test_a_cut_and_a_changed_file_are_refused(file):
    whole = file.read_bytes()
    for length in (0, 20, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match="cannot be read as weights"):
            make_search_space("ofa-lite", init=file)
    changed = bytearray(whole)
    changed[-100] ^= 1
    file.write_bytes(changed)
    with pytest.raises(ConfigError, match="was changed: its weights hash to"):
        make_search_space("ofa-lite", init=file)


def test_values_that_are_not_finite_are_refused(tmp_path, state, card):
    bad = {**state, "first_conv.conv.weight": state["first_conv.conv.weight"] * torch.nan}
    (tmp_path / "bad.safetensors").write_bytes(encode_supernet(bad, replace(card, hash=state_hash(bad))))
    with pytest.raises(ConfigError, match=r"first_conv\.conv\.weight holds values that are not finite"):
        read_supernet(tmp_path / "bad.safetensors")


@pytest.mark.parametrize(("space", "width"), [("ofa-mbv3", 1.0), ("ofa-lite", 1.2)])
def test_a_supernet_of_another_search_space_or_width_is_refused(tmp_path, state, card, space, width):
    (tmp_path / "other.safetensors").write_bytes(encode_supernet(state, replace(card, search_space=space, width=width)))
    with pytest.raises(ConfigError, match=f"is a supernet of {space} of width {width:g}, and ofa-lite of width 1 was"):
        make_search_space("ofa-lite", init=tmp_path / "other.safetensors")


def test_words_say_where_to_begin(lite0):
    assert make_search_space("ofa-lite", init="lite0").supernet_hash == lite0.supernet_hash
    random = [make_search_space("ofa-lite", init="random", seed=seed).supernet_hash for seed in (0, 0, 1)]
    assert random[0] == random[1] != random[2] != lite0.supernet_hash
    mbv3 = make_search_space("ofa-mbv3")
    assert make_search_space("ofa-mbv3", init="random").supernet_hash == mbv3.supernet_hash
    assert mbv3.start_file() is None


@pytest.mark.parametrize(
    ("space", "word", "message"),
    [
        ("ofa-lite", "imagnet", "no starting weights and no file 'imagnet': choose starter"),
        ("ofa-mbv3", "lite0", "ofa-mbv3 has no starting weights 'lite0': choose random, or a file"),
        ("ofa-lite", "no/such/file.safetensors", "no/such/file.safetensors is no file"),
    ],
)
def test_a_word_that_there_is_not_is_refused(space, word, message):
    with pytest.raises(ConfigError, match=message):
        make_search_space(space, init=word)


def test_a_pretrained_supernet_of_ofa_mbv3_is_read(tmp_path):
    begun = make_search_space("ofa-mbv3", seed=3)
    state = halved(begun.supernet.state_dict())
    card = SupernetCard(search_space="ofa-mbv3", width=1.0, hash=state_hash(state), begun_from=begun.supernet_hash)
    (tmp_path / "mbv3.safetensors").write_bytes(encode_supernet(state, card))
    assert make_search_space("ofa-mbv3", init=tmp_path / "mbv3.safetensors").supernet_hash == card.hash
    with pytest.raises(ConfigError, match=r"of width 1, and ofa-mbv3 of width 1\.2 was asked for"):
        make_search_space("ofa-mbv3", width=1.2, init=tmp_path / "mbv3.safetensors")


def test_the_package_brings_weights_pretrained_on_its_own_datasets_but_the_demos_query(tmp_path, monkeypatch):
    space = make_search_space("ofa-lite", init="starter")
    assert space.supernet_hash == ofa_lite.STARTER_HASH and ofa_lite.STARTER.stat().st_size < 9_000_000
    _, card = read_supernet(ofa_lite.STARTER)
    assert card is not None and card.begun_from == make_search_space("ofa-lite").supernet_hash
    brought = {path.stem for path in STARTER_DATASETS.glob("*.parquet")}
    assert {each.name for each in card.datasets} == brought - {"optical-digits"}
    assert all(each.licence for each in card.datasets)
    judged = json.loads((Path(__file__).parents[3] / "benchmarks/results/starter-weights.json").read_text())
    assert judged["card"]["hash"] == ofa_lite.STARTER_HASH
    monkeypatch.setattr(ofa_lite, "STARTER_HASH", "0" * 32)
    with pytest.raises(WeightsError, match=r"are not the starting weights 0000.* that tans brings: install it again"):
        make_search_space("ofa-lite", init="starter")
