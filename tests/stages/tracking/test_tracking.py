"""What a tracker promises, on real stores: a fresh SQLite file, a port that refuses, one that never answers."""

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.growing.build_zoo import build_zoo
from pipeline.tracking.names import sqlite_uri, tracking_name
from pipeline.tracking.tracker import MlflowTracker, NoTracker, Tracker, make_tracker
from pipeline.zoo import Zoo
from tans_core.errors import ConfigError
from tans_core.records import ZooSettings

NAUGHTY = ["a@b=c", "/lead", "a//b", "..", "", " ", "a/../b", "x" * 300, "é日 \n", "acc (val) 50%", "#", "./a/"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for the module, with a run in it: making a store takes seconds."""
    uri = sqlite_uri(tmp_path_factory.mktemp("my zoo é # %"))
    tracker = MlflowTracker(uri, "made first")
    tracker.start("first", {})
    run_until_known(tracker)
    tracker.finish("FINISHED")
    return uri


@pytest.fixture
def dead_port() -> Iterator[str]:
    """An address that refuses: bound, not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def silent_port() -> Iterator[str]:
    """An address that accepts and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def wait_until(happened: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 500
    while not happened():
        assert time.monotonic() < give_up, "it never came"
        time.sleep(0.01)


def run_until_known(tracker: Tracker) -> str:
    """The run's id, as soon as the store has given it."""
    wait_until(lambda: tracker.run_id is not None)
    assert tracker.run_id is not None
    return tracker.run_id


def stored(uri: str, query: str, *values: str) -> list[tuple]:
    """Rows of the SQLite file itself: what any other program sees."""
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
        return database.execute(query, values).fetchall()


def metrics_of(uri: str, run_id: str) -> list[tuple]:
    return stored(uri, "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY key, step", run_id)


def test_a_run_arrives_whole(store: str):
    tracker = MlflowTracker(store, "tans")
    tracker.start("zoo of flowers", {"pairs": 80, "preset": "laptop"})
    for step in range(2500):  # more than MLflow takes in one batch
        tracker.log({"hypervolume_mean": step / 2500}, step)
    tracker.dataset_input("/some/zoo", 7, "5" * 32)
    run_id = run_until_known(tracker)
    wait_until(lambda: tracker.undelivered == 0)
    tracker.finish("FINISHED")
    assert metrics_of(store, run_id) == [("hypervolume_mean", step, step / 2500) for step in range(2500)]
    assert sorted(stored(store, "SELECT key, value FROM params WHERE run_uuid = ?", run_id)) == [
        ("pairs", "80"),
        ("preset", "laptop"),
    ]
    assert stored(store, "SELECT name, status FROM runs WHERE run_uuid = ?", run_id) == [("zoo of flowers", "FINISHED")]
    [(source_type, source)] = stored(store, "SELECT dataset_source_type, dataset_source FROM datasets")
    assert source_type == "delta_table"
    assert json.loads(source) == {"path": "/some/zoo", "delta_table_version": 7}


def test_e19_a_run_goes_on_after_a_restart_and_keeps_its_first_parameters(store: str):
    first = MlflowTracker(store, "tans")
    first.start("build", {"pairs": 80})
    first.log({"rows": 1}, 1)
    run_id = run_until_known(first)
    wait_until(lambda: first.undelivered == 0)
    first.finish("KILLED")
    second = MlflowTracker(store, "tans")
    second.start("build", {"pairs": 120, "workers": 2}, run_id=run_id)
    second.log({"rows": 2}, 2)
    assert run_until_known(second) == run_id
    wait_until(lambda: second.undelivered == 0)
    second.finish("FINISHED")
    assert metrics_of(store, run_id) == [("rows", 1, 1.0), ("rows", 2, 2.0)]
    params = stored(store, "SELECT key, value FROM params WHERE run_uuid = ?", run_id)
    assert sorted(params) == [("pairs", "80"), ("workers", "2")]
    assert stored(store, "SELECT status FROM runs WHERE run_uuid = ?", run_id) == [("FINISHED",)]


def test_e19_a_deleted_experiment_gives_its_runs_another_name_and_says_so(
    store: str, capsys: pytest.CaptureFixture[str]
):
    before = MlflowTracker(store, "doomed")
    before.start("build", {})
    lost_run = run_until_known(before)
    before.finish("FINISHED")
    delete_experiment(store, "doomed")
    after = MlflowTracker(store, "doomed")
    after.start("build", {}, run_id=lost_run)
    run_id = run_until_known(after)
    after.finish("FINISHED")
    experiments = "SELECT experiments.name FROM experiments JOIN runs USING (experiment_id) WHERE run_uuid = ?"
    assert stored(store, experiments, run_id) == [("doomed (2)",)]
    said = capsys.readouterr().err
    assert "'doomed (2)'" in said
    assert f"run {lost_run} is no longer there" in said


def delete_experiment(uri: str, name: str) -> None:
    """As MLflow's page does it."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)


def test_e18_values_that_are_not_finite_are_left_out_and_counted(store: str, capsys: pytest.CaptureFixture[str]):
    tracker = MlflowTracker(store, "tans")
    tracker.start("build", {})
    tracker.log({"loss": float("nan"), "gain": float("inf"), "rows": 3}, 1)
    run_id = run_until_known(tracker)
    tracker.finish("FINISHED")
    assert metrics_of(store, run_id) == [("rows", 1, 3.0)]
    assert tracker.left_out == 2
    assert "2 values were not finite" in capsys.readouterr().err


def test_e18_any_dataset_name_may_stand_in_a_metric(store: str):
    tracker = MlflowTracker(store, "tans")
    tracker.start("build", {name: "x" * 10_000 for name in NAUGHTY})
    for name in NAUGHTY:
        tracker.log({name: 1.0, f"front/{name}/volume": 2.0}, 0)
    run_id = run_until_known(tracker)
    wait_until(lambda: tracker.undelivered == 0)
    tracker.finish("FINISHED")
    assert len(metrics_of(store, run_id)) == 2 * len(NAUGHTY)
    assert len(stored(store, "SELECT key FROM params WHERE run_uuid = ?", run_id)) == len(NAUGHTY)


@settings(deadline=None)
@given(text=st.text(max_size=400))
@example("..0")
@example("../a")
@example("a/../..b/")
def test_e18_names_are_those_mlflow_takes(store: str, text: str):
    import mlflow.utils.validation as mlflow_rules

    mlflow_rules._validate_metric_name(tracking_name(text))
    assert len(tracking_name(text)) <= 250


def test_good_names_stay_and_different_ones_stay_different():
    assert tracking_name("meta/loss: total") == "meta/loss: total"
    assert len({tracking_name(name) for name in ("a@", "a=", "a_", "x" * 300, "x" * 301)}) == 5


@pytest.mark.parametrize("port", ["dead_port", "silent_port"])
def test_e17_a_lost_server_costs_the_loop_nothing_and_the_end_little(
    port: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
):
    tracker = MlflowTracker(request.getfixturevalue(port), "tans")
    began = time.monotonic()
    tracker.start("build", {"pairs": 80})
    for step in range(1000):
        tracker.log({"rows": step}, step)
    logged = time.monotonic()
    tracker.finish("FINISHED")
    # MLflow itself takes 246 s for its first call alone; the margins are for a very busy machine.
    assert logged - began < 30
    assert time.monotonic() - logged < 60
    assert tracker.run_id is None
    assert tracker.undelivered == 1000
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("MLflow at http://127.0.0.1")
    assert said.err.count("\n") == 1


def test_e17_e20_a_process_whose_server_never_answers_ends_and_keeps_its_standard_output_clean(silent_port: str):
    done = subprocess.run([sys.executable, "-c", BUILD, silent_port], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "built\n")
    assert done.stderr.count("MLflow") == 1


@pytest.mark.parametrize("port", ["dead_port", "silent_port"])
def test_e17_a_build_does_not_wait_for_its_tracking_server(
    port: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
):
    began = time.monotonic()
    zoo, uri = str(tmp_path / "zoo"), request.getfixturevalue(port)
    built = build_zoo(zoo, ["starter:lfw-faces"], pairs=2, preset_name="smoke", workers=0, mlflow_uri=uri)
    assert built.pairs == 2 and time.monotonic() - began < 120  # MLflow's own first call takes 140 to 246 s
    assert capsys.readouterr().err.count("MLflow at") == 1


BUILD = """
import sys
from pipeline.tracking.tracker import MlflowTracker
tracker = MlflowTracker(sys.argv[1], "tans")
tracker.start("build", {})
tracker.log({"rows": 1}, 1)
print("built")
tracker.finish("FINISHED")
"""


def test_e17_what_a_store_did_not_take_is_sent_when_it_is_back(
    tmp_path: Path, store: str, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "store"
    folder.write_text("a file where the folder should be")
    tracker = MlflowTracker(sqlite_uri(folder), "tans")
    tracker.start("build", {})
    tracker.log({"rows": 1}, 1)
    wait_until(lambda: "The work goes on" in capsys.readouterr().err)
    (tmp_path / "ready").mkdir()
    shutil.copyfile(store.removeprefix("sqlite:///"), tmp_path / "ready" / "mlflow.db")
    folder.unlink()
    (tmp_path / "ready").rename(folder)
    run_id = run_until_known(tracker)
    tracker.finish("FINISHED")
    assert metrics_of(tracker.uri, run_id) == [("rows", 1, 1.0)]
    assert tracker.undelivered == 0


def test_a_store_appears_whole_or_not_at_all(tmp_path: Path, store: str):
    # MLflow writes it for seconds; a process killed meanwhile would leave a file that no run can open.
    tracker = MlflowTracker(sqlite_uri(tmp_path), "tans")
    tracker.start("build", {})
    wait_until((tmp_path / "mlflow.db").exists)
    schema = "SELECT version_num FROM alembic_version"
    assert stored(tracker.uri, schema) == stored(store, schema)
    run_until_known(tracker)
    tracker.finish("FINISHED")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db"]


@pytest.mark.parametrize("keeper", ["none", "mlflow"])
def test_every_tracker_takes_a_whole_run(keeper: str, store: str):
    tracker: Tracker = NoTracker() if keeper == "none" else MlflowTracker(store, "contract")
    tracker.start("build", {"pairs": 1})
    tracker.log({"rows": 1.0, "loss": float("nan")}, 1)
    tracker.log({}, 2)
    tracker.dataset_input("/zoo", 0, "")
    tracker.finish("FAILED")
    tracker.finish("FAILED")


@pytest.mark.parametrize("uri", ["file:./mlruns", "file:///tmp/mlruns", "mlruns", "/tmp/mlruns"])
def test_a_folder_as_store_is_refused_with_the_way_out(uri: str):
    with pytest.raises(ConfigError, match=r"no longer keeps its runs in one: give 'sqlite:///.*/mlflow\.db'"):
        MlflowTracker(uri, "tans")


def test_a_path_that_sqlite_cannot_spell_is_refused():
    with pytest.raises(ConfigError, match=r"cannot hold a '\?'"):
        MlflowTracker(sqlite_uri(Path("/zoo?")), "tans")


def test_a_relative_store_stays_where_it_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # the working folder changes before Ray starts
    assert MlflowTracker("sqlite:///runs/mlflow.db", "tans").uri == sqlite_uri(tmp_path / "runs")


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    settings = ZooSettings(
        zoo_id="z",
        preset="smoke",
        schema=Zoo.SCHEMA_VERSION,
        search_space="ofa-lite",
        width=1.0,
        image_size=32,
        recipe={"epochs": 1},
        supernet="5",
        noise="5",
        seed=0,
    )
    return Zoo.create(tmp_path / "my zoo", settings)


def test_e19_the_builds_of_a_zoo_are_one_run_whose_id_stands_in_its_journal(zoo: Zoo, store: str):
    shutil.copyfile(store.removeprefix("sqlite:///"), Path(zoo.uri) / "mlflow.db")
    run_ids = []
    for build in ("first", "second"):
        tracker = make_tracker(None, zoo.uri, zoo.settings, zoo.journal, build)
        run_ids.append(run_until_known(tracker))
        tracker.log({"rows": 1}, 1)
        tracker.finish("FINISHED")
    assert run_ids[0] == run_ids[1]
    noted = [(event.run, event.payload) for event in zoo.journal.events() if event.kind == "mlflow"]
    assert noted == [("first", {"run_id": run_ids[0]})]
    params = dict(stored(sqlite_uri(Path(zoo.uri)), "SELECT key, value FROM params WHERE run_uuid = ?", run_ids[0]))
    assert params["search_space"] == "ofa-lite"
    assert params["recipe.epochs"] == "1"


def test_a_zoo_where_sqlite_cannot_write_is_built_without(zoo: Zoo, capsys: pytest.CaptureFixture[str]):
    assert isinstance(make_tracker(None, "/zoos/why?", zoo.settings, zoo.journal, "run"), NoTracker)
    assert "--mlflow-uri names another place" in capsys.readouterr().err


def test_the_runs_below_a_run_are_its_children_and_go_on_after_a_restart(store: str):
    tracker = MlflowTracker(store, "tans")
    tracker.start("sweep", {"trials": 2})
    one, other = tracker.child("trial 0", {"dim": 32}), tracker.child("trial 1", {"dim": 64})
    for step in (1, 2):  # their values come mixed
        one.log({"score": step / 4}, step)
        other.log({"score": step / 8}, step)
    one.finish("FINISHED")
    parent, first, second = (run_until_known(each) for each in (tracker, one, other))
    wait_until(lambda: tracker.undelivered == 0)
    tracker.finish("KILLED")
    assert metrics_of(store, first) == [("score", 1, 0.25), ("score", 2, 0.5)]
    assert metrics_of(store, second) == [("score", 1, 0.125), ("score", 2, 0.25)]
    tag = "SELECT value FROM tags WHERE key = 'mlflow.parentRunId' AND run_uuid = ?"
    assert stored(store, tag, first) == stored(store, tag, second) == [(parent,)]
    assert stored(store, "SELECT status FROM runs WHERE run_uuid = ?", first) == [("FINISHED",)]
    again = MlflowTracker(store, "tans")
    again.start("sweep", {}, run_id=parent)
    resumed = again.child("trial 1", {"dim": 64}, run_id=second)
    assert run_until_known(resumed) == second
    resumed.finish("FINISHED")
    again.finish("FINISHED")
    assert stored(store, "SELECT status FROM runs WHERE run_uuid = ?", second) == [("FINISHED",)]


def test_a_model_is_kept_with_its_run_and_its_newest_version_has_the_alias(store: str, tmp_path: Path):
    """A second run of the same model takes the alias over; told twice, a run has one version."""
    (tmp_path / "config.json").write_text("{}")
    for number in (1, 2):
        tracker = MlflowTracker(store, "tans")
        tracker.start("sweep", {})
        for _ in range(number):
            tracker.model([tmp_path / "config.json"], "a space", "best")
        run_id = run_until_known(tracker)
        tracker.finish("FINISHED")
        versions = "SELECT version, run_id FROM model_versions WHERE name = 'a space' ORDER BY version DESC"
        assert stored(store, versions)[0] == (number, run_id)
        aliases = "SELECT alias, version FROM registered_model_aliases WHERE name = 'a space'"
        assert stored(store, aliases) == [("best", number)]
