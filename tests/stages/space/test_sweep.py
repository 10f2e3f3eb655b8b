"""A sweep in this process: what it chooses, keeps, resumes, reports and refuses. Under Ray Tune: tests/trials."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pipeline.cli import run
from pipeline.running.progress import Progress
from pipeline.space.meta_train import meta_train
from pipeline.space.space_folder import load_space
from pipeline.space.sweep import sweep
from pipeline.space.trials import DONE, HALVED, Trials
from pipeline.tracking.tracker import NoTracker
from pipeline.zoo import Zoo
from tans_core.cross_modal.left_out import Judgement
from tans_core.cross_modal.meta_training import SpaceConfig
from tans_core.cross_modal.sweeping import drawn
from tans_core.errors import ConfigError, SpaceError
from tests.worlds import SETTINGS, World

WORLD = World(datasets=5, rows_each=2, sources=3)
SHORT = {"steps": 9, "evaluate_every": 1, "validation_draws": 1, "dim": 16, "hidden": 8, "instances": 8}
ROOT = Path(__file__).parents[3]


def make_zoo(folder: Path, world: World = WORLD) -> str:
    """Its name is one that SQLite cannot spell: no MLflow, which takes longer than all the rest."""
    zoo = Zoo.create(folder, replace(SETTINGS, schema=Zoo.SCHEMA_VERSION))
    zoo.commit(world.outcomes(), {record.fingerprint: zoo.record_dataset(record) for record in world.records()})
    return str(folder)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> str:
    return make_zoo(tmp_path_factory.mktemp("zoos") / "my zoo?")


@pytest.fixture(scope="module")
def swept(zoo, tmp_path_factory):
    out = tmp_path_factory.mktemp("spaces") / "space"
    return out, sweep(zoo, out, trials=5, workers=0, settings=SHORT)


def test_the_winner_has_the_lowest_score_of_those_that_came_to_the_end(swept):
    out, summary = swept
    said = json.loads((out / "metrics.json").read_text())["sweep"]
    trials = said["trials"]["trials"]
    done = [trial for trial in trials if trial["ended"] == DONE]
    scores = {trial["number"]: Judgement(**trial["judgements"][-1]).score for trial in done}
    assert summary.winner == min(scores, key=lambda number: scores[number])
    assert summary.score == scores[summary.winner] <= summary.score_as_given == scores[0]
    assert (summary.trials, summary.done, summary.failed) == (5, len(done), 0)
    assert summary.halved == 5 - len(done) > 0
    assert all(trial["judgements"][-1]["step"] < 9 for trial in trials if trial["ended"] == HALVED)


def test_its_space_is_that_of_meta_train_with_the_winners_settings(swept, zoo, tmp_path):
    out, summary = swept
    config = drawn(SpaceConfig(**SHORT), frozenset(SHORT), 0, summary.winner)
    assert summary.config == asdict(config)
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "encoders.safetensors",
        "index.arrow",
        "datasets.arrow",
        "metrics.json",
    }
    meta_train(zoo, tmp_path / "space", config=config)
    names = ("encoders.safetensors", "index.arrow", "datasets.arrow")
    here, there = ([(folder / name).read_bytes() for name in names] for folder in (out, tmp_path / "space"))
    assert here == there and load_space(out).identity == load_space(tmp_path / "space").identity


def test_the_same_call_again_has_nothing_to_do_and_another_one_has(swept, zoo, tmp_path, capsys):
    out = tmp_path / "space"
    shutil.copytree(swept[0], out)
    assert sweep(zoo, out, trials=5, workers=0, settings=SHORT) == swept[1]
    assert "nothing to do" in capsys.readouterr().err
    assert sweep(zoo, out, trials=1, workers=0, settings=SHORT).winner == 0


SCRIPT = """
import sys
from pathlib import Path
from pipeline.space.sweep import sweep
from tests.stages.space.test_sweep import SHORT
sweep(sys.argv[1], Path(sys.argv[2]), trials=5, workers=0, settings=SHORT)
"""


def test_killed_in_the_middle_it_goes_on_and_ends_as_the_unbroken_one_over_the_same_version(
    swept, zoo, tmp_path, capsys
):
    grown, out = tmp_path / "my zoo?", tmp_path / "space"
    shutil.copytree(zoo, grown)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(grown), str(out)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    ends = time.monotonic() + 500
    while not any('"ended": "' in path.read_text() for path in out.glob("training/*/trials.json")):
        assert time.monotonic() < ends and process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not (out / "config.json").exists()
    store = Zoo.open(str(grown))
    before = store.version
    store.commit(replace(WORLD, rows_each=3).outcomes(), store.snapshot().datasets)
    summary = sweep(str(grown), out, trials=5, workers=0, settings=SHORT)
    said = capsys.readouterr().err
    assert f"version {before} of the zoo, with which it was begun (the newest is" in said
    assert summary.zoo_version == before
    assert [getattr(summary, name) for name in ("winner", "score", "done", "halved")] == [
        getattr(swept[1], name) for name in ("winner", "score", "done", "halved")
    ]
    assert (out / "encoders.safetensors").read_bytes() == (swept[0] / "encoders.safetensors").read_bytes()
    assert not (out / "training").exists()


def test_ctrl_c_stops_it_cleanly_with_how_to_go_on(zoo, tmp_path):
    out = tmp_path / "space"
    command = [sys.executable, "-m", "pipeline.cli", "sweep", "--zoo", zoo, "--out", str(out), "--trials", "50"]
    process = subprocess.Popen([*command, "--workers", "0"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    ends = time.monotonic() + 500
    while not list(out.glob("training/*/trials.json")):
        assert time.monotonic() < ends and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=500)[1]
    assert process.returncode == 130, said
    assert "the same command goes on from here" in said and "Traceback" not in said
    assert not (out / "config.json").exists()


def test_when_the_hours_are_over_the_best_until_then_is_trained(zoo, tmp_path):
    summary = sweep(zoo, tmp_path / "space", trials=3, workers=0, settings=SHORT, hours=1e-9)
    assert (summary.winner, summary.out_of_time, summary.done) == (0, 3, 0)
    assert load_space(tmp_path / "space").identity.config == asdict(SpaceConfig(**SHORT))


def judgement(step: int, mean_rank: float) -> Judgement:
    return Judgement(step=step, datasets=5, mean_rank=mean_rank, mean_rank_random=3.0, mse=0.01, mse_mean_baseline=0.01)


def test_of_trials_the_furthest_come_first_and_of_equals_the_first(tmp_path):
    configs = [SpaceConfig(steps=4)] * 4
    trials = Trials(tmp_path / "trials.json", {"zoo_version": 3}, configs, NoTracker(), Progress())
    assert trials.best() is None
    for number, step, mean_rank in ((0, 2, 1.0), (1, 4, 2.5), (2, 4, 2.0), (3, 4, 2.0)):
        trials.report(number, judgement(step, mean_rank))
    trials.end(0, HALVED)
    best = trials.best()
    assert best is not None and best.number == 2 and not trials.left()
    again = Trials(tmp_path / "trials.json", {"zoo_version": 3}, configs, NoTracker(), Progress())
    assert again.best() == best and [trial.ended for trial in again.all] == [HALVED, DONE, DONE, DONE]


def test_a_trial_that_began_again_is_judged_anew(tmp_path):
    trials = Trials(tmp_path / "trials.json", {}, [SpaceConfig(steps=9)], NoTracker(), Progress())
    for step in (1, 2, 1):
        trials.report(0, judgement(step, 1.0))
    assert [each.step for each in trials.all[0].judgements] == [1]


def test_each_trial_is_a_run_of_mlflow_below_the_sweeps_and_the_winner_is_registered(tmp_path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("tans", artifact_location=(tmp_path / "artifacts").as_uri())
    zoo = make_zoo(tmp_path / "zoo")
    summary = sweep(zoo, tmp_path / "space", trials=2, workers=0, settings=SHORT, mlflow_uri=uri)
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert runs.keys() == {"sweep zoo", "trial 0", "trial 1"}
    parent = runs["sweep zoo"]
    assert all(run.info.status == "FINISHED" for run in runs.values())
    assert runs["trial 1"].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert runs["trial 1"].data.params["peak_lr"] == str(drawn(SpaceConfig(**SHORT), frozenset(SHORT), 0, 1).peak_lr)
    assert runs[f"trial {summary.winner}"].data.metrics["score"] == pytest.approx(summary.score)
    assert "mean_rank" in parent.data.metrics and parent.inputs is not None
    registered = client.get_model_version_by_alias(f"tans-space-{SETTINGS.zoo_id[:8]}", "champion")
    assert registered.run_id == parent.info.run_id
    kept = {path.name for path in (tmp_path / "artifacts").rglob("*") if path.is_file()}
    assert kept == {path.name for path in (tmp_path / "space").iterdir()}


def test_a_zoo_of_one_source_or_of_two_is_refused_and_nothing_is_left(tmp_path):
    for sources, said in ((1, "at least two sources"), (2, "of 2 sources .* 3 are needed")):
        small = make_zoo(tmp_path / f"zoo {sources}?", World(datasets=4, rows_each=1, sources=sources))
        with pytest.raises(SpaceError, match=said):
            sweep(small, tmp_path / "space", trials=2, workers=0)
        assert not (tmp_path / "space").exists()


def test_what_tans_did_not_write_is_refused(zoo, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds notes\.txt, which tans did not write"):
        sweep(zoo, tmp_path / "out", trials=1, workers=0)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_the_command_says_which_settings_won_and_by_how_much(zoo, tmp_path, capfd):
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(SHORT))
    command = ["sweep", "--zoo", zoo, "--out", str(tmp_path / "space"), "--trials", "1", "--workers", "0"]
    assert run([*command, "--config", str(settings)]) == 0
    said = capfd.readouterr().out
    assert "1 trials: 1 to the end" in said and "trial 0 is the best on sources left out" in said
    assert "dim 16, hidden 8, steps 9" in said
