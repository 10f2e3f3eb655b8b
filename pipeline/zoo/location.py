"""Where a zoo lies: every spelling of its name becomes one, at the door."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tans_core.errors import ConfigError

# Seen with deltalake 1.6.6: it unescapes %XX, takes a backslash for a slash, and panics on the others.
_REFUSED = re.compile(r"%[0-9A-Fa-f]{2}|[\\|^\[\]\x00-\x1f\x7f]")
_OBJECT_STORES = ("s3",)


@dataclass(frozen=True, slots=True)
class Location:
    """A zoo's place: an absolute path or an object store's URI, without a slash at the end."""

    uri: str
    storage_options: dict[str, str] = field(default_factory=dict)  # what the object store wants to know

    @property
    def is_local(self) -> bool:
        return "://" not in self.uri

    @property
    def folder(self) -> Path:
        """The zoo's folder.

        Raises:
            ConfigError: the zoo lies in an object store, whose weights, settings and lock are not written yet.
        """
        if not self.is_local:
            raise ConfigError(f"{self.uri} is in an object store, where zoos cannot live yet: give a folder")
        return Path(self.uri)

    def table(self, name: str) -> str:
        return f"{self.uri}/{name}"


def locate(uri: str | os.PathLike[str]) -> Location:
    """The one name of a zoo, however it is spelled: relative, with `~`, `file://`, `..`, a link, a slash at the end.

    Raises:
        ConfigError: a kind of URI that we do not know, or a character that Delta cannot take.
    """
    text = os.fspath(uri)
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme in _OBJECT_STORES:
        options = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        return Location(text.rstrip("/"), options)
    if scheme == "file":
        text = unquote(text.removeprefix("file://").removeprefix("localhost"))
    elif scheme:
        raise ConfigError(f"{text!r} starts with {scheme}://, which no zoo can lie on: give a folder")
    if not text.strip():
        raise ConfigError("the zoo's name is empty: give a folder, such as runs/zoo")
    path = str(Path(text).expanduser().resolve())
    refused = _REFUSED.search(path)
    if refused:
        raise ConfigError(f"the zoo's path {path!r} holds {refused[0]!r}, which Delta tables cannot take: rename it")
    return Location(path)
