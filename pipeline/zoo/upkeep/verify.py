"""`tans zoo verify`: every row's weights exist, hash right, load and are finite; rows trained again give the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.reading.read import read_dataset
from pipeline.reading.starting_weights import starting_weights
from pipeline.running.progress import Progress
from pipeline.running.threads import one_thread
from pipeline.zoo.store import Zoo
from tans_core.errors import ConfigError, TansError, WeightsError
from tans_core.records import ImageDataset, Row, ZooSnapshot
from tans_core.search_space import make_search_space
from tans_core.search_space.space import SearchSpace
from tans_core.training.from_supernet import cut_pair
from tans_core.training.standalone import train_pair
from tans_core.training.weights import load_into


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What `tans zoo verify --json` prints; a problem names its row."""

    rows: int
    retrained: int
    problems: tuple[str, ...]


def verify_zoo(zoo: str, retrain: int = 0, init: str | Path | None = None) -> Verdict:
    """Check a zoo; its SPECs must still be readable for rows to be trained again.

    Args:
        retrain: so many rows, spread over the zoo, are trained again from their keys.
        init: the starting weights, of a zoo that an older tans began from a checkpoint; others keep theirs.

    Raises:
        ConfigError: the starting weights are not those of the zoo, or `retrain` is below 0.
        ZooError: the zoo cannot be opened.
        DatasetError: a SPEC of the zoo cannot be read any more.
    """
    if retrain < 0:
        raise ConfigError(f"--retrain must be at least 0, got {retrain}")
    store = Zoo.open(zoo)
    search_space = zoo_search_space(store, init) if retrain else _shapes(store)
    problems = list(verify_weights(store, search_space))
    snapshot = store.snapshot()
    rows = snapshot.rows
    again = rows[:: max(1, len(rows) // retrain)][:retrain] if retrain else ()
    progress = Progress()
    with one_thread():
        for number, row in enumerate(again, start=1):
            progress.show(f"training {row.key} again ({number} of {len(again)})")
            if problem := _read_and_trained_again(store, snapshot, row, search_space):
                problems.append(problem)
    return Verdict(rows=len(rows), retrained=len(again), problems=tuple(problems))


def verify_weights(zoo: Zoo, search_space: SearchSpace) -> Iterator[str]:
    """What is wrong, a sentence each that names its row or its supernet; nothing where all is well.

    For every row: it stands once under the key that its identity hashes to; its weights exist, have size and
    hash as the row says, are finite, and have the shapes of its architecture.

    Args:
        search_space: the zoo's; its starting weights do not matter.
    """
    for supernet in zoo.supernets.all().values():
        if supernet.identity.key != supernet.key:
            yield f"supernet {supernet.key}: its identity hashes to {supernet.identity.key}; the table was changed"
        try:
            zoo.supernets.read(supernet)
        except WeightsError as error:
            yield str(error)
    seen: set[str] = set()
    for row in zoo.snapshot().rows:
        if row.key in seen:
            yield f"row {row.key} stands more than once"
        seen.add(row.key)
        if row.identity.key != row.key:
            yield f"row {row.key}: its identity hashes to {row.identity.key}; the table was changed by hand"
        problem = _weights_problem(zoo, row, search_space)
        if problem:
            yield problem


def zoo_search_space(zoo: Zoo, init: str | Path | None = None) -> SearchSpace:
    """The search space of a zoo over the starting weights that it was begun from.

    Rows are comparable, and can be trained again, only from those.

    Args:
        init: None: the file that the zoo keeps, else what needs no file.

    Raises:
        ConfigError: these are others, or they are not to be had.
        WeightsError: the zoo's file was changed.
    """
    kept, file = zoo.settings, zoo.start_file
    given = starting_weights(init, kept.search_space, kept.width)
    from_zoo = given is None and file.exists()
    try:
        found = make_search_space(kept.search_space, kept.width, file if from_zoo else given, kept.seed)
    except ConfigError as error:
        if from_zoo:
            raise WeightsError(f"the starting weights of {zoo.uri}: {error}; or put back a copy of the zoo") from error
        raise
    if found.supernet_hash != kept.supernet:
        lost = "" if init is not None else f" (a zoo begun from others keeps them in {file}, which is not there)"
        raise ConfigError(
            f"{zoo.uri} was begun from the starting weights {kept.supernet} and these are {found.supernet_hash}{lost}: "
            f"put the file back from a copy of the zoo, give the --init it was begun with, or another --zoo"
        )
    return found


def _shapes(zoo: Zoo) -> SearchSpace:
    """The zoo's search space over whatever starting weights: for what asks for shapes alone."""
    return make_search_space(zoo.settings.search_space, zoo.settings.width)


def trained_again(
    row: Row,
    dataset: ImageDataset,
    search_space: SearchSpace,
    *,
    supernet: bytes | None = None,
    start: Mapping[str, Tensor] | None = None,
) -> str | None:
    """Train a row's pair again, stored as the row is; a sentence where validation gets another count.

    Args:
        supernet: that the row was cut out of; it is cut again.
        start: weights of the row that this one goes on from.
    """
    if supernet is not None:
        trained, _ = cut_pair(row.identity, dataset, search_space, supernet)
    else:
        trained, _ = train_pair(row.identity, dataset, search_space, start=start, weights_dtype=row.weights.dtype)
    if trained.val_correct_by_class == row.val_correct_by_class:
        return None
    return (
        f"{row.key}: trained again it gets {trained.val_correct} of {trained.val_total} right in validation, "
        f"{row.val_correct} are stored (same processor kind, torch {torch.__version__} and one thread?)"
    )


def _read_and_trained_again(zoo: Zoo, snapshot: ZooSnapshot, row: Row, search_space: SearchSpace) -> str | None:
    spec, pair = snapshot.datasets[row.identity.fingerprint].spec, row.identity
    dataset = read_dataset(spec, pair.image_size)
    if dataset.fingerprint != pair.fingerprint:
        return f"{row.key}: {spec} is another dataset now ({dataset.fingerprint})"
    try:
        supernet = zoo.supernets.read(zoo.supernets.of(row)) if pair.mode == "from_supernet" else None
        start = zoo.load_weights(snapshot.row_by_key[pair.parent]) if pair.parent else None
    except (WeightsError, KeyError) as error:
        return f"{row.key} cannot be trained again without what it comes from: {error}"
    return trained_again(row, dataset, search_space, supernet=supernet, start=start)


def _weights_problem(zoo: Zoo, row: Row, search_space: SearchSpace) -> str | None:
    try:
        weights = zoo.load_weights(row)
    except TansError as error:
        return str(error)
    try:
        architecture = search_space.architecture(row.identity.topology)
        network = search_space.random_subnet(architecture, len(row.class_names), torch.Generator().manual_seed(0))
        load_into(network, weights)
    except TansError as error:
        return f"row {row.key}: its weights {row.weights.path} are of another network: {error}"
    return None
