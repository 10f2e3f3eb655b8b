"""One driver at a time grows a zoo: a lock with a heartbeat, so that it never outlives its holder.

The lock is a file of JSON in the zoo. Whoever reads or writes it holds the kernel's lock on it meanwhile (for
microseconds, and the kernel lets go when a process dies), so judging a holder dead and taking its place is one step.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from pipeline.running.waiting import Wait
from pipeline.zoo.location import locate
from tans_core.errors import ZooError

_FILE = "driver.lock"
_KERNEL_LIMIT_S = 30.0  # who holds the kernel's lock that long is stopped, or on a disk that is
_STALE_S = 60.0  # without a heartbeat, a holder on another machine is taken for dead


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who grows a zoo. Times are UTC in ISO format."""

    token: str  # random: this taking of the lock
    run: str
    host: str
    machine: str  # boot and process namespace: only within one do process ids mean anything
    pid: int
    started: str  # of the process, as the kernel counts: a pid is used again, this is not
    since: str
    heartbeat: str

    @property
    def silent_s(self) -> float:
        return (datetime.now(UTC) - datetime.fromisoformat(self.heartbeat)).total_seconds()

    @property
    def is_dead(self) -> bool:
        """On this machine: its process is gone. Elsewhere: no heartbeat for a minute."""
        if (self.host, self.machine) == (socket.gethostname(), _machine()):
            return _process_started(self.pid) != self.started
        return self.silent_s > _STALE_S


class ZooLock:
    """Context in which this process is the zoo's only driver. `heartbeat_s` is how often it says that it lives."""

    def __init__(self, uri: str | os.PathLike[str], run: str, heartbeat_s: float = 5.0) -> None:
        self._path = locate(uri).folder / _FILE
        self._run = run
        self._heartbeat_s = heartbeat_s
        self._released = threading.Event()

    def __enter__(self) -> ZooLock:
        """Take the lock, or the place of a holder that is dead.

        Raises:
            ZooError: another driver holds it; the message says who, since when, and the way out.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._holder = Holder(
            token=secrets.token_hex(8),
            run=self._run,
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            started=_process_started(os.getpid()),
            since=now,
            heartbeat=now,
        )
        with _opened(self._path) as descriptor:
            there = _read(descriptor)
            if there is not None and not there.is_dead:
                raise ZooError(_refusal(self._path.parent, there))
            _write(descriptor, self._holder)
        self._thread = threading.Thread(target=self._beat, name="zoo-lock", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._thread.join()
        with contextlib.suppress(OSError, ZooError), _opened(self._path) as descriptor:  # a zoo that is gone is let go
            if self._is_ours(descriptor):
                self._path.unlink()

    def _beat(self) -> None:
        while not self._released.wait(self._heartbeat_s):
            with contextlib.suppress(OSError, ZooError), _opened(self._path) as descriptor:  # a full disk: next time
                if not self._is_ours(descriptor):
                    return  # we slept too long and another driver took over; rows stay single, whoever writes them
                now = datetime.now(UTC).isoformat(timespec="seconds")
                _write(descriptor, replace(self._holder, heartbeat=now))

    def _is_ours(self, descriptor: int) -> bool:
        there = _read(descriptor)
        return there is not None and there.token == self._holder.token


def _refusal(zoo: Path, holder: Holder) -> str:
    who = f"run {holder.run} (process {holder.pid} on {holder.host}) has held {zoo} since {holder.since}"
    if holder.host == socket.gethostname():
        return f"{who} and is alive: wait for it, or end it (kill {holder.pid}) and start again"
    return (
        f"{who}; its last sign of life is {holder.silent_s:.0f} s old: wait for it or end it there; "
        f"{_STALE_S:.0f} s after its last sign of life its place can be taken by starting again"
    )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The lock's file, made if need be, with the kernel's lock on it."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ZooError(f"{path} cannot be written ({error.strerror}): is there a zoo, may you grow it?") from error
        try:
            _lock(path, descriptor)
            if _is_still_at(path, descriptor):  # not the file of a holder that left while we waited
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _lock(path: Path, descriptor: int) -> None:
    def stuck() -> ZooError:
        return ZooError(
            f"another process has kept {path} locked for {_KERNEL_LIMIT_S:.0f} s, which takes it microseconds: it is "
            f"stopped or its disk does not answer; find it (fuser {path}), end it and start again"
        )

    wait = Wait(f"the lock on {path}", _KERNEL_LIMIT_S, stuck)
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait.check()
            time.sleep(0.02)
        except OSError as error:
            raise ZooError(f"the file system of {path} has no locks ({error.strerror}): put it on another") from error


def _is_still_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> Holder | None:
    """The holder; None if there is none, or its machine lost power before all of it was on the disk."""
    data = os.pread(descriptor, 1 << 16, 0)
    try:
        return Holder(**json.loads(data))
    except (ValueError, TypeError):
        return None


def _write(descriptor: int, holder: Holder) -> None:
    """In one write, over what was there: blanks fill it up, so that a heartbeat needs no new room."""
    data = json.dumps(asdict(holder)).ljust(1024).encode()
    os.pwrite(descriptor, data, 0)
    os.ftruncate(descriptor, len(data))


def _machine() -> str:
    """This boot and process namespace; empty where the system does not say (there, the host's name must do)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + " " + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _process_started(pid: int) -> str:
    """When a process started, in the system's own words; empty if it is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    except ProcessLookupError:
        return ""
    told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return told.stdout.strip()
