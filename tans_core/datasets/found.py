"""What a source hands to `split.py`: pictures with their classes, not yet decoded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tans_core.datasets.spec import Spec
from tans_core.records import Skipped


@dataclass(frozen=True, slots=True)
class Found:
    """One entry that is or claims to be a picture. `class_name` is None where it has no label."""

    path: str  # for people and for the report, exact
    class_name: str | None
    in_test: bool  # stands in a labelled test part that the data brings
    read: Callable[[], bytes]


@dataclass(frozen=True, kw_only=True)
class Unread:
    """Files of a SPEC that are known by name alone. `stamp` is another one when a name, a size or a time is."""

    spec: Spec
    stamp: str
    read: Callable[[], Collection]


@dataclass(frozen=True, kw_only=True)
class Collection:
    """All that one source found. `pictures` may be a stream that is read once; `count` is how many they are."""

    spec: Spec
    name: str
    source: str
    licence: str
    pictures: Iterable[Found]
    count: int
    skipped: tuple[Skipped, ...] = ()
    ignored: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Stamp:
    """A hash over files as a folder lists them: names, sizes, and times of content and of status in nanoseconds."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, name: str, status: os.stat_result | None = None) -> None:
        state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns) if status else ()
        self._digest.update(f"{name}\0{state}\n".encode("utf-8", "surrogateescape"))

    def __str__(self) -> str:
        return self._digest.hexdigest()


def read_bytes(path: str) -> bytes:
    """A whole file; for a small one the half of what `Path.read_bytes` takes."""
    with open(path, "rb", buffering=0) as file:
        return file.read()


def some(names: Iterable[str], limit: int = 5) -> str:
    """The first few of many names, for a message."""
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit:,} more" if len(names) > limit else "")


def own_split(counts: Mapping[str, int]) -> str:
    """The note on a given test part: pictures by side ("train", "val", "test", or "" for no side)."""
    sides = ((side or "beside them", counts[side]) for side in ("train", "val", "test", "") if counts.get(side))
    return f"own split: {', '.join(f'{side} {count:,}' for side, count in sides)}; test kept, the rest dealt"
