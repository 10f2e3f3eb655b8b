"""Does 16-bit storage change an answer? Trained networks of `meta-train` datasets, stored in 32 and in 16 bits.

Each dataset is given one random network, trained by the recipe of the `laptop` preset (or fewer epochs of it); or rows
of an older zoo are taken, which were stored in 32 bits. Each network is stored in 32 bits, in float16 and in bfloat16
(vectors in 32 bits always), read back, and asked for the class of each validation image.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import write
from pipeline.config import PRESETS
from pipeline.running.progress import say
from pipeline.zoo import Zoo
from tans_core.cross_modal.features import keeps_class_when_mirrored
from tans_core.datasets.opening import open_dataset
from tans_core.records import ImageDataset, PairIdentity
from tans_core.search_space import make_search_space
from tans_core.search_space.ofa_lite import lite0_backbone
from tans_core.search_space.space import SearchSpace
from tans_core.training.augment import ImageBatches
from tans_core.training.loop import CPU, taken, to_device
from tans_core.training.standalone import CHANGED_AT_MOST, train_pair
from tans_core.training.weights import STORED, decode_weights, encode_weights, load_into

NETWORKS, SEED = 24, 0
DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, eq=False)
class Trained:
    """A network as training left it, in 32 bits."""

    dataset: ImageDataset
    topology: tuple[int, ...]
    state: dict[str, Tensor]


def trained(folder: Path, count: int, epochs: int, search_space: SearchSpace) -> Iterator[Trained]:
    """One random network for each of the first datasets of a folder, trained by the `laptop` preset."""
    preset, backbone = PRESETS["laptop"], lite0_backbone()
    recipe = replace(preset.recipe, epochs=epochs)
    for number, path in enumerate(sorted(folder.glob("*.parquet"))[:count]):
        dataset = open_dataset(f"parquet:{path}", preset.image_size)
        topology = tuple(search_space.sample(1, torch.Generator().manual_seed(SEED + number))[0].tolist())
        identity = PairIdentity(
            fingerprint=dataset.fingerprint,
            search_space=search_space.name,
            topology=topology,
            width=search_space.width,
            image_size=preset.image_size,
            mode="standalone",
            recipe=asdict(replace(recipe, mirror=keeps_class_when_mirrored(dataset, backbone))),
            supernet=search_space.supernet_hash,
            seed=SEED,
        )
        pair, _ = train_pair(identity, dataset, search_space, weights_dtype="float32")
        yield Trained(dataset, topology, decode_weights(pair.weights))


def rows_of(zoo: str, folder: Path, count: int) -> Iterator[Trained]:
    """The first rows of a zoo that were stored in 32 bits, as zoos were before 16; datasets are found by name."""
    store = Zoo.open(zoo)
    rows = [row for row in store.snapshot().rows if row.weights.dtype == "float32"][:count]
    for row in sorted(rows, key=lambda row: row.dataset_name):
        dataset = open_dataset(f"parquet:{folder / row.dataset_name}.parquet", row.identity.image_size)
        assert dataset.fingerprint == row.identity.fingerprint, f"{row.dataset_name} is another dataset now"
        yield Trained(dataset, row.identity.topology, store.load_weights(row))


def stored(network: Trained, search_space: SearchSpace) -> dict[str, Any]:
    """Bytes of a network, its right answers and its changed ones in each precision."""
    dataset = network.dataset
    data = {dtype: encode_weights(network.state, dtype) for dtype in DTYPES}
    taken_N = {dtype: _taken(network, data[dtype], search_space) for dtype in DTYPES}
    labels_N = dataset.labels[dataset.validation]
    return {
        "dataset": dataset.name,
        "val_total": len(labels_N),
        "bytes": {dtype: len(data[dtype]) for dtype in DTYPES},
        "val_correct": {dtype: int((taken_N[dtype] == labels_N).sum()) for dtype in DTYPES},
        "changed": {dtype: int((taken_N[dtype] != taken_N["float32"]).sum()) for dtype in DTYPES},
    }


def _taken(trained: Trained, data: bytes, search_space: SearchSpace) -> Tensor:
    """The class that the network in `data` takes each validation image for."""
    dataset, architecture = trained.dataset, search_space.architecture(trained.topology)
    network = search_space.random_subnet(architecture, len(dataset.class_names), torch.Generator().manual_seed(0))
    load_into(network, decode_weights(data))
    batches = ImageBatches(dataset, search_space, CPU)
    return taken(to_device(network, CPU), batches, dataset.validation)


def summary(networks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Bytes against 32 bits, changed predictions, and drift of validation accuracy in points.

    A network of which more than `CHANGED_AT_MOST` answers would change counts as stored in 32 bits, as pairs are.
    `drift_points_mean` is the mean over networks of the distance between the two accuracies, whichever is the higher;
    `drift_points_signed` lets those below and above make up for each other.

    Args:
        networks: as `stored` gives them.
    """

    def of(dtype: str) -> dict[str, Any]:
        kept = [dtype if each["changed"][dtype] <= CHANGED_AT_MOST else "float32" for each in networks]
        each_kept = list(zip(networks, kept, strict=True))
        ratios = [each["bytes"][its] / each["bytes"]["float32"] for each, its in each_kept]
        drifts = [
            100 * (each["val_correct"][its] - each["val_correct"]["float32"]) / each["val_total"]
            for each, its in each_kept
        ]
        return {
            "bytes_row_ratio": sum(ratios) / len(ratios),
            "stored_in_32_bits": kept.count("float32"),
            "changed_predictions_max": max(each["changed"][its] for each, its in each_kept),
            "changed_predictions": sum(each["changed"][its] for each, its in each_kept),
            "drift_points_mean": sum(map(abs, drifts)) / len(drifts),
            "drift_points_signed": sum(drifts) / len(drifts),
        }

    return {
        **of(STORED),
        "dtype": STORED,
        "networks": len(networks),
        "validation_images": sum(each["val_total"] for each in networks),
        "beside": {dtype: of(dtype) for dtype in DTYPES if dtype not in ("float32", STORED)},
        "seed": SEED,
        "each": list(networks),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the collection: meta-train/")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--networks", type=int, default=NETWORKS)
    parser.add_argument("--epochs", type=int, default=PRESETS["laptop"].recipe.epochs)
    parser.add_argument("--zoo", help="train nothing: take rows of this zoo over meta-train that are of 32 bits")
    given = parser.parse_args()
    torch.set_num_threads(1)
    search_space, folder = make_search_space(PRESETS["laptop"].search_space), given.data / "meta-train"
    networks = []
    source = trained(folder, given.networks, given.epochs, search_space)
    if given.zoo:
        source = rows_of(given.zoo, folder, given.networks)
    for network in source:
        networks.append(stored(network, search_space))
        say(f"{len(networks)} of {given.networks}: {networks[-1]['dataset']}, changed {networks[-1]['changed']}")
    write(given.out / "storage.json", {**summary(networks), "epochs": given.epochs})


if __name__ == "__main__":
    main()
