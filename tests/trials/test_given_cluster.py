"""A cluster that runs here: joined only when it is named, and given our two packages alone."""

import shutil
import tempfile
from pathlib import Path

import pytest

from pipeline.zoo import Zoo
from tests.trials.processes import build_command, start
from tests.walks.test_cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(scope="module")
def cluster():
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))  # short: Ray's sockets have paths of 107 bytes at most
    cluster = Cluster(folder)
    yield cluster
    cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)


def test_e29_started_in_a_project_with_200_mb_and_a_pipeline_of_its_own(cluster, tmp_path, record_property):
    (tmp_path / "pipeline.py").write_text("raise RuntimeError('the user\\'s pipeline was imported')\n")
    (tmp_path / ".git").mkdir()
    for large in (tmp_path / "video.bin", tmp_path / ".git" / "pack"):
        large.write_bytes(bytes(200 * 2**20))
    command = build_command("zoo", "--pairs", "3", "--address", cluster.address)
    process = start(command, cwd=tmp_path, env=cluster.environment)
    _, errors = process.communicate(timeout=300)
    record_property("seen", f"status {process.returncode}, {Zoo.open(tmp_path / 'zoo').row_count()} rows")
    assert process.returncode == 0, errors
    assert Zoo.open(tmp_path / "zoo").row_count() == 3


def test_e15_a_cluster_that_runs_here_is_not_joined_unasked(cluster, tmp_path, record_property):
    before = cluster.jobs()
    process = start(
        build_command(tmp_path / "zoo", "--pairs", "3"), env={**cluster.environment, "RAY_ADDRESS": cluster.address}
    )
    _, errors = process.communicate(timeout=300)
    record_property("seen", f"status {process.returncode}, {cluster.jobs() - before} jobs on the cluster")
    assert process.returncode == 0, errors
    assert Zoo.open(tmp_path / "zoo").row_count() == 3
    assert cluster.jobs() == before
