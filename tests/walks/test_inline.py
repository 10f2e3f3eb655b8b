"""The whole house in this process: datasets, zoo, space, search, fine-tuning, export."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.cli import run
from pipeline.growing.build_zoo import build_zoo
from pipeline.network.fine_tune import fine_tune
from pipeline.network.load_network import load_network
from pipeline.space.meta_train import meta_train
from pipeline.space.search import search
from pipeline.zoo.show import show_journal, show_zoo
from pipeline.zoo.upkeep.verify import verify_zoo
from tests.trees import encoded, picture

ZOO_DATASETS = ["starter:emoji-food", "starter:lfw-faces", "starter:mnist-digits", "starter:clipart-symbols"]
QUERY = "starter:optical-digits"


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("my house é")
    zoo = str(folder / "zoo")
    built = build_zoo(zoo, ZOO_DATASETS, pairs=10, preset_name="smoke", workers=0)
    meta = meta_train(zoo, folder / "space")
    found = search(QUERY, zoo, folder / "space", top=30, probe=1)
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
    network = load_network(str(folder / "zoo"), found.entries[0].key.removeprefix("start:"))
    assert network(torch.zeros(2, 3, 32, 32)).shape[0] == 2


def test_the_space_says_how_good_it_is(house):
    meta = house[2]
    assert meta.gallery == 4 and 0 <= meta.r_at_1 <= meta.r_at_5 <= 1 and meta.predictor_mse >= 0


def test_the_query_gets_networks_with_where_they_come_from(house):
    entries = house[3].entries
    rows, starts = ([each for each in entries if (each.dataset is None) == start] for start in (False, True))
    assert {each.dataset for each in rows} <= {spec.split(":")[1] for spec in ZOO_DATASETS} and len(rows) == 10
    assert starts and sum(each.before_training is not None for each in rows) == 1
    assert len({entry.key for entry in entries}) == len(entries)


def test_the_export_needs_torch_and_ofa_alone(house):
    folder, *_, tuned = house
    config = json.loads((folder / "network" / "config.json").read_text())
    assert len(config["class_names"]) == 10 and config["preprocessing"]["image_size"] == 32
    assert 0 <= tuned.test_accuracy <= 1 and len(tuned.val_accuracy_by_epoch) == 2
    lines = (
        "import sys\n"
        "from network.exported import load\n"
        "network = load('network')\n"
        "shape = network.network(network.tensor('picture.png')).shape\n"
        "print(tuple(shape), sum(network.probabilities('picture.png').values()))\n"
        "assert not any(name.split('.')[0] in ('tans_core', 'pipeline') for name in sys.modules)\n"
    )
    (folder / "picture.png").write_bytes(encoded(picture("anything")))
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, cwd=folder)
    shape, total = done.stdout.rsplit(maxsplit=1) if done.stdout else (done.stderr, "0")
    assert shape == "(1, 10)" and float(total) == pytest.approx(1)


def test_e20_every_command_gives_one_json_document(house, tmp_path, capfd):
    folder, key = house[0], house[3].entries[0].key.removeprefix("start:")
    zoo, space, picture_file = str(folder / "zoo"), str(folder / "space"), tmp_path / "picture.png"
    picture_file.write_bytes(encoded(picture("anything")))
    for arguments in (
        ["datasets", "starter:lfw-faces"],
        ["build-zoo", "--zoo", zoo, "--datasets", *ZOO_DATASETS, "--pairs", "10", "--workers", "0"],
        ["build-zoo", "--zoo", zoo, "--datasets", *ZOO_DATASETS, "--more", "3", "--dry-run"],
        ["meta-train", "--zoo", zoo, "--out", space],
        ["search", QUERY, "--zoo", zoo, "--space", space, "--probe", "0"],
        [
            "fine-tune",
            QUERY,
            "--zoo",
            zoo,
            "--row",
            key,
            "--out",
            str(tmp_path / "network"),
            "--epochs",
            "1",
            "--overwrite",
        ],
        ["predict", str(tmp_path / "network"), str(picture_file)],
        ["zoo", "show", "--zoo", zoo],
        ["zoo", "show", "--journal", "--zoo", zoo],
        ["zoo", "verify", "--zoo", zoo],
    ):
        assert run([*arguments, "--json", "-"]) == 0, capfd.readouterr().err
        json.loads(capfd.readouterr().out)
        assert run(arguments) == 0
        assert capfd.readouterr().out.strip()


def test_e7_zoo_and_space_work_wherever_their_parent_is_moved(house, tmp_path):
    for name in ("zoo", "space"):
        shutil.copytree(house[0] / name, tmp_path / "before" / name)
    moved = tmp_path / "after é #1"
    (tmp_path / "before").rename(moved)
    zoo, space = str(moved / "zoo"), moved / "space"
    assert len(show_zoo(zoo).rows) == 10
    assert verify_zoo(zoo).problems == ()
    found = search(QUERY, zoo, space, top=30, probe=1)
    assert [each.key for each in found.entries] == [each.key for each in house[3].entries]
    assert fine_tune(QUERY, zoo, found.entries[0].key, moved / "network", epochs=1).epochs == 1
    grown = build_zoo(zoo, [*ZOO_DATASETS, "starter:ground-textures"], more=2, workers=0)
    assert grown.pairs == 12 and search(QUERY, zoo, space, probe=0).rows_unseen == 2


def test_e7_reading_a_zoo_writes_nothing_into_it(house):
    """So that it may lie on a disk that is mounted read-only (which root would not notice)."""
    folder = house[0]
    zoo, space = folder / "zoo", folder / "space"

    def content():
        return {
            path: (path.stat().st_mtime_ns, path.stat().st_size, path.stat().st_ino)
            for part in (zoo, space)
            for path in (part, *part.rglob("*"))
        }

    before = content()
    show_zoo(str(zoo))
    show_journal(str(zoo))
    verify_zoo(str(zoo), retrain=1)
    load_network(str(zoo), house[3].entries[0].key.removeprefix("start:"))
    search(QUERY, str(zoo), space, probe=1)
    assert content() == before


def test_a_house_whose_pairs_are_cut_out_of_supernets(tmp_path):
    zoo, datasets = str(tmp_path / "zoo"), ZOO_DATASETS[:3]
    build = ["build-zoo", "--zoo", zoo, "--datasets", *datasets, "--workers", "0", "--preset", "smoke"]
    assert run([*build, "--pairs", "9", "--pair-mode", "from_supernet", "--json", str(tmp_path / "build.json")]) == 0
    built = json.loads((tmp_path / "build.json").read_text())
    assert (built["pairs"], built["supernets"], built["pair_mode"]) == (9, 3, "from_supernet")
    shown = show_zoo(zoo)
    assert {row.mode for row in shown.rows} == {"from_supernet"} and shown.supernets == 3
    verdict = verify_zoo(zoo, retrain=2)
    assert (verdict.rows, verdict.retrained, verdict.problems) == (9, 2, ())
    meta_train(zoo, tmp_path / "space")
    found = search(QUERY, zoo, tmp_path / "space", top=12, probe=1)  # one network is looked at
    row = next(each for each in found.entries if each.dataset is not None)
    best = row.key
    assert load_network(zoo, best)(torch.zeros(2, 3, 32, 32)).shape[0] == 2
    tuned = fine_tune(QUERY, zoo, best, tmp_path / "network", epochs=1)
    assert tuned.start == "retrieved" and tuned.from_dataset == row.dataset
    Path(zoo).rename(tmp_path / "moved")
    assert len(load_network(str(tmp_path / "moved"), best).state_dict()) > 100


def test_the_journal_says_what_each_run_was(house):
    events = show_journal(str(house[0] / "zoo")).events
    kinds = [event.kind for event in events]
    assert kinds[0] == "start" and kinds.count("decision") == 10 and {"commit", "stop"} <= set(kinds)
    start = events[0].payload
    assert {"python", "tans", "torch", "ray", "ofa", "deltalake", "mlflow"} <= set(start["versions"])
    assert {"host", "cpus", "memory_bytes", "gpu"} <= set(start["machine"])
    assert start["given"]["datasets"] == ZOO_DATASETS and start["settings"]["seed"] == 0
    assert "0 of 10 pairs there; 0 workers, hypervolume, standalone pairs, preset smoke, seed 0" in events[0].words
    assert next(event for event in events if event.kind == "stop").words.startswith("done: 10 pairs, 0 failures")
