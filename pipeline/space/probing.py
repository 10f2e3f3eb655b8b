"""Probing: the query's training images through the networks that stand first, so that they are ranked by evidence."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pipeline.running.progress import Progress, say
from pipeline.space.answers import BeforeTraining, Nearest
from pipeline.zoo import Zoo
from pipeline.zoo.upkeep.verify import zoo_search_space
from tans_core.errors import ConfigError, TrainingError, WeightsError
from tans_core.evaluation.noise import peeled
from tans_core.records import ImageDataset, Row
from tans_core.retrieval.probe import probe
from tans_core.retrieval.rank import Ranked
from tans_core.search_space import make_search_space
from tans_core.search_space.space import SearchSpace
from tans_core.training.fine_tune import network_from
from tans_core.training.recipe import recipe_alone


@dataclass(frozen=True, kw_only=True)
class Probing:
    """The order after a probing, and what was measured of its first candidates."""

    order: tuple[Ranked, ...]
    before: Mapping[Ranked, BeforeTraining] = field(default_factory=dict)
    lost: frozenset[int] = frozenset()  # places of rows whose weights cannot be used
    wall_s: float = 0.0


def probe_first(
    store: Zoo,
    rows: Sequence[Row],
    order: Sequence[Ranked],
    nearest: Nearest,
    dataset: ImageDataset,
    count: int,
) -> Probing:
    """Probe `count` rows, one of each dataset as long as there are others, and the starting weights in their shapes.

    What was probed comes first, by what it knows of the query before training. Of what this cannot tell apart (one
    standard error, on the same images) the nearer source comes first, the starting weights where the bar is, then the
    smaller network. The others follow in their order. Of the starting weights only those are named that are smaller
    than what is named of them before.

    Args:
        order: of `rank`, whole.
    """
    began, progress = time.monotonic(), Progress()
    search_space, has_start = _search_space(store)
    right: dict[Ranked, Tensor] = {}
    lost: set[int] = set()
    for each in _one_of_each_dataset([each for each in order if not each.is_start], rows):
        if len(right) == count:
            break
        progress.show(f"probing {len(right) + 1} of {count} rows")
        try:
            right[each] = _probe(store, search_space, each, rows[each.place], dataset)
        except (WeightsError, TrainingError) as error:
            lost.add(each.place)
            say(f"{rows[each.place].key} of {rows[each.place].dataset_name} was passed over: {error}")
    starts = _starts([*right], [each for each in order if each.is_start], rows) if has_start else []
    for number, each in enumerate(starts, start=1):
        progress.show(f"probing the starting weights in {number} of {len(starts)} shapes")
        right[each] = _probe(store, search_space, each, rows[each.place], dataset)
    progress.clear()
    if not right:
        return Probing(order=tuple(order), lost=frozenset(lost), wall_s=time.monotonic() - began)

    def nearness(each: Ranked) -> float:
        near = nearest.bar if each.is_start else nearest.similarity[rows[each.place].identity.fingerprint]
        return float("-inf") if near is None else near

    probed = [*right]
    first = [
        probed[at]
        for group in peeled(torch.stack([right[each] for each in probed]))
        for at in sorted(group, key=lambda at: (-nearness(probed[at]), _size(rows, probed[at])))
    ]
    return Probing(
        order=(*smaller_starts(first, rows), *(each for each in order if each not in right and each.place not in lost)),
        before={each: BeforeTraining.of(int(right_N.sum()), len(right_N)) for each, right_N in right.items()},
        lost=frozenset(lost),
        wall_s=time.monotonic() - began,
    )


def _search_space(store: Zoo) -> tuple[SearchSpace, bool]:
    """The zoo's search space, and whether it is over the starting weights: they may not be to be had."""
    try:
        return zoo_search_space(store), True
    except (ConfigError, WeightsError) as error:
        say(f"the starting weights were not probed: {error}")
        return make_search_space(store.settings.search_space, store.settings.width), False


def _one_of_each_dataset(order: Sequence[Ranked], rows: Sequence[Row]) -> Iterator[Ranked]:
    """The first row of each dataset, then the second ones, ...: what is to be found out is which source helps."""
    number: dict[str, int] = {}
    turns: list[list[Ranked]] = []
    for each in order:
        fingerprint = rows[each.place].identity.fingerprint
        turn = number[fingerprint] = number.get(fingerprint, -1) + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(each)
    for turn in turns:
        yield from turn


def _starts(probed: Sequence[Ranked], named: Sequence[Ranked], rows: Sequence[Row]) -> list[Ranked]:
    """The starting weights as they are named already, and in the shapes of the probed rows; each shape once."""
    in_shapes = [Ranked(each.place, None, each.predicted_accuracy) for each in probed]
    by_shape: dict[tuple[int, ...], Ranked] = {}
    for each in [*named, *in_shapes]:
        by_shape.setdefault(rows[each.place].identity.topology, each)
    return [*by_shape.values()]


def smaller_starts(order: Sequence[Ranked], rows: Sequence[Row]) -> list[Ranked]:
    """The order without shapes of the starting weights that a smaller one stands before."""
    named: list[Ranked] = []
    for each in order:
        smaller = [one for one in named if one.is_start and _size(rows, one) < _size(rows, each)]
        if not (each.is_start and smaller):
            named.append(each)
    return named


def _probe(store: Zoo, search_space: SearchSpace, each: Ranked, row: Row, dataset: ImageDataset) -> Tensor:
    start, weights = ("start", {}) if each.is_start else ("retrieved", store.load_weights(row))
    architecture, classes = search_space.architecture(row.identity.topology), len(dataset.class_names)
    key = f"{row.key}/{dataset.fingerprint}/0"  # as a fine-tuning of seed 0
    network: nn.Module = network_from(start, search_space, architecture, weights, classes, key)
    return probe(network, dataset, search_space, batch_size=recipe_alone(row.identity.recipe).batch_size, key=key)


def _size(rows: Sequence[Row], each: Ranked) -> tuple[int, str]:
    row = rows[each.place]
    return row.costs.params, row.key
