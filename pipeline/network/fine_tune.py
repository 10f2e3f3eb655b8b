"""`tans fine-tune`: a network of the zoo, trained on a new dataset and written to a folder that stands alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pipeline.config import checked_seed
from pipeline.network.export import export
from pipeline.network.load_network import find_start
from pipeline.network.network_folder import is_of_network, seal
from pipeline.reading.read import read_dataset
from pipeline.running.output import percent, shown
from pipeline.running.progress import Progress, say
from pipeline.running.result_folder import new_result
from pipeline.running.threads import torch_threads
from pipeline.zoo import Zoo
from pipeline.zoo.upkeep.verify import zoo_search_space
from tans_core.cross_modal.features import keeps_class_when_mirrored
from tans_core.errors import ConfigError
from tans_core.evaluation.intervals import wilson
from tans_core.records import CurvePoint, ImageDataset, Row
from tans_core.search_space import make_search_space
from tans_core.search_space.ofa_lite import lite0_backbone
from tans_core.search_space.space import SearchSpace
from tans_core.training.budget import SIZES, Timing, choose, timing
from tans_core.training.fine_tune import Judged, Learned, OutOfTime, judge, network_from, tune
from tans_core.training.loop import CPU, keep_going, steps_of, to_device
from tans_core.training.recipe import Recipe

EPOCHS = 10  # unless told otherwise


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One setting of a fine-tuning in so many minutes, before test was read."""

    image_size: int
    epochs: int  # 0: a classifier in closed form
    ended: int  # epochs until the time was up
    best_epoch: int
    val_accuracy: float
    wall_s: float


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """What `tans fine-tune --json` prints: of the best epoch, accuracies from 0 to 1 with the counts of their images.

    Test was read once, for that epoch; validation chose it, and is the better for it.
    """

    dataset: str
    class_names: tuple[str, ...]  # the order of all that is by class
    row: str
    start: str  # "retrieved": the row's weights; "start": the zoo's starting weights in its architecture
    from_dataset: str | None  # that the weights were trained on; None for the starting weights
    epochs: int
    best_epoch: int  # of epochs equally good in validation, the latest; 0: the classifier in closed form
    val_accuracy: float
    val_total: int
    test_accuracy: float
    test_interval: tuple[float, float]  # 95 %, Wilson's: what so few images say of others like them
    test_total: int
    val_correct_by_class: tuple[int, ...]
    val_total_by_class: tuple[int, ...]
    test_correct_by_class: tuple[int, ...]
    test_total_by_class: tuple[int, ...]
    test_confusion: tuple[tuple[int, ...], ...]  # test images of a class (row) that were taken for a class (column)
    val_accuracy_by_epoch: tuple[float, ...]  # of 0 epochs: of the classifier in closed form
    train_loss_by_epoch: tuple[float, ...]  # of 0 epochs: of training images held out one by one
    image_size: int
    recipe: dict[str, Any]
    seed: int
    threads: int
    minutes: float | None  # that it had; None: epochs and image size were given
    tried: tuple[Tried, ...]  # the only one, or what the minutes were spent on
    wall_s: float
    out: str


