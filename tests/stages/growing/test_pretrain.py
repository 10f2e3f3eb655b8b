"""`tans pretrain`: one file with its curve, resumed where it was cut, and zoos that begin from it."""

import json
import shutil
import signal
import subprocess
import sys

import pytest

import pipeline.growing.pretrain as stage
from pipeline.cli import run
from pipeline.growing.build_zoo import build_zoo
from pipeline.growing.pretrain import pretrain
from pipeline.zoo import Zoo
from pipeline.zoo.upkeep.verify import zoo_search_space
from tans_core.errors import ConfigError, WeightsError
from tans_core.search_space import make_search_space
from tans_core.search_space.ofa_lite import STARTER, STARTER_HASH
from tans_core.search_space.supernet_file import read_supernet
from tans_core.training.pretrain import PretrainConfig

SPECS = ["starter:lfw-faces", "starter:ground-textures"]
CONFIG = PretrainConfig(steps=5, batch_size=8, evaluate_every=4, largest_every=3)
ARGUMENTS = {"image_size": 32, "config": CONFIG, "seed": 3}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("pretrained")
    out, uri = folder / "new" / "mine.safetensors", f"sqlite:///{folder / 'mlflow.db'}"
    MlflowClient(uri).create_experiment("tans")  # a new store takes longer than a run of this length waits for it
    return out, pretrain(SPECS, out, mlflow_uri=uri, **ARGUMENTS)


def test_a_supernet_and_its_curve_are_written_and_nothing_else(made):
    out, summary = made
    assert {path.name for path in out.parent.iterdir()} == {"mine.safetensors", "mine.json"}
    assert summary.size_bytes == out.stat().st_size < 9_000_000
    said = json.loads(out.with_suffix(".json").read_text())
    assert [point["step"] for point in said["curve"]] == [4, 5]
    last = said["curve"][-1]
    assert (last["smallest"], last["random"], last["largest"]) == (summary.smallest, summary.random, summary.largest)
    assert last["minutes"] == pytest.approx(summary.wall_s / 60)


def test_the_curve_is_a_run_of_mlflow(made):
    from mlflow import MlflowClient

    out, summary = made
    client = MlflowClient(f"sqlite:///{out.parents[1] / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("tans").experiment_id])  # type: ignore[union-attr]
    assert (run.info.status, run.data.params["batch_size"], run.data.params["begun_from"]) == (
        "FINISHED",
        "8",
        summary.begun_from,
    )
    curve = client.get_metric_history(run.info.run_id, "validation/smallest")
    assert [point.step for point in curve] == [4, 5] and curve[-1].value == summary.smallest


def test_the_card_says_what_the_supernet_is_and_saw(made):
    out, summary = made
    _, card = read_supernet(out)
    assert card is not None
    assert (card.search_space, card.width, card.image_size, card.steps, card.seed) == ("ofa-lite", 1.0, 32, 5, 3)
    assert card.begun_from == make_search_space("ofa-lite").supernet_hash != card.hash == summary.hash
    assert [(each.name, each.images) for each in card.datasets] == [("lfw-faces", 128), ("ground-textures", 255)]
    assert all(each.licence and len(each.fingerprint) == 32 for each in card.datasets)
    assert summary.images == 383 and card.config is not None and card.config["batch_size"] == 8
    assert json.loads(out.with_suffix(".json").read_text())["card"]["hash"] == card.hash


def test_the_same_call_again_has_nothing_to_do_and_another_is_refused(made, capfd):
    out, summary = made
    assert pretrain(SPECS, out, **ARGUMENTS) == summary
    assert "is of these settings already, nothing to do" in capfd.readouterr().err
    with pytest.raises(ConfigError, match=r"is there already and of other settings \(seed\): name another file"):
        pretrain(SPECS, out, **{**ARGUMENTS, "seed": 4})


def test_killed_at_any_step_and_begun_again_it_gives_what_the_unbroken_one_gave(made, tmp_path, capfd):
    out, summary = made
    killed = tmp_path / "killed.safetensors"
    lines = (
        "import os, signal, sys\nimport pipeline.growing.pretrain as stage\n"
        "from tans_core.training.pretrain import PretrainConfig\n"
        f"stage.KEEP_S, config = 0.0, {CONFIG!r}\n"
        "step = stage.Pretraining.train_step\n"
        "def dies(self):\n    self.step == 3 and os.kill(os.getpid(), signal.SIGKILL)\n    step(self)\n"
        "stage.Pretraining.train_step = dies\n"
        f"stage.pretrain({SPECS!r}, {str(killed)!r}, image_size=32, config=config, seed=3)\n"
    )
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["killed.safetensors.part"]
    with pytest.raises(ConfigError, match=r"is a pretraining of other settings \(begun-from, seed\)"):
        pretrain(SPECS, killed, **{**ARGUMENTS, "seed": 4, "init": "random"})
    assert pretrain(SPECS, killed, **ARGUMENTS).hash == summary.hash
    assert "going on at step 3 of 5" in capfd.readouterr().err
    assert killed.read_bytes() == out.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"killed.safetensors", "killed.json"}


