"""`tans zoo verify`: every row's weights exist, hash right, load and are finite; rows trained again give the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.reading.read import read_dataset
from pipeline.running.progress import Progress
from pipeline.running.threads import one_thread
from pipeline.zoo.store import Zoo
from tans_core.errors import ConfigError, TansError
from tans_core.records import ImageDataset, Row
from tans_core.search_space import make_search_space
from tans_core.search_space.space import SearchSpace
from tans_core.training.standalone import train_pair
from tans_core.training.weights import load_into


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What `tans zoo verify --json` prints; a problem names its row."""

    rows: int
    retrained: int
    problems: tuple[str, ...]


def verify_zoo(zoo: str, retrain: int = 0, init: Path | None = None) -> Verdict:
    """Check a zoo; its SPECs must still be readable for rows to be trained again.

    Args:
        retrain: so many rows, spread over the zoo, are trained again from their keys.
        init: the checkpoint of the supernet that the zoo was begun with, where there was one.

    Raises:
        ConfigError: the starting weights are not those of the zoo, or `retrain` is below 0.
        ZooError: the zoo cannot be opened.
        DatasetError: a SPEC of the zoo cannot be read any more.
    """
    if retrain < 0:
        raise ConfigError(f"--retrain must be at least 0, got {retrain}")
    store = Zoo.open(zoo)
    settings = store.settings
    search_space = make_search_space(settings.search_space, settings.width, init, settings.seed)
    problems = list(verify_weights(store, search_space))
    snapshot = store.snapshot()
    rows = snapshot.rows
    again = rows[:: max(1, len(rows) // retrain)][:retrain] if retrain else ()
    if again:
        refuse_other_start(store, search_space)
    progress = Progress()
    with one_thread():
        for number, row in enumerate(again, start=1):
            progress.show(f"training {row.key} again ({number} of {len(again)})")
            spec = snapshot.datasets[row.identity.fingerprint].spec
            if problem := _read_and_trained_again(spec, row, search_space):
                problems.append(problem)
    return Verdict(rows=len(rows), retrained=len(again), problems=tuple(problems))


def verify_weights(zoo: Zoo, search_space: SearchSpace) -> Iterator[str]:
    """What is wrong, a sentence each that names its row; nothing where all is well.

    For every row: it stands once under the key that its identity hashes to; its weights exist, have size and
    hash as the row says, are finite, and have the shapes of its architecture.

    Args:
        search_space: the zoo's; its starting weights do not matter.
    """
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


def refuse_other_start(zoo: Zoo, search_space: SearchSpace) -> None:
    """Rows are comparable, and can be trained again, only from the weights that the zoo was begun from.

    Raises:
        ConfigError: these are others.
    """
    begun_from = zoo.settings.supernet
    if search_space.supernet_hash != begun_from:
        raise ConfigError(
            f"{zoo.uri} was begun from the starting weights {begun_from} and these are {search_space.supernet_hash}: "
            f"give the --init it was begun with, or another --zoo"
        )


def trained_again(row: Row, dataset: ImageDataset, search_space: SearchSpace) -> str | None:
    """Train a row's pair again, stored as the row is; a sentence where validation gets another count."""
    trained, _ = train_pair(row.identity, dataset, search_space, weights_dtype=row.weights.dtype)
    if trained.val_correct_by_class == row.val_correct_by_class:
        return None
    return (
        f"{row.key}: trained again it gets {trained.val_correct} of {trained.val_total} right in validation, "
        f"{row.val_correct} are stored (same processor kind, torch {torch.__version__} and one thread?)"
    )


def _read_and_trained_again(spec: str, row: Row, search_space: SearchSpace) -> str | None:
    dataset = read_dataset(spec, row.identity.image_size)
    if dataset.fingerprint != row.identity.fingerprint:
        return f"{row.key}: {spec} is another dataset now ({dataset.fingerprint})"
    return trained_again(row, dataset, search_space)


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
