"""Search as a stage: the query is a copy of a dataset whose networks are in the zoo."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook

from pipeline.space.meta_train import meta_train
from pipeline.space.search import search
from pipeline.zoo import Zoo
from pipeline.zoo.latency import Latency, device_name
from tans_core.cross_modal.describe import describe
from tans_core.cross_modal.meta_training import SpaceConfig
from tans_core.datasets.opening import open_dataset
from tans_core.errors import ConfigError, NoFeasibleRow, SpaceError
from tests.worlds import SETTINGS, World

WORLD = World(datasets=5, rows_each=3, sources=5, feature_dim=1280)
TWIN = 2  # the dataset of the world that looks like the query
CONFIG = SpaceConfig(dim=32, hidden=16, steps=60, evaluate_every=30, validation_draws=2)


def _stripes(folder: Path) -> str:
    generator = torch.Generator().manual_seed(0)
    for name, shape in (("across", (32, 1)), ("along", (1, 32))):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            stripe = 200 * (torch.arange(32) // 4 % 2).reshape(shape)
            pixels = stripe + torch.randint(0, 55, (32, 32), generator=generator)
            Image.fromarray(pixels.to(torch.uint8).numpy()).save(folder / name / f"{number}.png")
    return f"folder:{folder}"


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> tuple[str, str, Path]:
    """Query, zoo and space. The zoo's other datasets have features of nothing that exists."""
    folder = tmp_path_factory.mktemp("house?")  # a name that SQLite cannot spell: no MLflow
    spec = _stripes(folder / "query")
    records = WORLD.records()
    likeness = describe(open_dataset(spec, SETTINGS.image_size)).features
    records[TWIN] = replace(records[TWIN], features=likeness, class_names=("across", "along"))
    zoo = Zoo.create(folder / "zoo", replace(SETTINGS, schema=Zoo.SCHEMA_VERSION))
    kept = {record.fingerprint: zoo.record_dataset(record) for record in records}
    outcomes = WORLD.outcomes()
    zoo.commit(outcomes, kept)
    timed = [(each.job.key, 2.0 + number) for number, each in enumerate(outcomes) if number % 3]
    zoo.write_latencies(
        [Latency(key, device_name(), 1, p50_ms, p50_ms, p50_ms, 5) for key, p50_ms in timed]
        + [Latency(outcomes[0].job.key, "another device", 1, 0.1, 0.1, 0.1, 5)]
    )
    meta_train(zoo.uri, folder / "space", config=CONFIG)
    return spec, zoo.uri, folder / "space"


def test_the_nearest_rows_are_those_of_the_dataset_that_the_query_is_a_copy_of(house):
    found = search(*house, top=3)
    assert {entry.dataset for entry in found.entries} == {f"dataset {TWIN}"} and len(found.entries) == 3
    predicted = [entry.predicted_accuracy for entry in found.entries]
    assert predicted == sorted(predicted, reverse=True)
    row = Zoo.open(house[1]).snapshot().row_by_key[found.entries[0].key]
    best = found.entries[0]
    assert (best.params, best.flops, best.zoo_accuracy) == (row.costs.params, row.costs.flops, row.val_accuracy)
    assert found.rows_searched == found.rows_feasible == 15 and found.rows_unseen == 0


def test_the_starting_weights_are_a_candidate_with_the_best_rows_architecture(house):
    found = search(*house)
    assert found.starting_weights.architecture_of == found.entries[0].key
    assert found.starting_weights.supernet == SETTINGS.supernet
    assert found.starting_weights.params == found.entries[0].params


def test_limits_are_kept_and_search_goes_on_behind_the_nearest(house):
    found = search(*house, top=10, max_params=1_004_000)  # rows 0 to 4, none of the twin's
    assert len(found.entries) == found.rows_feasible == 5
    assert all(entry.params <= 1_004_000 and entry.dataset != f"dataset {TWIN}" for entry in found.entries)


def test_networks_never_timed_here_are_left_out_of_a_search_by_latency_and_counted(house, capsys):
    found = search(*house, top=15, max_latency_ms=100)
    assert len(found.entries) == 10 and found.rows_without_latency == 5
    assert all(entry.latency_ms is not None for entry in found.entries)
    assert "5 rows were never timed on this machine" in capsys.readouterr().err


