"""Every wrong setting ends with status 2, in words, and begins nothing; what is missing or damaged ends with 1."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import build_zoo, meta_train
from pipeline.cli import run
from pipeline.zoo import Zoo
from tans_core.cross_modal.meta_training import SpaceConfig
from tans_core.errors import ConfigError
from tests.worlds import SETTINGS, World

CONFIG = SpaceConfig(dim=16, hidden=8, steps=2, evaluate_every=1, validation_draws=1)
MANY = str(1 + 2 * (os.cpu_count() or 1))
BUILD = "build-zoo --zoo new --datasets starter:lfw-faces --workers 0 --preset smoke"
GROW = "build-zoo --zoo zoo? --datasets starter:lfw-faces --workers 0 --pairs 99"
SEARCH = "search starter:lfw-faces --zoo zoo? --space space"
TUNE = "fine-tune starter:lfw-faces --zoo zoo? --row KEY --out empty"

WRONG = {
    f"{BUILD} --pairs 0": "pairs must be at least 1, got 0",
    f"{BUILD} --more -3": "more must be at least 1, got -3",
    f"{BUILD} --pairs 1 --hours nan": "--hours must be a number of at least 0, got nan",
    f"{BUILD} --pairs 1 --hours -1": "--hours must be a number of at least 0, got -1",
    f"{BUILD} --pairs 1 --hours inf": "--hours must be a number of at least 0, got inf",
    f"{BUILD} --pairs 1 --seed -1": "--seed must be a whole number from 0 to 9223372036854775807, got -1",
    f"{BUILD} --pairs 1 --seed 99999999999999999999999": "got 99999999999999999999999",
    f"{BUILD} --pairs 1 --seed -1 --dry-run": "--seed must be a whole",
    f"{BUILD} --pairs 1 --image-size 0": "multiples of 32, got 0",
    f"{BUILD} --pairs 1 --image-size -32": "multiples of 32, got -32",
    f"{BUILD} --pairs 1 --init nowhere.pt": "nowhere.pt is no file",
    f"{BUILD} --pairs 1 --mlflow-uri folder": "is a folder, and MLflow",
    f"{BUILD} --pairs 1 --workers -1": "--workers must be at least 1, got -1",
    f"{BUILD} --pairs 1 --workers {MANY}": f"{MANY} workers want one CPU each",
    f"{BUILD} --pairs 1 --gpus-per-worker -0.5": "--gpus-per-worker must be a number of at least 0, got -0.5",
    f"{BUILD} --pairs 1 --gpus-per-worker nan": "--gpus-per-worker must be a number of at least 0, got nan",
    f"{BUILD} --pairs 1 --gpus-per-worker 0.5": "--workers 0 trains in this process, on its CPU",
    f"{BUILD} --pairs 1 --json .": "--json . cannot be written",
    f"{BUILD} --pairs 1 --zoo s3://bucket/zoo": "give a folder",
    f"{BUILD} --pairs 1 --zoo a|b": "Delta tables cannot take",
    f"{BUILD} --pairs 1 --zoo theirs": "holds 'thesis.tex'",
    f"{BUILD} --pairs 1 --datasets nothing:there": "no SPEC of a kind that is known",
    f"{BUILD} --pairs 1 --datasets starter:nothing": "no starter dataset",
    f"{BUILD} --pairs 1 --datasets starter:lfw-faces?without=nobody": "there is no such class",
    f"{BUILD} --pairs 1 --costs params": "takes two of params, flops, latency, memory",
    f"{BUILD} --pairs 1 --costs params,latency": "latency is no cost without a table of this device's",
    f"{BUILD} --pairs 1 --costs params,latency --latency-table nowhere": "the latency table nowhere cannot be read",
    f"{BUILD} --pairs 1 --latency-table nowhere": "--latency-table goes with --costs that name latency",
    f"{GROW} --image-size 64": "keeps --image-size 32 and 64 was asked for",
    f"{GROW} --seed 5": "keeps --seed 0 and 5 was asked for",
    "meta-train --zoo zoo? --out out --config none.json": "--config none.json cannot be read",
    "meta-train --zoo zoo? --out out --steps 0": "steps must be at least 1, got 0",
    "meta-train --zoo zoo? --out out --storage s3://bucket/x --workers 2": "is no folder: name one that all nodes",
    "meta-train --zoo zoo? --out out --storage here": "--storage is for the checkpoints of several workers",
    "sweep --zoo zoo? --out out --trials 0": "--trials must be at least 1, got 0",
    "sweep --zoo zoo? --out out --trials 2 --hours 0": "--hours must be a number above 0, got 0",
    "sweep --zoo zoo? --out out --trials 2 --hours nan": "--hours must be a number above 0, got nan",
    "sweep --zoo zoo? --out out --trials 2 --workers -1": "--workers must be at least 1, got -1",
    "sweep --zoo zoo? --out out --trials 2 --workers 0 --address auto": "--address names a cluster: give one",
    "sweep --zoo zoo? --out out --trials 2 --config none.json": "--config none.json cannot be read",
    "meta-train --zoo zoo? --out out --seed -1": "--seed must be a whole",
    "meta-train --zoo zoo? --out out --workers 0": "--workers must be at least 1, got 0",
    f"meta-train --zoo zoo? --out out --workers {MANY}": "workers want one CPU each",
    f"{SEARCH} --top 0": "--top must be at least 1, got 0",
    f"{SEARCH} --max-params 0": "--max-params must be above 0, got 0",
    f"{SEARCH} --max-flops nan": "'nan' is no number",
    f"{SEARCH} --max-latency-ms -1": "--max-latency-ms must be above 0, got -1",
    f"{SEARCH} --max-memory-mb 0": "--max-memory-mb must be above 0, got 0",
    f"{SEARCH} --latency-table nowhere": "the latency table nowhere cannot be read",
    f"{SEARCH} --latency-table theirs/thesis.tex": "theirs/thesis.tex is no latency table",
    "latency-table --search-space ofa-lite": "--out FILE says where the table goes",
    "latency-table --zoo zoo? --image-size 64": "has networks of 32 px and --image-size 64 was asked for",
    "latency-table --zoo zoo? --batch 0": "--batch must be at least 1, got 0",
    f"latency-table --zoo zoo? --threads {MANY}": "--threads must lie between 1 and",
    "latency-table --zoo zoo? --out theirs/thesis.tex": "theirs/thesis.tex is no latency table",
    "latency-table --zoo zoo? --out gone/table.json": "gone/table.json cannot be written",
    "latency-table --search-space ofa-lite --width 1.2 --out t.json": "comes in width 1.0 alone",
    "latency-table --search-space ofa-lite --image-size 65 --out t.json": "multiples of 32, got 65",
    f"{SEARCH} --zoo other?": "was learned over the zoo",
    f"{SEARCH} --json .": "--json . cannot be written",
    f"{TUNE} --epochs -1": "epochs must be at least 0, got -1",
    f"{TUNE} --seed -1": "--seed must be a whole",
    f"{TUNE} --row nothing": "no row 'nothing'",
    f"{TUNE} --row ": "no row ''",
    "zoo verify --zoo zoo? --retrain -1": "--retrain must be at least 0, got -1",
    "zoo show --zoo http://host/zoo": "give a folder",
    "datasets starter:lfw-faces --image-size 0": "--image-size must be at least 1, got 0",
    "datasets starter:lfw-faces --pictures gone/out.png": "cannot be written",
}
MISSING = {
    "zoo show --zoo nowhere": "there is no zoo at",
    "datasets folder:nowhere": "does not exist",
    f"{SEARCH} --space nowhere": "no space in nowhere",
    f"{SEARCH} --max-params 3": "the nearest is",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """Two zoos and a space over the first. Their names are such that SQLite cannot spell them: no MLflow."""
    folder = tmp_path_factory.mktemp("house")
    world = World(datasets=3, rows_each=2, sources=3, feature_dim=1280)
    for name, zoo_id in (("zoo?", "5e" * 16), ("other?", "99" * 16)):
        zoo = Zoo.create(folder / name, replace(SETTINGS, schema=Zoo.SCHEMA_VERSION, zoo_id=zoo_id))
        zoo.commit(world.outcomes(), {each.fingerprint: zoo.record_dataset(each) for each in world.records()})
    meta_train(str(folder / "zoo?"), folder / "space", config=CONFIG)
    (folder / "empty").mkdir()
    (folder / "theirs").mkdir()
    (folder / "theirs" / "thesis.tex").touch()
    return folder


def _ends_with(status: int, house: Path, command: str, message: str, monkeypatch, capfd) -> None:
    monkeypatch.chdir(house)
    before = sorted(house.rglob("*"))
    key = Zoo.open(house / "zoo?").snapshot().rows[0].key
    assert run(command.replace("KEY", key).split(" ")) == status
    captured = capfd.readouterr()
    assert message in captured.err and captured.out == "" and "Traceback" not in captured.err
    assert sorted(house.rglob("*")) == before


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_setting_ends_with_2_in_words_and_begins_nothing(house, monkeypatch, capfd, command):
    _ends_with(2, house, command, WRONG[command], monkeypatch, capfd)


@pytest.mark.parametrize("command", MISSING)
def test_what_is_not_there_ends_with_1(house, monkeypatch, capfd, command):
    _ends_with(1, house, command, MISSING[command], monkeypatch, capfd)


@pytest.mark.parametrize("seed", [-1, 2**63, 0.5])
def test_the_range_of_seeds_is_one_for_commands_and_functions(house, seed):
    with pytest.raises(ConfigError, match="must be a whole number from 0 to 9223372036854775807"):
        build_zoo(str(house / "new"), ["starter:lfw-faces"], pairs=1, workers=0, seed=seed)
    with pytest.raises(ConfigError, match="must be a whole number from 0 to 9223372036854775807"):
        meta_train(str(house / "zoo?"), house / "out", seed=seed)


def test_from_python_an_acquisition_that_there_is_not_begins_nothing(house):
    with pytest.raises(ConfigError, match="there is no acquisition 'greedy'"):
        build_zoo(str(house / "new"), ["starter:lfw-faces"], pairs=1, workers=0, acquisition="greedy")
    assert not (house / "new").exists()
