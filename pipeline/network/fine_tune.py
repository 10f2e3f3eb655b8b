"""`tans fine-tune`: a network of the zoo, trained on a new dataset and written to a folder that stands alone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from pipeline.network.load_network import find_row
from pipeline.reading.read import read_dataset
from pipeline.running.files import write_whole
from pipeline.running.progress import say
from pipeline.zoo import Zoo
from tans_core.cross_modal.features import keeps_class_when_mirrored
from tans_core.errors import ConfigError
from tans_core.records import ImageDataset, Row
from tans_core.search_space import make_search_space
from tans_core.search_space.ofa_lite import lite0_backbone
from tans_core.search_space.space import SearchSpace
from tans_core.training.augment import ImageBatches
from tans_core.training.fine_tune import transfer
from tans_core.training.loop import CPU, evaluate, fit, to_device
from tans_core.training.recipe import Recipe
from tans_core.training.weights import encode_weights


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
        out: folder for `weights.safetensors` and `config.json`; made where it is not there.

    Raises:
        ConfigError: `epochs` is below 1, `out` cannot be a folder, or no such row.
        DatasetError: the SPEC gives no dataset, or several.
        ZooError: there is no zoo.
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
    _export(network, search_space, dataset, found, summary, out)
    return summary


def _export(
    network: nn.Module, search_space: SearchSpace, dataset: ImageDataset, row: Row, summary: FineTuned, out: Path
) -> None:
    """Weights and one JSON beside them: enough to load the network with torch and `ofa` alone."""
    config = {
        "network": search_space.export_config(network),
        "class_names": dataset.class_names,
        "preprocessing": {
            "image_size": dataset.image_size,
            "resize": "longest side to image_size, centred on grey 127",
            "mean": torch.as_tensor(search_space.input_mean).tolist(),
            "std": torch.as_tensor(search_space.input_std).tolist(),
        },
        "from": {"row": row.key, "dataset": row.dataset_name, "topology": row.identity.topology},
        "accuracy": asdict(summary),
    }
    write_whole(out / "weights.safetensors", encode_weights(network.state_dict()))
    write_whole(out / "config.json", json.dumps(config, indent=1, ensure_ascii=False).encode())
