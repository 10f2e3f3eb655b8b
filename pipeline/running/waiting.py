"""Waiting: never without a word, never without an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.running.progress import PLAIN_INTERVAL_S, say
from tans_core.errors import TansError

SAY_AFTER_S = 5.0  # within ten, whatever else is slow


class Wait:
    """One wait: it says what for after 5 s, again every 30 s, and ends in an error that names the way out."""

    def __init__(self, what: str, limit_s: float, error: Callable[[], TansError]) -> None:
        """Begin to wait.

        Args:
            what: completes "waiting for".
            error: made when the limit has passed.
        """
        self._what, self._limit_s, self._error = what, limit_s, error
        self._began_s = time.monotonic()
        self._say_at_s = SAY_AFTER_S

    def check(self) -> float:
        """To be called at least every few seconds; gives the seconds left.

        Raises:
            TansError: `error`, when there are none.
        """
        waited_s = time.monotonic() - self._began_s
        if waited_s >= self._limit_s:
            raise self._error()
        if waited_s >= self._say_at_s:
            self._say_at_s += PLAIN_INTERVAL_S
            say(f"waiting for {self._what}: {waited_s:.0f} s, at most {self._limit_s:.0f}")
        return self._limit_s - waited_s


@contextmanager
def said_when_slow(what: str, limit_s: float) -> Iterator[None]:
    """Around a call that blocks and has a limit of its own."""
    timer = threading.Timer(SAY_AFTER_S, say, [f"waiting for {what}, at most {limit_s:.0f} s"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
