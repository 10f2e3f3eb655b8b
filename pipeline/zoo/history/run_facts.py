"""What a run was made with, for its journal: a report of a failure needs nothing else."""

from __future__ import annotations

import os
import platform
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from pipeline.running.signals import GivenUp
from pipeline.zoo.history.journal import Journal
from pipeline.zoo.latency import device_name
from tans_core.errors import ZooError

_PACKAGES = (
    "tans", "torch", "torchvision", "ofa", "ray", "botorch", "pygmo", "deltalake", "pyarrow", "safetensors", "mlflow",
)  # fmt: skip
_VARIABLES = re.compile(
    r"(RAY|MLFLOW|OMP|MKL|KMP|NVIDIA|PYTORCH|TORCH)_.*|CUDA_VISIBLE_DEVICES|KAGGLEHUB_CACHE|SLURM_(JOB_ID|NTASKS|NNODES)|"
    r"XDG_CACHE_HOME|TMPDIR"
)
_SECRET = re.compile(r"TOKEN|KEY|PASSW|SECRET|CREDENTIAL", re.IGNORECASE)


@contextmanager
def journalled(journal: Journal, run: str, start: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """What the run is stands in the journal before anything starts, and how it ended, whatever ended it, but SIGKILL.

    Yields:
        To be filled with what the end is to say.
    """
    journal.append(run, [("start", {**run_facts(), **start})])
    ends: dict[str, object] = {}
    try:
        yield ends
    except GivenUp:
        ends["error"] = "stopped by a signal before it had a result"
        raise
    except BaseException as error:
        ends["error"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        with suppress(ZooError):  # no room: the error that brought us here is the one to be seen
            journal.append(run, [("stop", ends)])


def run_facts() -> dict[str, object]:
    """Versions, machine, arguments and the environment variables that matter; no secret is among them."""
    return {
        "arguments": [without_secrets(argument) for argument in sys.argv],
        "folder": os.getcwd(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "machine": {
            "host": socket.gethostname(),
            "system": platform.platform(),
            "processor": device_name(),
            "cpus": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "gpus": torch.cuda.device_count(),
            "gpu": sorted(_gpu_models()),
        },
        "environment": {
            name: "(not shown)" if _SECRET.search(name) else without_secrets(value)
            for name, value in sorted(os.environ.items())
            if _VARIABLES.fullmatch(name)
        },
    }


def without_secrets(text: str) -> str:
    """The text without names and passwords in addresses, as in https://me:secret@host."""
    return re.sub(r"(?<=://)[^/@\s]+@", "...@", text)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpu_models() -> set[str]:
    """As the driver names them, without waking one: a context on a GPU takes hundreds of megabytes."""
    found = (path.read_text() for path in Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return {line.partition(":")[2].strip() for text in found for line in text.splitlines() if line.startswith("Model")}
