"""Files of the user's that stand before a module which tans needs: `torch.py` in the folder it was started in, say."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path

_OURS = ("pipeline", "tans_core")
_HOUSE = Path(__file__).resolve().parents[2]  # where they lie
_RAN = re.compile(r'File "([^"]+)", line \d+, in <module>|\((/[^()]+\.py)\)')  # of a traceback, of an ImportError
_INSTALLED = {"site-packages", "dist-packages", "runtime_resources"}  # the last: what Ray sends to its nodes


def shadow_behind(error: BaseException) -> str | None:
    """The sentence about a file that shadows a module and made this error; None where no file did.

    It did if it ran when the error was raised, or if the error says what its module has not.
    """
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.name == "<module>" and (folder := _shadowing(Path(frame.filename))):
            return _sentence(Path(frame.filename), folder, error)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        named = isinstance(error, ImportError | AttributeError) and f"'{name}'" in str(error)
        if named and file and (folder := _shadowing(Path(file))):
            return _sentence(Path(file), folder, error)
    return None


@contextmanager
def named_shadows() -> Iterator[None]:
    """Around imports: a file that shadows a module and raises is named in one line, and ends the process."""
    try:
        yield
    except Exception as error:
        said = shadow_behind(error)
        if said is None:
            raise
        raise SystemExit(f"tans: {said}") from None


def shadow_on_worker(error: str) -> str | None:
    """The same of a traceback that came from another process, maybe of another machine; None where no file shadows.

    What is called like a module that this process has from elsewhere, and was not installed there, shadows it.
    """
    lines = error.strip().splitlines() or [""]
    for ran, said in reversed(_RAN.findall(error)):
        file = Path(ran or said)
        name = file.parent.name if file.stem == "__init__" else file.stem
        ours = getattr(sys.modules.get(name), "__file__", None)
        if ours and Path(ours) != file and not _INSTALLED & set(file.parts):
            return (
                f"{file} on a worker shadows the {name} that tans needs ({lines[-1]}): rename it, or start Ray there "
                "without its folder in PYTHONPATH"
            )
    return None


def _shadowing(file: Path) -> Path | None:
    """The folder on Python's path that gives this file, where a later one has a module of the same name."""
    file = file.absolute()
    name, folder = (file.parent.name, file.parents[1]) if file.stem == "__init__" else (file.stem, file.parent)
    if folder == _HOUSE:
        return None
    places = [str(Path(place or ".").absolute()) for place in sys.path]
    if str(folder) not in places:
        return None
    later = [place for place in places[places.index(str(folder)) + 1 :] if place != str(folder)]
    known = name in sys.stdlib_module_names or name in _OURS or PathFinder.find_spec(name, later)
    return folder if known else None


def _sentence(file: Path, folder: Path, error: BaseException) -> str:
    name = file.parent.name if file.stem == "__init__" else file.stem
    said = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return (
        f"{file.absolute().relative_to(folder)} in {folder} shadows the {name} that tans needs ({said}): rename it, or "
        "start tans where it is neither in the folder nor in PYTHONPATH"
    )
