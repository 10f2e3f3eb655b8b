"""Ray Train on nodes: none of its workers on the head, and a place for checkpoints that one node does not see."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from pipeline.space.meta_train import meta_train
from tans_core.cross_modal.meta_training import SpaceConfig
from tans_core.errors import PoolError
from tests.stages.space.test_sweep import make_zoo
from tests.walks.test_cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.ray]

CONFIG = SpaceConfig(dim=16, hidden=8, steps=30, evaluate_every=10, validation_draws=2)
PRIVATE = subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


def losses(space: Path) -> list[float]:
    return [point["loss"] for point in json.loads((space / "metrics.json").read_text())["validation_curve"]]


@pytest.mark.skipif(not PRIVATE, reason="this user may not give a process a disk of its own (unshare -m)")
def test_workers_off_the_head_train_the_space_of_one_where_all_nodes_see_the_checkpoints(
    tmp_path, monkeypatch, record_property
):
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    zoo, blind, shared = make_zoo(tmp_path / "my zoo?"), tmp_path / "blind", tmp_path / "shared"
    blind.mkdir()
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))  # short: Ray's sockets have paths of 107 bytes at most
    cluster = Cluster(folder, nodes=3, mode="disabled", dashboard=False, head_cpus=0, private=blind)
    try:
        with pytest.raises(PoolError, match=r"checkpoints go to .*blind/space.* which not all nodes.*--storage FOLDER"):
            meta_train(zoo, blind / "space", workers=2, config=CONFIG, address=cluster.address)
        meta_train(zoo, blind / "space", workers=2, config=CONFIG, address=cluster.address, storage=shared)
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
    assert not list(shared.iterdir()) and not (blind / "space" / "training").exists()
    meta_train(zoo, tmp_path / "alone", config=CONFIG)
    apart = max(abs(one - other) for one, other in zip(losses(blind / "space"), losses(tmp_path / "alone")))
    record_property("seen", f"losses at most {apart:.1e} apart")
    assert apart < 1e-4
