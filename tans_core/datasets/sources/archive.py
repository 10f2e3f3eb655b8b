"""Unpack archives that strangers made: zip and tar, plain or compressed; the kind is told from the content.

What keeps it safe:
- Only regular files and folders are made, never links or devices, so no path leads out once its parts are checked.
- A file is opened so that it must be new: a name that comes twice, or once as a file and once as a folder, is refused.
- Bytes are counted as they are written. What an archive says of its own sizes is used to refuse sooner, never later.
- All is written to a folder beside the target, which gets the target's name when it is whole. Sums are checked on the
  way (zip and gzip and xz and bzip2 carry them; of a plain tar, headers and the end mark).
- Modes, owners and times of the archive are not taken over.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import shutil
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from tans_core.datasets.sniff import HEAD_BYTES, other_kind
from tans_core.errors import DatasetError

MOST_GROWTH = 100  # times the archive's size, with what is in archives inside it
_CHUNK_BYTES = 1 << 20
_ENTRY_BYTES = 512  # what a member counts for beside its content, so that empty ones are not free
_DEEPEST = 64  # folders
_INNER = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|gz|bz2|xz)$", re.IGNORECASE)  # .npz, .docx and .pt are zips too
_OPENERS: dict[str | None, Callable[[Path], io.BufferedIOBase]] = {
    "a gzip archive": gzip.GzipFile,
    "a bzip2 archive": bz2.BZ2File,
    "an xz archive": lzma.LZMAFile,
}
_UNREAD = ("a 7z archive", "a rar archive")
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error)
_DAMAGE += (EOFError, ValueError, OverflowError, RecursionError)


class DamagedArchive(DatasetError):
    """An archive that is cut short or whose sums are wrong: fetching it again may help."""


@dataclass(frozen=True)
class _Member:
    name: str
    is_folder: bool
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, target: Path) -> None:
    """Unpack a zip or tar file into a new folder, and zips and tars inside it one level deep beside themselves.

    One that is refused leaves nothing behind; a call that is killed leaves a folder that the next call removes. Two
    calls must not have one target at the same time.

    Args:
        archive: the file, of any name.
        target: a folder that is not there yet; it has the content once it is there.

    Raises:
        DamagedArchive: it is cut short, or a sum is wrong.
        DatasetError: it is no zip or tar, has a member that is refused, or grows beyond `MOST_GROWTH` or the disk.
    """
    if target.exists():
        raise DatasetError(f"{target} is there already: {archive} is unpacked into a new folder only")
    unfinished = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a call that was killed
    unfinished.mkdir(parents=True)
    try:
        budget = _Budget(archive, unfinished)
        _unpack_one(archive, unfinished, budget, str(archive))
        _unpack_inner(unfinished, budget)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _unpack_one(archive: Path, folder: Path, budget: _Budget, shown: str) -> None:
    reader = _reader(archive)
    if reader is None:
        kind = _kind(archive)
        if kind is None:
            raise DamagedArchive(f"{shown} does not begin as a zip or tar does")
        tarless = f"{kind} without a tar inside" if kind in _OPENERS else f"{kind}, no zip or tar"
        raise DatasetError(f"{shown} is {tarless}: unpack it by hand and name folder:PATH")
    try:
        for member in reader(archive, budget, shown):
            _write(member, folder, budget, shown)
    except _DAMAGE as error:
        raise DamagedArchive(f"{shown} is damaged: {error}") from error
    except NotImplementedError as error:
        raise DatasetError(f"{shown}: {error}; unpack it by hand and name folder:PATH") from error
    except OSError as error:
        if error.errno is None:  # how gzip and bz2 tell of damage
            raise DamagedArchive(f"{shown} is damaged: {error}") from error
        raise DatasetError(f"{shown} cannot be unpacked: {error.strerror}: {error.filename or folder}") from error


def _unpack_inner(folder: Path, budget: _Budget) -> None:
    """`train.zip` becomes the folder `train`; a file that is merely compressed stays."""
    for inner in sorted(path for path in folder.rglob("*") if path.is_file() and _INNER.search(path.name)):
        shown = inner.relative_to(folder).as_posix()
        home = inner.with_name(re.sub(r"\.tar$", "", _INNER.sub("", inner.name), flags=re.IGNORECASE) or "_")
        while home.exists():
            home = home.with_name(home.name + "_")
        try:
            if _reader(inner) is None:
                continue
            print(f"{shown} inside the archive is unpacked too, to {home.name}", file=sys.stderr)
            home.mkdir()
            _unpack_one(inner, home, budget, shown)
        except DamagedArchive as error:  # it came like that: the archive around it is whole
            raise DatasetError(f"inside the archive, {error}") from error
        inner.unlink()


def _write(member: _Member, folder: Path, budget: _Budget, shown: str) -> None:
    parts = _safe_parts(member.name, shown)
    path = folder.joinpath(*parts)
    budget.spend(_ENTRY_BYTES, member.name)
    try:
        (path if member.is_folder else path.parent).mkdir(parents=True, exist_ok=True)
        if member.is_folder:
            return
        if not parts:
            raise _refusal(shown, member.name, "has no name")
        with member.open() as source, path.open("xb") as file:
            for number, chunk in enumerate(iter(partial(source.read, _CHUNK_BYTES), b"")):
                kind = other_kind(chunk) if number == 0 else None
                if kind in _UNREAD:
                    raise _refusal(shown, member.name, f"is {kind}, which is not read here")
                budget.spend(len(chunk), member.name)
                file.write(chunk)
    except (FileExistsError, NotADirectoryError) as error:
        raise _refusal(shown, member.name, "has a name that comes twice") from error


def _safe_parts(name: str, shown: str) -> list[str]:
    """The folders and the name, with `\\` as a separator as `/` is."""
    path = name.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/"):
        raise _refusal(shown, name, "has an absolute name")
    if re.match(r"[A-Za-z]:", path):
        raise _refusal(shown, name, "has a drive letter")
    if ".." in parts:
        raise _refusal(shown, name, "leads out of the folder")
    if "\0" in name or len(parts) > _DEEPEST:
        raise _refusal(shown, name, f"has a name with a zero byte or more than {_DEEPEST} folders")
    return parts


def _refusal(shown: str, name: str, why: str) -> DatasetError:
    return DatasetError(f"{shown} is refused: its member {name!r} {why}; unpack it by hand and name folder:PATH")


class _Budget:
    """How many bytes may still be written, for an archive and all that is in it."""

    def __init__(self, archive: Path, folder: Path) -> None:
        growth, free = MOST_GROWTH * archive.stat().st_size, shutil.disk_usage(folder).free
        self._shown, self._left = str(archive), min(growth, free)
        self._limit = f"{growth:,} bytes, {MOST_GROWTH} times its size" if growth < free else f"the free {free:,} bytes"

    def spend(self, size_bytes: int, member: str) -> None:
        self.foresee(size_bytes, member)
        self._left -= size_bytes

    def foresee(self, size_bytes: int, member: str) -> None:
        if size_bytes > self._left:
            raise _refusal(self._shown, member, f"takes it beyond {self._limit}")


def _reader(archive: Path) -> Callable[[Path, _Budget, str], Iterator[_Member]] | None:
    """By content: a tar inside a compressed file counts, another file inside one does not."""
    kind = _kind(archive)
    if kind == "a zip archive":
        return _zip_members
    opener = _OPENERS.get(kind, _open_plain)
    try:
        with opener(archive) as stream:
            tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    except (*_DAMAGE, OSError) as error:
        raise DamagedArchive(f"{archive.name} is damaged: {error}") from error
    return partial(_tar_members, opener)


def _kind(archive: Path) -> str | None:
    with archive.open("rb") as file:
        return other_kind(file.read(HEAD_BYTES))


def _open_plain(path: Path) -> io.BufferedIOBase:
    return path.open("rb")


def _zip_members(archive: Path, budget: _Budget, shown: str) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        budget.foresee(sum(info.file_size for info in members), f"{len(members)} members together")
        for info in members:
            flagged = info.flag_bits & 0x800
            name = info.orig_filename if flagged else _decoded(info.orig_filename.encode("cp437"))
            if info.flag_bits & 0x41:
                raise _refusal(shown, name, "needs a password")
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refusal(shown, name, "is a link or a device")
            yield _Member(name, name.endswith(("/", "\\")), partial(file.open, info))


def _tar_members(
    opener: Callable[[Path], io.BufferedIOBase], archive: Path, budget: _Budget, shown: str
) -> Iterator[_Member]:
    with opener(archive) as stream:
        narrow = _Narrow(stream)
        with tarfile.open(fileobj=narrow, mode="r:") as file:  # type: ignore[call-overload]
            for info in file:
                name = _decoded(info.name.encode("utf-8", "surrogateescape"))
                if not (info.isreg() or info.isdir()):
                    raise _refusal(shown, name, "is a link or a device")
                yield _Member(name, info.isdir(), partial(file.extractfile, info))  # type: ignore[arg-type]
            if narrow.last != bytes(tarfile.BLOCKSIZE):  # tarfile takes a header it cannot read for the end
                raise tarfile.ReadError("it does not end where a tar ends")
        for chunk in iter(partial(stream.read, _CHUNK_BYTES), b""):  # to the sum at the end
            budget.spend(len(chunk), "(its end)")


class _Narrow:
    """A stream that hands out little at a time, so that a header cannot ask for all the memory there is."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream, self.last = stream, b""
        self.tell, self.seek = stream.tell, stream.seek

    def read(self, size: int) -> bytes:
        if size > _CHUNK_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        self.last = self._stream.read(size)
        return self.last


def _decoded(name: bytes) -> str:
    """A name without a word on its code: UTF-8 where it is valid, else the code page of the first PC."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("cp437")
