"""`tans fine-tune`: a network of the zoo, trained on a new dataset and written to a folder that stands alone."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

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
from pipeline.zoo.verify import zoo_search_space
from tans_core.cross_modal.features import keeps_class_when_mirrored
from tans_core.errors import ConfigError
from tans_core.evaluation.intervals import wilson
from tans_core.records import CurvePoint, Row
from tans_core.search_space import make_search_space
from tans_core.search_space.ofa_lite import lite0_backbone
from tans_core.search_space.space import SearchSpace
from tans_core.training.fine_tune import Tuned, network_from, tune
from tans_core.training.loop import CPU, steps_of, to_device
from tans_core.training.recipe import Recipe


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
    best_epoch: int  # of epochs equally good in validation, the latest
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
    val_accuracy_by_epoch: tuple[float, ...]
    train_loss_by_epoch: tuple[float, ...]
    image_size: int
    recipe: dict[str, Any]
    seed: int
    threads: int
    wall_s: float
    out: str


def fine_tune(
    spec: str,
    zoo: str,
    row: str,
    out: Path,
    epochs: int = 10,
    *,
    lr: float | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    seed: int = 0,
    threads: int = 1,
    init: str | Path | None = None,
    overwrite: bool = False,
) -> FineTuned:
    """Train a row's network on a new dataset, with a new classifier, and write it to `out`.

    Equal arguments give equal networks. The epoch with the most validation images right is kept, of several the latest.

    Args:
        spec: one dataset.
        row: key of a row, or enough of its beginning; `start:` before it: its architecture from the zoo's starting
            weights.
        out: folder of the network; made where it is not there, and only then left when nothing came of it.
        lr, batch_size: None: those of the row's recipe.
        image_size: a multiple of 32, to which the original pictures are read; None: the zoo's.
        seed: of the classifier, the order of images and their shifts.
        threads: of torch; another number gives another result.
        init: for `start:` alone, as `verify_zoo` takes it.
        overwrite: a network that is in `out` already is replaced when the new one is whole.

    Raises:
        ConfigError: a number is out of its range, no such row, `out` cannot be written or holds something, or the
            starting weights are not those of the zoo.
        DatasetError: the SPEC gives no dataset, or several.
        ZooError: there is no zoo.
        WeightsError: the row's weights are gone, changed or not finite.
        TrainingError: the loss is not finite.
    """
    began = time.monotonic()
    _check(image_size, seed)
    store = Zoo.open(zoo)
    start, found = find_start(store, row)
    recipe = _recipe(found, epochs, lr, batch_size)
    out = Path(out).expanduser()
    with torch_threads(threads), new_result(out, is_of_network, overwrite) as folder:
        search_space = _search_space(store, start, found, init)
        weights = store.load_weights(found) if start == "retrieved" else {}
        dataset = read_dataset(spec, image_size or found.identity.image_size)
        recipe = replace(recipe, mirror=keeps_class_when_mirrored(dataset, lite0_backbone()))
        key = f"{found.key}/{dataset.fingerprint}/{seed}"
        architecture = search_space.architecture(found.identity.topology)
        network = to_device(
            network_from(start, search_space, architecture, weights, len(dataset.class_names), key), CPU
        )
        words = f"{found.key} of {shown(found.dataset_name)}" if start == "retrieved" else f"the start of {found.key}"
        say(f"fine-tuning {words} on {len(dataset.train)} images of {shown(dataset.name)}")
        watch = _Watch(recipe, len(dataset.train))
        tuned = tune(network, dataset, search_space, recipe, key=key, check=watch.step, on_epoch=watch.epoch)
        summary = FineTuned(
            dataset=dataset.name,
            class_names=dataset.class_names,
            row=found.key,
            start=start,
            from_dataset=found.dataset_name if start == "retrieved" else None,
            epochs=epochs,
            **_results(tuned),
            image_size=dataset.image_size,
            recipe=asdict(recipe),
            seed=seed,
            threads=threads,
            wall_s=time.monotonic() - began,
            out=str(out),
        )
        try:
            export(network, search_space, dataset, found, asdict(summary), folder)
            seal(folder)
        except OSError as error:
            raise ConfigError(f"--out {out} cannot be written ({error.strerror}): name another folder") from error
    return summary


def _check(image_size: int | None, seed: int) -> None:
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


def _results(tuned: Tuned) -> dict[str, Any]:
    """The part of the summary that was measured."""
    val_total, test_total = int(tuned.val_KK.sum()), int(tuned.test_KK.sum())
    val_correct, test_correct = int(tuned.val_KK.trace()), int(tuned.test_KK.trace())
    return {
        "best_epoch": tuned.best_epoch,
        "val_accuracy": val_correct / val_total,
        "val_total": val_total,
        "test_accuracy": test_correct / test_total,
        "test_interval": wilson(test_correct, test_total),
        "test_total": test_total,
        "val_correct_by_class": _counts(tuned.val_KK.diagonal()),
        "val_total_by_class": _counts(tuned.val_KK.sum(dim=1)),
        "test_correct_by_class": _counts(tuned.test_KK.diagonal()),
        "test_total_by_class": _counts(tuned.test_KK.sum(dim=1)),
        "test_confusion": tuple(_counts(row_K) for row_K in tuned.test_KK),
        "val_accuracy_by_epoch": tuple(_accuracy(point) for point in tuned.curve),
        "train_loss_by_epoch": tuple(point.train_loss for point in tuned.curve),
    }


def _counts(count_K: Tensor) -> tuple[int, ...]:
    return tuple(count_K.tolist())


def _accuracy(point: CurvePoint) -> float:
    assert point.val_correct is not None and point.val_total
    return point.val_correct / point.val_total


class _Watch:
    """Tells of a fine-tuning while it lasts: a line an epoch, and between two of them how far it is."""

    def __init__(self, recipe: Recipe, train_images: int) -> None:
        self._epochs, self._steps = recipe.epochs, len(steps_of(train_images, recipe.batch_size))
        self._progress, self._began_s, self._done = Progress(), time.monotonic(), 0

    def step(self) -> None:
        epoch, step = divmod(self._done, self._steps)
        self._done += 1
        self._progress.show(f"epoch {epoch + 1} of {self._epochs}: step {step + 1} of {self._steps}")

    def epoch(self, point: CurvePoint) -> None:
        self._progress.clear()
        left_s = (time.monotonic() - self._began_s) / point.epoch * (self._epochs - point.epoch)
        say(
            f"epoch {point.epoch} of {self._epochs}: loss {point.train_loss:.3f}, "
            f"validation {percent(_accuracy(point))}" + (f", about {left_s:.0f} s left" if left_s else "")
        )
