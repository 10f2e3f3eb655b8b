"""Ray's words for people: without colours and tracebacks, in one line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_BREAKS = re.compile(r"\\r\\n|\\n|\r\n|\r|\n")  # Ray hands on whole texts as one line, breaks in letters
_WRONG = re.compile(r"^\[[^]]* [EC] [^]]*\]|^\S+ \S+ (ERROR|CRITICAL) |^\w*Error\b")  # as Ray's logs mark it
_WHERE = re.compile(r"^\[[^]]*\]\s*(\(\w+\)\s*)?(\S+\.cc:\d+:\s*)?(An unexpected system state.*Check failed: )?")
_LONGEST = 300  # letters
_LOGS = ("gcs_server.err", "gcs_server.out", "raylet.err", "raylet.out", "dashboard.log")


def reason(error: BaseException) -> str:
    """What an error says, in one line: the first that means something, of a traceback the last; its kind if none."""
    return one_line(str(error)) or type(error).__name__


def one_line(text: str) -> str:
    """The line of a text of Ray's that says what is the matter; empty where there is none."""
    lines = [line for line in _BREAKS.split(_COLOURS.sub("", text)) if line.strip()]
    if not lines:
        return ""
    traceback = any(line.startswith(("Traceback", "  File ")) for line in lines)
    line = lines[-1 if traceback else 0].strip()
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def last_words(logs: Path, names: Sequence[str] = _LOGS) -> str | None:
    """The last line that speaks of something wrong in the logs of a Ray that did not come up; None without one."""
    for name in names:
        try:
            lines = (logs / name).read_text(errors="replace").splitlines()
        except OSError:
            continue
        wrong = [line for line in lines if _WRONG.search(_COLOURS.sub("", line))]
        if wrong:
            return f"{name}: {one_line(_WHERE.sub('', _COLOURS.sub('', wrong[-1])))}"
    return None
