"""What SIGTERM and Ctrl-C do to long work: one clean stop, and for the impatient a second Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.progress import say

FINISH_S = 12  # what runs may finish in that time; leaving then fits into 30 s


class GivenUp(BaseException):
    """Raised in the middle of a job that runs in this process, when a stop was asked for."""


class StopRequest:
    """Whether somebody asked us to stop, and which exit status that means."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def name(self) -> str | None:
        return None if self.signal is None else signal.Signals(self.signal).name

    @property
    def exit_status(self) -> int:
        return 130 if self.signal == signal.SIGINT else 0

    def raise_if_asked(self) -> None:
        if self.signal is not None:
            raise GivenUp


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGTERM and Ctrl-C into a request; enter it after `ray.init`, which replaces SIGTERM's handler."""
    request = StopRequest()

    def handle(number: int, _frame: object) -> None:
        if request.signal == signal.SIGINT and number == signal.SIGINT:
            os._exit(130)
        if request.signal is None:
            request.signal = number
            say(f"stopping: what runs has {FINISH_S} s to finish; press Ctrl-C again to leave at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
