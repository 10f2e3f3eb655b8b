"""The whole house in this process: datasets, zoo, space, search, fine-tuning, export."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.build_zoo import build_zoo
from pipeline.cli import run
from pipeline.fine_tune import fine_tune
from pipeline.load_network import load_network
from pipeline.meta_train import meta_train
from pipeline.search import search
from pipeline.show_zoo import show_zoo
from pipeline.verify_zoo import verify_zoo

ZOO_DATASETS = ["starter:emoji-food", "starter:lfw-faces", "starter:mnist-digits", "starter:clipart-symbols"]
QUERY = "starter:optical-digits"
LOADER = Path(__file__).parents[1] / "core" / "search_space" / "load_exported.py"


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("my house é")
    zoo = str(folder / "zoo")
    built = build_zoo(zoo, ZOO_DATASETS, pairs=10, preset_name="smoke", workers=0)
    meta = meta_train(zoo, folder / "space")
    found = search(QUERY, zoo, folder / "space")
    tuned = fine_tune(QUERY, zoo, found.entries[0].key, folder / "network", epochs=2)
    return folder, built, meta, found, tuned


def test_the_zoo_has_the_rows_asked_for(house):
    folder, built, *_ = house
    assert (built.pairs, built.failures, built.stopped_by) == (10, 0, None)
    assert 0 < built.hypervolume_mean < 1 and built.utilisation > 0.5
    shown = show_zoo(str(folder / "zoo"))
    assert shown.datasets_with_rows == 4 and len(shown.rows) == 10
    assert {row.chosen_by for row in shown.rows} == {"random", "hypervolume"}
    assert all(row.latency_ms > 0 and row.reason for row in shown.rows)


def test_every_row_is_whole_and_can_be_trained_again(house):
    verdict = verify_zoo(str(house[0] / "zoo"), retrain=2)
    assert (verdict.rows, verdict.retrained, verdict.problems) == (10, 2, ())


def test_a_row_is_a_network(house):
    folder, _, _, found, _ = house
    network = load_network(str(folder / "zoo"), found.entries[0].key)
    assert network(torch.zeros(2, 3, 32, 32)).shape[0] == 2


def test_the_space_says_how_good_it_is(house):
    meta = house[2]
    assert meta.gallery == 4 and 0 <= meta.r_at_1 <= meta.r_at_5 <= 1 and meta.predictor_mse >= 0


def test_the_query_gets_networks_with_where_they_come_from(house):
    entries = house[3].entries
    assert entries[0].dataset in {spec.split(":")[1] for spec in ZOO_DATASETS}
    assert len({entry.key for entry in entries}) == len(entries)


def test_the_export_needs_torch_and_ofa_alone(house):
    folder, *_, tuned = house
    config = json.loads((folder / "network" / "config.json").read_text())
    assert len(config["class_names"]) == 10 and config["preprocessing"]["image_size"] == 32
    assert 0 <= tuned.test_accuracy <= 1 and len(tuned.val_accuracy_by_epoch) == 2
    lines = (
        "import sys, importlib.util, torch\n"
        f"spec = importlib.util.spec_from_file_location('loader', {str(LOADER)!r})\n"
        "loader = importlib.util.module_from_spec(spec); spec.loader.exec_module(loader)\n"
        f"network = loader.load_exported(loader.Path({str(folder / 'network')!r}))\n"
        "print(tuple(network(torch.zeros(2, 3, 32, 32)).shape))\n"
        "assert not any(name.split('.')[0] in ('tans_core', 'pipeline') for name in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, cwd=folder)
    assert done.stdout.strip() == "(2, 10)", done.stderr


def test_every_command_gives_one_json_document(house, capfd):
    folder = house[0]
    zoo, space = str(folder / "zoo"), str(folder / "space")
    for arguments in (
        ["datasets", "starter:lfw-faces"],
        ["build-zoo", "--zoo", zoo, "--datasets", *ZOO_DATASETS, "--pairs", "10", "--workers", "0"],
        ["build-zoo", "--zoo", zoo, "--datasets", *ZOO_DATASETS, "--more", "3", "--dry-run"],
        ["search", QUERY, "--zoo", zoo, "--space", space],
        ["zoo", "show", "--zoo", zoo],
        ["zoo", "verify", "--zoo", zoo],
    ):
        assert run([*arguments, "--json", "-"]) == 0, capfd.readouterr().err
        json.loads(capfd.readouterr().out)
        assert run(arguments) == 0
        assert capfd.readouterr().out.strip()


def test_a_zoo_goes_on_growing_wherever_it_is_moved(house, tmp_path):
    import shutil

    moved = tmp_path / "moved zoo"
    shutil.copytree(house[0] / "zoo", moved)
    grown = build_zoo(str(moved), [*ZOO_DATASETS, "starter:ground-textures"], more=2, workers=0)
    assert grown.pairs == 12
    assert search(QUERY, str(moved), house[0] / "space").entries
