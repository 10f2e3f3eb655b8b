"""Images per second of the training loop: beside the least there is to do, and beside the loop of a good tutorial.

Bare is forward, backward and step on one batch that is ready in memory. The tutorial reads through a `DataLoader` of
two workers, decodes by Pillow, augments by torchvision's transforms and trains the same network in torch's usual memory
format, its depthwise convolutions torch's own. All train on one thread; the tutorial's workers come on top. Sides take
turns, round by round, so that what else the machine does meets all of them; a ratio is the median over rounds.
"""

from __future__ import annotations

import io
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from pipeline.running.progress import say
from tans_core.datasets.opening import open_dataset
from tans_core.records import Architecture, ImageDataset
from tans_core.search_space import make_search_space
from tans_core.search_space.depthwise import DepthwiseConv2d
from tans_core.search_space.space import SearchSpace
from tans_core.training.augment import ImageBatches
from tans_core.training.loop import CPU, fit, seeded, to_device
from tans_core.training.recipe import Recipe

DATASET, IMAGE_SIZE = "emoji-objects", 64
RANDOM_NETWORKS, ROUNDS = 3, 5
WARM_UP = 3  # steps of a round that are not counted


@dataclass(frozen=True, kw_only=True)
class Round:
    """One turn of the three sides with one network, in images a second."""

    network: str
    engine: float
    bare: float
    tutorial: float


def measure(data: Path) -> dict[str, Any]:
    """Run all rounds; what `summary` makes of them."""
    torch.set_num_threads(1)
    path = data / "meta-train" / f"{DATASET}.parquet"
    dataset = open_dataset(f"parquet:{path}", IMAGE_SIZE)
    search_space = make_search_space("ofa-lite")
    rounds = []
    for number in range(ROUNDS):
        for name, architecture in _networks(search_space):
            rounds.append(_round(name, architecture, dataset, path, search_space, str(number)))
            say(str(rounds[-1]))
    return summary(rounds)


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """For each network the medians over its rounds, and the geometric means of the networks' ratios."""
    networks = {}
    for name in dict.fromkeys(each.network for each in rounds):
        of_it = [each for each in rounds if each.network == name]
        networks[name] = {
            "images_per_s": statistics.median(each.engine for each in of_it),
            "vs_bare": statistics.median(each.engine / each.bare for each in of_it),
            "vs_tutorial": statistics.median(each.engine / each.tutorial for each in of_it),
        }
    return {
        "engine_vs_bare_ratio": _geometric_mean([each["vs_bare"] for each in networks.values()]),
        "engine_vs_tutorial_ratio": _geometric_mean([each["vs_tutorial"] for each in networks.values()]),
        "engine_networks": networks,
        "engine_rounds": len(rounds) // len(networks),
    }


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(statistics.fmean(math.log(value) for value in values))


def _networks(search_space: SearchSpace) -> Iterator[tuple[str, Architecture]]:
    drawn = search_space.sample(1000, torch.Generator().manual_seed(0))
    params, _ = search_space.costs(drawn, IMAGE_SIZE, 12)
    order = params.argsort()
    yield "smallest of 1,000", search_space.architecture(drawn[order[0]].tolist())
    for number in range(RANDOM_NETWORKS):
        yield f"random {number}", search_space.architecture(drawn[number].tolist())
    yield "largest of 1,000", search_space.architecture(drawn[order[-1]].tolist())


def _round(
    name: str, architecture: Architecture, dataset: ImageDataset, path: Path, search_space: SearchSpace, key: str
) -> Round:
    def network() -> nn.Module:
        return search_space.subnet(architecture, len(dataset.class_names), seeded(key, "classifier"))

    recipe = Recipe(epochs=1, mirror=True)
    return Round(
        network=name,
        engine=_engine(to_device(network(), CPU), dataset, search_space, recipe, key),
        bare=_bare(to_device(network(), CPU), dataset, search_space, recipe),
        tutorial=_tutorial(_with_torchs_convolutions(network()), dataset, path, recipe),
    )


def _engine(network: nn.Module, dataset: ImageDataset, search_space: SearchSpace, recipe: Recipe, key: str) -> float:
    """The loop that trains everything here, timed from step to step."""
    began: list[float] = []
    fit(
        network,
        dataset,
        search_space,
        recipe,
        key=key,
        evaluate_on=dataset.validation[:1],
        evaluate_at=(),
        check=lambda: began.append(time.perf_counter()),
    )
    return _per_second(began, recipe.batch_size)


def _bare(network: nn.Module, dataset: ImageDataset, search_space: SearchSpace, recipe: Recipe) -> float:
    batches = ImageBatches(dataset, search_space, CPU)
    index_B = dataset.train[: recipe.batch_size]
    images, labels_B = batches.plain(index_B), dataset.labels[index_B]
    step = _stepping(network, recipe)
    began = []
    for _ in range(len(dataset.train) // recipe.batch_size):
        began.append(time.perf_counter())
        step(images, labels_B)
    return _per_second(began, recipe.batch_size)


def _tutorial(network: nn.Module, dataset: ImageDataset, path: Path, recipe: Recipe) -> float:
    augment = transforms.Compose(
        [
            transforms.Resize((IMAGE_SIZE, IMAGE_SIZE)),
            transforms.RandomCrop(IMAGE_SIZE, padding=recipe.shift),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ]
    )
    pictures = _Pictures(path, len(dataset.train), augment)
    loader = DataLoader(pictures, recipe.batch_size, shuffle=True, num_workers=2, drop_last=True)
    step = _stepping(network, recipe)
    began = []
    for images, labels_B in loader:
        began.append(time.perf_counter())
        step(images, labels_B)
    return _per_second(began, recipe.batch_size)


class _Pictures(Dataset):
    """The first pictures of a Parquet file, decoded when they are asked for."""

    def __init__(self, path: Path, count: int, transform: Callable[[Image.Image], Tensor]) -> None:
        table = pq.read_table(path, columns=["image", "label"]).slice(0, count)
        self._files, self._labels = table["image"].to_pylist(), table["label"].to_pylist()
        self._transform = transform

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        picture = Image.open(io.BytesIO(self._files[place])).convert("RGB")
        return self._transform(picture), self._labels[place]


def _stepping(network: nn.Module, recipe: Recipe) -> Callable[[Tensor, Tensor], None]:
    """Forward, backward and step with the optimiser that the recipe names."""
    optimiser = torch.optim.SGD(network.parameters(), recipe.peak_lr, recipe.momentum, nesterov=True)
    network.train()

    def step(images: Tensor, labels_B: Tensor) -> None:
        loss = cross_entropy(network(images), labels_B, label_smoothing=recipe.label_smoothing)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def _with_torchs_convolutions(network: nn.Module) -> nn.Module:
    for layer in network.modules():
        if isinstance(layer, DepthwiseConv2d):
            layer.__class__ = nn.Conv2d  # type: ignore[assignment]  # the same parameters
    return network


def _per_second(began: Sequence[float], batch_size: int) -> float:
    """Images a second from the starts of steps, of which the first few warm up."""
    counted = began[WARM_UP:]
    return batch_size * (len(counted) - 1) / (counted[-1] - counted[0])
