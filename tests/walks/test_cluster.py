"""Clusters on this machine: submitted jobs build a zoo and a space; with a token and without one they are joined."""

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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.growing.build_zoo import build_zoo
from pipeline.on_ray.pool import RayPool
from pipeline.on_ray.session import ray_session
from pipeline.running.waiting import machine_load
from pipeline.zoo import Zoo
from tans_core.errors import PoolError

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
    """Raylets, the first of them the head, and what is needed to talk to them."""

    def __init__(
        self,
        folder: Path,
        nodes: int = 2,
        mode: str = "token",
        dashboard: bool = True,
        head_cpus: int = 1,
        private: Path | None = None,  # the last node sees a disk of its own there
    ) -> None:
        self.token = folder / "token"
        self.token.write_text(secrets.token_hex(32))
        self._logs = (folder / "nodes.log").open("w")
        self._gcs, self._dashboard, client = _free_ports(3)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
            "RAY_AUTH_MODE": mode,
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{self._dashboard}",
        }
        self._nodes: list[subprocess.Popen] = []
        head = f"--head --port={self._gcs} --dashboard-port={self._dashboard} --ray-client-server-port={client}"
        try:
            self._add(
                *head.split(), f"--temp-dir={folder}", f"--include-dashboard={dashboard}", f"--num-cpus={head_cpus}"
            )
            for left in reversed(range(nodes - 1)):
                joining = [f"--address=127.0.0.1:{self._gcs}", "--include-log-monitor=false", "--num-cpus=1"]
                self._add(*joining, private=None if left else private)
        except BaseException:
            self.stop()
            raise

    def submit(self, *command: str) -> str:
        done = subprocess.run(
            [RAY, "job", "submit", "--", *command], env=self.environment, capture_output=True, text=True, timeout=500
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

    def _start(self, *arguments: str, private: Path | None = None) -> subprocess.Popen:
        ports = [f"--{name}={port}" for name, port in zip(NODE_PORTS, _free_ports(len(NODE_PORTS)))]
        shared = [
            "--block",
            "--object-store-memory=200000000",
            "--disable-usage-stats",
            "--log-color=false",
        ]
        elsewhere = 'mount -t tmpfs tmpfs "$0" && exec "$@"'
        alone = [] if private is None else ["unshare", "-m", "sh", "-c", elsewhere, str(private)]
        return subprocess.Popen(
            [*alone, RAY, "start", *arguments, *ports, *shared],
            env=self.environment,
            stdout=self._logs,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _list(self, kind: str) -> int:
        done = subprocess.run(
            [RAY, "list", kind, "--format", "json"], env=self.environment, capture_output=True, text=True, timeout=300
        )
        return len(json.loads(done.stdout)) if done.returncode == 0 and done.stdout.startswith("[") else 0

    def _add(self, *arguments: str, private: Path | None = None) -> None:
        """A node, up; one that gives up because the machine is busy is started again, as any supervisor does."""
        log, up = Path(self._logs.name), len(self._nodes)
        ends = time.monotonic() + 120 * machine_load()
        self._nodes.append(self._start(*arguments, private=private))
        while log.read_text().count("Ray runtime started.") <= up:
            assert time.monotonic() < ends, log.read_text()
            if self._nodes[-1].poll() is not None:
                self._nodes[-1] = self._start(*arguments, private=private)
            time.sleep(0.5)


@contextmanager
def _running(**arguments: Any) -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))  # short: Ray's sockets have paths of 107 bytes at most
    cluster = Cluster(folder, **arguments)
    yield cluster
    cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with _running() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def locked() -> Iterator[Cluster]:
    """A head alone, with a token."""
    with _running(nodes=1, dashboard=False) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def unlocked() -> Iterator[Cluster]:
    """A head alone, without authentication."""
    with _running(nodes=1, mode="disabled", dashboard=False) as cluster:
        yield cluster


@pytest.fixture
def environment(monkeypatch, tmp_path) -> pytest.MonkeyPatch:
    """Nothing of Ray in the environment, and no token file at home."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def _join(address: str) -> None:
    """Until a worker there has answered."""
    before = _rays_variables()
    with ray_session(address, cpus=1):
        RayPool({}, None, workers=1, gpus_per_worker=0.0).close()  # type: ignore[arg-type]
    assert _rays_variables() == before


def _rays_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("RAY_")}


def _refused(address: str, zoo: Path) -> str:
    """The words of a build that is refused before its datasets, of which there are none, are read."""
    with pytest.raises(PoolError) as refused:
        build_zoo(str(zoo), ["folder:/no/such/folder"], pairs=1, workers=1, address=address)
    assert not zoo.exists() and "\n" not in str(refused.value)
    return str(refused.value)


def test_a_cluster_without_authentication_is_joined_whether_or_not_there_is_a_token(unlocked, environment):
    environment.setenv("RAY_AUTH_TOKEN_PATH", str(unlocked.token))
    _join(unlocked.address)


def test_a_cluster_with_a_token_is_joined_without_a_word_about_the_mode(locked, environment):
    environment.setenv("RAY_AUTH_TOKEN_PATH", str(locked.token))
    _join(locked.address)


def test_a_missing_and_a_wrong_token_are_refused_in_a_line_before_datasets_are_read(locked, environment, tmp_path):
    missing = _refused(locked.address, tmp_path / "zoo")
    assert "wants a token and there is none" in missing and "RAY_AUTH_TOKEN_PATH" in missing
    environment.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "gone"))
    assert "cannot be read" in _refused(locked.address, tmp_path / "zoo")
    environment.setenv("RAY_AUTH_TOKEN", "not this one")
    assert "refuses the token of RAY_AUTH_TOKEN" in _refused(locked.address, tmp_path / "zoo")


def test_a_mode_of_the_users_that_is_not_the_clusters_is_refused_in_a_line(locked, unlocked, environment, tmp_path):
    environment.setenv("RAY_AUTH_MODE", "disabled")
    assert "wants a token and RAY_AUTH_MODE=disabled" in _refused(locked.address, tmp_path / "zoo")
    environment.setenv("RAY_AUTH_MODE", "token")
    assert "has no authentication and RAY_AUTH_MODE=token" in _refused(unlocked.address, tmp_path / "zoo")


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
