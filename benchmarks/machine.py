"""What every result says about where it comes from."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.zoo.latency import device_name


def machine() -> dict[str, Any]:
    """Processor, cores, load and versions."""
    packages = ("torch", "ofa", "ray", "botorch", "deltalake")
    return {
        "processor": device_name(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def write(path: Path, result: dict[str, Any]) -> None:
    """The result with its machine, as JSON; also printed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**result, "machine": machine()}, indent=1, allow_nan=False)
    path.write_text(text + "\n")
    print(text)
