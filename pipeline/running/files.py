"""Files that are there whole or not at all, also after a loss of power."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_new(path: Path, data: bytes) -> bool:
    """Make a file, and its folder where there is none.

    Returns:
        False if something has that name already; it is left as it is.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _written_beside(path, data) as beside:
            os.link(beside, path)  # unlike a rename, it never replaces what is there
    except FileExistsError:
        return False
    return True


def write_whole(path: Path, data: bytes) -> None:
    """Make a file or replace it: whoever opens it has the old bytes or the new ones.

    Raises:
        OSError: the file cannot be written; the old one stays, and nothing else.
    """
    with _written_beside(path, data) as beside:
        os.replace(beside, path)


@contextmanager
def _written_beside(path: Path, data: bytes) -> Iterator[Path]:
    """The bytes on the disk under another name, to be given the right one, which is then on the disk too."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield beside
    finally:
        beside.unlink(missing_ok=True)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make the names in a folder outlive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
