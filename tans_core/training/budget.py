"""What fits into the time that there is: a few steps are timed, then size and epochs of a fine-tuning are planned.

Larger pictures are taken for worth more than later epochs once there are `LEAST_EPOCHS` (a guess: docs/recipe.md).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import nn

from tans_core.records import ImageDataset
from tans_core.training.loop import CPU, REESTIMATION_BATCHES, steps_of, to_device
from tans_core.training.recipe import Recipe

SIZES = (64, 96, 128, 160)  # longest sides in pixels that are looked at
LEAST_EPOCHS, MOST_EPOCHS = 5, 30

_TIMED_STEPS = 3
_SLACK = 0.85  # share of the time that is planned with: a machine is not always as fast as it was a moment ago


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What work at one size takes, in seconds."""

    image_size: int
    epoch_s: float  # training, statistics of batch norm, and validation
    test_s: float  # all test images, once


def timing(
    network: nn.Module,
    dataset: ImageDataset,
    recipe: Recipe,
    clock: Callable[[], float] = time.monotonic,
    device: torch.device = CPU,
) -> Timing:
    """Time some steps of a copy of `network` at the size of `dataset`: the median of three, the first left out."""
    timed = to_device(copy.deepcopy(network), device).train()
    side = dataset.image_size
    images = torch.zeros(recipe.batch_size, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    step_s, forward_s = [], []
    for _ in range(1 + _TIMED_STEPS):
        began = clock()
        loss = timed(images).sum()
        forward_s.append(clock() - began)
        loss.backward()
        step_s.append(clock() - began)
    steps = len(steps_of(len(dataset.train), recipe.batch_size))
    batches = {
        side: len(index) / recipe.batch_size for side, index in (("val", dataset.validation), ("test", dataset.test))
    }
    a_step_s, a_forward_s = sorted(step_s[1:])[_TIMED_STEPS // 2], sorted(forward_s[1:])[_TIMED_STEPS // 2]
    return Timing(
        image_size=side,
        epoch_s=steps * a_step_s + (min(steps, REESTIMATION_BATCHES) + batches["val"]) * a_forward_s,
        test_s=batches["test"] * a_forward_s,
    )


def choose(timings: Sequence[Timing], left_s: float) -> tuple[int, int] | None:
    """Size and epochs for the seconds that are left.

    The largest size at which `LEAST_EPOCHS` fit, else the smallest; as many epochs as fit there, at most `MOST_EPOCHS`.
    None where not one fits.

    Args:
        timings: by rising size, one at least.
    """
    fitting = {each.image_size: int((_SLACK * left_s - each.test_s) / each.epoch_s) for each in timings}
    enough = [size for size, epochs in fitting.items() if epochs >= LEAST_EPOCHS]
    size = enough[-1] if enough else timings[0].image_size
    return (size, min(fitting[size], MOST_EPOCHS)) if fitting[size] >= 1 else None


def affordable(costs_s: Sequence[float], left_s: float) -> int:
    """How many of these, from the first on, fit into the seconds that there are, some of them kept back."""
    return sum(total_s <= _SLACK * left_s for total_s in accumulate(costs_s))
