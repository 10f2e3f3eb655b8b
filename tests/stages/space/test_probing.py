"""Search with probes, on a small real zoo: the answer is the one that a person would give."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.cli import run
from pipeline.pools import InlinePool
from pipeline.reading.read import read_dataset
from pipeline.space.meta_train import meta_train
from pipeline.space.search import search
from pipeline.zoo import Zoo
from tans_core.cross_modal.describe import describe
from tans_core.cross_modal.meta_training import SpaceConfig
from tans_core.errors import ConfigError
from tans_core.jobs import Outcome
from tans_core.search_space import make_search_space
from tans_core.training.recipe import Recipe
from tans_core.training.weights import decode_weights, encode_weights
from tests.jobs import pair_jobs
from tests.stages.zoo.zoo_examples import SETTINGS

QUERY = "starter:optical-digits"  # of another source than all of the zoo's
DIGITS = "mnist-digits"
SPECS = [f"starter:{name}" for name in (DIGITS, "animal-silhouettes", "lfw-faces", "speech-languages")]


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> tuple[str, Path]:
    """Zoo and space: a row of each dataset at 32 px, trained for three epochs from bare ImageNet weights."""
    folder, space = tmp_path_factory.mktemp("house?"), make_search_space("ofa-lite")
    datasets = [read_dataset(spec, 32) for spec in SPECS]
    zoo = Zoo.create(folder / "zoo", replace(SETTINGS, supernet=space.supernet_hash))
    pool = InlinePool({each.fingerprint: each for each in datasets}, space, lambda: None)
    outcomes = []
    for job in pair_jobs(datasets, space, Recipe(epochs=3, mirror=False)):
        pool.submit(job)
        outcome = pool.next_outcome(0)
        assert isinstance(outcome, Outcome)
        outcomes.append(outcome)
    zoo.commit(outcomes, {each.fingerprint: zoo.record_dataset(describe(each)) for each in datasets})
    meta_train(zoo.uri, folder / "space", config=SpaceConfig(dim=16, hidden=16, steps=20, evaluate_every=20))
    return zoo.uri, folder / "space"


@pytest.fixture(scope="module")
def found(house):
    return search(QUERY, *house, top=40)


def test_other_peoples_digits_are_answered_with_the_row_that_learned_digits(house, found):
    best = found.entries[0]
    assert best.dataset == DIGITS and best.before_training is not None
    assert search(QUERY, *house, probe=0).nearest[0].name != DIGITS  # nearness alone names something else
    others = [each.before_training for each in found.entries if each.dataset not in (None, DIGITS)]
    assert len(others) == 3 and all(best.before_training.correct > each.correct for each in others)


def test_each_probed_candidate_shows_what_it_knew_before_training(found):
    images = min(200, len(read_dataset(QUERY, 32).train))
    for each in found.entries:
        before = each.before_training
        assert before is not None and before.total == images and before.accuracy == before.correct / images
        assert before.interval[0] < before.accuracy < before.interval[1] or before.accuracy in (0, 1)
        assert f"before training {100 * before.accuracy:.1f} % of {images} training images" in each.why[-1]
    assert found.rows_probed == 4 and found.probe_s > 0


def test_the_starting_weights_are_probed_in_the_shapes_of_the_rows(found):
    rows = {each.key for each in found.entries if each.dataset is not None}
    assert {each.key for each in found.entries if each.dataset is None} == {f"start:{key}" for key in rows}


def test_with_fewer_probes_what_was_probed_comes_first_whatever_is_shown(house):
    whole = search(QUERY, *house, top=40, probe=2).entries
    probed = [each.before_training is not None for each in whole]
    assert sum(probed) == 2 + 2 or sum(probed) == 2 + 3  # and their shapes; one more where the smallest is another
    assert probed == sorted(probed, reverse=True)
    assert search(QUERY, *house, top=2, probe=2).entries == whole[:2]
    assert len({each.dataset for each in whole[: sum(probed)] if each.dataset}) == 2


def test_only_training_images_are_probed(house, monkeypatch):
    """Whatever validation and test hold, what is measured stays."""
    dataset = read_dataset(QUERY, 32)
    noise = dataset.images.clone()
    for side in (dataset.validation, dataset.test):
        noise[side] = torch.randint(0, 256, noise[side].shape, generator=torch.Generator().manual_seed(0)).byte()
    before = search(QUERY, *house, probe=2).entries
    monkeypatch.setattr("pipeline.space.search.read_dataset", lambda *_: replace(dataset, images=noise))
    assert search(QUERY, *house, probe=2).entries == before


@pytest.fixture
def own(house, tmp_path) -> tuple[Zoo, Path]:
    shutil.copytree(house[0], tmp_path / "zoo")
    return Zoo.open(tmp_path / "zoo"), house[1]


def _weights_of(zoo: Zoo, name: str) -> tuple[Path, str]:
    (row,) = [row for row in zoo.snapshot().rows if row.dataset_name == name]
    return Path(zoo.uri) / row.weights.path, row.key


def test_a_row_whose_weights_were_changed_is_passed_over_and_said(own, capsys):
    zoo, space = own
    path, key = _weights_of(zoo, DIGITS)
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    found = search(QUERY, zoo.uri, space, top=40)
    assert not [each for each in found.entries if each.key == key]
    assert (found.rows_without_weights, found.rows_feasible, found.rows_probed) == (1, 3, 3)
    assert f"{key} of {DIGITS} was passed over: " in capsys.readouterr().err


def test_a_row_whose_features_are_not_finite_is_passed_over_and_said(own, capsys, monkeypatch):
    zoo, space = own
    _, key = _weights_of(zoo, DIGITS)
    load = Zoo.load_weights

    def spoiled(self, row):
        """A variance of nearly nothing everywhere: finite weights whose features are beyond float32."""
        weights = load(self, row)
        if row.key == key:
            weights = {
                name: tensor * 1e30 if name.endswith("conv.weight") else tensor for name, tensor in weights.items()
            }
        return decode_weights(encode_weights(weights))

    monkeypatch.setattr(Zoo, "load_weights", spoiled)
    found = search(QUERY, zoo.uri, space, top=40)
    assert key not in {each.key for each in found.entries} and found.rows_without_weights == 1
    assert f"{key} of {DIGITS} was passed over: features of optical-digits are not finite" in capsys.readouterr().err


def test_json_is_clean_and_the_table_has_a_column(house, capfd, tmp_path):
    asked = ["search", QUERY, "--zoo", house[0], "--space", str(house[1])]
    assert run([*asked, "--probe", "1", "--json", "-"]) == 0
    said = capfd.readouterr().out
    assert json.loads(said)["entries"][0]["before_training"]["total"] > 100
    assert run([*asked, "--probe", "1"]) == 0
    said = capfd.readouterr().out
    assert "before training" in said.splitlines()[0] and "1 rows and the starting weights in their shapes" in said
    assert run([*asked, "--probe", "0"]) == 0
    assert "before training" not in capfd.readouterr().out
    with pytest.raises(ConfigError, match="--probe must be at least 0"):
        search(QUERY, *house, probe=-1)
