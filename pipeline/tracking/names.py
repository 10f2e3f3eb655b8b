"""What MLflow takes as names and addresses, without asking it."""

from __future__ import annotations

import re
from pathlib import Path

from tans_core.errors import ConfigError
from tans_core.records import content_hash

_NAME_LENGTH = 250  # MLflow's own limit


def sqlite_uri(folder: Path) -> str:
    """The default store: `mlflow.db` in `folder`, as MLflow spells it."""
    return f"sqlite:///{folder.expanduser().resolve() / 'mlflow.db'}"


def tracking_name(text: str) -> str:
    """A name that MLflow takes, for a metric, a parameter or a part of either.

    Good names stay as they are. Where something had to be replaced or cut, a hash of the whole text ends the
    name, so that different texts keep different names.
    """
    parts = [part for part in re.sub(r"[^\w\-. :/]", "_", text).split("/") if part not in ("", ".")]
    name = re.sub(r"^\.\.", "__", "/".join("__" if part == ".." else part for part in parts))  # no way upwards
    if name == text and 0 < len(name) <= _NAME_LENGTH:
        return name
    mark = content_hash(text.encode(errors="surrogatepass"))[:8]
    return f"{name[: _NAME_LENGTH - len(mark) - 1]}-{mark}"


def checked_uri(uri: str) -> str:
    """The URI with an absolute path: the working folder changes before Ray starts."""
    scheme, separator, path = uri.partition("://")
    here = sqlite_uri(Path.cwd())
    if not separator or scheme == "file":
        raise ConfigError(
            f"{uri!r} is a folder, and MLflow no longer keeps its runs in one: "
            f"give {here!r}, or the http(s) address of a tracking server"
        )
    if not scheme.startswith("sqlite"):
        return uri
    if "?" in path:
        raise ConfigError(f"{uri!r}: SQLite's address cannot hold a '?': give another place, such as {here!r}")
    return f"{scheme}:///{Path(path.removeprefix('/')).expanduser().absolute()}"