def test_nothing_feasible_names_the_nearest_and_what_to_raise(house):
    with pytest.raises(NoFeasibleRow, match=r"none of 15 rows in .*params <= 900,000.* raise max_params to 1,000,000"):
        search(*house, max_params=900_000)


def test_e7_a_space_answers_wherever_zoo_and_space_lie_and_says_what_it_has_not_seen(house, tmp_path, capsys):
    spec, zoo, space = house
    moved, moved_space = tmp_path / "elsewhere", tmp_path / "its space"
    shutil.copytree(zoo, moved)
    shutil.copytree(space, moved_space)
    store = Zoo.open(str(moved))
    store.commit(replace(WORLD, rows_each=4).outcomes(), store.snapshot().datasets)
    found = search(spec, str(moved), moved_space, top=3)
    assert [entry.key for entry in found.entries] == [entry.key for entry in search(*house, top=3).entries]
    assert found.rows_unseen == store.row_count() - 15 > 0
    assert f"{found.rows_unseen} rows of the zoo are younger than the space" in capsys.readouterr().err


def test_a_space_of_another_zoo_is_refused(house, tmp_path):
    spec, _, space = house
    other = Zoo.create(tmp_path / "other", replace(SETTINGS, schema=Zoo.SCHEMA_VERSION, zoo_id="99" * 16))
    with pytest.raises(ConfigError, match=r"learned over the zoo 5e5e.* is 9999.*tans meta-train"):
        search(spec, other.uri, space)


def test_a_space_of_other_features_is_refused(house, tmp_path):
    spec, zoo, space = house
    shutil.copytree(space, tmp_path / "space")
    config = json.loads((space / "config.json").read_text())
    (tmp_path / "space" / "config.json").write_text(json.dumps({**config, "backbone": "resnet"}))
    with pytest.raises(SpaceError, match="features of the backbone resnet"):
        search(spec, zoo, tmp_path / "space")


def test_no_space_and_no_top_are_said(house, tmp_path):
    spec, zoo, space = house
    with pytest.raises(SpaceError, match=r"there is no config.json; `tans meta-train"):
        search(spec, zoo, tmp_path)
    with pytest.raises(ConfigError, match="--top must be at least 1"):
        search(spec, zoo, space, top=0)


def test_pictures_of_the_query_that_are_in_the_zoo_are_counted_and_said(house, tmp_path, capsys):
    spec, zoo, space = house
    shutil.copytree(zoo, tmp_path / "zoo")
    query, store = open_dataset(spec, SETTINGS.image_size), Zoo.open(str(tmp_path / "zoo"))
    record = store.datasets()[WORLD.records()[TWIN].fingerprint]
    for fingerprint, name, count in (("aa" * 16, "zebras", 24), ("bb" * 16, "fences", 5), ("cc" * 16, "fences", 2)):
        others = bytes(range(32))
        store.record_dataset(
            replace(record, fingerprint=fingerprint, name=name, image_hashes=others + query.image_hashes[-16 * count :])
        )
    found = search(spec, store.uri, space)
    assert found.known_pictures == {"zebras": 24, "fences (bbbbbb)": 5, "fences (cccccc)": 2}
    said = capsys.readouterr().err
    assert "24 of your 24 pictures are in zebras" in said and "5 of your 24 pictures are in fences (bbbbbb)" in said
    assert "5 datasets of the zoo were recorded before" in said
    assert search(*house).known_pictures == {}


def test_torch_has_one_thread_while_a_query_is_read_and_embedded(house):
    seen: set[int] = set()
    hook, before = (
        register_module_forward_pre_hook(lambda *_: seen.add(torch.get_num_threads())),
        torch.get_num_threads(),
    )
    torch.set_num_threads(3)
    try:
        found = search(*house)
        assert seen == {1} and found.threads == 1 and torch.get_num_threads() == 3
    finally:
        hook.remove()
        torch.set_num_threads(before)
    with pytest.raises(ConfigError, match="--threads must lie between 1 and"):
        search(*house, threads=0)
