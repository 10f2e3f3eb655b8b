"""Entrypoints of cluster/kubernetes, taken out of their files and submitted to a cluster that runs here."""

import json
import shlex
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from pipeline.zoo import Zoo
from tests.trials.processes import TANS
from tests.walks.test_cluster import Cluster

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
    cluster = Cluster(folder)
    yield cluster
    cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)


def test_the_entrypoints_build_and_build_again_learn_a_space_and_grow_on(cluster, tmp_path):
    build = entrypoint("build.yaml", tmp_path)
    cluster.submit(*build)
    assert Zoo.open(str(tmp_path / "zoo")).row_count() == 4
    assert "nothing to do" in cluster.submit(*build)  # as a second cluster of the same RayJob would
    cluster.submit(*entrypoint("meta-train.yaml", tmp_path))
    assert (tmp_path / "space" / "config.json").exists()
    cluster.submit(*entrypoint("nightly.yaml", tmp_path))
    assert json.loads((tmp_path / "nightly.json").read_text())["pairs"] == 6
