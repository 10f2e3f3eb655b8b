"""`tans polish`: a row goes on from another, once, and says so."""

from __future__ import annotations

import json

import pytest
import torch

from pipeline.cli import run
from pipeline.growing.build_zoo import build_zoo
from pipeline.network.polish import polish
from pipeline.zoo import Zoo
from pipeline.zoo.upkeep.verify import verify_zoo
from tans_core.errors import ConfigError, ZooError

SPEC = "starter:lfw-faces"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    zoo = str(tmp_path_factory.mktemp("polish") / "zoo?")
    build_zoo(zoo, [SPEC], pairs=1, preset_name="smoke", workers=0, pair_mode="from_supernet")
    return zoo


@pytest.fixture(scope="module")
def polished(zoo):
    return polish(zoo, Zoo.open(zoo).snapshot().rows[0].key, 2)


def test_the_new_row_names_its_parent_and_stands_by_itself(zoo, polished):
    store = Zoo.open(zoo)
    parent, row = store.snapshot().rows
    assert (polished.key, polished.parent, polished.was_there) == (row.key, parent.key, False)
    assert row.identity.parent == parent.key and row.identity.key == row.key != parent.key
    assert (row.identity.mode, row.identity.topology) == ("standalone", parent.identity.topology)
    assert row.identity.recipe["epochs"] == 2 and [point.epoch for point in row.curve] == [1, 2]
    assert row.identity.recipe["mirror"] == parent.identity.recipe["mirror"]
    assert (polished.val_accuracy_before, polished.val_accuracy) == (parent.val_accuracy, row.val_accuracy)
    before, after = store.load_weights(parent), store.load_weights(row)
    assert before.keys() == after.keys()
    assert not torch.equal(before["classifier.linear.weight"], after["classifier.linear.weight"])
    assert store.journal.events()[-1].kind == "polish"


def test_it_begins_with_the_weights_of_its_parent(zoo, polished):
    """Two epochs of smoke move a network a little: it stays nearer to its parent than to the starting weights."""
    store = Zoo.open(zoo)
    parent, row = (store.load_weights(each)["classifier.linear.weight"] for each in store.snapshot().rows)
    assert torch.cosine_similarity(parent.flatten(), row.flatten(), dim=0) > 0.9


def test_the_same_again_has_nothing_to_do_and_says_so(zoo, polished, capfd):
    again = polish(zoo, polished.parent, 2)
    assert (again.key, again.was_there, Zoo.open(zoo).row_count()) == (polished.key, True, 2)
    assert "goes on from" in (said := capfd.readouterr().err) and "nothing to do" in said


def test_a_polished_row_is_trained_again_from_its_parent(zoo, polished):
    verdict = verify_zoo(zoo, retrain=2)
    assert (verdict.rows, verdict.retrained, verdict.problems) == (2, 2, ())


def test_a_build_goes_on_as_if_nothing_had_been_polished(zoo, polished):
    assert build_zoo(zoo, [SPEC], pairs=3, workers=0).pairs == 3
    first, _, new = Zoo.open(zoo).snapshot().rows
    assert new.choice.decision == first.choice.decision + 1


def test_the_command_says_before_and_after(zoo, polished, capfd):
    command = ["polish", "--zoo", zoo, "--row", polished.parent[:10], "--epochs", "2"]
    assert run([*command, "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out)["key"] == polished.key
    assert run(command) == 0
    said = capfd.readouterr().out
    assert f"{polished.key}: lfw-faces, validation " in said and f"2 epochs on from {polished.parent}" in said


def test_what_cannot_be_polished_is_refused(zoo, tmp_path):
    with pytest.raises(ConfigError, match="--epochs must be at least 1, got 0"):
        polish(zoo, "a", 0)
    with pytest.raises(ConfigError, match="no row 'nothing'"):
        polish(zoo, "nothing")
    with pytest.raises(ZooError, match="there is no zoo at"):
        polish(str(tmp_path / "none"), "a")
    assert not (tmp_path / "none").exists()
