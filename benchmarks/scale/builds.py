"""Whole builds in simulated time, paired by seed: how many pairs until a build is as good as with the exact process.

Hypervolume is that of the true accuracies of the networks on the fronts, which validation chose.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.runs import kept, run_missing
from benchmarks.scale.window import with_window
from benchmarks.simulation.loop import MemoryZoo, SimulatedClock, simulate, simulated_settings
from benchmarks.simulation.worlds import World, make_world
from tans_core.acquisition.choose import make_chooser
from tans_core.acquisition.config import AcquisitionConfig
from tans_core.acquisition.hypervolume import GrowingHypervolume, front_levels, front_volume, scaled_accuracy
from tans_core.records import Row
from tans_core.search_space import make_search_space

IMAGE_SIZE = 64
EVERY = 20  # pairs between two points of a curve


@dataclass(frozen=True, kw_only=True)
class Build:
    """One build of a simulation."""

    world: str
    seed: int
    surrogate: str  # one of SURROGATES, "window" or "random"
    datasets: int
    pairs: int
    workers: int


def run(build: Build) -> dict[str, Any]:
    """Grow it; its curve of true hypervolume."""
    torch.set_num_threads(1)
    space = make_search_space("ofa-lite")
    world = make_world(build.world, build.datasets, space, IMAGE_SIZE, build.seed)
    scale = world.encoder.cost_scale
    name = "random" if build.surrogate == "random" else "hypervolume"
    surrogate = "exact" if build.surrogate in ("random", "window") else build.surrogate
    config = AcquisitionConfig(surrogate=surrogate, networks=100)
    zoo = MemoryZoo(simulated_settings(space.name, space.supernet_hash, IMAGE_SIZE, build.seed), world.datasets)
    window = with_window(build.pairs // 4 if build.surrogate == "window" else None)
    with window, closing(make_chooser(name, world.datasets, [], space, scale, build.seed, config)) as chooser:
        simulated = simulate(
            zoo,
            world.datasets,
            space,
            chooser,
            GrowingHypervolume(world.datasets, scale),
            world.observe,
            pairs=build.pairs,
            workers=build.workers,
            train_s=lambda _: 60.0,
            clock=SimulatedClock(lambda: 0.0),
        )
    rows = simulated.grown.rows
    curve = [true_hypervolume(world, rows[:count]) for count in range(EVERY, build.pairs + 1, EVERY)]
    return {**asdict(build), "curve": curve}


def true_hypervolume(world: World, rows: Sequence[Row]) -> float:
    """Mean over the world's datasets."""
    volumes = []
    for index, dataset in enumerate(world.datasets):
        there = [row for row in rows if row.identity.fingerprint == dataset.fingerprint]
        if not there:
            volumes.append(0.0)
            continue
        topology_RT = torch.tensor([row.identity.topology for row in there])
        costs_R2 = world.encoder.cost_scale(topology_RT).numpy()
        seen_R = [scaled_accuracy(row.val_accuracy, dataset.chance) for row in there]
        front = list(front_levels(seen_R, costs_R2).rows_F)
        true_R = world.scaled(torch.full((len(there),), index), topology_RT).numpy()
        volumes.append(front_volume(true_R[front], costs_R2[front]))
    return sum(volumes) / len(volumes)


def pairs_until(curve: Sequence[float], volume: float) -> float:
    """Pairs after which a curve is at `volume` for the first time, between two points by a line; inf if never."""
    before = 0.0
    for place, after in enumerate(curve):
        if after >= volume:
            return EVERY * (place + (volume - before) / (after - before))
        before = after
    return float("inf")


def measure(out: Path) -> dict[str, Any]:
    """Builds of all kinds over the same seeds; the exact one at nine tenths of its pairs is what is to be reached."""
    out.mkdir(parents=True, exist_ok=True)
    lines = out / "builds.jsonl"
    sizes = {"datasets": 12, "pairs": 240, "workers": 4}
    builds = [
        Build(world=world, seed=seed, surrogate=surrogate, **sizes)
        for seed in range(5)
        for world in ("smooth", "rough")
        for surrogate in ("blocks", "exact", "window", "constant", "random")
    ]
    done = kept(lines, Build)
    run_missing(builds, done, lines, 1, run, lambda result: f"{result['surrogate']} {result['curve'][-1]:.4f}")
    return {"builds": summary([done[build] for build in builds])}


def summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """For each world and surrogate, over seeds: final hypervolume, and pairs beside those of the exact process."""
    told: dict[str, Any] = {}
    for world in dict.fromkeys(result["world"] for result in results):
        here = {(r["surrogate"], r["seed"]): r["curve"] for r in results if r["world"] == world}
        seeds = sorted({seed for _, seed in here})
        for name in dict.fromkeys(surrogate for surrogate, _ in here):
            ratios, finals = [], []
            for seed in seeds:
                exact = here["exact", seed]
                goal_pairs = EVERY * (len(exact) * 9 // 10)
                goal = exact[goal_pairs // EVERY - 1]
                ratios.append(pairs_until(here[name, seed], goal) / pairs_until(exact, goal))
                finals.append(here[name, seed][-1] - exact[-1])
            told[f"{world} {name}"] = {
                "hypervolume_mean": sum(here[name, seed][-1] for seed in seeds) / len(seeds),
                "hypervolume_minus_exact": finals,
                "pairs_beside_exact": [None if ratio == float("inf") else ratio for ratio in ratios],
            }
    return told
