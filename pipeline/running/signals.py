"""What SIGTERM, SIGHUP and Ctrl-C do to a command: one clean stop, and for the impatient a second Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.running.progress import say

FINISH_S = 12  # what runs may finish in that time; leaving then fits into 30 s
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)  # SIGHUP: its terminal was closed


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
        self._last_acts: list[Callable[[], None]] = []

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

    def before_leaving(self, act: Callable[[], None]) -> None:
        """What is to be done even by who leaves at once; it must not wait, nor raise."""
        self._last_acts.append(act)

    def handle(self, number: int, _frame: object) -> None:
        if self.signal is not None:
            if number == signal.SIGINT:
                self._leave()
            return
        self.signal = number
        if not self._patient:
            raise GivenUp
        say(f"stopping: what runs has {FINISH_S} s to finish; press Ctrl-C to leave at once")

    def _leave(self) -> None:
        for act in self._last_acts:
            act()
        if sys.stderr.isatty():
            os.write(2, b"\n")  # the prompt comes on a line of its own, not behind what was shown last
        os._exit(130)


@contextmanager
def stop_on_signals(goes_on: bool) -> Iterator[StopRequest]:
    """Turn SIGTERM, SIGHUP and Ctrl-C into a request to stop.

    A signal that our caller ignores (nohup, the background of a shell) stays ignored. Outside of the main thread,
    which alone gets signals, nothing is done.

    Args:
        goes_on: the same call goes on from here, so that SIGTERM and SIGHUP lose nothing and are no failure.

    Raises:
        Stopped: by a signal, somewhere inside.
    """
    request = StopRequest()
    before = {}
    if threading.current_thread() is threading.main_thread():
        heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, request.handle) for number in heard}
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
    """Around `ray.init`, which replaces SIGTERM's handler by one that ends the process with status 15.

    Ray's processes are born deaf to SIGHUP: a terminal that closes tells all of them, and we would have nothing left to
    finish with. They end with us.
    """
    kept = {number: signal.getsignal(number) for number in SIGNALS}
    ended_by_ray = False
    deaf = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    except SystemExit:
        ended_by_ray = True
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, deaf)
        if threading.current_thread() is threading.main_thread():
            for number, handler in kept.items():
                signal.signal(number, handler)
            if ended_by_ray:
                signal.raise_signal(signal.SIGTERM)
