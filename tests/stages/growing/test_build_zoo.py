"""Building a zoo: what is refused at the door, what a failure does, what a restart does."""

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file

import pipeline.pools
from pipeline.cli import run
from pipeline.growing.build_zoo import build_zoo
from pipeline.zoo import Zoo
from pipeline.zoo.latency import write_table
from tans_core.acquisition.config import AcquisitionConfig
from tans_core.acquisition.hypervolume import CostScale, hypervolume_mean
from tans_core.errors import ConfigError, DatasetError, PoolError, TrainingError
from tans_core.jobs import DescribeJob
from tans_core.search_space import make_search_space
from tans_core.search_space.latency import LatencyTable, PartTimes, Setting

SPECS = ["starter:lfw-faces", "starter:ground-textures"]


def _build(zoo, **arguments):
    given = {"pairs": 3, "preset_name": "smoke", "workers": 0} | arguments
    return build_zoo(str(zoo), given.pop("datasets", SPECS), **given)


@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.parametrize("amount", ["pairs", "more"])
def test_fewer_than_one_pair_is_refused(tmp_path, amount, number):
    with pytest.raises(ConfigError, match=f"{amount} must be at least 1, got {number}"):
        _build(tmp_path / "zoo", **{"pairs": None, amount: number})
    assert not (tmp_path / "zoo").exists()


def test_e3_the_same_command_again_has_nothing_to_do(tmp_path):
    first = _build(tmp_path / "zoo")
    again = _build(tmp_path / "zoo")
    assert (first.pairs, again.pairs, again.utilisation) == (3, 3, None)
    assert _build(tmp_path / "zoo", pairs=None, more=1).pairs == 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"preset_name": "laptop"}, "keeps --preset smoke and laptop was asked for"),
        ({"image_size": 64}, "keeps --image-size 32 and 64"),
        ({"search_space": "ofa-mbv3"}, "keeps --search-space ofa-lite"),
        ({"seed": 7}, "keeps --seed 0 and 7"),
    ],
)
def test_e3_flags_that_disagree_with_the_zoo_are_refused(tmp_path, flags, message):
    _build(tmp_path / "zoo", pairs=1)
    with pytest.raises(ConfigError, match=message):
        _build(tmp_path / "zoo", pairs=2, **{"preset_name": None} | flags)
    assert Zoo.open(str(tmp_path / "zoo")).row_count() == 1


def test_e1_more_workers_than_cpus_are_refused_before_anything_starts(tmp_path):
    with pytest.raises(ConfigError, match="1000 workers want one CPU each and this process has"):
        _build(tmp_path / "zoo", workers=1000)


def test_an_image_size_that_the_space_cannot_do_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="multiples of 32, got 50"):
        _build(tmp_path / "zoo", image_size=50)


def test_a_spec_that_is_none_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="nothing:there"):
        _build(tmp_path / "zoo", datasets=["nothing:there"])
    assert not (tmp_path / "zoo").exists()


def test_a_failing_pair_is_left_with_its_cause_and_the_build_goes_on(tmp_path, monkeypatch):
    """The first candidate has a loss that is not finite, three times: the real loop raises that error."""
    poisoned = []

    def train(identity, dataset, search_space, **rest):
        poisoned.append(identity.key) if not poisoned else None
        if identity.key == poisoned[0]:
            raise TrainingError(f"the loss of epoch 1 on {dataset.name} is {math.nan}: lower peak_lr")
        return real(identity, dataset, search_space, **rest)

    real = pipeline.pools.train_pair
    monkeypatch.setattr(pipeline.pools, "train_pair", train)
    built = _build(tmp_path / "zoo")
    assert (built.pairs, built.failures) == (3, 1)
    zoo = Zoo.open(str(tmp_path / "zoo"))
    failures = [event.payload for event in zoo.journal.events() if event.kind == "failure"]
    assert [failure["final"] for failure in failures] == [False, False, True]
    assert failures[-1]["key"] == poisoned[0] and "is nan: lower peak_lr" in failures[-1]["message"]
    assert poisoned[0] not in zoo.snapshot().row_by_key
    monkeypatch.setattr(pipeline.pools, "train_pair", real)
    grown = _build(tmp_path / "zoo", pairs=5)
    assert grown.failures == 0 and poisoned[0] not in zoo.snapshot().row_by_key  # left for good


def test_e26_when_every_pair_fails_the_build_ends_with_the_cause(tmp_path, monkeypatch):
    def train(*_arguments, **_rest):
        raise TrainingError("the recipe is broken")

    monkeypatch.setattr(pipeline.pools, "train_pair", train)
    with pytest.raises(PoolError, match=r"5 pairs in a row failed.*TrainingError: the recipe is broken"):
        _build(tmp_path / "zoo", pairs=50)


