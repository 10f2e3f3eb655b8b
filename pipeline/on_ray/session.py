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

from pipeline.on_ray import OWN_TOKEN
from tans_core.errors import PoolError

KNOCK_S = 10


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
        PoolError: the cluster does not answer, or refuses us.
    """
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="tans-") as neutral:  # the workers' folder: it must outlive them
        os.chdir(neutral)
        try:
            with redirect_stdout(sys.stderr):
                info = _start(cpus) if address is None else _join(address)
        finally:
            os.chdir(here)
        try:
            there = ray.cluster_resources()
            token = f", token {OWN_TOKEN}" if OWN_TOKEN else ""
            dashboard = f"http://{info.dashboard_url}{token}" if info.dashboard_url else None
            yield Session(address or "local", dashboard, there.get("CPU", 0.0), there.get("GPU", 0.0))
        finally:
            ray.shutdown()


def _start(cpus: int):
    return ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=True,
        logging_level=logging.ERROR,
        log_to_driver=False,
        namespace="tans",
    )


def _join(address: str):
    house = Path(__file__).resolve().parents[2]
    try:
        return ray.init(
            address=address,
            runtime_env={"py_modules": [str(house / "tans_core"), str(house / "pipeline")]},
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise _no_answer(address, error) from error


def knock(address: str) -> None:
    """Look whether anything listens at HOST:PORT, because Ray itself would ask for a minute before it says no.

    Raises:
        PoolError: nothing does.
    """
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdigit() and "/" not in host):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()
    except OSError as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str, error: Exception) -> PoolError:
    cause = str(error).splitlines()[0] if str(error) else type(error).__name__
    return PoolError(
        f"no Ray cluster answers at {address!r} ({cause}): check the address, that its head is up, and "
        "RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH if it wants a token; leave --address out to work on this machine"
    )
