"""Looking at datasets, once, before anything is trained on them: the workers look, the zoo keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipeline.pools import ATTEMPTS, WorkerPool
from pipeline.running.output import shown
from pipeline.running.progress import Progress, say
from pipeline.running.signals import StopRequest
from pipeline.zoo import Zoo
from tans_core.errors import DatasetError, PoolError
from tans_core.jobs import Described, DescribeJob
from tans_core.records import DatasetRecord, ImageDataset


def record_datasets(
    store: Zoo, datasets: Sequence[ImageDataset], pool: WorkerPool, deadline_s: float, stop: StopRequest
) -> list[DatasetRecord]:
    """The zoo's records of these datasets, in their order; those it has not seen yet are looked at and kept.

    Raises:
        DatasetError: a pinned version on Kaggle is another dataset than the zoo knows by its SPEC.
        PoolError: looking at a dataset failed three times.
    """
    known = dict(store.snapshot().datasets)
    _refuse_changed(known.values(), datasets, store.uri)
    _say_copies(known, datasets)
    missing = [dataset for dataset in datasets if dataset.fingerprint not in known]
    waiting = [
        (DescribeJob(fingerprint=each.fingerprint, name=each.name, deadline_s=deadline_s), 1) for each in missing
    ]
    at_work: dict[str, int] = {}
    progress = Progress()
    while (waiting or at_work) and not stop:
        while waiting and pool.free():
            job, attempt = waiting.pop(0)
            at_work[job.fingerprint] = attempt
            pool.submit(job)
        progress.show(f"looked at {len(missing) - len(waiting) - len(at_work)} of {len(missing)} datasets")
        outcome = pool.next_outcome(1.0)
        if not isinstance(outcome, Described):
            continue
        attempt = at_work.pop(outcome.job.fingerprint)
        if outcome.record is not None:
            known[outcome.job.fingerprint] = store.record_dataset(outcome.record)
        elif attempt < ATTEMPTS:
            waiting.append((outcome.job, attempt + 1))
        else:
            assert outcome.failure is not None
            raise PoolError(f"looking at {outcome.job.name} failed {ATTEMPTS} times: {outcome.failure.message}")
    return [known[dataset.fingerprint] for dataset in datasets if dataset.fingerprint in known]


def _say_copies(known: Mapping[str, DatasetRecord], datasets: Sequence[ImageDataset]) -> None:
    """A dataset that the zoo knows by another name keeps that name in its rows."""
    for dataset in datasets:
        record = known.get(dataset.fingerprint)
        if record is not None and record.name != dataset.name:
            say(
                f"{shown(dataset.spec)} is a copy of {shown(record.name)}, which the zoo has from "
                f"{shown(record.spec)}: the same pictures and classes; counted once"
            )


def _refuse_changed(known: Iterable[DatasetRecord], datasets: Sequence[ImageDataset], zoo: str) -> None:
    """A folder may grow and is then another dataset; a pinned version may not."""
    pinned = {record.spec: record.fingerprint for record in known if record.spec.startswith("kaggle:")}
    for dataset in datasets:
        before = pinned.get(dataset.spec, dataset.fingerprint)
        if before != dataset.fingerprint:
            raise DatasetError(
                f"{dataset.spec} is another dataset ({dataset.fingerprint}) than {zoo} knows by that SPEC ({before}): "
                f"its unpacked files were changed, or this tans reads them differently. `tans datasets` says where "
                f"they lie: delete them, and they are fetched again; or begin another zoo"
            )