def test_the_last_pairs_wait_for_idle_workers(tmp_path, monkeypatch):
    """None stands behind a long one while another worker has nothing to do."""

    class TwoWorkers(pipeline.pools.InlinePool):
        workers = 2

        def free(self):
            return 4 - len(self._waiting)

        def idle(self):
            return max(0, 2 - len(self._waiting))

        def submit(self, job):
            if not isinstance(job, DescribeJob):
                waiting.append(len(self._waiting))
            super().submit(job)

    waiting: list[int] = []
    monkeypatch.setattr("pipeline.growing.workers.InlinePool", TwoWorkers)
    _build(tmp_path / "zoo", pairs=8)
    assert waiting == [0, 1, 2, 3, 3, 3, 1, 1]


def test_e4_e27_a_build_that_was_cut_chooses_as_the_unbroken_one(tmp_path):
    _build(tmp_path / "whole", pairs=12)
    for pairs in (4, 9, 12):
        _build(tmp_path / "cut", pairs=pairs)
    whole, cut = (Zoo.open(str(tmp_path / name)).snapshot().rows for name in ("whole", "cut"))
    assert [row.key for row in whole] == [row.key for row in cut]
    assert [row.val_correct_by_class for row in whole] == [row.val_correct_by_class for row in cut]
    assert [row.choice.expected_gain for row in whole] == [row.choice.expected_gain for row in cut]


def test_e4_what_was_at_work_when_the_driver_died_is_tried_again(tmp_path, monkeypatch):
    class Died(BaseException):
        """As SIGKILL, it lets nothing be tidied up after it."""

    def die(identity, *_arguments, **_rest):
        died.append(identity.key)
        raise Died

    real, died = pipeline.pools.train_pair, []
    _build(tmp_path / "zoo", pairs=1)
    monkeypatch.setattr(pipeline.pools, "train_pair", die)
    monkeypatch.setattr("pipeline.growing.growth.COMMIT_S", 0.0)
    with pytest.raises(Died):
        _build(tmp_path / "zoo", pairs=3)
    monkeypatch.setattr(pipeline.pools, "train_pair", real)
    _build(tmp_path / "zoo", pairs=3)
    rows = Zoo.open(str(tmp_path / "zoo")).snapshot().rows
    assert len({row.key for row in rows}) == len(rows) == 3


def test_e4_the_number_of_a_decision_is_never_used_twice(tmp_path, monkeypatch):
    """Killed between a commit of rows and the journal's: the rows know their decisions."""
    monkeypatch.setattr("pipeline.zoo.history.journal.Journal.append", lambda *_: None)
    _build(tmp_path / "zoo", pairs=3)
    monkeypatch.undo()
    _build(tmp_path / "zoo", pairs=6)
    rows = Zoo.open(str(tmp_path / "zoo")).snapshot().rows
    assert [row.choice.decision for row in rows] == list(range(6))


def test_e6_when_all_networks_are_used_up_the_build_ends_and_says_so(tmp_path, monkeypatch, capfd):
    search_space = make_search_space("ofa-lite")
    four = search_space.sample(4, torch.Generator().manual_seed(1))
    monkeypatch.setattr(
        search_space, "sample", lambda count, random: four[torch.randint(4, (count,), generator=random)]
    )
    monkeypatch.setattr(search_space, "mutate", lambda parents, random: search_space.sample(len(parents), random))
    monkeypatch.setattr("pipeline.growing.plan.make_search_space", lambda *_: search_space)
    build = ["build-zoo", "--zoo", str(tmp_path / "zoo"), "--datasets", SPECS[0], "--pairs", "80", "--workers", "0"]
    summary = tmp_path / "summary.json"
    assert run([*build, "--preset", "smoke", "--json", str(summary)]) == 0
    assert "4 of 80 pairs: no candidate left" in capfd.readouterr().out
    assert json.loads(summary.read_text())["pairs"] == 4