def test_sigterm_keeps_what_was_done_and_minutes_keep_their_steps(tmp_path):
    out = tmp_path / "stopped.safetensors"
    command = [sys.executable, "-m", "tans", "pretrain", "--datasets", *SPECS, "--out", str(out), "--minutes", "90"]
    command += ["--image-size", "32", "--batch-size", "8"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step "):
            process.send_signal(signal.SIGTERM)
            break
    said = process.stderr.read()
    assert process.wait(300) == 0 and "the same command goes on from here" in said
    assert [path.name for path in tmp_path.iterdir()] == ["stopped.safetensors.part"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"datasets": SPECS[:1]}, "a pool needs at least 2 datasets, got 1"),
        ({"out": "net.pt"}, r"must end in \.safetensors"),
        ({"steps": 3, "minutes": 1.0}, "give one of --steps, --epochs and --minutes"),
        ({"epochs": 0.0}, "--epochs must be above 0, got 0"),
        ({"image_size": 40}, "multiples of 32, got 40"),
        ({"init": "nowhere.safetensors"}, "nowhere.safetensors is no file"),
        ({"out": "there.safetensors"}, "is there already and nothing says what it is"),
        ({"out": "curve.safetensors"}, "would come with .*curve.json, which is there"),
        ({"out": "part.safetensors"}, "is no pretraining under way: name another --out"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_foreign_is_touched(tmp_path, arguments, message):
    for name in ("there.safetensors", "curve.json", "part.safetensors.part"):
        (tmp_path / name).write_text("mine")
    given = {"datasets": SPECS, "out": "new.safetensors", "image_size": 32} | arguments
    with pytest.raises(ConfigError, match=message):
        pretrain(given.pop("datasets"), tmp_path / given.pop("out"), **given)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "curve.json",
        "part.safetensors.part",
        "there.safetensors",
    ]
    assert all(path.read_text() == "mine" for path in tmp_path.iterdir())


def test_epochs_are_passes_over_the_training_images(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        stage, "_train", lambda space, pool, teacher, config, *_: seen.update(steps=config.steps) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        pretrain(SPECS, tmp_path / "mine.safetensors", image_size=32, epochs=2, batch_size=64)
    assert seen["steps"] == 12  # 2 x 383 images in batches of 64


def test_a_zoo_keeps_the_weights_that_it_was_begun_from(made, tmp_path, capfd):
    mine = tmp_path / "mine.safetensors"
    shutil.copy(made[0], mine)
    zoo = str(tmp_path / "zoo")
    arguments = {"preset_name": "smoke", "workers": 0}
    build_zoo(zoo, SPECS, pairs=1, init=str(mine), **arguments)
    mine.unlink()  # the zoo needs it no more
    store = Zoo.open(zoo)
    assert store.settings.supernet == made[1].hash
    assert [path.name for path in (tmp_path / "zoo" / "supernets").iterdir()] == [f"{made[1].hash}.safetensors"]
    assert read_supernet(store.start_file)[1] == read_supernet(made[0])[1]
    build_zoo(zoo, SPECS, pairs=2, **arguments)
    assert run(["zoo", "verify", "--zoo", zoo, "--retrain", "1"]) == 0
    key = store.snapshot().rows[0].key
    tune = ["fine-tune", SPECS[0], "--zoo", zoo, "--row", f"start:{key}", "--epochs", "1", "--image-size", "32"]
    assert run([*tune, "--out", str(tmp_path / "network")]) == 0
    with pytest.raises(ConfigError, match=f"was begun from the starting weights {made[1].hash}"):
        zoo_search_space(store, "lite0")


def test_a_zoo_whose_starting_weights_were_lost_or_changed_says_so(made, tmp_path):
    zoo = str(tmp_path / "zoo")
    build_zoo(zoo, SPECS, pairs=1, init=made[0], preset_name="smoke", workers=0)
    store = Zoo.open(zoo)
    whole = store.start_file.read_bytes()
    store.start_file.write_bytes(whole[:-1])
    with pytest.raises(WeightsError, match=r"the starting weights of .* cannot be read as weights"):
        zoo_search_space(store)
    store.start_file.unlink()
    with pytest.raises(ConfigError, match=r"begun from others keeps them in .*, which is not there"):
        build_zoo(zoo, SPECS, pairs=2, preset_name="smoke", workers=0)
    assert run(["zoo", "verify", "--zoo", zoo]) == 0  # its rows have weights of their own
    assert zoo_search_space(store, made[0]).supernet_hash == made[1].hash


def test_a_new_zoo_begins_from_the_weights_that_come_with_tans_and_keeps_them(tmp_path):
    """A later tans may bring others."""
    build_zoo(str(tmp_path / "zoo"), SPECS, pairs=1, preset_name="smoke", workers=0)
    store = Zoo.open(str(tmp_path / "zoo"))
    assert store.settings.supernet == STARTER_HASH and store.start_file.read_bytes() == STARTER.read_bytes()


def test_a_zoo_of_weights_that_a_package_brings_keeps_no_copy(tmp_path):
    build_zoo(str(tmp_path / "zoo"), SPECS, pairs=1, init="lite0", preset_name="smoke", workers=0)
    assert not (tmp_path / "zoo" / "supernets").exists()
    assert (
        zoo_search_space(Zoo.open(str(tmp_path / "zoo"))).supernet_hash == make_search_space("ofa-lite").supernet_hash
    )
