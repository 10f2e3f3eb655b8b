"""Latency of a network on this machine, measured directly while nothing else runs."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pipeline.running.threads import one_thread
from tans_core.search_space.space import SearchSpace

WARM_UP, RUNS = 2, 11


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one forward pass on a device."""

    key: str
    device: str
    batch: int
    p10_ms: float
    p50_ms: float
    p90_ms: float
    runs: int


def device_name() -> str:
    """A name for this processor, for comparing latencies of one machine only."""
    models = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"cpu: {models[0] if models else platform.processor() or platform.machine()}, 1 thread"


def measure_latency(network: nn.Module, key: str, image_size: int) -> Latency:
    """Time single images through `network`, one thread, batch norm in eval mode."""
    network.eval()
    image = torch.zeros(1, 3, image_size, image_size).contiguous(memory_format=torch.channels_last)
    took_ms = []
    with torch.inference_mode():
        for _ in range(WARM_UP + RUNS):
            began = time.perf_counter()
            network(image)
            took_ms.append(1000 * (time.perf_counter() - began))
    p10, p50, p90 = torch.tensor(took_ms[WARM_UP:]).quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
    return Latency(key, device_name(), 1, p10, p50, p90, RUNS)


def measure_rows(rows, search_space: SearchSpace, image_size: int) -> list[Latency]:
    """Latency of each row's architecture: weights do not change it, so none are read."""
    measured = []
    with one_thread():
        for row in rows:
            architecture = search_space.architecture(row.identity.topology)
            network = search_space.random_subnet(architecture, len(row.class_names), torch.Generator())
            network = network.to(memory_format=torch.channels_last)
            measured.append(measure_latency(network, row.key, image_size))
    return measured


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
