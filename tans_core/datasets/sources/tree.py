"""A folder as it lies on disk: its pictures, its other files, its folders; each real folder once."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tans_core.datasets.found import Stamp
from tans_core.datasets.sniff import HEAD_BYTES, PICTURE_SUFFIXES, picture_format
from tans_core.records import Skipped

MAX_DEPTH = 100  # nobody's dataset; a hostile archive has thousands
_SYSTEM = frozenset(("__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information"))


@dataclass(slots=True, eq=False)
class Folder:
    """What lies in one folder, in the order of names."""

    path: Path
    pictures: list[Path] = field(default_factory=list)  # or claim to be
    others: list[Path] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.name

    def walk(self) -> Iterator[Folder]:
        """This folder and all below it."""
        yield self
        for folder in self.folders:
            yield from folder.walk()


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A walked folder."""

    root: Folder
    skipped: tuple[Skipped, ...]
    ignored: dict[str, int]  # kind of file -> count
    notes: tuple[str, ...]
    stamp: str  # changes with the name, size or times of any file


def readable(name: str) -> str:
    """A file's name as text that any table or JSON can hold: bytes that are no UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def below(root: Path, path: Path) -> str:
    """A path's name inside a folder that was walked; `relative_to` takes apart what the walk has just put together.

    Args:
        root: absolute.
    """
    return readable(str(path)[len(str(root)) :].lstrip(os.sep))


def walk(root: Path) -> Tree:
    """Walk a folder; links are followed after all real folders, so that a folder keeps its own name.

    Args:
        root: absolute.
    """
    return _Walk(root).tree()


class _Walk:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: dict[tuple[int, int], Path] = {}
        self._links: list[tuple[Folder, Path]] = []
        self._dead: list[str] = []
        self._ignored: Counter[str] = Counter()
        self._notes: list[str] = []
        self._stamp = Stamp()

    def tree(self) -> Tree:
        folder = self._folder(self._root)
        while self._links:
            parent, path = self._links.pop(0)
            where = self._seen.get(_identity(path))
            if where is None:
                parent.folders.append(self._folder(path))
                parent.folders.sort(key=lambda each: each.path)
            elif where in path.parents:
                self._notes.append(f"{self._name(path)} is a link back to {self._name(where)}, a loop: not followed")
            else:
                self._notes.append(f"{self._name(path)} is the same folder as {self._name(where)}: read once")
        skipped = (Skipped(reason="dead link", paths=tuple(self._dead)),) if self._dead else ()
        return Tree(folder, skipped, dict(self._ignored), tuple(self._notes), str(self._stamp))

    def _folder(self, path: Path) -> Folder:
        self._seen[_identity(path)] = path
        self._stamp.add(f"{str(path)[len(str(self._root)) :]}/")
        folder = Folder(path)
        if len(path.relative_to(self._root).parts) > MAX_DEPTH:
            self._notes.append(f"{self._name(path)} lies {MAX_DEPTH} folders deep: not read")
            return folder
        for entry in sorted(os.scandir(path), key=lambda each: each.name):
            if entry.name.startswith(".") or entry.name.casefold() in _SYSTEM:
                self._ignored["hidden or system"] += 1
            elif entry.is_dir(follow_symlinks=False):
                if _identity(Path(entry.path)) not in self._seen:
                    folder.folders.append(self._folder(Path(entry.path)))
            else:
                self._place(folder, entry)
        return folder

    def _place(self, folder: Folder, entry: os.DirEntry[str]) -> None:
        path = Path(entry.path)
        try:
            status = entry.stat()
        except OSError:  # its target is gone, or it leads to itself
            self._dead.append(self._name(path))
            return
        self._stamp.add(entry.path[len(str(self._root)) :], status)
        if stat.S_ISDIR(status.st_mode):
            self._links.append((folder, path))
        elif not stat.S_ISREG(status.st_mode):
            self._ignored["no file (device, pipe or socket)"] += 1
        elif _claims_to_be_picture(path):
            folder.pictures.append(path)
        else:
            folder.others.append(path)
            self._ignored[readable(path.suffix.lower()) or "no suffix"] += 1

    def _name(self, path: Path) -> str:
        return below(self._root, path) or "."


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _claims_to_be_picture(path: Path) -> bool:
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return picture_format(file.read(HEAD_BYTES)) is not None
    except OSError:
        return False
