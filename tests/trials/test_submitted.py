"""Commands handed to a cluster that runs here: by `tans submit`, and as the files of cluster/kubernetes have them."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from pipeline.running.waiting import machine_load
from pipeline.zoo import Zoo
from tests.trials.processes import TANS
from tests.walks.test_cluster import RAY, Cluster

pytestmark = [pytest.mark.slow, pytest.mark.ray]

FOLDER = Path(__file__).parents[2] / "cluster" / "kubernetes"
SMALL = {
    "--pairs": ["4"],
    "--more": ["2"],
    "--workers": ["2"],
    "--datasets": ["starter:lfw-faces", "starter:emoji-food"],
}


def entrypoint(name: str, data: Path) -> list[str]:
    """The file's own words, with another place for /data, few pairs, and as many workers as there are here."""
    document = yaml.safe_load((FOLDER / name).read_text())
    job = document["spec"].get("jobTemplate", document["spec"])
    words = shlex.split(job["entrypoint"].replace("/data", str(data)))
    assert words[0] == "tans"
    small = [TANS]
    for before, word in pairwise(words):
        small += SMALL.get(before, [word])
    return small + (["--preset", "smoke"] if "build-zoo" in small else [])


@pytest.fixture(scope="module")
def cluster():
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))  # short: Ray's sockets have paths of 107 bytes at most
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(TANS).parent}:{os.environ['PATH']}")  # jobs say `tans`, as in an image
        cluster = Cluster(folder)
    yield cluster
    cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)


def submit(cluster: Cluster, *words: str, follow: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [TANS, "submit", *(["--follow"] if follow else []), "--", *words]
    return subprocess.run(command, env=cluster.environment | environment, capture_output=True, text=True, timeout=900)


def test_a_build_is_begun_once_and_stopped_with_what_it_has_and_the_next_goes_on(cluster, tmp_path):
    zoo = str(tmp_path / "zoo")
    words = ["build-zoo", "--zoo", zoo, "--datasets", "starter:lfw-faces", "--pairs", "30", "--preset", "smoke"]
    begun = submit(cluster, *words, follow=False)
    (job,) = re.findall(r"job (tans-build-zoo-[0-9a-f]{8}-1) is handed in", begun.stdout)
    again = submit(cluster, *words, follow=False)
    assert f"job {job} works on this already" in again.stdout, again.stdout + again.stderr
    ends = time.monotonic() + 300 * machine_load()
    while not (Zoo.exists(zoo) and Zoo.open(zoo).row_count()):
        assert time.monotonic() < ends
        time.sleep(1)
    subprocess.run([RAY, "job", "stop", job], env=cluster.environment, check=True, capture_output=True, timeout=300)
    there = Zoo.open(zoo).row_count()
    journal = [event for event in Zoo.open(zoo).journal.events() if event.kind == "stop"]
    assert 0 < there < 30 and journal[-1].payload["stopped_by"] == "SIGTERM"
    on = submit(cluster, *words[:-3], str(there + 1), *words[-2:])
    assert on.returncode == 0 and "SUCCEEDED" in on.stdout, on.stdout + on.stderr
    assert Zoo.open(zoo).row_count() == there + 1


def test_a_failing_command_and_a_wrong_token_are_told_of(cluster, tmp_path):
    gone = submit(cluster, "zoo", "show", "--zoo", str(tmp_path / "no-zoo"))
    assert gone.returncode == 1 and "FAILED" in gone.stdout and "no-zoo" in gone.stderr
    wrong = submit(cluster, "zoo", "show", "--zoo", str(tmp_path / "no-zoo"), RAY_AUTH_TOKEN="not this one")
    assert wrong.returncode == 1 and "refuses the token of RAY_AUTH_TOKEN" in wrong.stderr


def test_the_entrypoints_build_and_build_again_learn_a_space_and_grow_on(cluster, tmp_path):
    build = entrypoint("build.yaml", tmp_path)
    cluster.submit(*build)
    assert Zoo.open(str(tmp_path / "zoo")).row_count() == 4
    assert "nothing to do" in cluster.submit(*build)  # as a second cluster of the same RayJob would
    cluster.submit(*entrypoint("meta-train.yaml", tmp_path))
    assert (tmp_path / "space" / "config.json").exists()
    cluster.submit(*entrypoint("nightly.yaml", tmp_path))
    assert json.loads((tmp_path / "nightly.json").read_text())["pairs"] == 6
