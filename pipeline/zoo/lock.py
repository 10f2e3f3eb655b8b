"""One driver at a time grows a zoo: a lock with a heartbeat, so that it never outlives its holder.

The lock is a file of JSON in the zoo. Whoever reads or writes it holds the kernel's lock on it meanwhile (for
microseconds, and the kernel lets go when a process dies), so judging a holder dead and taking its place is one step.
No clock is compared with another: a holder on another machine lives if its heartbeat changes while we look.
"""

from __future__ import annotations

import contextlib
import errno
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

from pipeline.running.progress import Progress
from pipeline.running.waiting import Wait
from pipeline.zoo.location import locate
from tans_core.errors import ZooError

_FILE = "driver.lock"
_KERNEL_LIMIT_S = 30.0  # who holds the kernel's lock that long is stopped, or on a disk that is
_SILENT_S = 60.0  # a holder on another machine whose heartbeat stands still for so long is taken for dead
_LOOK_S = 0.5  # from one look at a holder to the next


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who grows a zoo. Times are UTC in ISO format, for people."""

    token: str  # random: this taking of the lock
    run: str
    host: str
    machine: str  # boot and process namespace: only within one do process ids mean anything
    pid: int
    started: str  # of the process, as the kernel counts: a pid is used again, this is not
    since: str
    heartbeat: str

    @property
    def is_here(self) -> bool:
        """On this machine, where processes can be asked for."""
        return (self.host, self.machine) == (socket.gethostname(), _machine())

    @property
    def is_gone(self) -> bool:
        """Its process is no more; None can say so of another machine's."""
        return self.is_here and _process_started(self.pid) != self.started

    def __str__(self) -> str:
        return f"run {self.run} (process {self.pid} on {self.host})"


class ZooLock:
    """Context in which this process is the zoo's only driver.

    Args:
        wait: wait for a driver that lives, instead of being refused.
        heartbeat_s: how often it says that it lives.
        silent_s: so long a holder on another machine is watched for a heartbeat before its place is taken.
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        run: str,
        wait: bool = False,
        heartbeat_s: float = 5.0,
        silent_s: float = _SILENT_S,
    ) -> None:
        self._path = locate(uri).folder / _FILE
        self._wait, self._heartbeat_s, self._silent_s = wait, heartbeat_s, silent_s
        self._released = threading.Event()
        now = _now()
        self._holder = Holder(
            token=secrets.token_hex(8),
            run=run,
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            started=_process_started(os.getpid()),
            since=now,
            heartbeat=now,
        )

    def __enter__(self) -> ZooLock:
        """Take the lock, or the place of a holder that is dead.

        Raises:
            ZooError: another driver holds it; the message says who, since when, and the way out. Or: no room.
        """
        try:
            self._take_when_free()
            self._thread = threading.Thread(target=self._beat, name="zoo-lock", daemon=True)
            self._thread.start()
        except BaseException:  # a signal, say, between the two
            self.let_go_at_once()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._thread.join()
        with contextlib.suppress(OSError, ZooError), _opened(self._path) as descriptor:  # a zoo that is gone is let go
            if self._is_ours(descriptor):
                self._path.unlink()

    def let_go_at_once(self) -> None:
        """For who leaves on the spot, maybe in the middle of anything: waits for nothing, raises nothing."""
        self._released.set()
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            if json.loads(self._path.read_bytes())["token"] == self._holder.token:
                self._path.unlink()

    def _take_when_free(self) -> None:
        """Whoever is elsewhere is watched until its heartbeat changes, or stands still for too long."""
        seen, since_s = None, 0.0  # the holder, and from when on nothing about it changed
        progress = Progress()
        try:
            while there := self._take(seen if time.monotonic() - since_s >= self._silent_s else None):
                lives = there.is_here or (seen is not None and there.token == seen.token and there != seen)
                if lives and not self._wait:
                    raise ZooError(_refusal(self._path.parent, there))
                if there != seen:
                    seen, since_s = there, time.monotonic()
                what = "the end" if self._wait else "a sign of life"
                progress.show(f"waiting for {what} of {there}, which has held {self._path.parent} since {there.since}")
                time.sleep(_LOOK_S)
        finally:
            progress.clear()

    def _take(self, silent: Holder | None) -> Holder | None:
        """Write ourselves into the lock; gives who is there instead, unless it is gone, or the one that was silent."""
        with _opened(self._path) as descriptor:
            there = _read(descriptor)
            if there is not None and not there.is_gone and (there.is_here or there != silent):
                return there
            try:
                _write(descriptor, replace(self._holder, since=_now(), heartbeat=_now()))
            except OSError as error:
                self._path.unlink(missing_ok=True)  # a part of it would be nobody's
                raise ZooError(
                    f"{self._path} cannot be written ({error.strerror}): make room there and run the same command again"
                ) from error
            return None

    def _beat(self) -> None:
        while not self._released.wait(self._heartbeat_s):
            with contextlib.suppress(OSError, ZooError), _opened(self._path) as descriptor:  # a full disk: next time
                there = _read(descriptor)
                if there is None or there.token != self._holder.token:
                    return  # we slept too long and another driver took over; rows stay single, whoever writes them
                _write(descriptor, replace(there, heartbeat=_now()))

    def _is_ours(self, descriptor: int) -> bool:
        there = _read(descriptor)
        return there is not None and there.token == self._holder.token


def _refusal(zoo: Path, holder: Holder) -> str:
    end = f"end it (kill {holder.pid})" if holder.is_here else "end it there"
    return (
        f"{holder} has held {zoo} since {holder.since} and is alive: wait for it (--wait goes on after it), or {end} "
        "and start again"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


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
    if os.pwrite(descriptor, data, 0) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
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
