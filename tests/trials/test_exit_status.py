"""50 runs of each short command: 50 times the same exit status, whatever libraries do at the end of a process."""

import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.growing.build_zoo import build_zoo
from tests.trials.processes import TANS

pytestmark = pytest.mark.slow

RUNS = 50
COMMANDS = {
    "help": (["--help"], 0),
    "zoo show": (["zoo", "show", "--zoo", "ZOO"], 0),
    "zoo show --json": (["zoo", "show", "--zoo", "ZOO", "--json", "-"], 0),
    "zoo show --journal": (["zoo", "show", "--journal", "--zoo", "ZOO"], 0),
    "zoo verify": (["zoo", "verify", "--zoo", "ZOO"], 0),
    "datasets": (["datasets", "starter:lfw-faces"], 0),
    "wrong usage": (["zoo", "show"], 2),
    "wrong setting": (["zoo", "show", "--zoo", "http://host/zoo"], 2),
    "no zoo": (["zoo", "show", "--zoo", "ZOO-that-is-none"], 1),
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> str:
    zoo = str(tmp_path_factory.mktemp("trials") / "zoo")
    build_zoo(zoo, ["starter:lfw-faces"], pairs=3, preset_name="smoke", workers=0)
    return zoo


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", COMMANDS)
def test_e23_fifty_runs_end_alike(zoo, record_property, name):
    arguments, status = COMMANDS[name]
    command = [TANS, *(argument.replace("ZOO", zoo) for argument in arguments)]

    def once(_: int) -> int:
        return subprocess.run(command, capture_output=True).returncode

    with ThreadPoolExecutor(2) as threads:
        statuses = Counter(threads.map(once, range(RUNS)))
    record_property("seen", f"{dict(statuses)}")
    assert statuses == {status: RUNS}
