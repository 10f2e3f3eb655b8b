"""The command as its users start it: real processes, real signals."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from pipeline.zoo import Zoo

TANS = str(Path(sys.executable).with_name("tans"))
SPECS = ["starter:lfw-faces", "starter:ground-textures", "starter:emoji-food"]


def build_command(zoo: Path | str, *more: str) -> list[str]:
    return [TANS, "build-zoo", "--zoo", str(zoo), "--datasets", *SPECS, "--preset", "smoke", "--workers", "2", *more]


def start(command: list[str], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """In a process group of its own, as a terminal gives a command.

    Args:
        env: all of its environment; None: ours.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=env,
        start_new_session=True,
    )


def wait_for_rows(zoo: Path, process: subprocess.Popen[str], rows: int) -> int:
    """Until the zoo has so many; gives how many there are."""
    ends = time.monotonic() + 240
    while time.monotonic() < ends and process.poll() is None:
        if Zoo.exists(zoo) and (there := Zoo.open(zoo).row_count()) >= rows:
            return there
        time.sleep(0.3)
    pytest.fail(f"no {rows} rows: {process.communicate()[1]}")


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def seconds_until_gone(processes: list[psutil.Process], limit_s: float = 120) -> float:
    """Ray's agents outlive a killed driver by 60 to 90 s."""
    began = time.monotonic()
    _, alive = psutil.wait_procs(processes, timeout=limit_s)
    assert not alive, [each.cmdline() for each in alive]
    return time.monotonic() - began
