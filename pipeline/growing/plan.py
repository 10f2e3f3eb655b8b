"""What a build would do, before it does it: all that can be checked before anything starts."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from pipeline.config import PAIR_MODES, checked_seed, preset
from pipeline.reading.read import read_datasets
from pipeline.reading.starting_weights import starting_weights
from pipeline.running.progress import say
from pipeline.zoo import Zoo
from pipeline.zoo.upkeep.verify import zoo_search_space
from tans_core.errors import ConfigError, DatasetUnavailable
from tans_core.records import ImageDataset, ZooSettings
from tans_core.search_space import WORDS, make_search_space
from tans_core.search_space.space import SearchSpace
from tans_core.training.standalone import noise_hash


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """What a build would do, before it does it."""

    settings: ZooSettings
    search_space: SearchSpace
    datasets: tuple[ImageDataset, ...]
    rows_there: int
    rows_at_end: int
    pair_mode: str  # of the pairs that it chooses
    with_supernet: frozenset[str]  # fingerprints of datasets whose supernet the zoo has


def plan_build(
    zoo: str,
    datasets: Sequence[str],
    *,
    pairs: int | None = None,
    more: int | None = None,
    preset_name: str | None = None,
    search_space: str | None = None,
    image_size: int | None = None,
    init: str | Path | None = None,
    seed: int | None = None,
    pair_mode: str | None = None,
) -> BuildPlan:
    """Check everything that can be checked before anything starts; see `build_zoo` for the arguments.

    Raises:
        ConfigError: the numbers make no sense, or disagree with what the zoo keeps.
        DatasetError: a SPEC cannot be read.
        ZooError: the zoo cannot be opened.
    """
    if (pairs is None) == (more is None):
        raise ConfigError("give either pairs (the zoo's rows at the end) or more (rows beyond what is there)")
    wanted = pairs if pairs is not None else more
    assert wanted is not None
    if wanted < 1:
        raise ConfigError(f"{'pairs' if more is None else 'more'} must be at least 1, got {wanted}")
    if seed is not None:
        checked_seed(seed)
    if pair_mode is not None and pair_mode not in PAIR_MODES:
        raise ConfigError(f"there is no pair mode {pair_mode!r}: choose one of {', '.join(PAIR_MODES)}")
    settings, made = _settings(zoo, preset_name, search_space, image_size, init, seed, pair_mode)
    store = Zoo.open(zoo) if Zoo.exists(zoo) else None
    there = store.row_count() if store else 0
    supernets = store.supernets.all().values() if store else ()
    return BuildPlan(
        settings=settings,
        search_space=made,
        datasets=tuple(read_datasets(datasets, settings.image_size, _leave_out)),
        rows_there=there,
        rows_at_end=wanted + (there if more is not None else 0),
        pair_mode=pair_mode or settings.pair_mode,
        with_supernet=frozenset(each.identity.fingerprint for each in supernets),
    )


def _leave_out(error: DatasetUnavailable) -> None:
    say(f"left out of this build: {error}")


def _settings(
    zoo: str,
    preset_name: str | None,
    search_space: str | None,
    image_size: int | None,
    init: str | Path | None,
    seed: int | None,
    pair_mode: str | None,
) -> tuple[ZooSettings, SearchSpace]:
    """What the zoo keeps, or will keep; flags that disagree with a zoo that is there are refused.

    The pair mode is no such flag: a zoo may hold rows of both, and keeps which is meant where none is given.
    """
    if Zoo.exists(zoo):
        store = Zoo.open(zoo)
        kept = store.settings
        _refuse_disagreement(zoo, kept, preset_name, search_space, image_size, seed)
        return kept, zoo_search_space(store, init)
    chosen = preset(preset_name or "laptop")
    chosen = replace(
        chosen,
        search_space=search_space or chosen.search_space,
        image_size=chosen.image_size if image_size is None else image_size,
    )
    start = starting_weights(init or WORDS[chosen.search_space][0], chosen.search_space, chosen.width)
    made = make_search_space(chosen.search_space, chosen.width, start, seed or 0)
    made.costs(made.sample(1, torch.Generator()), chosen.image_size, 2)  # refuses a size that it cannot do
    return ZooSettings(
        zoo_id=uuid.uuid4().hex,
        preset=preset_name or "laptop",
        schema=Zoo.SCHEMA_VERSION,
        search_space=made.name,
        width=made.width,
        image_size=chosen.image_size,
        recipe=asdict(chosen.recipe),
        supernet=made.supernet_hash,
        noise=noise_hash(chosen.image_size),
        seed=seed or 0,
        pair_mode=pair_mode or PAIR_MODES[0],
        supernet_recipe=asdict(chosen.supernet_recipe),
    ), made


def _refuse_disagreement(
    zoo: str,
    kept: ZooSettings,
    preset_name: str | None,
    search_space: str | None,
    image_size: int | None,
    seed: int | None,
) -> None:
    flags = {"preset": preset_name, "search_space": search_space, "image_size": image_size, "seed": seed}
    for name, value in flags.items():
        if value is not None and value != getattr(kept, name):
            flag = "--" + name.replace("_", "-")
            raise ConfigError(
                f"{zoo} keeps {flag} {getattr(kept, name)} and {value} was asked for: leave {flag} out, "
                f"or begin another zoo with another --zoo"
            )
