"""How many cores torch takes in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tans_core.cpus import usable_cpus

__all__ = ["one_thread", "usable_cpus"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes in one thread for as long as the block lasts: small tensors gain nothing from more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
