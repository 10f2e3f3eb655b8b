"""The promise of a pool of workers, and the keeper that works in this process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import torch

from tans_core.cross_modal.describe import describe
from tans_core.errors import TrainingError
from tans_core.jobs import Described, DescribeJob, Failure, Job, Outcome
from tans_core.records import ImageDataset, Seconds
from tans_core.search_space.space import SearchSpace
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

    def submit(self, job: Job | DescribeJob) -> None: ...

    def next_outcome(self, timeout_s: float) -> Outcome | Described | None:
        """The next job that came back; None where none did in time."""
        ...

    def close(self) -> None:
        """End the workers; jobs at work are given up."""
        ...


def perform(
    job: Job | DescribeJob,
    dataset: ImageDataset,
    search_space: SearchSpace,
    worker: str,
    began: float,
    stop: Callable[[], None],
    device: torch.device,
) -> Outcome | Described:
    """Do a job, whatever happens: an error becomes a failure with its cause.

    Args:
        began: when the worker began with it (monotonic), before the dataset was loaded.
        stop: called at every step; raises to give the job up without an outcome.
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
        trained, seconds = train_pair(job.identity, dataset, search_space, check=check, device=device)
        return Outcome(job=job, worker=worker, seconds=replace(seconds, load=load_s), trained=trained)
    except Exception as error:  # a worker outlives every job: the cause goes to the journal
        cause = Failure(type(error).__name__, str(error))
        seconds = Seconds(load=load_s, train=time.monotonic() - began - load_s)
        return failed(job, worker, seconds, cause)


def failed(job: Job | DescribeJob, worker: str, seconds: Seconds, cause: Failure) -> Outcome | Described:
    """The outcome of a job that gave nothing."""
    if isinstance(job, DescribeJob):
        return Described(job=job, worker=worker, seconds=seconds, failure=cause)
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
        self._waiting: deque[Job | DescribeJob] = deque()

    def free(self) -> int:
        return 1 - len(self._waiting)

    def idle(self) -> int:
        return self.free()

    def submit(self, job: Job | DescribeJob) -> None:
        self._waiting.append(job)

    def next_outcome(self, timeout_s: float) -> Outcome | Described | None:
        if not self._waiting:
            return None
        job = self._waiting[0]
        dataset = self._datasets[job.fingerprint]
        outcome = perform(job, dataset, self._search_space, "inline", time.monotonic(), self._stop, CPU)
        self._waiting.popleft()
        return outcome

    def close(self) -> None:
        self._waiting.clear()
