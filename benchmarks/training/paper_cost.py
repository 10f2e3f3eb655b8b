"""What a pair of the `paper` preset costs on either road: its steps are counted, and an image of each kind is timed.

Trained as the preset says, a pair would be an hour of a core; so a few steps stand for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from pipeline.config import PRESETS
from tans_core.search_space import make_search_space
from tans_core.search_space.space import SearchSpace
from tans_core.training.loop import CPU, REESTIMATION_BATCHES, to_device
from tans_core.training.recipe import SupernetRecipe
from tans_core.training.sandwich import Sandwich
from tans_core.training.standalone import CURVE_EPOCHS

TRAIN, VALIDATION, TEST = 640, 160, 200  # images: the split of a thousand
BATCH = 8  # of the steps that are timed; of 32 they would need several GB
CLASSES, NETWORKS = 20, 3


@dataclass(frozen=True, kw_only=True)
class ImageSeconds:
    """Processor seconds of one image."""

    alone: float  # forward, backward and step of a random network
    sandwich: float  # the same of a supernet's networks, the mean over steps with and without the largest
    forward: float  # of a random network
    cut: float  # of one network out of the supernet, whatever the images


def ratio(seconds: ImageSeconds, epochs: int, recipe: SupernetRecipe, pairs: int) -> float:
    """Seconds of a pair cut out, its share of the supernet included, over those of a pair trained alone.

    Args:
        epochs: of the pair trained alone; its curve is taken at `CURVE_EPOCHS` and the last.
        pairs: among which the supernet's seconds are shared.
    """
    sample = min(TRAIN, REESTIMATION_BATCHES * recipe.batch_size)
    judged = 3 * VALIDATION + TEST  # as it is stored, before that, and for the row
    evaluations = len({*CURVE_EPOCHS, epochs})
    alone = epochs * TRAIN * seconds.alone + (evaluations * (sample + VALIDATION) + judged) * seconds.forward
    features = TRAIN if recipe.head == "closed_form" else 0
    supernet = recipe.epochs * TRAIN * seconds.sandwich
    return (supernet / pairs + seconds.cut + (2 * sample + features + judged) * seconds.forward) / alone


def measure() -> ImageSeconds:
    """Time them on this machine, one thread."""
    torch.set_num_threads(1)
    preset, recipe = PRESETS["paper"], SupernetRecipe()
    space = make_search_space(preset.search_space, preset.width)
    side = preset.image_size
    images = torch.zeros(BATCH, 3, side, side).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(BATCH, dtype=torch.int64)
    alone, forward, cut = [], [], []
    for topology in space.sample(NETWORKS, torch.Generator().manual_seed(0)).tolist():
        began = time.process_time()
        space.elastic_copy()
        network = to_device(space.subnet(space.architecture(topology), CLASSES, torch.Generator()), CPU).train()
        cut.append(time.process_time() - began)
        alone.append(_timed(lambda: cross_entropy(network(images), labels).backward()))  # noqa: B023
        network.eval()
        with torch.inference_mode():
            forward.append(_timed(lambda: network(images)))  # noqa: B023
    with_largest, without = (_sandwich(space, recipe, images, step) for step in (0, 1))
    sandwich = (with_largest + (recipe.largest_every - 1) * without) / recipe.largest_every
    return ImageSeconds(
        alone=sum(alone) / NETWORKS / BATCH,
        sandwich=sandwich / BATCH,
        forward=sum(forward) / NETWORKS / BATCH,
        cut=sum(cut) / NETWORKS,
    )


def _sandwich(space: SearchSpace, recipe: SupernetRecipe, images: torch.Tensor, step: int) -> float:
    supernet: Any = to_device(space.elastic_copy(), CPU).train()

    def judged(features_BD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return features_BD.square().mean(), features_BD.log_softmax(dim=1)

    sandwich = Sandwich(space, "timed", recipe.random_networks, recipe.largest_every)
    return _timed(lambda: sandwich.backward(supernet, images, step, judged, recipe.in_place))


def _timed(work: Callable[[], object]) -> float:
    """Processor seconds of the second time."""
    work()
    began = time.process_time()
    work()
    return time.process_time() - began