def fine_tune(
    spec: str,
    zoo: str,
    row: str,
    out: Path,
    epochs: int | None = None,
    *,
    minutes: float | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    seed: int = 0,
    threads: int = 1,
    init: str | Path | None = None,
    overwrite: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> FineTuned:
    """Train a row's network on a new dataset, with a new classifier, and write it to `out`.

    Equal arguments give equal networks. The epoch with the most validation images right is kept, of several the
    latest. Of 0 epochs the body stays as it is, and a classifier is fitted to its features in closed form.

    Args:
        spec: one dataset.
        row: key of a row, or enough of its beginning; `start:` before it: its architecture from the zoo's starting
            weights.
        out: folder of the network; made where it is not there, and only then left when nothing came of it.
        epochs: None: `EPOCHS`.
        minutes: instead of epochs and image size. A few steps are timed at rising sizes, each size answers by a
            classifier in closed form, and the rest of the time is trained with the size and epochs that fit; the best
            in validation is kept. What was chosen is given again by `epochs` and `image_size`.
        lr, batch_size: None: those of the row's recipe.
        image_size: a multiple of 32, to which the original pictures are read; None: the zoo's.
        seed: of the classifier, the order of images and their shifts.
        threads: of torch; another number gives another result.
        init: for `start:` alone, as `verify_zoo` takes it.
        overwrite: a network that is in `out` already is replaced when the new one is whole.
        clock: in seconds, by which `minutes` are told.

    Raises:
        ConfigError: a number is out of its range, no such row, `out` cannot be written or holds something, or the
            starting weights are not those of the zoo.
        DatasetError: the SPEC gives no dataset, or several.
        ZooError: there is no zoo.
        WeightsError: the row's weights are gone, changed or not finite.
        TrainingError: the loss is not finite.
    """
    began = clock()
    _check(epochs, minutes, image_size, seed)
    store = Zoo.open(zoo)
    start, found = find_start(store, row)
    recipe = _recipe(found, EPOCHS if epochs is None else epochs, lr, batch_size)
    out = Path(out).expanduser()
    with torch_threads(threads), new_result(out, is_of_network, overwrite) as folder:
        search_space = _search_space(store, start, found, init)
        weights = store.load_weights(found) if start == "retrieved" else {}
        work = _Work(
            spec=spec, row=found, start=start, search_space=search_space, weights=weights, seed=seed, clock=clock
        )
        if minutes is None:
            best = work.attempt(image_size or found.identity.image_size, recipe)
            tried = (best.tried,)
        else:
            best, tried = _within(began + 60 * minutes, work, recipe)
        summary = FineTuned(
            dataset=best.dataset.name,
            class_names=best.dataset.class_names,
            row=found.key,
            start=start,
            from_dataset=found.dataset_name if start == "retrieved" else None,
            epochs=best.recipe.epochs,
            **_results(best.learned, judge(best.network, best.dataset, search_space)),
            image_size=best.dataset.image_size,
            recipe=asdict(best.recipe),
            seed=seed,
            threads=threads,
            minutes=minutes,
            tried=tried,
            wall_s=clock() - began,
            out=str(out),
        )
        try:
            export(best.network, search_space, best.dataset, found, asdict(summary), folder)
            seal(folder)
        except OSError as error:
            raise ConfigError(f"--out {out} cannot be written ({error.strerror}): name another folder") from error
    return summary


@dataclass(frozen=True, kw_only=True, eq=False)
class _Attempt:
    """A network that was made, and how."""

    network: nn.Module
    dataset: ImageDataset
    recipe: Recipe
    learned: Learned
    tried: Tried


@dataclass(frozen=True, kw_only=True, eq=False)
class _Work:
    """What all attempts of a fine-tuning have in common."""

    spec: str
    row: Row
    start: str
    search_space: SearchSpace
    weights: dict[str, Tensor]
    seed: int
    clock: Callable[[], float]

    def attempt(self, image_size: int, recipe: Recipe, check: Callable[[], None] = keep_going) -> _Attempt:
        """The network at one size by one recipe; all that is random comes from row, dataset and seed."""
        began, row = self.clock(), self.row
        dataset = read_dataset(self.spec, image_size)
        if recipe.epochs:
            recipe = replace(recipe, mirror=keeps_class_when_mirrored(dataset, lite0_backbone()))
        key = f"{row.key}/{dataset.fingerprint}/{self.seed}"
        architecture, classes = self.search_space.architecture(row.identity.topology), len(dataset.class_names)
        network = to_device(network_from(self.start, self.search_space, architecture, self.weights, classes, key), CPU)
        words = f"{row.key} of {shown(row.dataset_name)}" if self.start == "retrieved" else f"the start of {row.key}"
        say(f"fine-tuning {words} on {len(dataset.train)} images of {shown(dataset.name)} at {image_size} px")
        watch = _Watch(recipe, len(dataset.train), check)
        learned = tune(network, dataset, self.search_space, recipe, key=key, check=watch.step, on_epoch=watch.epoch)
        tried = Tried(
            image_size=image_size,
            epochs=recipe.epochs,
            ended=learned.curve[-1].epoch,
            best_epoch=learned.best_epoch,
            val_accuracy=learned.val_correct / len(dataset.validation),
            wall_s=self.clock() - began,
        )
        return _Attempt(network=network, dataset=dataset, recipe=recipe, learned=learned, tried=tried)


def _within(ends: float, work: _Work, recipe: Recipe) -> tuple[_Attempt, tuple[Tried, ...]]:
    """The best attempt of those that fit before `ends`, of equals the latest; and all of them.

    Sizes are looked at while looking at the next one takes a tenth of what is left, or less.
    """
    best: _Attempt | None = None
    tried: list[Tried] = []
    timings: list[Timing] = []

    def see(attempt: _Attempt) -> None:
        nonlocal best
        tried.append(attempt.tried)
        if best is None or attempt.learned.val_correct >= best.learned.val_correct:
            best = attempt

    looked_s = 0.0
    for size in SIZES:
        began = work.clock()
        if timings and looked_s * (size / timings[-1].image_size) ** 2 > (ends - began) / 10:
            break
        instant = work.attempt(size, replace(recipe, epochs=0))
        timings.append(timing(instant.network, instant.dataset, recipe, work.clock))
        see(instant)
        looked_s = work.clock() - began
    left_s = ends - work.clock()
    chosen = choose(timings, left_s)
    if chosen is None:
        say(f"{max(0, left_s):.0f} s are left, too few for an epoch")
    else:
        size, epochs = chosen
        test_s = next(each.test_s for each in timings if each.image_size == size)

        def check() -> None:
            if work.clock() > ends - test_s:
                raise OutOfTime

        try:
            see(work.attempt(size, replace(recipe, epochs=epochs), check))
        except OutOfTime:
            say("the time was up before the first epoch had ended")
    assert best is not None
    return best, tuple(tried)


def _check(epochs: int | None, minutes: float | None, image_size: int | None, seed: int) -> None:
    if minutes is not None and not 0 < minutes < math.inf:
        raise ConfigError(f"--minutes must be above 0, got {minutes:g}")
    if minutes is not None and (epochs is not None or image_size is not None):
        raise ConfigError("--minutes chooses epochs and image size: leave out --epochs and --image-size, or --minutes")
    if image_size is not None and (image_size < 32 or image_size % 32):
        raise ConfigError(f"--image-size must be a multiple of 32, got {image_size}")
    checked_seed(seed)


def _recipe(row: Row, epochs: int, lr: float | None, batch_size: int | None) -> Recipe:
    """The row's, over all training images, with what was asked for."""
    of_row = Recipe(**row.identity.recipe)
    return replace(
        of_row,
        epochs=epochs,
        peak_lr=of_row.peak_lr if lr is None else lr,
        batch_size=of_row.batch_size if batch_size is None else batch_size,
        max_train_images=None,
    )


def _search_space(zoo: Zoo, start: str, row: Row, init: str | Path | None) -> SearchSpace:
    """The row's; for the starting weights with those that the zoo was begun from."""
    if start == "retrieved":
        if init is not None:
            raise ConfigError("--init goes with --row start:KEY alone: a row has weights of its own")
        return make_search_space(row.identity.search_space, row.identity.width)
    return zoo_search_space(zoo, init)


def _results(learned: Learned, tables: Judged) -> dict[str, Any]:
    """The part of the summary that was measured."""
    val_total, test_total = int(tables.val_KK.sum()), int(tables.test_KK.sum())
    val_correct, test_correct = int(tables.val_KK.trace()), int(tables.test_KK.trace())
    return {
        "best_epoch": learned.best_epoch,
        "val_accuracy": val_correct / val_total,
        "val_total": val_total,
        "test_accuracy": test_correct / test_total,
        "test_interval": wilson(test_correct, test_total),
        "test_total": test_total,
        "val_correct_by_class": _counts(tables.val_KK.diagonal()),
        "val_total_by_class": _counts(tables.val_KK.sum(dim=1)),
        "test_correct_by_class": _counts(tables.test_KK.diagonal()),
        "test_total_by_class": _counts(tables.test_KK.sum(dim=1)),
        "test_confusion": tuple(_counts(row_K) for row_K in tables.test_KK),
        "val_accuracy_by_epoch": tuple(_accuracy(point) for point in learned.curve),
        "train_loss_by_epoch": tuple(point.train_loss for point in learned.curve),
    }


def _counts(count_K: Tensor) -> tuple[int, ...]:
    return tuple(count_K.tolist())


def _accuracy(point: CurvePoint) -> float:
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
            say(f"a classifier in closed form: validation {percent(_accuracy(point))}")
            return
        left_s = (time.monotonic() - self._began_s) / point.epoch * (self._epochs - point.epoch)
        say(
            f"epoch {point.epoch} of {self._epochs}: loss {point.train_loss:.3f}, "
            f"validation {percent(_accuracy(point))}" + (f", about {left_s:.0f} s left" if left_s else "")
        )
