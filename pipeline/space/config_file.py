"""How a space is trained, as a file that people write: JSON or TOML with the names of `SpaceConfig`."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tans_core.cross_modal.meta_training import SpaceConfig
from tans_core.datasets.spec import did_you_mean
from tans_core.errors import ConfigError

_KINDS = {int: "a whole number", float: "a number", str: "a text"}


def read_settings(path: Path) -> dict[str, Any]:
    """The settings that a file names, each of its field's type; those of the space whose config.json it is.

    Raises:
        ConfigError: it cannot be read, or names what is no field of `SpaceConfig`, or gives a field another type.
    """
    path = path.expanduser()
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise ConfigError(f"--config {path} cannot be read ({error.strerror}): name a file of JSON or TOML") from error
    except ValueError as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise ConfigError(f"--config {path} is no {kind} ({error}); TOML is known by the ending .toml") from error
    if isinstance(found, dict) and isinstance(found.get("config"), dict) and "zoo_id" in found:
        found = found["config"]  # a space's own
    if not isinstance(found, dict):
        raise ConfigError(f"--config {path} holds {type(found).__name__}: it must name settings, as in peak_lr = 0.003")
    try:
        return {name: _checked(name, value) for name, value in found.items()}
    except ConfigError as error:
        raise ConfigError(f"--config {path}: {error}") from error


def config_of(path: Path | None, steps: int | None) -> SpaceConfig:
    """The defaults, with what a file names and, before that, `steps` where they are given.

    Raises:
        ConfigError: as `read_settings`; a setting is out of its range.
    """
    settings = {} if path is None else read_settings(path)
    if steps is not None:
        settings["steps"] = steps
    return SpaceConfig(**settings)


def _checked(name: str, value: Any) -> int | float | str:
    kinds = {field: type(value) for field, value in asdict(SpaceConfig()).items()}
    if name not in kinds:
        near = did_you_mean(name, kinds) or f"; there are {', '.join(kinds)}"
        raise ConfigError(f"there is no setting {name!r}{near}")
    kind = kinds[name]
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ConfigError(f"{name} must be {_KINDS[kind]}, got {json.dumps(value, default=str)}")
    return value
