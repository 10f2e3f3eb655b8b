"""How many cores torch takes in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from tans_core.cpus import usable_cpus
from tans_core.errors import ConfigError


def check_threads(threads: int) -> None:
    """Raise ConfigError for a number of threads that cannot be had."""
    if not 1 <= threads <= usable_cpus():
        raise ConfigError(f"--threads must lie between 1 and the {usable_cpus()} CPUs that are here, got {threads}")


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Torch computes in so many threads for as long as the block lasts.

    Raises:
        ConfigError: fewer than 1, or more than there are CPUs.
    """
    check_threads(threads)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread() -> AbstractContextManager[None]:
    """Small tensors gain nothing from more, and processes beside each other lose by it."""
    return torch_threads(1)
