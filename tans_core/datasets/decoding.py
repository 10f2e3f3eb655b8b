"""Decoding through all cores, in processes of their own where there is much of it.

Threads share the interpreter's lock, which small pictures keep busy; processes do not. And a decoder that crashes on
hostile bytes takes its process along: here it costs that picture. `python -m` of this module is such a process; it
imports Pillow and numpy, nothing else of weight.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from queue import SimpleQueue

from tans_core.cpus import usable_cpus
from tans_core.datasets.found import Found
from tans_core.datasets.pictures import Picture, Rejected, decode, quiet_decoders

PROCESSES_FROM = 2000  # pictures: fewer are decoded sooner than processes are up
_CHUNK, _AHEAD = 32, 4  # pictures of one task; tasks a core that may wait
_Decoded = Picture | Rejected


def decoded(pictures: Iterable[Found], count: int, image_size: int) -> Generator[list[tuple[Found, _Decoded]]]:
    """Pictures in their order, a few at a time; only a few hundred are held undecoded.

    Args:
        count: how many pictures there are.
        image_size: pixels of the longest side.
    """
    cores = usable_cpus()
    waiting: deque[tuple[list[Found], Future[list[_Decoded]]]] = deque()
    stream = iter(pictures)
    with _decoders(cores if count >= PROCESSES_FROM else 0) as idle, ThreadPoolExecutor(cores) as pool:
        try:
            while (chunk := list(islice(stream, _CHUNK))) or waiting:
                if chunk:
                    waiting.append((chunk, pool.submit(_decode_chunk, chunk, image_size, idle)))
                if not chunk or len(waiting) > _AHEAD * cores:
                    chunk, future = waiting.popleft()
                    yield list(zip(chunk, future.result()))
        finally:
            for _, future in waiting:  # nobody wants them after a Ctrl-C
                future.cancel()


@contextmanager
def _decoders(count: int) -> Iterator[SimpleQueue[_Decoder] | None]:
    """So many processes, for as long as the block; None where there are to be none."""
    if not count:
        with quiet_decoders():
            yield None
        return
    with ExitStack() as stack:
        idle: SimpleQueue[_Decoder] = SimpleQueue()
        for _ in range(count):
            idle.put(stack.enter_context(_Decoder()))
        yield idle


def _decode_chunk(chunk: Sequence[Found], image_size: int, idle: SimpleQueue[_Decoder] | None) -> list[_Decoded]:
    if idle is None:
        return [_decode(found, image_size) for found in chunk]
    decoder = idle.get()  # there are as many as threads
    try:
        return decoder.ask(chunk, image_size)
    except _Crash:
        return [_decode_alone(found, image_size, decoder) for found in chunk]
    finally:
        idle.put(decoder)


def _decode_alone(found: Found, image_size: int, decoder: _Decoder) -> _Decoded:
    try:
        return decoder.ask([found], image_size)[0]
    except _Crash:
        return Rejected("damaged picture: its decoder crashed")


def _decode(found: Found, image_size: int) -> _Decoded:
    try:
        data = found.read()
    except OSError as error:
        return Rejected(f"cannot be read: {error.strerror or error}")
    return decode(data, found.path, image_size)


class _Crash(Exception):
    """A process is gone, and with it what it was asked."""


class _Decoder:
    """One process; started again when it is gone."""

    def __enter__(self) -> _Decoder:
        self._process = self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def ask(self, chunk: Sequence[Found], image_size: int) -> list[_Decoded]:
        """Decode a few pictures.

        Raises:
            _Crash: the process ended before it answered; another one is there.
        """
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            pickle.dump(([(found.path, found.read) for found in chunk], image_size), process.stdin, 5)
            process.stdin.flush()
            return pickle.load(process.stdout)  # what our own process wrote
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            self._end()
            self._process = self._start()
            raise _Crash from error

    def _start(self) -> subprocess.Popen[bytes]:
        home = str(Path(__file__).parents[2])  # of this package, which need not be installed
        paths = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-P", "-m", __name__]  # -P: nothing is imported from the user's folder
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
        )

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()


def _serve() -> None:
    """Answer until the parent is gone. A Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else may write among the answers
    with quiet_decoders():
        while True:
            try:
                chunk, image_size = pickle.load(sys.stdin.buffer)  # what our own parent wrote
            except (EOFError, pickle.UnpicklingError):
                return
            found = [_decode(Found(path, None, False, read), image_size) for path, read in chunk]
            pickle.dump(found, answers, 5)
            answers.flush()


if __name__ == "__main__":
    _serve()
