"""A build under Ray, stopped in the ways that schedulers and people stop it."""

import json
import os
import signal
import time

import pytest

from pipeline.zoo import Zoo
from tests.trials.processes import build_command, family, seconds_until_gone, start, wait_for_rows

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)])
def test_e12_e13_a_signal_to_the_whole_group(tmp_path, record_property, number, status):
    """As a terminal's Ctrl-C or end, and as schedulers that signal every process of a job."""
    zoo = tmp_path / "zoo"
    process = start(build_command(zoo, "--pairs", "500"))
    there = wait_for_rows(zoo, process, 2)
    processes, began = family(process), time.monotonic()
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    took_s = time.monotonic() - began
    record_property("seen", f"status {process.returncode} after {took_s:.1f} s")
    assert process.returncode == status, errors
    assert took_s < 30 and "Traceback" not in errors and "the same command goes on from here" in errors
    assert Zoo.open(zoo).row_count() >= there
    seconds_until_gone(processes)


def test_e13_the_second_ctrl_c(tmp_path, record_property):
    zoo = tmp_path / "zoo"
    process = start(build_command(zoo, "--pairs", "500"))
    wait_for_rows(zoo, process, 2)
    processes = family(process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    took_s = time.monotonic() - began
    gone_s = seconds_until_gone(processes)
    record_property("seen", f"status {process.returncode} after {took_s:.1f} s, nothing left {gone_s:.0f} s later")
    assert process.returncode == 130 and took_s < 5 and "Traceback" not in errors, errors
    assert not (zoo / "driver.lock").exists()
    again = start(build_command(zoo, "--more", "1", "--json", "-"))
    output, errors = again.communicate(timeout=240)
    assert again.returncode == 0, errors
    assert len({row.key for row in Zoo.open(zoo).snapshot().rows}) == json.loads(output)["pairs"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_e12_a_signal_while_ray_starts(tmp_path, record_property, number):
    """Ray has replaced SIGTERM's handler by then, and has processes of its own."""
    process = start(build_command(tmp_path / "zoo", "--pairs", "2"))
    ends = time.monotonic() + 120
    while not (processes := family(process)) and time.monotonic() < ends and process.poll() is None:
        time.sleep(0.02)
    time.sleep(1.0)
    processes = family(process)
    began = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=90)
    took_s = time.monotonic() - began
    record_property("seen", f"status {process.returncode} after {took_s:.1f} s")
    assert process.returncode == (130 if number == signal.SIGINT else 0), errors
    assert took_s < 30 and "Traceback" not in errors and "the same command goes on from here" in errors
    seconds_until_gone(processes)
