"""Folders that results go to: nothing that we did not write is removed or replaced, and a result is there whole or not.

What is ours is known by its content. Names that begin with a dot are passed over: no result of ours has one, so they
stay. So is what Python leaves where a network's `exported.py` was imported.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.running.files import flush_folder
from tans_core.errors import ConfigError

IsOurs = Callable[[Path], bool]  # asked of each entry of a folder

LAST = "config.json"  # comes last into a folder and leaves it first: a result without it is not whole


def refuse_foreign(folder: Path, is_ours: IsOurs) -> list[Path]:
    """What of ours is in a folder already; nothing where there is no folder yet.

    Raises:
        ConfigError: it holds something else, or cannot be a folder.
    """
    try:
        entries = sorted(folder.iterdir())
        ours = [entry for entry in entries if not _passed_over(entry)]
        for entry in ours:
            if not is_ours(entry):
                raise ConfigError(
                    f"--out {folder} holds {entry.name}, which tans did not write or which was changed since: "
                    "name another folder, or move it away"
                )
        return ours
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _cannot_be(folder, error) from error


@contextmanager
def new_result(folder: Path, is_ours: IsOurs, overwrite: bool) -> Iterator[Path]:
    """Yields an empty folder to write a result into; its files come into `folder` when the block ends well.

    `folder` is made and tried before the block. When the block fails it is as it was, and gone if it was not there.

    Raises:
        ConfigError: `folder` cannot be written, holds something that is not ours, or a result and `overwrite` is False.
    """
    _refuse_result(folder, is_ours, overwrite)
    made = _make(folder)
    keep: Path | None = None
    try:
        try:
            staging = Path(tempfile.mkdtemp(prefix=".tans-", dir=folder))
        except OSError as error:
            raise _cannot_be(folder, error) from error
        keep = staging
        yield staging
        try:
            old = _refuse_result(folder, is_ours, overwrite)  # somebody else may have come meanwhile
        except ConfigError as error:
            keep = None
            raise ConfigError(f"{error}. The new result is in {staging}") from error
        _move_in(staging, folder, old)
    finally:
        if keep is not None:
            shutil.rmtree(keep, ignore_errors=True)
        for path in reversed(made):
            with suppress(OSError):  # not empty: there is a result
                path.rmdir()


def _refuse_result(folder: Path, is_ours: IsOurs, overwrite: bool) -> list[Path]:
    there = refuse_foreign(folder, is_ours)
    if there and not overwrite:
        raise ConfigError(f"--out {folder} holds a result already: name another folder, or give --overwrite")
    return there


def _make(folder: Path) -> list[Path]:
    """Make a folder and its parents; returns those that were not there, outermost first."""
    made: list[Path] = []
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            made.append(path)
    except OSError as error:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir()
        raise _cannot_be(folder, error) from error
    return made


def _move_in(staging: Path, folder: Path, old: list[Path]) -> None:
    new = sorted(staging.iterdir(), key=lambda path: path.name == LAST)
    for path in sorted(old, key=lambda path: path.name != LAST):
        path.unlink()
    for path in new:
        os.replace(path, folder / path.name)
    flush_folder(folder)


def _passed_over(path: Path) -> bool:
    if path.name.startswith(".") or path.name == "__pycache__":
        return True
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def _cannot_be(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(f"--out {folder} cannot be a folder that is written to ({error.strerror}): name another")
