"""What a Ray of our own needs of this machine, looked for before anything is read or made: folder, store, ports."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray.util

from pipeline.on_ray.messages import reason
from pipeline.running.progress import say
from tans_core.errors import PoolError

LONGEST_SOCKET = 107  # bytes of a path, the system's limit
_SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/dash_TaskEventsHead"  # Ray's longest, in its folder
_OUR_NAME = "/tans-12345678"
FOLDER_BYTES = 100 << 20  # for logs and the session
SHARED_BYTES = 500 << 20  # with less, objects of a few datasets would not fit
STORE_BYTES = 1 << 30
SHARED_MEMORY, GCS_PORT = Path("/dev/shm"), "RAY_GCS_SERVER_PORT"
OTHER_FOLDERS = ("/tmp", "/var/tmp")
_WAY_OUT = "or train in this process with --workers 0"


@dataclass(frozen=True)
class Places:
    """Where a Ray of our own puts its files, and what of that the user should know."""

    parent: Path  # of the folder of ours
    ray_inside: bool  # Ray's own folder is too long, or not to be written: it gets ours
    store_bytes: int | None  # of objects in our folder; None: in shared memory, as Ray does it
    said: tuple[str, ...]


def check_machine() -> None:
    """Look for all of it, and say what is not as usual.

    Raises:
        PoolError: something is missing, each with its own way out.
    """
    check_ports()
    for line in places().said:
        say(line)


def places(others: Sequence[str] = OTHER_FOLDERS, shared_bytes: int | None = -1) -> Places:
    """Choose folders that are short and can be written.

    Args:
        others: folders to fall back to.
        shared_bytes: free in shared memory, None where it is not to be had; -1: look.

    Raises:
        PoolError: there is no such folder, or no room for Ray's objects.
    """
    usual = os.path.abspath(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp")
    faults = {usual: _fault(usual, "/ray")}
    faults |= {folder: _fault(folder, f"{_OUR_NAME}/ray") for folder in others if folder != usual}
    good = [folder for folder, fault in faults.items() if fault is None]
    if not good:
        found = "; ".join(f"{folder} {fault}" for folder, fault in faults.items())
        raise PoolError(
            f"Ray needs a folder for its sockets and logs and there is none ({found}): set TMPDIR to a short path "
            f"that you can write, {_WAY_OUT}"
        )
    inside = good[0] != usual
    said = [f"Ray's files go to {good[0]}: {usual} {faults[usual]}"] if inside else []
    if shared_bytes == -1:
        shared_bytes = _shared_bytes()
    if shared_bytes is not None and shared_bytes >= SHARED_BYTES:
        return Places(Path(good[0]), inside, None, tuple(said))
    state = "cannot be written" if shared_bytes is None else f"has {shared_bytes / 1e6:.0f} MB free"
    if (room := shutil.disk_usage(good[0]).free) < 2 * STORE_BYTES:
        raise PoolError(
            f"{SHARED_MEMORY} {state} and {good[0]} {room / 1e6:.0f} MB, too little for Ray's objects: give the "
            f"container more (--shm-size=1g), delete files in one of them, {_WAY_OUT}"
        )
    said.append(f"{SHARED_MEMORY} {state}: Ray's objects lie in {good[0]}, which is slower")
    return Places(Path(good[0]), inside, STORE_BYTES, tuple(said))


@contextmanager
def our_folder(parent: Path | None) -> Iterator[Path]:
    """A folder of ours with a short name, gone at the end.

    Args:
        parent: None: wherever the system has such folders.
    """
    with tempfile.TemporaryDirectory(prefix="tans-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def check_ports() -> None:
    """Ray takes free ports at the machine's address, and one by name where the user named it.

    Raises:
        PoolError: they cannot be had.
    """
    named = os.environ.get(GCS_PORT, "0")
    for host, port in {("127.0.0.1", "0"), (ray.util.get_node_ip_address(), named)}:
        try:
            with socket.socket() as trial:
                trial.bind((host, int(port)))
        except (OSError, ValueError, OverflowError) as error:
            if port == "0":
                raise PoolError(
                    f"Ray needs ports and none can be had at {host} ({reason(error)}): free some, {_WAY_OUT}"
                ) from error
            taken = "is taken" if getattr(error, "errno", None) == errno.EADDRINUSE else f"cannot be had ({error})"
            raise PoolError(f"port {port}, which {GCS_PORT} names, {taken}: unset it or name another") from error


def _fault(folder: str, inside: str) -> str | None:
    """Why Ray cannot have a folder of that name inside of this one; None if it can."""
    length = len(os.fsencode(folder + inside + _SOCKET))
    if length > LONGEST_SOCKET:
        return f"is {length - LONGEST_SOCKET} bytes too long for the names of sockets"
    try:
        rays = Path(folder) / "ray"
        with tempfile.TemporaryFile(dir=rays if rays.exists() else folder):
            pass
        room = shutil.disk_usage(folder).free
    except OSError as error:
        return f"cannot be written ({error.strerror or error})"
    return None if room >= FOLDER_BYTES else f"has {room / 1e6:.0f} MB free"


def _shared_bytes() -> int | None:
    try:
        with tempfile.TemporaryFile(dir=SHARED_MEMORY):
            return shutil.disk_usage(SHARED_MEMORY).free
    except OSError as error:
        return 0 if error.errno == errno.ENOSPC else None
