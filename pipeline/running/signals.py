"""What SIGTERM and Ctrl-C do to a command: one clean stop, and for the impatient a second Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.running.progress import say

FINISH_S = 12  # what runs may finish in that time; leaving then fits into 30 s
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class GivenUp(BaseException):
    """Raised in the middle of work when a stop was asked for; `stop_on_signals` makes it `Stopped`."""


class Stopped(BaseException):
    """A signal ended the work before it had a result. What was committed is kept."""

    def __init__(self, number: int, goes_on: bool) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.goes_on = goes_on  # the same call goes on from here

    @property
    def exit_status(self) -> int:
        if self.number == signal.SIGINT:
            return 130
        return 0 if self.goes_on else 143


class StopRequest:
    """Whether somebody asked us to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._patient = False

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def name(self) -> str | None:
        return None if self.signal is None else signal.Signals(self.signal).name

    def raise_if_asked(self) -> None:
        if self.signal is not None:
            raise GivenUp

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Meanwhile a signal only asks, and who works looks; elsewhere it raises `GivenUp` on the spot."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def handle(self, number: int, _frame: object) -> None:
        if self.signal is not None:
            if number == signal.SIGINT:
                os._exit(130)
            return
        self.signal = number
        if not self._patient:
            raise GivenUp
        say(f"stopping: what runs has {FINISH_S} s to finish; press Ctrl-C to leave at once")


@contextmanager
def stop_on_signals(goes_on: bool) -> Iterator[StopRequest]:
    """Turn SIGTERM and Ctrl-C into a request to stop; outside of the main thread, which alone gets signals, do nothing.

    Args:
        goes_on: the same call goes on from here, so that SIGTERM loses nothing and is no failure.

    Raises:
        Stopped: by a signal, somewhere inside.
    """
    request = StopRequest()
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, request.handle) for number in SIGNALS}
    try:
        yield request
    except GivenUp:
        assert request.signal is not None
        raise Stopped(request.signal, goes_on) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Around `ray.init`, which replaces SIGTERM's handler by one that ends the process with status 15."""
    kept = {number: signal.getsignal(number) for number in SIGNALS}
    ended_by_ray = False
    try:
        yield
    except SystemExit:
        ended_by_ray = True
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in kept.items():
                signal.signal(number, handler)
            if ended_by_ray:
                signal.raise_signal(signal.SIGTERM)
