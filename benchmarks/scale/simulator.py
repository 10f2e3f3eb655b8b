"""The simulator: random pairs a second, what one driver keeps busy, and whether its memory stays where it was."""

from __future__ import annotations

import resource
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from benchmarks.simulation.loop import MemoryZoo, Observe, Simulated, SimulatedClock, simulate, simulated_settings
from benchmarks.simulation.worlds import World, make_world
from tans_core.acquisition.choose import make_chooser
from tans_core.acquisition.hypervolume import GrowingHypervolume
from tans_core.records import Candidate, Observation
from tans_core.search_space import make_search_space

DATASETS, PAIR_S = 140, 600.0
RANDOM_PAIRS = {1: 2_000, 8: 2_000, 64: 20_000, 1_000: 4_000}  # workers -> pairs
DECIDED = 40  # pairs beyond those that 1,000 workers begin with: each is a decision with all of them pending


def measure(out: Path) -> dict[str, Any]:
    """All of it; what a pair gives is looked up, so that the loop is what takes the time."""
    torch.set_num_threads(1)
    world = make_world("smooth", DATASETS, make_search_space("ofa-lite"), 64, 0)
    rates: dict[int, float] = {}
    for workers, pairs in RANDOM_PAIRS.items():
        began, before_mb = time.process_time(), _resident_mb()
        _run(world, "random", pairs, workers, SimulatedClock(lambda: 0.0), _same)
        rates[workers] = pairs / (time.process_time() - began)
        if workers == 64:
            grown_mb = _resident_mb() - before_mb
    clock = SimulatedClock()
    build = _run(world, "hypervolume", 2_000 + DECIDED, 1_000, clock, world.observe)
    decided_ms = torch.tensor(build.grown.decision_ms[-DECIDED:])
    decision_s = decided_ms.median().item() / 1000
    return {
        "simulated_pairs_per_s": max(rates.values()),
        "simulated_pairs_per_s_by_workers": {str(workers): rate for workers, rate in rates.items()},
        "memory_growth_kb_a_pair": 1024 * grown_mb / RANDOM_PAIRS[64],
        "thousand_workers": {
            "pair_s": PAIR_S,
            "utilisation": build.grown.utilisation,
            "decisions_per_s": 1 / decision_s,
            "kept_busy_from_pair_s": 1_000 * decision_s,
        },
    }


def _run(world: World, chooser: str, pairs: int, workers: int, clock: SimulatedClock, observe: Observe) -> Simulated:
    space, scale = world.search_space, world.encoder.cost_scale
    zoo = MemoryZoo(simulated_settings(space.name, space.supernet_hash, 64, 0), world.datasets)
    with closing(make_chooser(chooser, world.datasets, [], space, scale, 0)) as chosen:
        hypervolume = GrowingHypervolume(world.datasets, scale)
        return simulate(
            zoo,
            world.datasets,
            space,
            chosen,
            hypervolume,
            observe,
            pairs=pairs,
            workers=workers,
            train_s=lambda _: PAIR_S,
            clock=clock,
        )


def _same(candidate: Candidate) -> Observation:
    return Observation(candidate, 30, 60)


def _resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
