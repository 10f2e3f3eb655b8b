"""A network as a folder: config.json holds the hashes of all other files, by which the folder is known as ours."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.running.files import write_whole
from tans_core.records import content_hash

_CONFIG = "config.json"


def seal(folder: Path) -> None:
    """Put the hashes of a folder's other files into its config.json."""
    config = json.loads((folder / _CONFIG).read_bytes())
    files = sorted(path for path in folder.iterdir() if path.name != _CONFIG)
    config["blake2b"] = {path.name: content_hash(path.read_bytes()) for path in files}
    write_whole(folder / _CONFIG, json.dumps(config, indent=1, ensure_ascii=False).encode())


def is_of_network(path: Path) -> bool:
    """Whether an entry of a network's folder is what `seal` saw."""
    try:
        config = json.loads((path.parent / _CONFIG).read_bytes())
        if path.name == _CONFIG:
            return {"network", "class_names", "blake2b"} <= config.keys()
        return config["blake2b"][path.name] == content_hash(path.read_bytes())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
