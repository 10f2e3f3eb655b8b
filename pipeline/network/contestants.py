"""Networks that may be fine-tuned on a dataset, and one attempt at it: what `fine-tune` and side-by-side share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from pipeline.reading.read import read_dataset
from pipeline.running.output import percent, shown
from pipeline.running.progress import Progress, say
from pipeline.zoo import Zoo
from tans_core.cross_modal.features import keeps_class_when_mirrored
from tans_core.records import CurvePoint, ImageDataset, Row
from tans_core.search_space.ofa_lite import lite0_backbone, lite0_space, lite0_topology
from tans_core.search_space.space import SearchSpace
from tans_core.training.augment import ImageBatches
from tans_core.training.budget import SIZES
from tans_core.training.fine_tune import Learned, network_from, tune
from tans_core.training.loop import CPU, keep_going, steps_of, taken, to_device
from tans_core.training.recipe import Recipe, recipe_alone

LITE0 = "lite0"  # EfficientNet-Lite0 itself, from ImageNet: what people take without us
LITE0_SIZES = tuple(size for size in SIZES if size >= 96)  # of its pictures: at 64 px it forgets what it knows


@dataclass(frozen=True, kw_only=True, eq=False)
class Contestant:
    """A network before it is trained on the query."""

    name: str  # KEY, start:KEY or lite0
    key: str  # with dataset and seed, all that is random comes from it
    start: str  # of `fine_tune.STARTS`
    search_space: SearchSpace
    topology: tuple[int, ...]
    recipe: Recipe
    from_dataset: str | None  # that its weights were trained on; None: no source
    load_weights: Callable[[], dict[str, Tensor]]
    sizes: tuple[int, ...] = SIZES  # of pictures, rising, that are tried where there is time

    @property
    def origin(self) -> dict[str, Any]:
        """For the config.json of an export."""
        return {"row": self.key, "dataset": self.from_dataset, "topology": self.topology}

    @property
    def words(self) -> str:
        if self.from_dataset is not None:
            return f"{self.key} of {shown(self.from_dataset)}"
        return "EfficientNet-Lite0" if self.name == LITE0 else f"the start of {self.key}"


def of_row(store: Zoo, row: Row, start: str, search_space: SearchSpace, recipe: Recipe) -> Contestant:
    """A row of the zoo, or its architecture from the starting weights that `search_space` is over."""
    retrieved = start == "retrieved"
    return Contestant(
        name=row.key if retrieved else f"start:{row.key}",
        key=row.key,
        start=start,
        search_space=search_space,
        topology=row.identity.topology,
        recipe=recipe,
        from_dataset=row.dataset_name if retrieved else None,
        load_weights=(lambda: store.load_weights(row)) if retrieved else dict,
    )


def row_recipe(row: Row) -> Recipe:
    """Over all training images."""
    return replace(recipe_alone(row.identity.recipe), max_train_images=None)


def lite0(recipe: Recipe) -> Contestant:
    """EfficientNet-Lite0 with its ImageNet weights."""
    return Contestant(
        name=LITE0,
        key=LITE0,
        start="start",
        search_space=lite0_space(),
        topology=lite0_topology(),
        recipe=recipe,
        from_dataset=None,
        load_weights=dict,
        sizes=LITE0_SIZES,
    )


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One setting of one network, before test was read."""

    name: str  # of the contestant
    image_size: int
    epochs: int  # 0: a classifier in closed form
    ended: int  # epochs until the time was up
    best_epoch: int
    val_accuracy: float
    wall_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Attempt:
    """A network that was made, and how."""

    contestant: Contestant
    network: nn.Module
    dataset: ImageDataset
    recipe: Recipe
    learned: Learned
    right_N: Tensor  # bool: of its validation images, which stand in one order at every size
    tried: Tried


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where attempts are made: the query, and what all have in common."""

    spec: str
    seed: int
    clock: Callable[[], float]

    def attempt(
        self, contestant: Contestant, image_size: int, epochs: int, check: Callable[[], None] = keep_going
    ) -> Attempt:
        """The network at one size for so many epochs; all that is random comes from its key, dataset and seed."""
        began, space = self.clock(), contestant.search_space
        dataset = read_dataset(self.spec, image_size)
        recipe = replace(contestant.recipe, epochs=epochs)
        if recipe.epochs:
            recipe = replace(recipe, mirror=keeps_class_when_mirrored(dataset, lite0_backbone()))
        key = f"{contestant.key}/{dataset.fingerprint}/{self.seed}"
        architecture, classes = space.architecture(contestant.topology), len(dataset.class_names)
        weights = contestant.load_weights()
        network = to_device(network_from(contestant.start, space, architecture, weights, classes, key), CPU)
        say(
            f"fine-tuning {contestant.words} on {len(dataset.train)} images of {shown(dataset.name)} at {image_size} px"
        )
        watch = _Watch(recipe, len(dataset.train), check)
        learned = tune(network, dataset, space, recipe, key=key, check=watch.step, on_epoch=watch.epoch)
        answers_N = taken(network, ImageBatches(dataset, space, CPU), dataset.validation)
        tried = Tried(
            name=contestant.name,
            image_size=image_size,
            epochs=recipe.epochs,
            ended=learned.curve[-1].epoch,
            best_epoch=learned.best_epoch,
            val_accuracy=learned.val_correct / len(dataset.validation),
            wall_s=self.clock() - began,
        )
        return Attempt(
            contestant=contestant,
            network=network,
            dataset=dataset,
            recipe=recipe,
            learned=learned,
            right_N=answers_N == dataset.labels[dataset.validation],
            tried=tried,
        )


def accuracy(point: CurvePoint) -> float:
    assert point.val_correct is not None and point.val_total
    return point.val_correct / point.val_total


class _Watch:
    """Tells of a fine-tuning while it lasts: a line an epoch, and between two of them how far it is."""

    def __init__(self, recipe: Recipe, train_images: int, check: Callable[[], None]) -> None:
        self._check = check
        self._epochs, self._steps = recipe.epochs, len(steps_of(train_images, recipe.batch_size))
        self._progress, self._began_s, self._done = Progress(), time.monotonic(), 0

    def step(self) -> None:
        self._check()
        epoch, step = divmod(self._done, self._steps)
        self._done += 1
        self._progress.show(f"epoch {epoch + 1} of {self._epochs}: step {step + 1} of {self._steps}")

    def epoch(self, point: CurvePoint) -> None:
        self._progress.clear()
        if point.epoch == 0:
            say(f"a classifier in closed form: validation {percent(accuracy(point))}")
            return
        left_s = (time.monotonic() - self._began_s) / point.epoch * (self._epochs - point.epoch)
        say(
            f"epoch {point.epoch} of {self._epochs}: loss {point.train_loss:.3f}, "
            f"validation {percent(accuracy(point))}" + (f", about {left_s:.0f} s left" if left_s else "")
        )
