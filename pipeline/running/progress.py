"""Progress for people, on standard error: results alone go to standard output."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta

PLAIN_INTERVAL_S = 30


def say(line: str) -> None:
    """One line on standard error; a reader that went away does not end the work."""
    try:
        print(line, file=sys.stderr, flush=True)
    except (BrokenPipeError, ValueError, OSError):
        return


class Pace:
    """How many an hour, and when all will be done, from what was done since it began."""

    def __init__(
        self, done: int, clock: Callable[[], float] = time.monotonic, now: Callable[[], datetime] = datetime.now
    ) -> None:
        """Begin to count.

        Args:
            done: what was there before.
            clock: in seconds.
            now: the time of the day.
        """
        self._before, self._clock, self._now = done, clock, now
        self._began_s = clock()

    def words(self, done: int, count: int) -> str:
        """Of `count` so many are done."""
        passed_s = self._clock() - self._began_s
        new, left = done - self._before, count - done
        if new <= 0:
            return f"none new in {passed_s / 60:.0f} min" if passed_s >= 60 else "none new yet"
        hourly = f"{3600 * new / max(passed_s, 1e-9):,.0f} an hour"
        if left <= 0:
            return hourly
        now = self._now()
        ends = now + timedelta(seconds=left * passed_s / new)
        return f"{hourly}, done at {ends:%H:%M}{f' on {ends:%d %b}' if ends.date() != now.date() else ''} at this pace"


class Progress:
    """The state of long work: a line that renews itself on a terminal, elsewhere a line every 30 s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._terminal = sys.stderr.isatty()
        self._clock = clock
        self._last_s = -PLAIN_INTERVAL_S
        self._line: str | None = None

    def show(self, line: str, last: bool = False) -> None:
        self._line = line
        if self._terminal:
            say_inline = f"\r\033[K{line}" + ("\n" if last else "")
            try:
                sys.stderr.write(say_inline)
                sys.stderr.flush()
            except (BrokenPipeError, ValueError, OSError):
                return
        elif last or self._clock() - self._last_s >= PLAIN_INTERVAL_S:
            self._last_s = self._clock()
            say(line)

    def renew(self) -> None:
        """Say the last line again, every 30 s: for work that has nothing new to tell and is not stuck."""
        if not self._terminal and self._line is not None:
            self.show(self._line)

    def clear(self) -> None:
        """Take the renewed line off a terminal: the work it told of is over."""
        if self._terminal:
            with contextlib.suppress(BrokenPipeError, ValueError, OSError):
                sys.stderr.write("\r\033[K")
                sys.stderr.flush()
