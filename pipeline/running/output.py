"""Standard output carries results alone: while a command works, whatever libraries print goes to standard error."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from tans_core.errors import ConfigError, TansError

_LONGEST_NAME = 61  # letters


class Output:
    """Where results go: a table for people, one JSON document for machines."""

    def __init__(self, stream: TextIO, json_to: str | None) -> None:
        self._stream, self._json_to = stream, json_to

    def result(self, summary: Any, table: str) -> None:
        """Write a frozen summary as JSON where it was asked for, and the table where the JSON does not go.

        Raises:
            TansError: the file cannot be written any more.
        """
        if self._json_to is not None:
            text = json.dumps(_plain(summary), indent=1, ensure_ascii=False, allow_nan=False)
            if self._json_to == "-":
                self._write(text)
                return
            path = Path(self._json_to).expanduser()
            try:
                path.write_text(text + "\n")
            except OSError as error:
                raise TansError(
                    f"--json {path} cannot be written any more ({error.strerror}); what it tells of is done"
                ) from error
        self._write(table)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text.rstrip("\n") + "\n")
            self._stream.flush()
        except BrokenPipeError:  # `| head` has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextmanager
def results(json_to: str | None) -> Iterator[Output]:
    """Keep the real standard output for results; file descriptor 1 is standard error meanwhile, for children too.

    Raises:
        ConfigError: `json_to` cannot be written. It is asked now, not after three days of work.
    """
    if json_to not in (None, "-"):
        _check_writable(Path(json_to).expanduser())
    flush_streams()
    kept = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(kept, "w", encoding="utf-8") as stream:
        try:
            yield Output(stream, json_to)
        finally:
            flush_streams()
            os.dup2(kept, 1)


def flush_streams() -> None:
    """Write out what is buffered; a reader that went away is no error."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns aligned, numbers to the right; control characters escaped."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells)] if cells else [len(name) for name in header]
    right = [
        bool(rows) and all(isinstance(row[place], int | float | None) for row in rows) for place in range(len(header))
    ]

    def line(values: Sequence[str]) -> str:
        padded = [
            value.rjust(width) if number else value.ljust(width) for value, width, number in zip(values, widths, right)
        ]
        return "  ".join(padded).rstrip()

    return "\n".join([line(list(header)), line(["-" * width for width in widths]), *map(line, cells)])


def latency_cell(latency_ms: float | None, predicted: bool) -> float | str | None:
    """A latency for a table's cell; one that was not measured says so."""
    return f"{latency_ms:.3g} predicted" if predicted and latency_ms is not None else latency_ms


def shown(text: str) -> str:
    """Text of other people's for a terminal: control characters escaped."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def shown_name(name: str) -> str:
    """A name of other people's, of one line: escaped, and cut in the middle when long."""
    if len(name) > _LONGEST_NAME:
        half = (_LONGEST_NAME - 1) // 2
        name = f"{name[:half]}…{name[-half:]}"
    return shown(name)


def _check_writable(path: Path) -> None:
    new = not path.exists()
    try:
        path.open("a").close()
        if new:
            path.unlink()
    except OSError as error:
        raise ConfigError(f"--json {path} cannot be written ({error.strerror}): name another file") from error


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return shown(str(value))


def _plain(value: Any) -> Any:
    """Dataclasses and tuples as JSON has them; a number that is not finite is null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, datetime) else str(value) if isinstance(value, Path) else value
