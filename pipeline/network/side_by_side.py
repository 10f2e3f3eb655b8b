"""`tans search --fine-tune N`: what search found beside what people do without us, and the best of all exported."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.config import checked_seed
from pipeline.network.contestants import LITE0_SIZES, Bench, Contestant, Tried, lite0, of_row, row_recipe
from pipeline.network.fine_tune import FineTuned, finish
from pipeline.network.load_network import find_start
from pipeline.network.network_folder import is_of_network
from pipeline.network.race import Race
from pipeline.reading.read import read_dataset
from pipeline.running.progress import say
from pipeline.running.result_folder import new_result
from pipeline.running.threads import torch_threads
from pipeline.zoo import Zoo
from pipeline.zoo.upkeep.verify import zoo_search_space
from tans_core.errors import ConfigError, WeightsError
from tans_core.evaluation.intervals import wilson
from tans_core.retrieval.constraints import Limits
from tans_core.search_space.ofa_lite import lite0_space, lite0_topology

MINUTES = 10.0  # unless told otherwise


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A line of the leaderboard: the best of a contestant's attempts, on validation images; test is the winner's."""

    name: str  # KEY, start:KEY or lite0
    from_dataset: str | None
    val_accuracy: float
    val_interval: tuple[float, float]  # 95 %, Wilson's; the best of several attempts is the better for being chosen
    val_total: int
    image_size: int
    epochs: int  # 0: a classifier in closed form on what it knew
    attempts: int
    wall_s: float  # of all its attempts
    params: int  # for the classes of the query


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """The leaderboard, the most right in validation first, and the one that was exported, with its test accuracy."""

    leaderboard: tuple[Contender, ...]
    left_out: tuple[str, ...]  # who was to compete and did not, each with the reason
    best: FineTuned


def side_by_side(
    spec: str,
    zoo: str,
    names: Sequence[str],
    out: Path,
    *,
    minutes: float = MINUTES,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    seed: int = 0,
    threads: int = 1,
    overwrite: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> SideBySide:
    """Fine-tune networks of a zoo and EfficientNet-Lite0 side by side for so many minutes; the best goes to `out`.

    Validation chooses. Test is read once, for the winner.

    Args:
        spec: one dataset.
        names: of rows, and `start:` before one for its architecture from the starting weights, the best first. To each
            row its architecture from the starting weights is added, and EfficientNet-Lite0: as a closed form on its
            frozen features at 96 px, and fine-tuned.
        out: as of `fine_tune`.
        limits: that EfficientNet-Lite0 has to meet too. Its latency is not known: where one is asked for, it stays out.
        clock: in seconds, by which `minutes` are told.

    Raises:
        ConfigError: a number is out of its range, a name is no row, or `out` cannot be written or holds something.
        DatasetError: the SPEC gives no dataset, or several.
        ZooError: there is no zoo.
        WeightsError: no contestant has its weights.
        TrainingError: the loss is not finite.
    """
    began = clock()
    if not 0 < minutes < math.inf:
        raise ConfigError(f"--minutes must be above 0, got {minutes:g}")
    checked_seed(seed)
    store, out = Zoo.open(zoo), Path(out).expanduser()
    with torch_threads(threads), new_result(out, is_of_network, overwrite) as folder:
        dataset = read_dataset(spec, store.settings.image_size)
        contestants, left_out = _contestants(store, names, limits, len(dataset.class_names))
        for reason in left_out:
            say(f"left out: {reason}")
        if not contestants:
            raise WeightsError(f"nobody is left to compete: {'; '.join(left_out)}")
        bench = Bench(spec=spec, seed=seed, clock=clock)
        race = Race(bench, began + 60 * minutes)
        best = race.run(contestants)
        board = _leaderboard(contestants, race.tried, len(best.dataset.validation), len(dataset.class_names))
        summary = finish(best, race.tried, bench, began, minutes, threads, out, folder)
    return SideBySide(leaderboard=board, left_out=tuple(left_out), best=summary)


def _contestants(store: Zoo, names: Sequence[str], limits: Limits, classes: int) -> tuple[list[Contestant], list[str]]:
    found = [find_start(store, name) for name in names]
    search_space = zoo_search_space(store)
    contestants: list[Contestant] = []
    left_out: list[str] = []
    shapes: set[tuple[int, ...]] = set()
    for start, row in [*found, *(("start", row) for start, row in found if start == "retrieved")]:
        if start == "start" and row.identity.topology in shapes:
            continue
        contestant = of_row(store, row, start, search_space, row_recipe(row))
        try:
            contestant.load_weights()  # now, not in the middle of the race
        except WeightsError as error:
            left_out.append(str(error))
            continue
        contestants.append(contestant)
        if start == "start":
            shapes.add(row.identity.topology)
    if reason := _beyond(limits, classes):
        left_out.append(f"EfficientNet-Lite0 {reason}")
    else:
        recipe = contestants[0].recipe if contestants else row_recipe(found[0][1])
        contestants.append(lite0(recipe))
    return contestants, left_out


def _beyond(limits: Limits, classes: int) -> str | None:
    """Which limit EfficientNet-Lite0 oversteps at the size of its pictures."""
    space, topology_1T = lite0_space(), torch.tensor([lite0_topology()])
    params, flops = (int(each) for each in space.costs(topology_1T, LITE0_SIZES[0], classes))
    memory_mb = int(space.memory(topology_1T, LITE0_SIZES[0], classes)) / 1e6
    if limits.max_latency_ms is not None:
        return "was not timed on the device"
    for name, limit, value in (
        ("parameters", limits.max_params, params),
        ("multiply-accumulates", limits.max_flops, flops),
        ("MB of memory", limits.max_memory_mb, memory_mb),
    ):
        if limit is not None and value > limit:
            return f"has {value:,.10g} {name} at {LITE0_SIZES[0]} px, above {limit:,.10g}"
    return None


def _leaderboard(
    contestants: Sequence[Contestant], tried: Sequence[Tried], val_total: int, classes: int
) -> tuple[Contender, ...]:
    board = []
    for each in contestants:
        attempts = [attempt for attempt in tried if attempt.name == each.name]
        if not attempts:
            continue
        best = max(reversed(attempts), key=lambda attempt: attempt.val_accuracy)  # of equals the latest
        params, _ = each.search_space.costs(torch.tensor([each.topology]), best.image_size, classes)
        board.append(
            Contender(
                name=each.name,
                from_dataset=each.from_dataset,
                val_accuracy=best.val_accuracy,
                val_interval=wilson(round(best.val_accuracy * val_total), val_total),
                val_total=val_total,
                image_size=best.image_size,
                epochs=best.epochs,
                attempts=len(attempts),
                wall_s=sum(attempt.wall_s for attempt in attempts),
                params=int(params),
            )
        )
    return tuple(sorted(board, key=lambda contender: -contender.val_accuracy))
