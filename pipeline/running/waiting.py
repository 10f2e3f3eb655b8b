"""Waiting: never without a word, never without an end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.running.progress import PLAIN_INTERVAL_S, say
from tans_core.errors import TansError

SAY_AFTER_S = 5.0  # within ten, whatever else is slow
MOST_LOAD = 10.0  # a limit grows so many times at most


def machine_load(jobs: float | None = None, cpus: int | None = None) -> float:
    """How many times slower than alone something starts here: jobs that want a CPU, for each that there is; 1 to 10.

    Args:
        jobs: of the last minute; None: the machine's.
        cpus: None: all of the machine's, because its load is of all.
    """
    jobs = os.getloadavg()[0] if jobs is None else jobs
    return min(max(1.0, jobs / (cpus or os.cpu_count() or 1)), MOST_LOAD)


def no_load() -> float:
    """The limit is one however busy the machine is."""
    return 1.0


def at_most(limit_s: float, load: float) -> str:
    """A limit in words, with why it is longer than usual."""
    words = f"at most {limit_s * load:.0f} s"
    return words if load == 1 else f"{words}, because this machine has {load:.1f} times the work that it has CPUs for"


class Wait:
    """One wait: it says what for after 5 s, again every 30 s, and ends in an error that names the way out."""

    def __init__(
        self, what: str, limit_s: float, error: Callable[[], TansError], load: Callable[[], float] = no_load
    ) -> None:
        """Begin to wait.

        Args:
            what: completes "waiting for".
            limit_s: on a machine that does nothing else.
            error: made when the limit has passed.
            load: by how much the limit grows, asked again and again: the most of it counts.
        """
        self._what, self._limit_s, self._error, self._load = what, limit_s, error, load
        self._most_load = 1.0
        self._began_s = time.monotonic()
        self._say_at_s = SAY_AFTER_S

    def check(self) -> float:
        """To be called at least every few seconds; gives the seconds left.

        Raises:
            TansError: `error`, when there are none.
        """
        waited_s = time.monotonic() - self._began_s
        self._most_load = max(self._most_load, self._load())
        if waited_s >= self.limit_s:
            raise self._error()
        if waited_s >= self._say_at_s:
            self._say_at_s += PLAIN_INTERVAL_S
            say(f"waiting for {self._what}: {waited_s:.0f} s, {at_most(self._limit_s, self._most_load)}")
        return self.limit_s - waited_s

    @property
    def limit_s(self) -> float:
        """As it has grown."""
        return self._limit_s * self._most_load


@contextmanager
def said_when_slow(what: str, limit_s: float, load: Callable[[], float] = no_load) -> Iterator[None]:
    """Around a call that blocks and has a limit of its own."""
    timer = threading.Timer(SAY_AFTER_S, say, [f"waiting for {what}, {at_most(limit_s, load())}"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
