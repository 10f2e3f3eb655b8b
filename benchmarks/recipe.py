"""Which recipe of fine-tuning gains at equal seconds? Candidates on left-out datasets of `meta-train` alone.

Each candidate differs from the one it is compared with in one thing. All start from EfficientNet-Lite0's ImageNet
weights, as the smallest subnet and as a random one, and learn at most `MOST_TRAIN` images. Each takes the better of
its two rates by validation; its accuracy is on test. What a run costs is the processor time of its training steps.
Every run is kept in a file of lines: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from benchmarks.machine import write
from pipeline.running.progress import say
from tans_core.cross_modal.features import keeps_class_when_mirrored
from tans_core.datasets.opening import open_dataset
from tans_core.records import ImageDataset
from tans_core.search_space import make_search_space
from tans_core.search_space.ofa_lite import lite0_backbone
from tans_core.search_space.space import SearchSpace
from tans_core.training.augment import ImageBatches, epoch_plan
from tans_core.training.fine_tune import transfer
from tans_core.training.head import closed_form_head, near_copies, put_head
from tans_core.training.loop import CPU, confusion, reestimate_batch_norm, seeded, steps_of, to_device
from tans_core.training.weights import decode_weights, encode_weights

# Of six sources that no starting weights of ours have seen: photographs, a measurement, drawings, glyphs, textures.
DATASETS = (
    "nebula-types",
    "opencv-photographs",
    "brain-regions",
    "wesnoth-units",
    "thai-letters",
    "ufo-materials",
)
MOST_TRAIN = 256
MOST_JUDGED = 500  # pictures of test, and of training beyond those learned
ROW_OF = "emoji-objects"  # where the row that some runs start from was trained, by the recipe as it was
SEEDS = (0,)
STARTS = ("smallest", "row")  # the smallest subnet: of Lite0, and trained on another source
T_95 = {1: 12.706, 2: 4.303, 5: 2.571}  # Student's t, two-sided 95 %, by degrees of freedom


@dataclass(frozen=True, kw_only=True, order=True)
class Candidate:
    """A recipe; what is not named is as in `tans_core/training/recipe.py`."""

    name: str
    epochs: int = 5
    image_size: int = 64
    rates: tuple[float, ...] = (0.03,)
    head: str = "drawn"  # "closed": fitted to features in eval mode; "batch": to those in training mode
    norm: str = "batch"  # statistics while training: of the "batch"; frozen at the "source"'s or the "query"'s
    body: float = 1.0  # rate of the body, as a share of the head's
    norm_bias: float = 1.0  # rate of batch norms' biases, as a multiple of the body's
    average: float = 0.0  # weight averaging: share that is kept at a step
    mixup: float = 0.0  # Beta(a, a)
    alternate: bool = False  # each image is mirrored every other epoch instead of by chance
    small_first: bool = False  # the first half of the epochs at 64 px
    adam: bool = False
    refit: bool = False  # a head in closed form after the last step
    smoothing: float = 0.1


BASE = Candidate(name="as it was")
CANDIDATES = (
    BASE,
    Candidate(name="closed head, no training", epochs=0, head="closed", norm="source", rates=(0.0,)),
    Candidate(name="closed head, no training, norm of the query", epochs=0, head="closed", norm="query", rates=(0.0,)),
    Candidate(
        name="closed head, no training, 96 px", epochs=0, head="closed", norm="source", rates=(0.0,), image_size=96
    ),
    Candidate(
        name="closed head, no training, norm of the query, 96 px",
        epochs=0,
        head="closed",
        norm="query",
        rates=(0.0,),
        image_size=96,
    ),
    Candidate(name="closed head of batches", head="batch", rates=(0.03,)),
    Candidate(name="slower body", body=0.3, rates=(0.1,)),
    Candidate(name="closed head afterwards", refit=True),
    Candidate(name="closed head, norm frozen at the source's", head="closed", norm="source", rates=(0.003,)),
    Candidate(name="weight averaging", average=0.9),
    Candidate(name="96 px", image_size=96),
    Candidate(name="11 epochs", epochs=11),
    Candidate(name="closed head, norm frozen at the query's", head="closed", norm="query", rates=(0.003,)),
    Candidate(name="norm biases faster", norm_bias=8.0),
    Candidate(name="Adam", adam=True, rates=(0.001,)),
    Candidate(name="96 px, 64 px first", image_size=96, small_first=True),
    Candidate(name="alternating flip", alternate=True),
    Candidate(name="mixup", mixup=0.2),
)


@dataclass(frozen=True, order=True)
class Task:
    """One run."""

    candidate: str
    dataset: str
    start: str
    rate: float
    seed: int


def tasks(candidates: Sequence[Candidate]) -> list[Task]:
    """All runs, candidate by candidate, so that what is there at any time can be compared."""
    return [
        Task(candidate.name, dataset, start, rate, seed)
        for candidate in candidates
        for seed in SEEDS
        for dataset in DATASETS
        for start in STARTS
        for rate in candidate.rates
    ]


def train(
    network: nn.Module,
    dataset: ImageDataset,
    search_space: SearchSpace,
    candidate: Candidate,
    rate: float,
    *,
    key: str,
    mirror: bool,
    small: ImageDataset | None = None,
    most: int | None = MOST_TRAIN,
) -> None:
    """Train in place by a candidate; with `BASE` the same as `fit`, to the last bit.

    Args:
        small: the same pictures at 64 px, for `small_first`.
    """
    batches, train_N = ImageBatches(dataset, search_space, CPU), dataset.train[:most]
    starts = steps_of(len(train_N), 32)
    if candidate.norm == "query":
        reestimate_batch_norm(network, batches, train_N, 32, key)
    if candidate.head != "drawn":
        _fit_head(network, dataset, search_space, batches, train_N, candidate.head == "batch")
    optimiser = _optimiser(network, candidate, rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, one_cycle(candidate.epochs * len(starts)))
    mean: dict[str, Tensor] = {}
    drawn = np.random.default_rng(seeded(key, "mixup").initial_seed())
    for epoch in range(1, candidate.epochs + 1):
        network.train()
        if candidate.norm != "batch":
            for norm in _norms(network):
                norm.eval()
        seen = batches
        if small is not None and candidate.small_first and epoch <= candidate.epochs // 2:
            seen = ImageBatches(small, search_space, CPU)
        order_N, shift_N2, mirror_N = epoch_plan(len(train_N), 3, mirror, seeded(key, f"epoch {epoch}"))
        if candidate.alternate and mirror:
            mirror_N = (torch.rand(len(train_N), generator=seeded(key, "first flip")) < 0.5) ^ (epoch % 2 == 0)
        for start in starts:
            chosen_B = order_N[start : start + 32]
            index_B = train_N[chosen_B]
            images = seen.augmented(index_B, shift_N2[chosen_B], mirror_N[chosen_B])
            target = batches.labels_N[index_B]
            if candidate.mixup:
                share = float(drawn.beta(candidate.mixup, candidate.mixup))
                target = one_hot(target, len(dataset.class_names)).float()
                images = share * images + (1 - share) * images.flip(0)
                target = share * target + (1 - share) * target.flip(0)
            loss = cross_entropy(network(images), target, label_smoothing=candidate.smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            if candidate.average:
                _average(mean, network, candidate.average)
    if mean:
        network.load_state_dict(mean, strict=False)
    if candidate.norm == "batch":
        reestimate_batch_norm(network, batches, train_N, 32, key)
    if candidate.refit:
        _fit_head(network, dataset, search_space, batches, train_N, False)


def one_cycle(steps: int) -> Callable[[int], float]:
    rising = max(1, round(steps * 0.25))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    return factor


def _fit_head(network, dataset, search_space, batches, train_N, training: bool) -> None:
    network.train(training)
    with torch.no_grad():
        features = [search_space.features(network, batches.plain(index)) for index in train_N.split(32)]
    labels_N = dataset.labels[train_N]
    copies = near_copies(dataset.images[train_N], labels_N)
    put_head(network, closed_form_head(torch.cat(features), labels_N, len(dataset.class_names), copies))


def _optimiser(network: nn.Module, candidate: Candidate, rate: float) -> torch.optim.Optimizer:
    of_norms = {id(norm.bias) for norm in _norms(network)}
    groups = []
    for name, parameter in network.named_parameters():
        of_head = name.startswith("classifier.")
        groups.append(
            {
                "params": [parameter],
                "lr": rate
                * (1.0 if of_head else candidate.body)
                * (candidate.norm_bias if id(parameter) in of_norms else 1.0),
                "weight_decay": 5e-4 if parameter.ndim > 1 else 0.0,
            }
        )
    if candidate.adam:
        return torch.optim.AdamW([{**group, "weight_decay": 0.05 * (group["weight_decay"] > 0)} for group in groups])
    return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)


def _average(mean: dict[str, Tensor], network: nn.Module, keep: float) -> None:
    for name, parameter in network.named_parameters():
        if name in mean:
            mean[name].lerp_(parameter.detach(), 1 - keep)
        else:
            mean[name] = parameter.detach().clone()


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


class _Bench:
    """What runs share: datasets and subnets, made once."""

    def __init__(self, data: Path, out: Path) -> None:
        self._data, self._space, self._backbone = data, make_search_space("ofa-lite"), lite0_backbone()
        self._read: dict[tuple[str, int], ImageDataset] = {}
        self._mirror: dict[str, bool] = {}
        smallest = torch.tensor([[*[3] * 21, *[3] * 21, *[2] * 5]])
        layout = self._space.layout  # type: ignore[attr-defined]
        self._smallest = self._space.architecture(layout.mask(smallest)[0].tolist())
        self._row: dict[str, Tensor] = {}
        self._row_file = out / "recipe-row.safetensors"

    def network(self, start: str, classes: int, key: str) -> nn.Module:
        if start != "row":
            return self._space.subnet(self._smallest, classes, seeded(key, "classifier"))
        if not self._row and self._row_file.exists():
            self._row = decode_weights(self._row_file.read_bytes())
        if not self._row:
            source = self.dataset(ROW_OF, 64)
            row = to_device(
                self._space.subnet(self._smallest, len(source.class_names), seeded("row", "classifier")), CPU
            )
            mirror = self.mirror(ROW_OF)
            train(row, source, self._space, replace(BASE, epochs=8), 0.03, key="row", mirror=mirror, most=None)
            self._row = row.state_dict()
            self._row_file.write_bytes(encode_weights(self._row))
        return transfer(self._space, self._smallest, self._row, classes, key)

    def dataset(self, name: str, image_size: int) -> ImageDataset:
        if (name, image_size) not in self._read:
            self._read[name, image_size] = open_dataset(f"parquet:{self._data}/meta-train/{name}.parquet", image_size)
        return self._read[name, image_size]

    def mirror(self, name: str) -> bool:
        if name not in self._mirror:
            self._mirror[name] = keeps_class_when_mirrored(self.dataset(name, 64), self._backbone)
        return self._mirror[name]

    def run(self, task: Task, candidate: Candidate) -> dict[str, Any]:
        dataset, key = self.dataset(task.dataset, candidate.image_size), f"{task.dataset}/{task.seed}"
        classes = len(dataset.class_names)
        mirror = self.mirror(task.dataset)
        small = self.dataset(task.dataset, 64) if candidate.small_first else None
        network = self.network(task.start, classes, key)
        began_s = time.process_time()
        train(to_device(network, CPU), dataset, self._space, candidate, task.rate, key=key, mirror=mirror, small=small)
        cpu_s = time.process_time() - began_s
        batches = ImageBatches(dataset, self._space, CPU)
        judged_N = torch.cat([dataset.test, dataset.train[MOST_TRAIN:]])[:MOST_JUDGED]
        found: dict[str, Any] = {**asdict(task), "cpu_s": cpu_s, "train_images": min(MOST_TRAIN, len(dataset.train))}
        for side, index_N in (("val", dataset.validation), ("test", judged_N)):
            count_KK = confusion(network, batches, index_N, classes)
            found |= {f"{side}_correct": int(count_KK.trace()), f"{side}_total": int(count_KK.sum())}
        return found


def summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean accuracy in percent of each candidate, what it is over `BASE` with a 95 % interval, and what it costs.

    Of a candidate's rates the one with the most validation images right counts (of equal ones the first); its
    accuracy is on test. A dataset counts once, however many pictures and starts it has: the interval is over datasets.
    `cost` is processor time as a multiple of the base's.

    Args:
        results: of every candidate, dataset, start and seed; of some candidates more than one rate.
    """
    chosen: dict[tuple[str, str, str, int], dict[str, Any]] = {}
    for result in results:
        place = (result["candidate"], result["dataset"], result["start"], result["seed"])
        if place not in chosen or result["val_correct"] > chosen[place]["val_correct"]:
            chosen[place] = result
    datasets = sorted({result["dataset"] for result in results})

    def mean(name: str, measure: Callable[[dict[str, Any]], float], dataset: str | None, start: str | None) -> float:
        found = [
            measure(result)
            for place, result in chosen.items()
            if place[0] == name and dataset in (None, place[1]) and start in (None, place[2])
        ]
        return sum(found) / len(found)

    def side(name: str, start: str | None) -> dict[str, Any]:
        gains = [mean(name, _percent, each, start) - mean(BASE.name, _percent, each, start) for each in datasets]
        middle, half = sum(gains) / len(gains), half_width(gains)
        return {
            "accuracy": sum(mean(name, _percent, each, start) for each in datasets) / len(datasets),
            "over_base_points": middle,
            "over_base_interval": (middle - half, middle + half),
            "cost": mean(name, _seconds, None, start) / mean(BASE.name, _seconds, None, start),
        }

    names = dict.fromkeys(result["candidate"] for result in results)
    starts = sorted({result["start"] for result in results})
    return {
        "datasets": datasets,
        "most_train_images": MOST_TRAIN,
        "seeds": sorted({result["seed"] for result in results}),
        "base": asdict(BASE),
        "candidates": {
            name: {"all": side(name, None)} | {start: side(name, start) for start in starts} for name in names
        },
        "by_dataset": {
            name: {each: {start: mean(name, _percent, each, start) for start in starts} for each in datasets}
            for name in names
        },
    }


def _percent(result: dict[str, Any]) -> float:
    return 100 * result["test_correct"] / result["test_total"]


def _seconds(result: dict[str, Any]) -> float:
    return result["cpu_s"]


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean, by Student's t."""
    spread = torch.tensor(values, dtype=torch.float64).std().item()
    return T_95[len(values) - 1] * spread / math.sqrt(len(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the collection: meta-train/ is read")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    lines = given.out / "recipe.jsonl"
    fields = Task.__dataclass_fields__
    results = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    done = {Task(**{name: result[name] for name in fields}): result for result in results}
    by_name, wanted = {candidate.name: candidate for candidate in CANDIDATES}, tasks(CANDIDATES)
    missing = [task for task in wanted if task not in done]
    bench = _Bench(given.data, given.out)
    with lines.open("a") as file:
        for number, task in enumerate(missing, start=1):
            done[task] = bench.run(task, by_name[task.candidate])
            file.write(json.dumps(done[task]) + "\n")
            file.flush()
            say(f"{number} of {len(missing)}: {task.candidate}, {task.dataset}")
    write(given.out / "recipe.json", summary([done[task] for task in wanted]))


if __name__ == "__main__":
    main()
