"""Starting, joining and leaving Ray: the only place where `ray.init` is called."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import ray
from ray._private.node import Node
from ray.exceptions import RayError

from pipeline.on_ray.authentication import in_force, no_answer, of_cluster, of_our_own
from pipeline.on_ray.machine import Places, our_folder, places
from pipeline.on_ray.messages import last_words, reason
from pipeline.running.progress import say
from pipeline.running.signals import handlers_kept
from pipeline.running.waiting import machine_load, said_when_slow
from tans_core.errors import PoolError

RAYS_LIMIT_S = 90  # Ray's own, for its start and for a head that accepts and is silent; it has no argument for it
BUSY = 2.0  # times the work that the machine has CPUs for
_LIMITS_S = {  # Ray's, which grow with the load of the machine
    "RAY_gcs_server_port_wait_time_s": 30,
    "RAY_worker_register_timeout_seconds": 60,
}


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
    found = None if address is not None else places()
    authentication = of_our_own() if address is None else of_cluster(address)
    here = Path.cwd()
    with our_folder(found.parent if found else None) as neutral, in_force({**_limits(), **authentication.variables}):
        try:
            os.chdir(neutral)
            try:
                with redirect_stdout(sys.stderr), handlers_kept():
                    info = _join(address or "auto") if found is None else _start(cpus, neutral, found)
            finally:
                os.chdir(here)
            there = ray.cluster_resources()
            token = f", token {authentication.made_token}" if authentication.made_token else ""
            dashboard = f"http://{info.dashboard_url}{token}" if info.dashboard_url else None
            yield Session(address or "local", dashboard, there.get("CPU", 0.0), there.get("GPU", 0.0))
        finally:
            ray.shutdown()


def _limits() -> dict[str, str]:
    """Ray's limits for its start, as long as the load of the machine wants; the user's own come first."""
    stretched = {name: f"{limit_s * machine_load():.0f}" for name, limit_s in _LIMITS_S.items()}
    return {name: value for name, value in stretched.items() if name not in os.environ}


def _start(cpus: int, neutral: Path, found: Places):
    """Our own Ray, with a dashboard where one comes up. On a busy machine it is tried three times, at last without the
    dashboard, which is most of what starts."""
    folder = neutral / "ray" if found.ray_inside else found.parent / "ray"
    before, tries = _sessions(folder), [None, False, False]  # True would end in an error where none comes up
    while True:
        try:
            info = _init(cpus, neutral, folder, found, tries.pop(0))
            break
        except Exception as error:  # whatever Ray meets: a full disk, no sockets, no memory
            _end_half_started(error)
            if tries and (load := machine_load()) >= BUSY:
                say(f"Ray did not come up on a machine with {load:.1f} times its work ({reason(error)}): once more")
                continue
            raise PoolError(
                f"Ray cannot be started on this machine ({'; '.join([reason(error), *_last_words(folder, before)])}): "
                f"look for memory and for room in {found.parent} and /dev/shm, join a cluster with --address, or train "
                "in this process with --workers 0"
            ) from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    if not info.dashboard_url:
        why = "; ".join(_last_words(folder, before, ["dashboard.log", "dashboard.err"]))
        say(f"Ray's dashboard did not come up{f' ({why})' if why else ''}: going on without it")
    return info


def _init(cpus: int, neutral: Path, folder: Path, found: Places, dashboard: bool | None):
    with said_when_slow("Ray to start", RAYS_LIMIT_S, machine_load):
        return ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=dashboard,
            logging_level=logging.CRITICAL,  # what goes wrong is said by us, in a line
            log_to_driver=False,
            namespace="tans",
            object_store_memory=found.store_bytes,
            _temp_dir=str(folder),
            _plasma_directory=None if found.store_bytes is None else str(neutral),
        )


def _end_half_started(error: Exception) -> None:
    """Ray forgets the processes of a start that failed; they would stay for as long as this one."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(node := frame.f_locals.get("self"), Node):
            node.kill_all_processes(check_alive=False, allow_graceful=False)
            return


def _sessions(folder: Path) -> set[Path]:
    """The folders of Rays that this process began."""
    return set(folder.glob(f"session_*_{os.getpid()}"))


def _last_words(folder: Path, before: set[Path], *names: Sequence[str]) -> list[str]:
    """What the logs of the Ray that was just begun end with, if with anything that is wrong."""
    for begun in sorted(_sessions(folder) - before, reverse=True):
        if words := last_words(begun / "logs", *names):
            return [words]
    return []


def _join(address: str):
    house = Path(__file__).resolve().parents[2]
    try:
        with said_when_slow(f"the Ray cluster at {address} to answer", RAYS_LIMIT_S, machine_load):
            return ray.init(
                address=address,
                runtime_env={"py_modules": [str(house / "tans_core"), str(house / "pipeline")]},
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise no_answer(address, reason(error)) from error
