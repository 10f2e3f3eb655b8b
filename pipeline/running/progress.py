"""Progress for people, on standard error: results alone go to standard output."""

from __future__ import annotations

import contextlib
import sys
import time

PLAIN_INTERVAL_S = 30


def say(line: str) -> None:
    """One line on standard error; a reader that went away does not end the work."""
    try:
        print(line, file=sys.stderr, flush=True)
    except (BrokenPipeError, ValueError, OSError):
        return


class Progress:
    """The state of long work: a line that renews itself on a terminal, elsewhere a line every 30 s."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last_s = 0.0
        self._open = False

    def show(self, line: str, last: bool = False) -> None:
        if self._terminal:
            say_inline = f"\r\033[K{line}" + ("\n" if last else "")
            try:
                sys.stderr.write(say_inline)
                sys.stderr.flush()
            except (BrokenPipeError, ValueError, OSError):
                return
        elif last or time.monotonic() - self._last_s >= PLAIN_INTERVAL_S:
            self._last_s = time.monotonic()
            say(line)

    def clear(self) -> None:
        """Take the renewed line off a terminal: the work it told of is over."""
        if self._terminal:
            with contextlib.suppress(BrokenPipeError, ValueError, OSError):
                sys.stderr.write("\r\033[K")
                sys.stderr.flush()
