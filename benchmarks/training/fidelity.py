"""Are pairs cut out of a supernet what pairs trained alone are, and what do they cost?

Random networks of each dataset are trained alone by the recipe of the `laptop` preset, with two seeds, and cut out of
the dataset's supernet, by several recipes of it. Both learn at most `MOST_TRAIN` images. An accuracy is over validation
and test images together: one of a hundred images alone says little. How well the second seed repeats the order of the
first is the ceiling: nothing can follow an order that training alone does not follow itself. Seconds are processor
time. What the `paper` preset takes is counted in steps, and steps are timed. Runs are kept in a file of lines.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.runs import Result, kept, mean, run_missing
from benchmarks.training import paper_cost
from pipeline.config import PRESETS
from tans_core.cross_modal.features import keeps_class_when_mirrored
from tans_core.datasets.opening import open_dataset
from tans_core.lineage import supernet_of
from tans_core.records import ImageDataset, PairIdentity, TrainedPair, canonical_json, content_hash
from tans_core.search_space import make_search_space
from tans_core.search_space.ofa_lite import lite0_backbone
from tans_core.training.from_supernet import cut_pair, train_supernet
from tans_core.training.recipe import HEADS, Recipe, SupernetRecipe
from tans_core.training.standalone import train_pair

# Of eight sources that the starting weights have not seen.
DATASETS = (
    "nebula-types",
    "wesnoth-units",
    "card-ranks",
    "ufo-materials",
    "thai-letters",
    "nexuiz-styles",
    "wallpaper-photographs",
    "icon-concepts-3",
)
SUBNETS = 16
SEEDS = (0, 1)  # of training alone
EPOCHS = (SupernetRecipe().epochs, 8)  # of a supernet; the first is the recipe's own
MOST_TRAIN = 240
PAIRS = 50  # of a dataset, among which the seconds of its supernet are shared


@dataclass(frozen=True, order=True)
class Alone:
    """A network trained by itself."""

    dataset: str
    subnet: int
    seed: int
    recipe: str  # hash: lines of another recipe are not taken for ours


@dataclass(frozen=True, order=True)
class Cut:
    """A supernet, and networks cut out of it with each of `HEADS`."""

    dataset: str
    subnets: int
    epochs: int
    recipe: str


def measure(data: Path, out: Path, datasets: int, subnets: int, workers: int) -> dict[str, Any]:
    """Run what is not there yet of the first datasets and networks; what `summary` makes of all of it."""
    names = DATASETS[:datasets]
    of_cut, of_alone = _named(SupernetRecipe()), _named(PRESETS["laptop"].recipe)
    cut = [Cut(name, subnets, epochs, of_cut) for epochs in EPOCHS for name in names]
    alone = [Alone(name, subnet, seed, of_alone) for name in names for subnet in range(subnets) for seed in SEEDS]
    done: list[dict[Any, Result]] = []
    for tasks, kind in ((cut, Cut), (alone, Alone)):
        lines = out / f"fidelity-{kind.__name__.lower()}.jsonl"
        done.append(kept(lines, kind))
        run = functools.partial(_run, data=data)
        run_missing(tasks, done[-1], lines, workers, run, lambda result: result["dataset"])
    paper = paper_cost.measure()
    return {
        **summary([done[0][task] for task in cut], [done[1][task] for task in alone]),
        "pair_cost_ratio_paper": paper_cost.ratio(paper, PRESETS["paper"].recipe.epochs, SupernetRecipe(), PAIRS),
        "paper_image_cpu_s": asdict(paper),
    }


def _named(recipe: Recipe | SupernetRecipe) -> str:
    return content_hash(canonical_json({**asdict(recipe), "most": MOST_TRAIN}))[:8]


# --- one run ------------------------------------------------------------------------------------------


class _Bench:
    """What the runs of a process share."""

    def __init__(self, data: Path) -> None:
        self._data, self.preset = data, PRESETS["laptop"]
        self.search_space = make_search_space(self.preset.search_space, init="starter")
        self._read: dict[str, tuple[ImageDataset, bool]] = {}

    def dataset(self, name: str) -> tuple[ImageDataset, bool]:
        """Its images, and whether they may be mirrored."""
        if name not in self._read:
            dataset = open_dataset(f"parquet:{self._data}/meta-train/{name}.parquet", self.preset.image_size)
            self._read[name] = dataset, keeps_class_when_mirrored(dataset, lite0_backbone())
        return self._read[name]

    def identity(
        self, dataset: ImageDataset, subnet: int, mode: str, recipe: dict[str, Any], seed: int
    ) -> PairIdentity:
        """The pair of a dataset and its random network of that number."""
        drawn = self.search_space.sample(1, torch.Generator().manual_seed(subnet))[0]
        return PairIdentity(
            fingerprint=dataset.fingerprint,
            search_space=self.search_space.name,
            topology=tuple(drawn.tolist()),
            width=self.search_space.width,
            image_size=self.preset.image_size,
            mode=mode,
            recipe=recipe,
            supernet=self.search_space.supernet_hash,
            seed=seed,
        )

    def alone(self, task: Alone) -> Result:
        dataset, mirror = self.dataset(task.dataset)
        recipe = replace(self.preset.recipe, mirror=mirror, max_train_images=MOST_TRAIN)
        identity = self.identity(dataset, task.subnet, "standalone", asdict(recipe), task.seed)
        began_s = time.process_time()
        pair, _ = train_pair(identity, dataset, self.search_space)
        return {**asdict(task), "cpu_s": time.process_time() - began_s, **_counts(pair)}

    def cut(self, task: Cut) -> Result:
        dataset, mirror = self.dataset(task.dataset)
        recipe = SupernetRecipe(epochs=task.epochs, mirror=mirror, max_train_images=MOST_TRAIN)
        identity = self.identity(dataset, 0, "from_supernet", asdict(recipe), 0)
        began_s = time.process_time()
        supernet, _ = train_supernet(supernet_of(identity), dataset, self.search_space)
        found: Result = {**asdict(task), "supernet_s": time.process_time() - began_s, "bytes": len(supernet.weights)}
        for head in HEADS:
            found[head] = []
            for subnet in range(task.subnets):
                own = asdict(replace(recipe, head=head))
                identity = self.identity(dataset, subnet, "from_supernet", own, 0)
                began_s = time.process_time()
                pair, _ = cut_pair(identity, dataset, self.search_space, supernet.weights)
                seconds = time.process_time() - began_s
                found[head].append({"cpu_s": seconds, "bytes": len(pair.weights), **_counts(pair)})
        return found


def _counts(pair: TrainedPair) -> dict[str, int]:
    return {
        "val_correct": pair.val_correct,
        "val_total": pair.val_total,
        "test_correct": sum(pair.test_correct_by_class),
        "test_total": sum(pair.test_total_by_class),
    }


@functools.cache
def _bench(data: Path) -> _Bench:
    torch.set_num_threads(1)
    return _Bench(data)


def _run(task: Alone | Cut, data: Path) -> Result:
    bench = _bench(data)
    return bench.cut(task) if isinstance(task, Cut) else bench.alone(task)


# --- what is made of the runs -------------------------------------------------------------------------


def summary(cut: Sequence[Result], alone: Sequence[Result]) -> dict[str, Any]:
    """Rank correlations between the two roads, and between two seeds of training alone; what a pair costs.

    A correlation of a road is the mean of those with either seed alone, so that it is as noisy as the ceiling.

    Args:
        cut, alone: results of every dataset, and of as many networks of each.
    """
    names = list(dict.fromkeys(result["dataset"] for result in alone))
    by_seed = {name: [_of_seed(alone, name, seed) for seed in SEEDS] for name in names}
    settings = {}
    for epochs in dict.fromkeys(result["epochs"] for result in cut):
        supernets = {result["dataset"]: result for result in cut if result["epochs"] == epochs}
        for head in HEADS:
            settings[f"{epochs} epochs, {head}"] = _setting(supernets, head, by_seed)
    own = SupernetRecipe()
    chosen = settings[f"{own.epochs} epochs, {own.head}"]
    ceilings = {name: spearman(*(_accuracies(pairs) for pairs in by_seed[name])) for name in names}
    return {
        "fidelity_spearman_mean": chosen["spearman_mean"],
        "fidelity_ceiling_mean": mean(list(ceilings.values())),
        "pair_cost_ratio_laptop": chosen["cost_ratio"],
        "fidelity_ceilings": {name: _with_interval(value, len(by_seed[name][0])) for name, value in ceilings.items()},
        "fidelity_settings": settings,
        "fidelity_images": {name: _images(by_seed[name][0][0]) for name in names},
        "fidelity_most_train": MOST_TRAIN,
        "fidelity_alone_cpu_s": mean([result["cpu_s"] for result in alone]),
    }


def _setting(
    supernets: Mapping[str, Result], head: str, by_seed: Mapping[str, Sequence[Sequence[Result]]]
) -> dict[str, Any]:
    """What one recipe of supernets and one head give."""
    datasets = {}
    for name, seeds in by_seed.items():
        pairs = supernets[name][head]
        ours = _accuracies(pairs)
        accuracies = [_accuracies(each) for each in seeds]
        alone_s = mean([result["cpu_s"] for each in seeds for result in each])
        pair_s = supernets[name]["supernet_s"] / PAIRS + mean([pair["cpu_s"] for pair in pairs])
        datasets[name] = {
            **_with_interval(mean([spearman(ours, each) for each in accuracies]), len(pairs)),
            "cut_accuracy": 100 * mean(ours),
            "alone_accuracy": 100 * mean([mean(each) for each in accuracies]),
            "spread_cut_points": 100 * float(torch.tensor(ours).std()),
            "spread_alone_points": 100 * mean([float(torch.tensor(each).std()) for each in accuracies]),
            "supernet_s": supernets[name]["supernet_s"],
            "pair_s": pair_s,
            "cost_ratio": pair_s / alone_s,
        }
    return {
        "spearman_mean": mean([each["spearman"] for each in datasets.values()]),
        "cost_ratio": mean([each["cost_ratio"] for each in datasets.values()]),
        "below_alone_points": mean([each["alone_accuracy"] - each["cut_accuracy"] for each in datasets.values()]),
        "datasets": datasets,
    }


def _of_seed(alone: Sequence[Result], name: str, seed: int) -> list[Result]:
    of_seed = [result for result in alone if (result["dataset"], result["seed"]) == (name, seed)]
    return sorted(of_seed, key=lambda result: result["subnet"])


def _images(result: Result) -> int:
    return result["val_total"] + result["test_total"]


def _accuracies(pairs: Sequence[Result]) -> list[float]:
    return [(pair["val_correct"] + pair["test_correct"]) / _images(pair) for pair in pairs]


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Rank correlation; ties share the mean of their ranks. 0 where one side has no order."""
    ranks = torch.stack([_ranks(one), _ranks(other)])
    centred = ranks - ranks.mean(dim=1, keepdim=True)
    norms = centred.norm(dim=1)
    return float((centred[0] * centred[1]).sum() / (norms[0] * norms[1])) if norms.min() > 0 else 0.0


def _ranks(values: Sequence[float]) -> Tensor:
    value_N = torch.tensor(values, dtype=torch.float64)
    below_N = (value_N[None] < value_N[:, None]).sum(dim=1)
    return below_N + ((value_N[None] == value_N[:, None]).sum(dim=1) + 1) / 2.0


def _with_interval(correlation: float, count: int) -> dict[str, Any]:
    """With its 95 % interval by Fisher's transformation, its variance by Bonett and Wright (2000)."""
    half = 1.96 * math.sqrt((1 + correlation**2 / 2) / (count - 3))
    place = math.atanh(max(-0.999999, min(0.999999, correlation)))
    return {"spearman": correlation, "interval": (math.tanh(place - half), math.tanh(place + half))}
