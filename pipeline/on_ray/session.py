"""Starting, joining and leaving Ray: the only place where `ray.init` is called."""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import ray
from ray._raylet import Config  # type: ignore[reportAttributeAccessIssue]

from pipeline.on_ray import OWN_TOKEN
from pipeline.running.signals import handlers_kept
from pipeline.running.waiting import said_when_slow
from tans_core.errors import PoolError

KNOCK_S = 20
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(
    (0, 0, 0, 4, 0, 0, 0, 0, 0)
)  # gRPC answers it with settings of its own
RAYS_LIMIT_S = 90  # Ray's own, for its start and for a head that accepts and is silent; it has no argument for it


@dataclass(frozen=True)
class Session:
    """A Ray that this process is connected to."""

    address: str
    dashboard: str | None  # URL where there is one, and the token if it is of our making
    cpus: float
    gpus: float


@contextmanager
def ray_session(address: str | None, cpus: int) -> Iterator[Session]:
    """Start a Ray of our own with `cpus` slots, or join the cluster at `address`; leave it at the end.

    No other cluster is joined, whatever the environment says. `ray.init` is called from an empty folder, because Ray
    puts the driver's folder in front of every worker's path, and `pipeline` is a name that users have too.

    Raises:
        PoolError: the cluster does not answer, or refuses us; Ray cannot be started here.
    """
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="tans-") as neutral:  # the workers' folder: it must outlive them
        try:
            os.chdir(neutral)
            try:
                with redirect_stdout(sys.stderr), handlers_kept():
                    Config.initialize("")  # Ray's switches as they are now: who called us may have imported it first
                    info = _start(cpus) if address is None else _join(address)
            finally:
                os.chdir(here)
            there = ray.cluster_resources()
            token = f", token {OWN_TOKEN}" if OWN_TOKEN else ""
            dashboard = f"http://{info.dashboard_url}{token}" if info.dashboard_url else None
            yield Session(address or "local", dashboard, there.get("CPU", 0.0), there.get("GPU", 0.0))
        finally:
            ray.shutdown()


def _start(cpus: int):
    try:
        with said_when_slow("Ray to start", RAYS_LIMIT_S):
            return ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=True,
                logging_level=logging.ERROR,
                log_to_driver=False,
                namespace="tans",
            )
    except Exception as error:  # whatever Ray meets: a full disk, no sockets, no memory
        raise PoolError(
            f"Ray cannot be started on this machine ({_first_line(error)}): look for room in {tempfile.gettempdir()} "
            "and /dev/shm, join a cluster with --address, or train in this process with --workers 0"
        ) from error


def _join(address: str):
    house = Path(__file__).resolve().parents[2]
    try:
        with said_when_slow(f"the Ray cluster at {address} to answer", RAYS_LIMIT_S):
            return ray.init(
                address=address,
                runtime_env={"py_modules": [str(house / "tans_core"), str(house / "pipeline")]},
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise _no_answer(address, error) from error


def knock(address: str) -> None:
    """Look whether anything answers at HOST:PORT: Ray itself asks a closed port for a minute, a silent one for ever.

    Raises:
        PoolError: nothing does.
    """
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdigit() and "/" not in host):
        return
    try:
        with (
            said_when_slow(f"{address} to answer", KNOCK_S),
            socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S) as connection,
        ):
            connection.sendall(_HELLO)
            connection.recv(1)
    except OSError as error:
        raise _no_answer(address, error) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _no_answer(address: str, error: Exception) -> PoolError:
    return PoolError(
        f"no Ray cluster answers at {address!r} ({_first_line(error)}): check the address, that its head is up, and "
        "RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH if it wants a token; leave --address out to work on this machine"
    )
