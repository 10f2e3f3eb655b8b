"""What a SPEC says: scheme, place, subfolder and options.

SCHEME:PLACE[#SUBFOLDER][?key=value&key=value]; only `kaggle:` has a subfolder. A `?` that no `key=`
follows belongs to the place, as in a glob; so does a `&` inside a value that no known key follows.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace

from tans_core.errors import SpecError

SCHEMES = ("starter", "folder", "parquet", "kaggle")
KEYS = ("labels", "class", "without", "group")
_FORMS = "starter:NAME, folder:PATH, parquet:GLOB or kaggle:OWNER/NAME/versions/K"
_GROUP = re.compile(r"([1-9]\d*)of([1-9]\d*)")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The part of a SPEC behind the `?`; None or empty where it is left out."""

    labels: str | None = None  # "FILE.csv:IMAGE_COLUMN,LABEL_COLUMN" or "name:PATTERN"
    class_level: str | None = None  # "top" or "leaf"
    without: tuple[str, ...] = ()
    group: tuple[int, int] | None = None  # (which, of how many), from 1

    def __str__(self) -> str:
        values = {
            "labels": self.labels,
            "class": self.class_level,
            "without": ",".join(self.without),
            "group": f"{self.group[0]}of{self.group[1]}" if self.group else None,
        }
        text = "&".join(f"{key}={value}" for key, value in values.items() if value)
        return f"?{text}" if text else ""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A SPEC taken apart. `str` puts it together again."""

    scheme: str
    place: str
    subfolder: str = ""
    options: Options = Options()

    def __str__(self) -> str:
        subfolder = f"#{self.subfolder}" if self.subfolder else ""
        return f"{self.scheme}:{self.place}{subfolder}{self.options}"

    def to_paste(self, options: Options) -> str:
        """This SPEC with other options, as one types it into a shell."""
        return shlex.quote(str(replace(self, options=options)))

    def with_group(self, which: int, groups: int) -> Spec:
        return replace(self, options=replace(self.options, group=(which, groups)))


def parse_spec(text: str) -> Spec:
    """Take a SPEC apart.

    Raises:
        SpecError: an unknown scheme, an unknown option, or a value that an option cannot have.
    """
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in SCHEMES:
        raise SpecError(f"{text!r} is no SPEC of a kind that is known: a SPEC is {_FORMS}{_guess_scheme(text)}")
    found = re.search(r"\?(?=[a-z_]+=)", rest)
    place, options = (rest[: found.start()], rest[found.end() :]) if found else (rest, "")
    subfolder = ""
    if scheme == "kaggle":
        place, _, subfolder = place.partition("#")
    if not place:
        raise SpecError(f"nothing stands behind {scheme!r}: a SPEC is {_FORMS}")
    return Spec(scheme=scheme, place=place, subfolder=subfolder.strip("/"), options=_parse_options(options))


def _guess_scheme(text: str) -> str:
    scheme = text.partition(":")[0]
    near = difflib.get_close_matches(scheme, SCHEMES, n=1)
    if near and ":" in text:
        return f"; did you mean {near[0]}:{text.partition(':')[2]}?"
    return f"; for a folder on this machine, folder:{text}" if "/" in text and ":" not in text else ""


def _parse_options(text: str) -> Options:
    values: dict[str, str] = {}
    for piece in re.split(rf"&(?=(?:{'|'.join(KEYS)})=)", text) if text else []:
        key, _, value = piece.partition("=")
        if key not in KEYS:
            raise SpecError(f"unknown option {key!r}: there are {', '.join(KEYS)}{did_you_mean(key, KEYS)}")
        if key in values or not value:
            raise SpecError(f"option {key!r} must be given once, with a value")
        values[key] = value
    return Options(
        labels=values.get("labels"),
        class_level=_class_level(values.get("class")),
        without=tuple(name for name in values.get("without", "").split(",") if name),
        group=_group(values.get("group")),
    )


def _class_level(value: str | None) -> str | None:
    if value not in (None, "top", "leaf"):
        raise SpecError(f"class={value}: the class is the folder class=top or class=leaf")
    return value


def _group(value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    found = _GROUP.fullmatch(value)
    if not found or int(found[1]) > int(found[2]):
        raise SpecError(f"group={value}: a group is named as in group=1of3")
    return int(found[1]), int(found[2])


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The tail of a message: the nearest of the names there are, or nothing."""
    lower = {each.casefold(): each for each in names}
    near = difflib.get_close_matches(name.casefold(), lower, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(lower[each] for each in near)}?" if near else ""
