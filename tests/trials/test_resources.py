"""What Ray would wait for without end or without a word: CPUs that are not there, a head that is silent."""

import socket
import subprocess
import sys
import time

import pytest

from tests.trials.processes import build_command, start

pytestmark = [pytest.mark.slow, pytest.mark.ray]

TWO_WORKERS_ON_ONE_CPU = """
import sys
from pathlib import Path
import pipeline.on_ray.train as stage
from pipeline.on_ray.session import ray_session
from pipeline.running.output import flush_streams
from tans_core.cross_modal.meta_training import SpaceConfig
from tans_core.cross_modal.space_data import space_data
from tans_core.errors import PoolError
from tests.worlds import World
import os
stage.UP_LIMIT_S = 20.0
task = stage.SpaceTask(space_data(World().snapshot()), SpaceConfig(), 0)
with ray_session(None, cpus=1):
    try:
        stage.train_on_workers(task, Path(sys.argv[1]), 2, "ray")
    except PoolError as error:
        print(error)
        flush_streams()
        os._exit(1)
"""


def test_e2_ray_train_that_does_not_get_its_workers(tmp_path, record_property):
    began = time.monotonic()
    command = [sys.executable, "-c", TWO_WORKERS_ON_ONE_CPU, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    record_property("seen", f"an error after {time.monotonic() - began:.0f} s, Ray Train itself none after 597")
    assert done.returncode == 1, done.stderr
    assert "2 workers of Ray Train were not up after 20 s; the cluster has" in done.stdout
    assert "waiting for 2 workers of Ray Train to be up" in done.stderr


def test_a_head_that_accepts_and_is_silent(tmp_path, record_property):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        began = time.monotonic()
        process = start(build_command(tmp_path / "zoo", "--pairs", "2", "--address", address))
        _, errors = process.communicate(timeout=300)
    record_property("seen", f"status {process.returncode} after {time.monotonic() - began:.0f} s")
    assert process.returncode == 1, errors
    assert f"waiting for {address} to answer, at most 20 s" in errors
    assert f"no Ray cluster answers at '{address}'" in errors and "Traceback" not in errors
