"""The same walk through Ray, by the command itself, stopped in every way a run is stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.zoo import Zoo

pytestmark = pytest.mark.ray

SPECS = ["starter:lfw-faces", "starter:ground-textures", "starter:emoji-food"]


def _command(zoo: Path, *more: str) -> list[str]:
    build = ["build-zoo", "--zoo", str(zoo), "--datasets", *SPECS, "--preset", "smoke", "--workers", "2"]
    return [sys.executable, "-m", "pipeline.cli", *build, *more]


def _start(zoo: Path, *more: str) -> subprocess.Popen:
    return subprocess.Popen(
        _command(zoo, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def _wait_for_rows(zoo: Path, process: subprocess.Popen, rows: int) -> None:
    ends = time.monotonic() + 500
    while time.monotonic() < ends and process.poll() is None:
        if Zoo.exists(str(zoo)) and Zoo.open(str(zoo)).row_count() >= rows:
            return
        time.sleep(0.3)
    pytest.fail(f"no {rows} rows: {process.communicate()[1]}")


def _family(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def _gone(family: list[psutil.Process], within_s: float) -> bool:
    """Ray's agents outlive a killed driver by 60 to 90 s."""
    _, alive = psutil.wait_procs(family, timeout=within_s)
    return not alive


def test_e4_e14_killed_in_the_middle_and_started_again_there_are_exactly_the_rows_asked_for(tmp_path):
    zoo = tmp_path / "zoo"
    process = _start(zoo, "--pairs", "16")
    _wait_for_rows(zoo, process, 3)
    family = _family(process)
    process.kill()
    process.communicate()
    there = Zoo.open(str(zoo)).row_count()
    done = subprocess.run(_command(zoo, "--pairs", "16", "--json", "-"), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    rows = Zoo.open(str(zoo)).snapshot().rows
    assert there < 16 and summary["pairs"] == len(rows) == len({row.key for row in rows}) == 16
    assert summary["workers"] == 2 and summary["decision_ms_p95"] < 5000
    verified = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "zoo", "verify", "--zoo", str(zoo), "--retrain", "2"],
        capture_output=True,
        text=True,
    )
    assert verified.returncode == 0, verified.stdout
    assert _gone(family, 120)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_e12_e13_asked_to_stop_it_ends_in_time_and_loses_nothing(tmp_path, number, status):
    zoo = tmp_path / "zoo"
    process = _start(zoo, "--pairs", "500")
    _wait_for_rows(zoo, process, 2)
    family, before = _family(process), Zoo.open(str(zoo)).row_count()
    began = time.monotonic()
    os.kill(process.pid, number)
    output, errors = process.communicate(timeout=500)
    assert process.returncode == status, errors
    assert time.monotonic() - began < 30
    assert "the same command goes on from here" in errors and "Traceback" not in errors
    assert Zoo.open(str(zoo)).row_count() >= before and "pairs" in output
    assert _gone(family, 120)


def test_e15_a_cluster_that_does_not_answer_is_an_error_with_a_way_out(tmp_path):
    done = subprocess.run(
        _command(tmp_path / "zoo", "--pairs", "2", "--address", "127.0.0.1:1"),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 1
    assert "no Ray cluster answers at '127.0.0.1:1'" in done.stderr and "Traceback" not in done.stderr


def test_e15_e16_a_folder_with_a_pipeline_of_its_own_and_a_dead_ray_address_do_no_harm(tmp_path):
    (tmp_path / "pipeline.py").write_text("raise RuntimeError('the user\\'s pipeline was imported')\n")
    command = [str(Path(sys.executable).with_name("tans")), *_command(Path("zoo"), "--pairs", "2")[3:]]
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}  # obeyed by nothing
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr
    assert Zoo.open(str(tmp_path / "zoo")).row_count() == 2
