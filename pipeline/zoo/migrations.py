"""Zoos of older schemas: what they lack when they are read, and how they become the newest when they are grown.

1 -> 2: rows say who trained them and what they come from; a zoo has supernets of its datasets, the mode in which its
pairs are made, and how a supernet is trained. An older tans would take what is a pair's own for its whole weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline.config import preset
from pipeline.running.files import write_whole
from pipeline.running.progress import say
from pipeline.zoo.location import Location
from pipeline.zoo.schema import SCHEMA_VERSION
from pipeline.zoo.supernets import COLUMNS, TABLE
from pipeline.zoo.table import AppendTable
from tans_core.errors import ZooError
from tans_core.records import ZooSettings


def completed(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of any schema that is read, with what later schemas keep beside; `schema` stays what it is."""
    if kept["schema"] >= 2:
        return dict(kept)
    return {**kept, "pair_mode": "standalone", "supernet_recipe": asdict(preset(kept["preset"]).supernet_recipe)}


def raised(location: Location, settings: ZooSettings, file: Path) -> ZooSettings:
    """The settings of a zoo that is of the newest schema from now on; dying at any line leaves it as it was, or raised.

    Args:
        file: that keeps the settings.

    Raises:
        ZooError: it cannot be written.
    """
    if settings.schema == SCHEMA_VERSION:
        return settings
    newest = replace(settings, schema=SCHEMA_VERSION)
    AppendTable.create(location, TABLE, COLUMNS)
    try:
        write_whole(file, json.dumps(asdict(newest), indent=2, allow_nan=False).encode())
    except OSError as error:
        raise ZooError(f"{file} cannot be written: {error.strerror}; make room there") from error
    say(f"{location.uri} was of schema {settings.schema} and is of {SCHEMA_VERSION} now: older tans cannot read it")
    return newest
