"""A cluster of a head and one worker node on this machine, with a token: submitted jobs build a zoo and a space."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.zoo import Zoo

pytestmark = pytest.mark.ray

RAY, TANS = (str(Path(sys.executable).with_name(name)) for name in ("ray", "tans"))
NODE_PORTS = [
    "node-manager-port",
    "object-manager-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Cluster:
    """Two raylets and what is needed to talk to them."""

    def __init__(self, folder: Path) -> None:
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        self._logs = (folder / "nodes.log").open("w")
        self._gcs, self._dashboard, client = _free_ports(3)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{self._dashboard}",
        }
        head = f"--head --port={self._gcs} --dashboard-port={self._dashboard} --ray-client-server-port={client}"
        self._nodes = [self._start(*head.split(), f"--temp-dir={folder}")]
        self._wait_until(lambda: self._list("nodes") == 1)
        self._nodes.append(self._start(f"--address=127.0.0.1:{self._gcs}", "--include-log-monitor=false"))
        self._wait_until(lambda: self._list("nodes") == 2)

    def submit(self, *command: str) -> str:
        done = subprocess.run(
            [RAY, "job", "submit", "--", *command], env=self.environment, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._gcs}"

    def jobs(self) -> int:
        """Drivers that ever joined."""
        return self._list("jobs")

    def stop(self) -> None:
        for node in reversed(self._nodes):
            node.send_signal(signal.SIGTERM)
        for node in self._nodes:
            try:
                node.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(node.pid, signal.SIGKILL)
        self._logs.close()

    def _start(self, *arguments: str) -> subprocess.Popen:
        ports = [f"--{name}={port}" for name, port in zip(NODE_PORTS, _free_ports(len(NODE_PORTS)))]
        shared = [
            "--block",
            "--num-cpus=1",
            "--object-store-memory=200000000",
            "--disable-usage-stats",
            "--log-color=false",
        ]
        return subprocess.Popen(
            [RAY, "start", *arguments, *ports, *shared],
            env=self.environment,
            stdout=self._logs,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _list(self, kind: str) -> int:
        done = subprocess.run(
            [RAY, "list", kind, "--format", "json"], env=self.environment, capture_output=True, text=True, timeout=60
        )
        return len(json.loads(done.stdout)) if done.returncode == 0 and done.stdout.startswith("[") else 0

    def _wait_until(self, holds) -> None:
        ends = time.monotonic() + 120
        while not holds():
            assert time.monotonic() < ends, Path(self._logs.name).read_text()
            time.sleep(1)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))  # short: Ray's sockets have paths of 107 bytes at most
    cluster = Cluster(folder)
    yield cluster
    cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)


def test_submitted_jobs_build_a_zoo_on_both_nodes_and_a_space(cluster, tmp_path):
    zoo, summary = tmp_path / "zoo", tmp_path / "summary.json"
    specs = ["starter:lfw-faces", "starter:ground-textures", "starter:emoji-food"]
    build = [
        "build-zoo",
        "--zoo",
        str(zoo),
        "--datasets",
        *specs,
        "--pairs",
        "6",
        "--preset",
        "smoke",
        "--workers",
        "2",
    ]
    cluster.submit(TANS, *build, "--address", "auto", "--json", str(summary))
    built = json.loads(summary.read_text())
    assert (built["pairs"], built["workers"], built["nodes"]) == (6, 2, 2)
    assert Zoo.open(str(zoo)).row_count() == 6
    cluster.submit(TANS, "meta-train", "--zoo", str(zoo), "--out", str(tmp_path / "space"))
    assert (tmp_path / "space" / "config.json").exists()
    assert "6 rows, 0 problems" in cluster.submit(TANS, "zoo", "verify", "--zoo", str(zoo))
