"""A zoo's folder, and what it keeps for life in its `zoo.json`."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from pipeline.zoo import migrations
from pipeline.zoo.schema import SCHEMA_VERSION
from tans_core.errors import ConfigError, ZooError
from tans_core.records import ZooSettings

SETTINGS = "zoo.json"


def read_settings(folder: Path) -> ZooSettings:
    """Raises: ZooError: there is no zoo, or one that this version of tans cannot read."""
    path = folder / SETTINGS
    try:
        kept = json.loads(path.read_bytes())
        found = kept["schema"]
    except (FileNotFoundError, NotADirectoryError):
        raise ZooError(f"there is no zoo at {folder}: check the name, or make one with `tans build-zoo`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ZooError(f"{path} cannot be read ({error}): put it back from a copy of the zoo") from error
    if found not in range(1, SCHEMA_VERSION + 1):
        raise ZooError(
            f"the zoo at {folder} has schema {found}, this version of tans reads schemas 1 to {SCHEMA_VERSION}: "
            "install the version of tans that wrote it, or a newer one"
        )
    try:
        return ZooSettings(**migrations.completed(kept))
    except (TypeError, KeyError, ConfigError) as error:
        raise ZooError(f"{path} is no zoo's ({error}): put it back from a copy of the zoo") from error


def make_folder(folder: Path, ours: Collection[str]) -> None:
    """Raises: ConfigError: it holds what is not ours; ZooError: it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strangers = sorted(path.name for path in folder.iterdir() if path.name not in ours)
    except OSError as error:
        raise ZooError(f"{folder} cannot be a zoo's folder: {error.strerror}; name another place") from error
    if strangers:
        raise ConfigError(
            f"{folder} holds {strangers[0]!r} ({len(strangers)} files or folders that are no zoo's): "
            "name a folder that is empty or not there yet"
        )
