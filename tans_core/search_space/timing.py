"""Milliseconds of networks and of their parts on this device, in rounds: what disturbs one disturbs all.

One thread of a processor is timed by its own time, in which no other program's turn counts: on a quiet machine that is
the clock's. More threads, and GPUs, are timed by the clock.
Axes: N calls, R rounds, B blocks, V values of a kernel size or expansion ratio (0: not there).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tans_core.search_space.latency import PartTimes
from tans_core.search_space.space import SearchSpace

Call = Callable[[], object]
ROUNDS = 15
_MANY_CLASSES = 1000


def clock_of(device: torch.device, threads: int) -> Callable[[], float]:
    """Seconds, from somewhere on."""
    return time.thread_time if device.type == "cpu" and threads == 1 else time.perf_counter


def in_rounds(
    calls: Sequence[Call],
    clock: Callable[[], float],
    device: torch.device,
    rounds: int = ROUNDS,
    on_round: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """Milliseconds of each call in each round, float64 (R, N); every time is that of a second call in a row.

    Args:
        on_round: told how many rounds are over.
    """
    took_ms_RN = torch.zeros(rounds, len(calls), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for done in range(rounds):
            for place in torch.randperm(len(calls), generator=generator).tolist():
                calls[place]()
                wait_for(device)
                began = clock()
                calls[place]()
                wait_for(device)
                took_ms_RN[done, place] = 1000 * (clock() - began)
            on_round(done + 1)
    return took_ms_RN


def wait_for(device: torch.device) -> None:
    """Until a GPU has done what it was told; a processor always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def whole(
    search_space: SearchSpace, topology: Sequence[int], classes: int, image_size: int, batch: int, device: torch.device
) -> Call:
    """A forward pass of a network."""
    network, images = _network(search_space, topology, classes, device), _images(image_size, batch, device)
    return lambda: network(images)


class Parts:
    """Stem, head and every distinct block of a search space, ready to be called.

    Within a stage the blocks after the first are alike, so the second stands for them.
    """

    def __init__(self, search_space: SearchSpace, image_size: int, batch: int, device: torch.device) -> None:
        self._layout = layout = search_space.layout
        self._places: list[tuple[list[int], int, int]] = []  # blocks, kernel, expand of each call from the third on
        blocks: list[Call] = []
        images = _images(image_size, batch, device)
        groups = _alike(search_space)
        for kernel, kernel_size in enumerate(layout.kernel_choices, start=1):
            for expand, expand_ratio in enumerate(layout.expand_choices, start=1):
                deepest = [max(layout.depth_choices)] * layout.stages
                topology = [kernel_size] * layout.blocks + [expand_ratio] * layout.blocks + deepest
                network = _network(search_space, topology, 2, device)
                inputs = _inputs(network, images)
                for group in groups:
                    block = network.blocks[1 + group[0]]
                    blocks.append(_call(block, inputs[block]))
                    self._places.append((group, kernel, expand))
        stem = nn.Sequential(network.first_conv, network.blocks[0])
        with torch.inference_mode():
            last = network.blocks[-1](inputs[network.blocks[-1]])
        many = _network(search_space, topology, _MANY_CLASSES, device)
        heads = [_call(_head(each), last) for each in (network, many)]
        self.calls: list[Call] = [_call(stem, images), *heads, *blocks]

    def times(self, took_ms_N: Tensor) -> PartTimes:
        """The parts' times from those of `calls`."""
        stem_ms, few_ms, many_ms, *block_ms = took_ms_N.tolist()
        values = len(self._layout.kernel_choices) + 1, len(self._layout.expand_choices) + 1
        block_ms_BVV = torch.zeros(self._layout.blocks, *values, dtype=torch.float64)
        for (group, kernel, expand), ms in zip(self._places, block_ms, strict=True):
            block_ms_BVV[group, kernel, expand] = ms
        class_ms = max(0.0, many_ms - few_ms) / (_MANY_CLASSES - 2)
        return PartTimes(stem_ms=stem_ms, head_ms=few_ms, class_ms=class_ms, block_ms_BVV=block_ms_BVV)


def _alike(search_space: SearchSpace) -> list[list[int]]:
    """Blocks that are one network at equal choices: the first of each stage, and the others of it."""
    groups: list[list[int]] = []
    first = 0
    for count in (*search_space.layout.stage_blocks, *[1] * search_space.layout.fixed_blocks):
        groups += [[first], list(range(first + 1, first + count))]
        first += count
    return [group for group in groups if group]


def _network(search_space: SearchSpace, topology: Sequence[int], classes: int, device: torch.device) -> Any:
    architecture = search_space.architecture(topology)
    network = search_space.random_subnet(architecture, classes, torch.Generator().manual_seed(0))
    return network.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def _images(image_size: int, batch: int, device: torch.device) -> Tensor:
    images = torch.randn(batch, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    return images.to(device).contiguous(memory_format=torch.channels_last)


def _inputs(network: Any, images: Tensor) -> dict[nn.Module, Tensor]:
    """What each block is given in a forward pass."""
    found: dict[nn.Module, Tensor] = {}
    hooks = [
        block.register_forward_hook(lambda block, given, _: found.__setitem__(block, given[0].clone()))
        for block in network.blocks
    ]
    with torch.inference_mode():
        network(images)
    for hook in hooks:
        hook.remove()
    return found


def _head(network: Any) -> nn.Module:
    """What a network does after its last block."""
    head = copy.deepcopy(network)
    head.first_conv, head.blocks = nn.Identity(), nn.ModuleList()
    return head


def _call(module: nn.Module, given: Tensor) -> Call:
    return lambda: module(given)
