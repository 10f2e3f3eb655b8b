"""The promise of a pool of workers, and the keeper that works in this process."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import torch

from tans_core.cross_modal.describe import describe
from tans_core.errors import TrainingError
from tans_core.jobs import (
    AnyJob,
    AnyOutcome,
    Described,
    DescribeJob,
    Failure,
    Job,
    Outcome,
    SupernetJob,
    SupernetOutcome,
)
from tans_core.lineage import supernet_of
from tans_core.records import ImageDataset, Seconds, Worker
from tans_core.search_space.space import SearchSpace
from tans_core.training.from_supernet import cut_pair, train_supernet
from tans_core.training.loop import CPU
from tans_core.training.standalone import train_pair

ATTEMPTS = 3  # that a job gets before it is left


class WorkerPool(Protocol):
    """While the driver lives, every submitted job comes back exactly once, done or failed."""

    workers: int

    def free(self) -> int:
        """How many jobs more it takes now: one at work and one waiting for each worker."""
        ...

    def idle(self) -> int:
        """How many workers have no job."""
        ...

    def share(self, key: str, supernet: bytes) -> None:
        """Hand the workers a dataset's supernet; it must be there before a pair that is cut out of it is submitted."""
        ...

    def submit(self, job: AnyJob) -> None: ...

    def next_outcome(self, timeout_s: float) -> AnyOutcome | None:
        """The next job that came back; None where none did in time."""
        ...

    def close(self) -> None:
        """End the workers; jobs at work are given up."""
        ...


def supernet_for(job: AnyJob) -> str | None:
    """Key of the supernet that a job's pair is cut out of; None for all other jobs."""
    return supernet_of(job.identity).key if isinstance(job, Job) and job.identity.mode == "from_supernet" else None


def device_kind(device: torch.device) -> str:
    return f"cuda: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


def perform(
    job: AnyJob,
    dataset: ImageDataset,
    search_space: SearchSpace,
    worker: Worker,
    began: float,
    stop: Callable[[], None],
    device: torch.device,
    supernet: bytes | None = None,
) -> AnyOutcome:
    """Do a job, whatever happens: an error becomes a failure with its cause.

    Args:
        began: when the worker began with it (monotonic), before the dataset was loaded.
        stop: called at every step; raises to give the job up without an outcome.
        supernet: that `supernet_for(job)` names.
    """
    load_s = time.monotonic() - began

    def check() -> None:
        stop()
        if time.monotonic() - began > job.deadline_s:
            raise TrainingError(f"not done within its deadline of {job.deadline_s:.0f} s")

    try:
        if isinstance(job, DescribeJob):
            record = describe(dataset)
            seconds = Seconds(load=load_s, evaluate=time.monotonic() - began - load_s)
            return Described(job=job, worker=worker, seconds=seconds, record=record)
        if isinstance(job, SupernetJob):
            made, seconds = train_supernet(job.identity, dataset, search_space, check=check, device=device)
            return SupernetOutcome(job=job, worker=worker, seconds=replace(seconds, load=load_s), trained=made)
        if supernet_for(job) is None:
            trained, seconds = train_pair(job.identity, dataset, search_space, check=check, device=device)
        else:
            assert supernet is not None, "a pair was submitted before its supernet was shared"
            trained, seconds = cut_pair(job.identity, dataset, search_space, supernet, check=check, device=device)
        return Outcome(job=job, worker=worker, seconds=replace(seconds, load=load_s), trained=trained)
    except Exception as error:  # a worker outlives every job: the cause goes to the journal
        cause = Failure(type(error).__name__, str(error))
        seconds = Seconds(load=load_s, train=time.monotonic() - began - load_s)
        return failed(job, worker, seconds, cause)


def failed(job: AnyJob, worker: Worker, seconds: Seconds, cause: Failure) -> AnyOutcome:
    """The outcome of a job that gave nothing."""
    if isinstance(job, DescribeJob):
        return Described(job=job, worker=worker, seconds=seconds, failure=cause)
    if isinstance(job, SupernetJob):
        return SupernetOutcome(job=job, worker=worker, seconds=seconds, failure=cause)
    return Outcome(job=job, worker=worker, seconds=seconds, failure=cause)


class InlinePool:
    """Trains in this process, one job at a time: tests, one machine, a debugger."""

    workers = 1

    def __init__(
        self, datasets: Mapping[str, ImageDataset], search_space: SearchSpace, stop: Callable[[], None]
    ) -> None:
        torch.set_num_threads(1)  # as on a worker, so that a key gives the same accuracy
        self._datasets = datasets
        self._search_space = search_space
        self._stop = stop
        self._supernets: dict[str, bytes] = {}
        self._worker = Worker("inline", socket.gethostname(), device_kind(CPU))
        self._waiting: deque[AnyJob] = deque()

    def free(self) -> int:
        return 1 - len(self._waiting)

    def idle(self) -> int:
        return self.free()

    def share(self, key: str, supernet: bytes) -> None:
        self._supernets[key] = supernet

    def submit(self, job: AnyJob) -> None:
        self._waiting.append(job)

    def next_outcome(self, timeout_s: float) -> AnyOutcome | None:
        if not self._waiting:
            return None
        job = self._waiting[0]
        dataset, supernet = self._datasets[job.fingerprint], self._supernets.get(supernet_for(job) or "")
        began = time.monotonic()
        outcome = perform(job, dataset, self._search_space, self._worker, began, self._stop, CPU, supernet)
        self._waiting.popleft()
        return outcome

    def close(self) -> None:
        self._waiting.clear()
