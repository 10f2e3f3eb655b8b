"""Two builds begun together on a zoo that is not there: one makes it, the other is told who holds it, or goes on."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import Zoo, build_zoo
from pipeline.zoo import ZooLock
from tans_core.errors import ZooError

TWO = ["starter:lfw-faces", "starter:emoji-food"]
SMOKE = {"preset_name": "smoke", "workers": 0}
LINES = """
import sys
from pipeline.cli import run
sys.stdin.readline()
sys.exit(run(sys.argv[1:]))
"""


def test_of_two_builds_begun_together_both_end_well_when_they_wait(tmp_path: Path):
    command = [sys.executable, "-c", LINES, "build-zoo", "--zoo", str(tmp_path / "zoo?"), "--datasets", *TWO]
    command += ["--preset", "smoke", "--workers", "0", "--more", "1", "--wait"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    builds = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for build in builds:
        assert build.stdin is not None
        build.stdin.write("now\n")
        build.stdin.flush()
    said = [build.communicate(timeout=500)[1] for build in builds]
    assert [build.returncode for build in builds] == [0, 0], said
    assert Zoo.open(tmp_path / "zoo?").row_count() == 2, "one row each: the second counts from what it finds"
    assert not (tmp_path / "zoo?" / "driver.lock").exists()


def test_a_build_on_a_zoo_that_another_is_making_says_who_holds_it(tmp_path: Path):
    place = tmp_path / "zoo?"
    place.mkdir()
    with ZooLock(place, "run-of-another"), pytest.raises(ZooError, match=r"run run-of-another .* has held .*--wait"):
        build_zoo(str(place), TWO, pairs=1, **SMOKE)
    assert not Zoo.exists(place)


def test_hours_that_the_start_used_up_are_said(tmp_path: Path, capsys):
    assert build_zoo(str(tmp_path / "zoo?"), TWO, pairs=2, hours=1e-9, **SMOKE).pairs == 0
    assert "nothing was trained: --hours 1e-09 were over when all was read and up" in capsys.readouterr().err
    assert build_zoo(str(tmp_path / "zoo?"), TWO, pairs=1, hours=1.0, **SMOKE).pairs == 1
    assert "nothing was trained" not in capsys.readouterr().err
