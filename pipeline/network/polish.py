"""`tans polish`: a row's network trained further alone, on its own dataset: a new row, which names its parent."""

from __future__ import annotations

import socket
import time
import uuid
from dataclasses import asdict, dataclass, replace

from pipeline.network.load_network import find_row
from pipeline.pools import device_kind
from pipeline.reading.read import read_dataset
from pipeline.running.output import shown
from pipeline.running.progress import Progress, say
from pipeline.running.signals import stop_on_signals
from pipeline.running.threads import one_thread
from pipeline.zoo import Zoo
from pipeline.zoo.upkeep.verify import zoo_search_space
from tans_core.errors import ConfigError, DatasetError
from tans_core.jobs import Job, Outcome
from tans_core.records import Attempt, Choice, PairIdentity, Row, Worker
from tans_core.training.loop import CPU
from tans_core.training.recipe import Recipe
from tans_core.training.standalone import train_pair


@dataclass(frozen=True, kw_only=True)
class Polished:
    """What `tans polish --json` prints: of the new row, and beside it of the row that it goes on from."""

    key: str
    parent: str
    dataset: str
    epochs: int
    was_there: bool  # the zoo had it already: nothing was trained
    val_accuracy: float
    val_accuracy_before: float
    val_total: int
    test_accuracy: float
    test_accuracy_before: float
    test_total: int
    wall_s: float


def polish(zoo: str, row: str, epochs: int | None = None, *, wait: bool = False) -> Polished:
    """Train a row's network further, with its weights and classifier; what it becomes is committed as a row of its own.

    It trains in this process, on one thread, by the zoo's recipe. The row's SPEC must still be readable.

    Args:
        row: key of a row, or enough of its beginning.
        epochs: None: the zoo's.
        wait: for a driver that grows the zoo now; else that is a `ZooError`.

    Raises:
        ConfigError: no such row, or no epoch.
        DatasetError: the row's SPEC gives another dataset now, or none.
        ZooError: there is no zoo, or another driver holds it.
        WeightsError: the row's weights are gone, changed or not finite.
        TrainingError: the loss is not finite.
    """
    began = time.monotonic()
    if epochs is not None and epochs < 1:
        raise ConfigError(f"--epochs must be at least 1, got {epochs}")
    run = uuid.uuid4().hex[:12]
    with stop_on_signals(goes_on=False) as stop:
        find_row(Zoo.open(zoo), row)  # before anything is made at a place where there is none
        with Zoo.claimed(zoo, run, stop, wait):
            store = Zoo.open_to_grow(zoo)
            parent = find_row(store, row)
            identity = _identity(store, parent, epochs)
            there = store.snapshot().row_by_key.get(identity.key)
            if there is not None:
                say(f"{there.key} goes on from {parent.key} for as many epochs already: nothing to do")
            made = there or _trained(store, parent, identity, run)
            return Polished(
                key=made.key,
                parent=parent.key,
                dataset=made.dataset_name,
                epochs=made.identity.recipe["epochs"],
                was_there=there is not None,
                val_accuracy=made.val_accuracy,
                val_accuracy_before=parent.val_accuracy,
                val_total=made.val_total,
                test_accuracy=made.test_accuracy,
                test_accuracy_before=parent.test_accuracy,
                test_total=sum(made.test_total_by_class),
                wall_s=time.monotonic() - began,
            )


def _identity(zoo: Zoo, parent: Row, epochs: int | None) -> PairIdentity:
    """The pair that the parent becomes by the zoo's recipe; pictures are mirrored as in the parent's."""
    recipe = Recipe(**{**zoo.settings.recipe, "mirror": parent.identity.recipe["mirror"]})
    return replace(
        parent.identity,
        mode="standalone",
        recipe=asdict(recipe if epochs is None else replace(recipe, epochs=epochs)),
        parent=parent.key,
    )


def _trained(zoo: Zoo, parent: Row, identity: PairIdentity, run: str) -> Row:
    """The committed row."""
    datasets = zoo.datasets()
    weights = zoo.load_weights(parent)
    began = time.monotonic()
    dataset = read_dataset(datasets[identity.fingerprint].spec, identity.image_size)
    if dataset.fingerprint != identity.fingerprint:
        raise DatasetError(
            f"{shown(dataset.spec)} is another dataset now ({dataset.fingerprint}) than the one that {parent.key} was "
            f"trained on ({identity.fingerprint}): put its pictures back as they were"
        )
    load_s = time.monotonic() - began
    progress = Progress()
    name, epochs = f"{dataset.name} {identity.key[:6]}", identity.recipe["epochs"]
    progress.show(f"training {parent.key} of {shown(dataset.name)} for {epochs} epochs more")
    with one_thread():
        trained, seconds = train_pair(identity, dataset, zoo_search_space(zoo), start=weights, check=progress.renew)
    job = Job(
        key=identity.key,
        name=name,
        identity=identity,
        attempt=Attempt(run, 1),
        choice=_choice(parent, epochs),
        deadline_s=float("inf"),
    )
    worker = Worker("polish", socket.gethostname(), device_kind(CPU))
    outcome = Outcome(job=job, worker=worker, seconds=replace(seconds, load=load_s), trained=trained)
    (row,) = zoo.commit([outcome], datasets)
    zoo.journal.append(run, [("polish", {"key": row.key, "parent": parent.key, "name": name, "epochs": epochs})])
    return row


def _choice(parent: Row, epochs: int) -> Choice:
    """It takes the number of its parent's decision: the zoo's next one is not moved by it."""
    return Choice(
        parent.candidate,
        parent.choice.decision,
        "polish",
        f"goes on from {parent.key} for {epochs} epochs: it was asked for",
    )
