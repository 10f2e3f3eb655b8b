"""`make starter-weights`: the starting weights that come with the package, pretrained on its starter datasets alone.

The demo's query is left out of the pool, so that it stays a dataset that nothing has seen. With `--data` they are then
judged beside EfficientNet-Lite0's on `meta-train` datasets of sources that the pool does not have: five epochs of the
smallest, of a random and of the largest network. Both parts are kept as they come: the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import write
from pipeline import pretrain
from pipeline.demo import QUERY
from pipeline.reading.read import read_dataset
from pipeline.running.files import write_whole
from pipeline.running.progress import say
from tans_core.cross_modal.features import keeps_class_when_mirrored
from tans_core.datasets.sources.parquet import STARTER as DATASETS
from tans_core.records import ImageDataset
from tans_core.search_space import make_search_space, ofa_lite
from tans_core.search_space.ofa_lite import STARTER, lite0_backbone
from tans_core.search_space.space import SearchSpace
from tans_core.training.loop import fit, seeded, to_device
from tans_core.training.pretrain import PretrainConfig
from tans_core.training.recipe import Recipe

CONFIG = PretrainConfig(steps=1500, teacher=4.0, smallest_crop=0.6, evaluate_every=250)
RESULT = Path("benchmarks/results/starter-weights.json")
IMAGE_SIZE, EPOCHS = 64, 5
NETWORKS = ("smallest", "random", "largest")
LEFT_OUT = (  # one of each source
    "cyrillic-letters",
    "card-ranks",
    "icon-concepts-3",
    "nebula-types",
    "nexuiz-styles",
    "ufo-materials",
    "wallpaper-photographs",
    "wesnoth-structures",
)
TRAIN_IMAGES = 480  # of each at most


@dataclass(frozen=True)
class Judged:
    """One fine-tuning from one start."""

    start: str
    network: str
    dataset: str
    accuracy: float  # on test images, 0 to 1


def summary_of(judged: Sequence[Judged]) -> dict[str, float]:
    """Mean accuracy in percent of each start and network, and what the first start gains over the second.

    Datasets that some side has not been judged on are left out, so that all means are over the same ones.
    """
    sides = sorted({(each.start, each.network) for each in judged})
    by_side = {side: {j.dataset: j.accuracy for j in judged if (j.start, j.network) == side} for side in sides}
    common = sorted(set.intersection(*(set(accuracies) for accuracies in by_side.values()))) if by_side else []
    means = {side: 100 * sum(found[name] for name in common) / max(1, len(common)) for side, found in by_side.items()}
    summary = {f"{start}_{network}": mean for (start, network), mean in means.items()}
    for network in NETWORKS:
        if {("starter", network), ("lite0", network)} <= means.keys():
            summary[f"gain_{network}_points"] = means["starter", network] - means["lite0", network]
    return {**summary, "datasets": len(common)}


def fine_tuned(space: SearchSpace, start: str, network: str, dataset: ImageDataset, mirror: bool) -> Judged:
    """Five epochs of the laptop's recipe, the same random numbers from either start."""
    if network == "random":
        topology = space.sample(1, seeded(dataset.name, "random"))[0]
    else:
        topology = ofa_lite.OfaLite.layout.choices_TK[:, -1 if network == "largest" else 0]
    made = space.subnet(space.architecture(topology.tolist()), len(dataset.class_names), seeded(dataset.name, "cls"))
    fitted = fit(
        to_device(made, torch.device("cpu")),
        dataset,
        space,
        Recipe(epochs=EPOCHS, mirror=mirror, max_train_images=TRAIN_IMAGES),
        key=dataset.name,
        evaluate_on=dataset.test,
        evaluate_at=(),
    )
    return Judged(start, network, dataset.name, sum(fitted.correct_by_class) / sum(fitted.total_by_class))


def judge(data: Path, kept: Path) -> list[Judged]:
    """From both starts, on the datasets that are left out; `kept` is gone on with."""
    judged = [Judged(**json.loads(line)) for line in kept.read_text().splitlines()] if kept.exists() else []
    done = {(each.start, each.network, each.dataset) for each in judged}
    backbone = lite0_backbone()
    spaces = {start: make_search_space("ofa-lite", init=start) for start in ("starter", "lite0")}
    for name in LEFT_OUT:
        dataset = read_dataset(f"parquet:{data}/meta-train/{name}.parquet", IMAGE_SIZE)
        mirror = keeps_class_when_mirrored(dataset, backbone)
        for network in NETWORKS:
            for start, space in spaces.items():
                if (start, network, name) not in done:
                    judged.append(fine_tuned(space, start, network, dataset, mirror))
                    say(f"{judged[-1]}")
                    with kept.open("a") as file:
                        file.write(json.dumps(asdict(judged[-1])) + "\n")
    return judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="the collection, to judge on: meta-train/")
    parser.add_argument("--out", type=Path, default=Path("runs/starter-weights/ofa-lite.safetensors"))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    specs = [spec for spec in (f"starter:{file.stem}" for file in sorted(DATASETS.glob("*.parquet"))) if spec != QUERY]
    pretrain(specs, given.out, threads=given.threads, config=CONFIG)
    found = json.loads(given.out.with_suffix(".json").read_bytes())
    result: dict[str, Any] = {"card": found["card"], "curve": found["curve"]}
    _bring(given.out.read_bytes(), found["card"]["hash"])
    if given.data is not None:
        torch.set_num_threads(1)
        judged = judge(given.data, given.out.with_suffix(".judged"))
        result |= {"left_out": summary_of(judged), "judged": [asdict(each) for each in judged]}
    write(RESULT, result)


def _bring(weights: bytes, digest: str) -> None:
    """Put the file into the package, and its hash beside the name that it goes by."""
    STARTER.parent.mkdir(exist_ok=True)
    write_whole(STARTER, weights)
    home = Path(ofa_lite.__file__)
    home.write_text(re.sub(r'(?m)^STARTER_HASH = ".*"', f'STARTER_HASH = "{digest}"', home.read_text()))
    ofa_lite.STARTER_HASH = digest


if __name__ == "__main__":
    main()
