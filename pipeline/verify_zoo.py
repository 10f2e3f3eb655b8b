"""`tans zoo verify`: every row's weights exist, hash right, load and are finite; rows trained again give the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.progress import Progress
from pipeline.reading import read_dataset
from pipeline.threads import one_thread
from pipeline.zoo import Zoo, refuse_other_start, verify_weights
from tans_core.records import Row
from tans_core.search_space import make_search_space
from tans_core.search_space.space import SearchSpace
from tans_core.training.standalone import train_pair


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
        ConfigError: the starting weights are not those of the zoo.
        ZooError: the zoo cannot be opened.
        DatasetError: a SPEC of the zoo cannot be read any more.
    """
    store = Zoo.open(zoo)
    settings = store.settings
    space = make_search_space(settings.search_space, settings.width, init, settings.seed)
    problems = list(verify_weights(store, space))
    snapshot = store.snapshot()
    rows = snapshot.rows
    again = rows[:: max(1, len(rows) // retrain)][:retrain] if retrain else ()
    if again:
        refuse_other_start(store, space)
    progress = Progress()
    with one_thread():
        for number, row in enumerate(again, start=1):
            progress.show(f"training {row.key} again ({number} of {len(again)})")
            problems += _trained_again(snapshot.datasets[row.identity.fingerprint].spec, row, space)
    return Verdict(rows=len(rows), retrained=len(again), problems=tuple(problems))


def _trained_again(spec: str, row: Row, space: SearchSpace) -> list[str]:
    dataset = read_dataset(spec, row.identity.image_size)
    if dataset.fingerprint != row.identity.fingerprint:
        return [f"{row.key}: {spec} is another dataset now ({dataset.fingerprint})"]
    trained, _ = train_pair(row.identity, dataset, space)
    if trained.val_correct_by_class == row.val_correct_by_class:
        return []
    return [
        f"{row.key}: trained again it gets {trained.val_correct} of {trained.val_total} right in validation, "
        f"{row.val_correct} are stored (same processor kind, torch {torch.__version__} and one thread?)"
    ]