def test_e12_sigterm_while_datasets_are_read_ends_with_0_and_nothing_begun(tmp_path):
    lines = (
        "import os, signal, sys\nimport pipeline.growing.plan as stage\n"
        "stage.read_datasets = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\n"
        "from pipeline.cli import main\nmain(sys.argv[1:])\n"
    )
    build = ["build-zoo", "--zoo", str(tmp_path / "zoo"), "--datasets", SPECS[0], "--pairs", "2", "--workers", "0"]
    done = subprocess.run([sys.executable, "-c", lines, *build], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.endswith("tans: stopped; the same command goes on from here\n")
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_e12_e13_a_build_in_this_process_gives_its_pair_up_and_says_how_to_go_on(tmp_path, number):
    command = [sys.executable, "-m", "pipeline.cli", "build-zoo", "--zoo", str(tmp_path / "zoo"), "--workers", "0"]
    command += ["--datasets", *SPECS, "--preset", "smoke", "--pairs", "500", "--json", "-"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ends = time.monotonic() + 500
    while time.monotonic() < ends and not (Zoo.exists(tmp_path / "zoo") and Zoo.open(tmp_path / "zoo").row_count()):
        time.sleep(0.2)
    process.send_signal(number)
    output, errors = process.communicate(timeout=500)
    assert process.returncode == (0 if number == signal.SIGTERM else 130), errors
    assert "the same command goes on from here" in errors and "Traceback" not in errors
    assert json.loads(output)["stopped_by"] == signal.Signals(number).name
    assert Zoo.open(tmp_path / "zoo").journal.events()[-1].kind in ("stop", "mlflow")


def test_e22_a_build_whose_readers_went_away_goes_on(tmp_path):
    command = [sys.executable, "-m", "pipeline.cli", "build-zoo", "--zoo", str(tmp_path / "zoo"), "--workers", "0"]
    command += ["--datasets", *SPECS, "--preset", "smoke", "--pairs", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    assert process.wait(120) == 0
    assert Zoo.open(tmp_path / "zoo").row_count() == 2


def test_an_older_zoo_that_keeps_no_starting_weights_is_verified_with_those_it_was_begun_from(tmp_path, capfd):
    state = make_search_space("ofa-lite").supernet.state_dict()
    save_file({name: value + 0.001 * value for name, value in state.items()}, tmp_path / "mine.safetensors")
    zoo = str(tmp_path / "zoo")
    _build(zoo, init=tmp_path / "mine.safetensors", pairs=1)
    shutil.rmtree(tmp_path / "zoo" / "supernets")
    verify = ["zoo", "verify", "--zoo", zoo, "--retrain", "1"]
    assert run(verify) == 2
    assert "give the --init it was begun with" in capfd.readouterr().err
    assert run([*verify, "--init", str(tmp_path / "mine.safetensors")]) == 0
    assert "1 rows trained again" in capfd.readouterr().out


def test_random_is_the_control(tmp_path):
    _build(tmp_path / "zoo", acquisition="random", pairs=10)
    rows = Zoo.open(str(tmp_path / "zoo")).snapshot().rows
    assert {row.choice.chosen_by for row in rows} == {"random"}


def test_hours_bound_the_build(tmp_path):
    built = _build(tmp_path / "zoo", hours=0.0)
    assert built.pairs == 0 and built.utilisation is None


def test_a_dry_run_trains_nothing(tmp_path, capfd):
    arguments = ["build-zoo", "--zoo", str(tmp_path / "zoo"), "--datasets", *SPECS, "--pairs", "5", "--dry-run"]
    assert run([*arguments, "--preset", "smoke"]) == 0
    assert "5 pairs, about" in capfd.readouterr().out
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["build-zoo", "--zoo", "z", "--datasets", "starter:all", "--pairs", "0"],
            2,
            "pairs must be at least 1, got 0",
        ),
        (
            ["build-zoo", "--zoo", "z", "--datasets", "starter:all"],
            2,
            "one of the arguments --pairs --more is required",
        ),
        (["zoo", "show", "--zoo", "nowhere"], 1, "there is no zoo at"),
        (["nothing"], 2, "invalid choice"),
    ],
)
def test_e23_exit_status_and_message(tmp_path, monkeypatch, capfd, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == status
    captured = capfd.readouterr()
    assert message in captured.err and captured.out == "" and "Traceback" not in captured.err


def test_latency_of_a_device_and_memory_may_be_the_costs_of_a_build_and_are_said(tmp_path, capsys):
    space = make_search_space("ofa-lite")
    table = LatencyTable(
        setting=Setting(device="a telephone", batch=1, search_space="ofa-lite", width=1.0, image_size=32),
        layout=space.layout,
        parts=PartTimes(stem_ms=1.0, head_ms=0.0, class_ms=0.0, block_ms_BVV=torch.ones(21, 4, 4).double()),
        slope=1.0,
        intercept_ms=0.0,
        unseen=30,
        error_median=0.02,
        error_p95=0.06,
    )
    write_table(tmp_path / "table.json", table)
    costs, file = ("latency", "memory"), tmp_path / "table.json"
    config = AcquisitionConfig(cost_scaling="range", ref_cost=1.5)
    built = _build(tmp_path / "zoo", pairs=1, datasets=SPECS[:1], costs=costs, latency_table=file, config=config)
    assert built.costs == costs and 0 <= built.hypervolume_mean <= 1
    assert "latency is that of a telephone, one image at once, which is not this one" in capsys.readouterr().err
    store = Zoo.open(str(tmp_path / "zoo"))
    (given,) = [event.payload["given"] for event in store.journal.events() if event.kind == "start"]
    assert (given["costs"], given["latency_table"]) == (["latency", "memory"], str(file))
    assert given["config"] == asdict(config)  # how pairs were chosen
    scale = CostScale(space, 32, costs, table, "range", 1.5)
    assert built.hypervolume_mean == hypervolume_mean(list(store.datasets().values()), store.snapshot().rows, scale)
    again = _build(tmp_path / "zoo", pairs=1, datasets=SPECS[:1])
    assert again.costs == ("params", "flops")
