"""One architecture from three starts: a row's weights, the zoo's starting weights, random weights; all else equal."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from tans_core.records import Architecture, ImageDataset
from tans_core.search_space.space import SearchSpace
from tans_core.training.augment import ImageBatches
from tans_core.training.fine_tune import network_from
from tans_core.training.loop import CPU, evaluate, fit, to_device
from tans_core.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Run:
    """One fine-tuning: counts right in validation and test at the end, and by epoch on the side asked for."""

    val_correct: int
    val_total: int
    test_correct: int
    test_total: int
    correct_by_epoch: tuple[int, ...]


def run_from(
    start: str,
    search_space: SearchSpace,
    architecture: Architecture,
    weights: Mapping[str, Tensor],
    dataset: ImageDataset,
    recipe: Recipe,
    *,
    key: str,
    curve_on: Tensor,
    curve_at: Collection[int] = (),
) -> Run:
    """Train from one of `fine_tune.STARTS`; batch norm is re-estimated on all sides alike.

    Args:
        weights: of the retrieved row; read for "retrieved" alone.
        key: the same for the sides of one comparison: same order of images, same shifts.
        curve_on, curve_at: images and epochs of `correct_by_epoch`.
    """
    classes = len(dataset.class_names)
    network = to_device(network_from(start, search_space, architecture, weights, classes, key), CPU)
    fitted = fit(network, dataset, search_space, recipe, key=key, evaluate_on=curve_on, evaluate_at=curve_at)
    batches = ImageBatches(dataset, search_space, CPU)
    val_correct, val_total = evaluate(network, batches, dataset.validation, classes)
    test_correct, test_total = evaluate(network, batches, dataset.test, classes)
    return Run(
        val_correct=sum(val_correct),
        val_total=sum(val_total),
        test_correct=sum(test_correct),
        test_total=sum(test_total),
        correct_by_epoch=tuple(point.val_correct for point in fitted.curve if point.val_correct is not None),
    )
