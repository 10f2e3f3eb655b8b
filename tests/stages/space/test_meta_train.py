"""Meta-training as a stage: its summary, its folder, stopped and resumed, on one worker and on two."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from pipeline.cli import run
from pipeline.running.threads import usable_cpus
from pipeline.space.meta_train import meta_train
from pipeline.space.space_folder import load_space
from pipeline.space.training_folder import Work, remove_trainings
from pipeline.zoo import Zoo
from tans_core.cross_modal.meta_training import SpaceConfig
from tans_core.errors import ConfigError, SpaceError, ZooError
from tests.worlds import SETTINGS, World

WORLD = World(datasets=6, rows_each=2, sources=4)
CONFIG = SpaceConfig(dim=32, hidden=16, steps=60, evaluate_every=2, validation_draws=2)
ROOT = Path(__file__).parents[3]
SCRIPT = """
import sys
from pathlib import Path
from pipeline.running.threads import usable_cpus
from pipeline.space.meta_train import meta_train
from tans_core.cross_modal.meta_training import SpaceConfig
if __name__ == "__main__":
    meta_train(sys.argv[1], Path(sys.argv[2]), workers=int(sys.argv[3]), config=SpaceConfig(%s))
"""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> str:
    """Its name is one that SQLite cannot spell: no MLflow, which takes longer than all the rest."""
    return str(make_zoo(tmp_path_factory.mktemp("zoos") / "my zoo?"))


def make_zoo(folder: Path, world: World = WORLD) -> Path:
    zoo = Zoo.create(folder, replace(SETTINGS, schema=Zoo.SCHEMA_VERSION))
    records = {record.fingerprint: zoo.record_dataset(record) for record in world.records()}
    zoo.commit(world.outcomes(), records)
    return folder


@pytest.fixture(scope="module")
def unbroken(zoo, tmp_path_factory):
    out = tmp_path_factory.mktemp("spaces") / "unbroken"
    return out, meta_train(zoo, out, config=CONFIG)


def test_the_summary_says_how_good_the_space_is_and_what_chance_gives(unbroken):
    out, summary = unbroken
    assert (summary.rows, summary.gallery, summary.steps, summary.workers) == (12, 6, 60, 1)
    assert 0 <= summary.r_at_1 <= summary.r_at_5 <= summary.r_at_10 == 1
    assert summary.r_at_5_random == pytest.approx(5 / 6) and summary.mean_rank_random == 3.5
    assert summary.predictor_mse_left_out is not None
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["summary"]["r_at_1"] == summary.r_at_1 and len(metrics["validation_curve"]) == 30


def test_the_folder_holds_the_space_and_names_no_place(unbroken, zoo):
    out, _ = unbroken
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "datasets.arrow",
        "encoders.safetensors",
        "index.arrow",
        "metrics.json",
    }
    assert not any(str(Path(zoo).parent) in path.read_bytes().decode("latin-1") for path in out.iterdir())
    config = json.loads((out / "config.json").read_text())
    assert config["zoo_id"] == SETTINGS.zoo_id and config["zoo_version"] == Zoo.open(zoo).version
    space = load_space(out)
    assert sorted(space.index.keys) == sorted(row.key for row in Zoo.open(zoo).snapshot().rows)
    assert space.index.embedding_RE.norm(dim=1).tolist() == pytest.approx([1] * 12)
    assert set(space.fingerprints) == {row.identity.fingerprint for row in Zoo.open(zoo).snapshot().rows}
    assert space.dataset_KE.norm(dim=1).tolist() == pytest.approx([1] * len(space.fingerprints))
    assert space.bar == json.loads((out / "metrics.json").read_text())["bar"] and -1 <= space.bar <= 1


def test_the_same_call_again_has_nothing_to_do(unbroken, zoo, capsys):
    out, summary = unbroken
    assert meta_train(zoo, out, config=CONFIG) == summary
    assert "nothing to do" in capsys.readouterr().err


def test_a_grown_zoo_gives_a_new_space_over_the_old_one(unbroken, zoo, tmp_path):
    grown, out = tmp_path / "grown?", tmp_path / "space"
    shutil.copytree(zoo, grown)
    shutil.copytree(unbroken[0], out)
    more = replace(WORLD, rows_each=3)
    store = Zoo.open(str(grown))
    store.commit(more.outcomes(), store.snapshot().datasets)
    assert meta_train(str(grown), out, config=CONFIG).rows == len(load_space(out).index.keys) > 12


def test_killed_in_the_middle_it_goes_on_and_ends_as_the_unbroken_one(unbroken, zoo, tmp_path, capsys):
    process = _start(zoo, tmp_path / "space", workers=1)
    state = _wait_for(tmp_path / "space" / "training", "*/state.safetensors", process)
    process.kill()
    process.communicate()
    assert state.exists() and not (tmp_path / "space" / "config.json").exists()
    meta_train(zoo, tmp_path / "space", config=CONFIG)
    assert "going on at step" in capsys.readouterr().err
    names = ("encoders.safetensors", "index.arrow")
    assert all((tmp_path / "space" / name).read_bytes() == (unbroken[0] / name).read_bytes() for name in names)
    assert not (tmp_path / "space" / "training").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_e12_e13_a_signal_stops_it_cleanly_with_how_to_go_on(zoo, tmp_path, number, status):
    out = tmp_path / "space"
    process = _popen(["-m", "pipeline.cli", "meta-train", "--zoo", zoo, "--out", str(out)])
    _wait_for(out / "training", "*/state.safetensors", process)
    process.send_signal(number)
    said = process.communicate(timeout=500)[1]
    assert process.returncode == status, said
    assert "the same command goes on from here" in said and "Traceback" not in said
    assert list((out / "training").glob("*/state.safetensors")) and not (out / "config.json").exists()
    (facts,) = (out / "training").glob("*/run.json")  # what a report of a failure needs
    assert {"arguments", "versions", "machine", "environment"} <= json.loads(facts.read_text()).keys()


def test_a_damaged_space_is_said_and_made_again(unbroken, zoo, tmp_path):
    out = tmp_path / "space"
    shutil.copytree(unbroken[0], out)
    index = out / "index.arrow"
    index.write_bytes(index.read_bytes()[:-1])
    with pytest.raises(SpaceError, match=r"index.arrow is not what config.json says.*tans meta-train"):
        load_space(out)
    assert meta_train(zoo, out, config=CONFIG).rows == 12
    load_space(out)


@pytest.mark.parametrize(
    "name",
    ["training/thesis.odt", "training/mine/run.json", "config.json", "metrics.json", "index.arrow", "notes.txt"],
)
def test_what_tans_did_not_write_is_refused_at_the_door_whatever_its_name(zoo, tmp_path, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text('{"mine": 1}')
    with pytest.raises(ConfigError, match=f"holds {name.split('/')[0]}, which tans did not write"):
        meta_train(zoo, tmp_path / "out", config=CONFIG)
    assert path.read_text() == '{"mine": 1}'
    assert [each for each in (tmp_path / "out").rglob("*") if each.is_file()] == [path]


def test_a_file_of_others_among_a_spaces_own_is_refused_too(unbroken, zoo, tmp_path):
    out = tmp_path / "space"
    shutil.copytree(unbroken[0], out)
    (out / "index.arrow").write_text("a list of arrows")
    with pytest.raises(ConfigError, match=r"holds index\.arrow, which tans did not write"):
        meta_train(zoo, out, seed=1, config=CONFIG)
    assert (out / "index.arrow").read_text() == "a list of arrows"


def test_what_comes_into_the_training_folder_meanwhile_stays(tmp_path):
    ours, theirs = tmp_path / "training" / "1f", tmp_path / "training" / "2f"
    Work(ours)
    Work(theirs)
    (theirs / "thesis.odt").write_text("theirs")
    remove_trainings(tmp_path / "training")
    assert not ours.exists() and (theirs / "thesis.odt").read_text() == "theirs"
    (theirs / "thesis.odt").unlink()
    remove_trainings(tmp_path / "training")
    assert list(tmp_path.iterdir()) == []


def test_torch_has_one_thread_unless_more_are_asked_for(zoo, tmp_path):
    seen: set[int] = set()
    hook = register_optimizer_step_pre_hook(lambda *_: seen.add(torch.get_num_threads()))
    before, short = torch.get_num_threads(), replace(CONFIG, steps=4)
    torch.set_num_threads(3)
    try:
        one = meta_train(zoo, tmp_path / "one", config=short)
        assert seen == {1} and one.threads == 1 and torch.get_num_threads() == 3
        assert json.loads((tmp_path / "one" / "config.json").read_text())["threads"] == 1
        many = meta_train(zoo, tmp_path / "many", config=short, threads=usable_cpus())
        assert seen == {1, usable_cpus()} and many.threads == usable_cpus()
    finally:
        hook.remove()
        torch.set_num_threads(before)
    for threads, workers in ((0, 1), (usable_cpus() + 1, 1), (-1, 2)):
        with pytest.raises(ConfigError, match="--threads"):
            meta_train(zoo, tmp_path / "none", config=short, threads=threads, workers=workers)
    assert not (tmp_path / "none").exists()


def test_a_space_of_a_newer_schema_is_refused(unbroken, tmp_path):
    out = tmp_path / "space"
    shutil.copytree(unbroken[0], out)
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "schema": 99}))
    with pytest.raises(SpaceError, match="of schema 99 and this tans knows 3: use a newer tans"):
        load_space(out)


def test_settings_of_a_file_are_trained_with_and_kept(zoo, tmp_path):
    (tmp_path / "settings.toml").write_text("dim = 16\nmargin = 0.3\nloss = 'hinges'\n")
    settings = str(tmp_path / "settings.toml")
    assert (
        run(["meta-train", "--zoo", zoo, "--out", str(tmp_path / "space"), "--steps", "4", "--config", settings]) == 0
    )
    kept = json.loads((tmp_path / "space" / "config.json").read_text())["config"]
    assert kept == asdict(SpaceConfig(dim=16, margin=0.3, loss="hinges", steps=4))


def test_e2_more_workers_than_cpus_are_refused_before_anything_starts(zoo, tmp_path):
    with pytest.raises(ConfigError, match="500 workers want one CPU each and this process has"):
        meta_train(zoo, tmp_path / "space", workers=500)
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        meta_train(zoo, tmp_path / "space", workers=0)
    assert not (tmp_path / "space").exists()


def test_no_zoo_and_too_small_a_zoo_are_said(tmp_path):
    with pytest.raises(ZooError):
        meta_train(str(tmp_path / "none"), tmp_path / "space")
    small = make_zoo(tmp_path / "small", World(datasets=2, rows_each=1, sources=1))
    with pytest.raises(SpaceError, match="at least two sources"):
        meta_train(str(small), tmp_path / "space")


def test_the_training_is_one_mlflow_run_with_its_curve_and_the_zoos_version(zoo, tmp_path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("tans")  # a new store takes longer than a run of this length waits for it
    meta_train(zoo, tmp_path / "space", config=replace(CONFIG, steps=6), mlflow_uri=uri)
    (run,) = client.search_runs([experiment])
    assert run.info.run_name == "meta-train my zoo?"
    assert run.info.status == "FINISHED" and run.data.params["zoo_id"] == SETTINGS.zoo_id
    curve = client.get_metric_history(run.info.run_id, "validation/mean_rank")
    assert [point.step for point in curve] == [2, 4, 6] and "r_at_5" in run.data.metrics
    assert run.inputs is not None and len(run.inputs.dataset_inputs) == 1


@pytest.mark.ray
def test_e14_e15_two_workers_train_one_space_killed_in_the_middle_and_resumed(zoo, tmp_path):
    """Nearly all of its time is start-up, twice: imports, Ray, Ray Train's workers."""
    out, config = tmp_path / "space", replace(CONFIG, evaluate_every=10)
    process = _start(zoo, out, 2, config)
    # Ray Train resumes from what stands here, which comes a moment after the checkpoint's own files.
    _wait_for(out / "training", "*/ray/checkpoint_manager_snapshot.json", process, holding="checkpoint_2")
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    try:
        assert not (out / "config.json").exists()
        again = _start(zoo, out, 2, config)
        said = again.communicate(timeout=500)[1]
        assert again.returncode == 0 and "going on at step" in said, said
        metrics = json.loads((out / "metrics.json").read_text())
        assert metrics["summary"]["workers"] == 2
        assert [point["step"] for point in metrics["validation_curve"]] == [10, 20, 30, 40, 50, 60]
        meta_train(zoo, tmp_path / "alone", config=config)
        alone = json.loads((tmp_path / "alone" / "metrics.json").read_text())
        losses = [[point["loss"] for point in each["validation_curve"]] for each in (metrics, alone)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-4)
        load_space(out)
    finally:
        for left in family:  # Ray's agents outlive a killed driver by 60 to 90 s
            if left.is_running():
                left.kill()


def _start(zoo: str, out: Path, workers: int, config: SpaceConfig = CONFIG) -> subprocess.Popen:
    arguments = ", ".join(f"{name}={value!r}" for name, value in asdict(config).items())
    return _popen(["-c", SCRIPT % arguments, zoo, str(out), str(workers)])


def _popen(arguments: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": "127.0.0.1:1"},  # e15: obeyed by nothing
        start_new_session=True,
    )


def _wait_for(folder: Path, pattern: str, process: subprocess.Popen, holding: str = "") -> Path:
    ends = time.monotonic() + 500
    while time.monotonic() < ends and process.poll() is None:
        found = list(folder.glob(pattern))
        if found and holding in found[0].read_text(errors="replace"):
            return found[0]
        time.sleep(0.005)
    pytest.fail(f"no {pattern}: {process.communicate()[1]}")
