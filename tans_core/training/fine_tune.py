"""What a network brings from one dataset to another, and how it is trained there.

Axes: K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tans_core.errors import WeightsError
from tans_core.records import Architecture, CurvePoint, ImageDataset
from tans_core.search_space.space import SearchSpace
from tans_core.training.augment import ImageBatches
from tans_core.training.loop import CPU, confusion, fit, keep_going, seeded
from tans_core.training.recipe import Recipe

STARTS = ("retrieved", "start", "random")


class OutOfTime(Exception):
    """Raised by the `check` of a fine-tuning to end it now: what was best so far is kept."""


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A fine-tuning before test is read."""

    best_epoch: int
    val_correct: int  # after that epoch
    curve: tuple[CurvePoint, ...]  # of the epochs that ended


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Tables of a network: images of a class (row) that were taken for a class (column)."""

    val_KK: Tensor
    test_KK: Tensor


def transfer(
    search_space: SearchSpace,
    architecture: Architecture,
    weights: Mapping[str, Tensor],
    classes: int,
    key: str,
) -> nn.Module:
    """The architecture with the body of trained `weights` and a new classifier drawn from `key`.

    Raises:
        WeightsError: the weights are of another network.
    """
    network = search_space.random_subnet(architecture, classes, seeded(key, "classifier"))
    own = network.state_dict()
    body = {name: tensor for name, tensor in weights.items() if not name.startswith("classifier.")}
    expected = {name for name in own if not name.startswith("classifier.")}
    if set(body) != expected or any(own[name].shape != tensor.shape for name, tensor in body.items()):
        raise WeightsError(f"these weights are of another network than {architecture.topology}")
    network.load_state_dict({**own, **body})
    return network


def network_from(
    start: str,
    search_space: SearchSpace,
    architecture: Architecture,
    weights: Mapping[str, Tensor],
    classes: int,
    key: str,
) -> nn.Module:
    """The architecture as one of `STARTS` begins: from a row's `weights` (read there alone), the zoo's, or random ones.

    Raises:
        WeightsError: the weights are of another network.
    """
    assert start in STARTS, start
    if start == "retrieved":
        return transfer(search_space, architecture, weights, classes, key)
    make = search_space.subnet if start == "start" else search_space.random_subnet
    return make(architecture, classes, seeded(key, "classifier"))


def tune(
    network: nn.Module,
    dataset: ImageDataset,
    search_space: SearchSpace,
    recipe: Recipe,
    *,
    key: str,
    check: Callable[[], None] = keep_going,
    on_epoch: Callable[[CurvePoint], None] = lambda point: None,
    device: torch.device = CPU,
) -> Learned:
    """Train `network` and leave it as it was after its best epoch: most validation images right.

    Of equal epochs the latest is taken: it learned at a lower rate. For 0 epochs, `key`, `check` and `on_epoch` see
    `fit`.

    Raises:
        TrainingError: the loss of an epoch is not finite.
        OutOfTime: `check` raised it before an epoch had ended.
    """
    best = _Best(network)

    def after(point: CurvePoint) -> None:
        best.see(point)
        on_epoch(point)

    try:
        fit(
            network,
            dataset,
            search_space,
            recipe,
            key=key,
            evaluate_on=dataset.validation,
            evaluate_at=range(1, recipe.epochs + 1),
            check=check,
            on_epoch=after,
            device=device,
        )
    except OutOfTime:
        if not best.curve:
            raise
    network.load_state_dict(best.state)
    return Learned(best_epoch=best.epoch, val_correct=best.correct, curve=tuple(best.curve))


def judge(network: nn.Module, dataset: ImageDataset, search_space: SearchSpace, device: torch.device = CPU) -> Judged:
    """Ask a network about validation and test images: once, when it is chosen."""
    batches, classes = ImageBatches(dataset, search_space, device), len(dataset.class_names)
    return Judged(
        val_KK=confusion(network, batches, dataset.validation, classes),
        test_KK=confusion(network, batches, dataset.test, classes),
    )


class _Best:
    """The network as it was after its best epoch so far."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self.correct, self.epoch = -1, 0
        self.state: dict[str, Tensor] = {}
        self.curve: list[CurvePoint] = []

    def see(self, point: CurvePoint) -> None:
        assert point.val_correct is not None
        self.curve.append(point)
        if point.val_correct >= self.correct:
            self.correct, self.epoch = point.val_correct, point.epoch
            self.state = {name: tensor.clone() for name, tensor in self._network.state_dict().items()}
