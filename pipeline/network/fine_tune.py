"""`tans fine-tune`: a network of the zoo, trained on a new dataset and written to a folder that stands alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipeline.network.export import export
from pipeline.network.load_network import find_row
from pipeline.reading.read import read_dataset
from pipeline.running.progress import say
from pipeline.zoo import Zoo
from tans_core.cross_modal.features import keeps_class_when_mirrored
from tans_core.errors import ConfigError
from tans_core.search_space import make_search_space
from tans_core.search_space.ofa_lite import lite0_backbone
from tans_core.training.augment import ImageBatches
from tans_core.training.fine_tune import transfer
from tans_core.training.loop import CPU, evaluate, fit, to_device
from tans_core.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """What `tans fine-tune --json` prints: accuracies from 0 to 1, with the counts of their images."""

    dataset: str
    row: str
    from_dataset: str
    epochs: int
    val_accuracy: float
    val_total: int
    test_accuracy: float
    test_total: int
    val_accuracy_by_epoch: tuple[float, ...]
    out: str


def fine_tune(spec: str, zoo: str, row: str, out: Path, epochs: int = 10) -> FineTuned:
    """Train a row's network on a new dataset, with a new classifier, and write it to `out`.

    Args:
        spec: one dataset.
        row: key of a row, or enough of its beginning.
        out: folder for `weights.safetensors`, `config.json` and `exported.py`; made where it is not there.

    Raises:
        ConfigError: `epochs` is below 1, or `out` cannot be a folder.
        DatasetError: the SPEC gives no dataset, or several.
        ZooError: no such zoo or row.
        WeightsError: the row's weights are gone, changed or not finite.
        TrainingError: the loss is not finite.
    """
    if epochs < 1:
        raise ConfigError(f"--epochs must be at least 1, got {epochs}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be a folder ({error.strerror}): name another") from error
    store = Zoo.open(zoo)
    found = find_row(store, row)
    search_space = make_search_space(found.identity.search_space, found.identity.width)
    dataset = read_dataset(spec, found.identity.image_size)
    mirror = keeps_class_when_mirrored(dataset, lite0_backbone())
    recipe = replace(Recipe(**found.identity.recipe), epochs=epochs, mirror=mirror, max_train_images=None)
    key = f"{found.key}/{dataset.fingerprint}/{epochs}"
    architecture = search_space.architecture(found.identity.topology)
    network = to_device(
        transfer(search_space, architecture, store.load_weights(found), len(dataset.class_names), key), CPU
    )
    say(f"fine-tuning {found.key} of {found.dataset_name} on {len(dataset.train)} images of {dataset.name}")
    fitted = fit(
        network,
        dataset,
        search_space,
        recipe,
        key=key,
        evaluate_on=dataset.validation,
        evaluate_at=range(1, epochs + 1),
    )
    test = evaluate(network, ImageBatches(dataset, search_space, CPU), dataset.test, len(dataset.class_names))
    summary = FineTuned(
        dataset=dataset.name,
        row=found.key,
        from_dataset=found.dataset_name,
        epochs=epochs,
        val_accuracy=sum(fitted.correct_by_class) / sum(fitted.total_by_class),
        val_total=sum(fitted.total_by_class),
        test_accuracy=sum(test[0]) / sum(test[1]),
        test_total=sum(test[1]),
        val_accuracy_by_epoch=tuple(point.val_correct / point.val_total for point in fitted.curve if point.val_total),  # type: ignore[operator]
        out=str(out),
    )
    export(network, search_space, dataset, found, asdict(summary), out)
    return summary
