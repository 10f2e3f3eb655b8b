"""`tans fine-tune`: a network of the zoo, trained on a new dataset and written to a folder that stands alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.config import checked_seed
from pipeline.network.contestants import Attempt, Bench, Tried, accuracy, of_row, row_recipe
from pipeline.network.export import export
from pipeline.network.load_network import find_start
from pipeline.network.network_folder import is_of_network, seal
from pipeline.network.race import Race
from pipeline.running.result_folder import new_result
from pipeline.running.threads import torch_threads
from pipeline.zoo import Zoo
from pipeline.zoo.upkeep.verify import zoo_search_space
from tans_core.errors import ConfigError
from tans_core.evaluation.intervals import wilson
from tans_core.records import Row
from tans_core.search_space import make_search_space
from tans_core.search_space.space import SearchSpace
from tans_core.training.fine_tune import Judged, Learned, judge
from tans_core.training.recipe import Recipe

EPOCHS = 10  # unless told otherwise


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
        minutes: instead of epochs and image size (see `race.py`). A few steps are timed at rising sizes, each size
            answers by a classifier in closed form, and the rest of the time is trained with the size and epochs that
            fit; the best in validation is kept. What was chosen is given again by `epochs` and `image_size`.
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
        contestant = of_row(store, found, start, search_space, recipe)
        bench = Bench(spec=spec, seed=seed, clock=clock)
        if minutes is None:
            best = bench.attempt(contestant, image_size or found.identity.image_size, recipe.epochs)
            tried = [best.tried]
        else:
            race = Race(bench, began + 60 * minutes)
            best, tried = race.run([contestant]), race.tried
        summary = finish(best, tried, bench, began, minutes, threads, out, folder)
    return summary


def finish(
    best: Attempt,
    tried: Sequence[Tried],
    bench: Bench,
    began: float,
    minutes: float | None,
    threads: int,
    out: Path,
    folder: Path,
) -> FineTuned:
    """Read test, once, and write the network into `folder`, from where it goes to `out`.

    Raises:
        ConfigError: it cannot be written.
    """
    contestant = best.contestant
    summary = FineTuned(
        dataset=best.dataset.name,
        class_names=best.dataset.class_names,
        row=contestant.key,
        start=contestant.start,
        from_dataset=contestant.from_dataset,
        epochs=best.recipe.epochs,
        **_results(best.learned, judge(best.network, best.dataset, contestant.search_space)),
        image_size=best.dataset.image_size,
        recipe=asdict(best.recipe),
        seed=bench.seed,
        threads=threads,
        minutes=minutes,
        tried=tuple(tried),
        wall_s=bench.clock() - began,
        out=str(out),
    )
    try:
        export(best.network, contestant.search_space, best.dataset, contestant.origin, asdict(summary), folder)
        seal(folder)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be written ({error.strerror}): name another folder") from error
    return summary


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
    of_row = row_recipe(row)
    return replace(
        of_row,
        epochs=epochs,
        peak_lr=of_row.peak_lr if lr is None else lr,
        batch_size=of_row.batch_size if batch_size is None else batch_size,
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
        "val_accuracy_by_epoch": tuple(accuracy(point) for point in learned.curve),
        "train_loss_by_epoch": tuple(point.train_loss for point in learned.curve),
    }


def _counts(count_K: Tensor) -> tuple[int, ...]:
    return tuple(count_K.tolist())
