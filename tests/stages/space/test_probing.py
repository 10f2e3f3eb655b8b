"""Search with probes, on a small real zoo: the answer is the one that a person would give."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.cli import run
from pipeline.commands.space.search import words
from pipeline.reading.read import read_dataset
from pipeline.space.meta_train import meta_train
from pipeline.space.probing import smaller_starts
from pipeline.space.search import search
from pipeline.zoo import Zoo
from tans_core.cross_modal.features import training_features
from tans_core.cross_modal.meta_training import SpaceConfig
from tans_core.errors import ConfigError
from tans_core.jobs import Job, Outcome
from tans_core.records import (
    Costs,
    CurvePoint,
    DatasetRecord,
    Features,
    ImageDataset,
    Seconds,
    TrainedPair,
    Worker,
)
from tans_core.retrieval.rank import Ranked
from tans_core.search_space import make_search_space
from tans_core.search_space.ofa_lite import lite0_backbone
from tans_core.search_space.space import SearchSpace
from tans_core.training.loop import seeded
from tans_core.training.weights import encode_weights
from tests.jobs import pair_jobs
from tests.stages.zoo.zoo_examples import SETTINGS
from tests.synthetic import patterns
from tests.worlds import World

QUERY = "starter:optical-digits"
DIGITS, TWIN = "digits of others", "silhouettes"
NAMES = (DIGITS, TWIN, "faces", "sounds")
SMALLEST = (3,) * 21 + (3,) * 21 + (2,) * 5


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> tuple[str, Path]:
    """Zoo and space: a row of each dataset at 32 px, all of the smallest network, begun from random weights.

    What others trained on digits knows digits: it has EfficientNet-Lite0's weights. The other rows have random ones.
    By the features of its pictures another dataset is the query's twin.
    """
    folder, space = tmp_path_factory.mktemp("house?"), make_search_space("ofa-lite", init="random")
    settings = replace(SETTINGS, supernet=space.supernet_hash, seed=0)
    zoo, datasets = Zoo.create(folder / "zoo", settings, space.start_file()), [patterns(name) for name in NAMES]
    outcomes = [_planted(job, space) for job in pair_jobs(datasets, space)]
    zoo.commit(outcomes, {each.fingerprint: zoo.record_dataset(_record(each)) for each in datasets})
    meta_train(zoo.uri, folder / "space", config=SpaceConfig(dim=16, hidden=16, steps=20, evaluate_every=20))
    return zoo.uri, folder / "space"


def _planted(job: Job, space: SearchSpace) -> Outcome:
    identity = replace(job.identity, topology=SMALLEST)
    architecture, generator = space.architecture(SMALLEST), seeded(job.key, "planted")
    knows = make_search_space("ofa-lite", init="lite0")
    make = knows.subnet if job.fingerprint.startswith(DIGITS) else space.random_subnet
    trained = TrainedPair(
        costs=Costs(params=1_300_000, flops=5_000_000),
        val_correct_by_class=(5, 5, 5),
        val_total_by_class=(8, 8, 8),
        test_correct_by_class=(5, 5, 5),
        test_total_by_class=(8, 8, 8),
        response=torch.randn(8, 1280, generator=generator).half(),
        curve=(CurvePoint(1, 1.0),),
        weights=encode_weights(make(architecture, 3, generator).state_dict()),
    )
    planted = replace(job, key=identity.key, identity=identity)
    return Outcome(job=planted, worker=Worker("inline", "a node", "cpu"), seconds=Seconds(), trained=trained)


def _record(dataset: ImageDataset) -> DatasetRecord:
    """As `describe` makes it, with features of the query for its twin and drawn ones for the others."""
    if dataset.name == TWIN:
        features_ND, labels_N = training_features(read_dataset(QUERY, 32), lite0_backbone())
    else:
        features_ND, labels_N = torch.randn(60, 1280, generator=seeded(dataset.name, "features")), torch.arange(60) % 3
    features = Features(
        train_ND=features_ND,
        train_labels_N=labels_N,
        validation_ND=features_ND,
        validation_labels_N=labels_N,
        test_ND=features_ND,
        test_labels_N=labels_N,
    )
    return DatasetRecord(
        fingerprint=dataset.fingerprint,
        spec=dataset.spec,
        name=dataset.name,
        source=dataset.source,
        licence=dataset.licence,
        class_names=tuple(f"class {label}" for label in range(int(labels_N.max()) + 1)),
        counts=dataset.counts(),
        chance=dataset.chance,
        channels=1,
        mirror=False,
        features=features,
    )


@pytest.fixture(scope="module")
def found(house):
    return search(QUERY, *house, top=40)


def test_other_peoples_digits_are_answered_with_the_row_that_knows_digits_whatever_looks_alike(house, found):
    best = found.entries[0]
    assert (best.dataset, found.nearest[0].name) == (DIGITS, TWIN) and best.before_training is not None
    others = [each.before_training for each in found.entries[1:]]
    assert len(others) == 4 and all(best.before_training.correct > each.correct + 10 for each in others)
    start = next(each for each in found.entries if each.dataset is None)
    assert start.why[-1].startswith("before training ")


def test_each_probed_candidate_shows_what_it_knew_before_training(found):
    images = min(200, len(read_dataset(QUERY, 32).train))
    for each in found.entries:
        before = each.before_training
        assert before is not None and before.total == images and before.accuracy == before.correct / images
        assert before.interval[0] < before.accuracy < before.interval[1] or before.accuracy in (0, 1)
        assert f"before training {100 * before.accuracy:.1f} % of {images} training images" in each.why[-1]
    assert found.rows_probed == 4 and found.probe_s > 0


def test_the_starting_weights_are_probed_in_each_shape_of_the_rows_once(found):
    (start,) = [each for each in found.entries if each.dataset is None]
    assert start.key.removeprefix("start:") in {each.key for each in found.entries}


def test_what_was_probed_comes_first_whatever_is_shown_one_row_of_each_dataset(house):
    whole = search(QUERY, *house, top=40, probe=2).entries
    probed = [each.before_training is not None for each in whole]
    assert probed == [True] * 3 + [False] * 2  # two rows and their shape
    assert len({each.dataset for each in whole[:3] if each.dataset}) == 2
    assert search(QUERY, *house, top=2, probe=2).entries == whole[:2]


def test_only_training_images_are_probed(house, found, monkeypatch):
    """Whatever validation and test hold, what is measured stays."""
    dataset = read_dataset(QUERY, 32)
    noise = dataset.images.clone()
    for side in (dataset.validation, dataset.test):
        noise[side] = torch.randint(0, 256, noise[side].shape, generator=torch.Generator().manual_seed(0)).byte()
    monkeypatch.setattr("pipeline.space.search.read_dataset", lambda *_: replace(dataset, images=noise))
    assert search(QUERY, *house, top=40).entries == found.entries


def test_rows_whose_weights_were_changed_or_give_no_finite_features_are_passed_over_and_said(
    house, tmp_path, capsys, monkeypatch
):
    shutil.copytree(house[0], tmp_path / "zoo")
    zoo = Zoo.open(tmp_path / "zoo")
    changed, spoiled = (row for row in zoo.snapshot().rows if row.dataset_name in (DIGITS, "faces"))
    path = Path(zoo.uri) / changed.weights.path
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    load = Zoo.load_weights

    def with_one_of_no_use(self, row):
        weights = load(self, row)
        many = float("nan") if row.key == spoiled.key else 1.0
        return {name: many * tensor if name.endswith("conv.weight") else tensor for name, tensor in weights.items()}

    monkeypatch.setattr(Zoo, "load_weights", with_one_of_no_use)
    found = search(QUERY, zoo.uri, house[1], top=40)
    assert not {changed.key, spoiled.key} & {each.key for each in found.entries}
    assert (found.rows_without_weights, found.rows_feasible, found.rows_probed) == (2, 2, 2)
    said = capsys.readouterr().err
    assert f"{changed.key} of {changed.dataset_name} was passed over: " in said
    assert f"{spoiled.key} of {spoiled.dataset_name} was passed over: features are not finite" in said


def test_json_is_clean_and_the_table_has_a_column(house, found, capfd):
    assert run(["search", QUERY, "--zoo", house[0], "--space", str(house[1]), "--probe", "1", "--json", "-"]) == 0
    probed = [each for each in json.loads(capfd.readouterr().out)["entries"] if each["before_training"]]
    assert len(probed) == 2 and probed[0]["before_training"]["total"] > 100
    text = words(found, QUERY, house[0])
    assert "before training" in text.splitlines()[0] and "4 rows and the starting weights in their shapes" in text
    without = replace(
        found, rows_probed=0, entries=tuple(replace(each, before_training=None) for each in found.entries)
    )
    assert "before training  " not in words(without, QUERY, house[0])
    with pytest.raises(ConfigError, match="--probe must be at least 0"):
        search(QUERY, *house, probe=-1)


def test_of_the_starting_weights_only_smaller_shapes_than_those_before_are_named():
    snapshot = World(datasets=1, rows_each=4, sources=1).snapshot()
    rows = [replace(row, costs=Costs(params=params, flops=1)) for row, params in zip(snapshot.rows, (3, 5, 2, 9))]
    starts, row = [Ranked(place, None, 0.5) for place in range(4)], Ranked(3, 0.7, 0.5)
    assert smaller_starts([starts[0], starts[1], row, starts[2], starts[3]], rows) == [starts[0], row, starts[2]]
