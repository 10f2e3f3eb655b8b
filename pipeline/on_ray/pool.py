"""The pool whose workers are Ray actors."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from pipeline.on_ray.authentication import of_cluster
from pipeline.on_ray.machine import check_machine
from pipeline.on_ray.messages import reason
from pipeline.on_ray.trainer import Trainer
from pipeline.pools import failed, supernet_for
from pipeline.running.progress import say
from pipeline.running.shadows import shadow_on_worker
from pipeline.running.threads import usable_cpus
from pipeline.running.waiting import Wait, machine_load
from tans_core.errors import ConfigError, PoolError
from tans_core.jobs import AnyJob, AnyOutcome, DescribeJob, Failure
from tans_core.records import ImageDataset, Seconds, Worker
from tans_core.search_space.space import SearchSpace

UP_LIMIT_S = 120.0  # for the workers to be up, and for one of them to be back when all are lost; grows with the load
SHARE = 0.25  # of a GPU for a worker, where nobody says
QUEUED = 2  # jobs at one actor: one at work, and the next waiting while the last one commits
GRACE_S = 60  # beyond its deadline, which the worker watches itself, before a worker is ended from here


@dataclass
class _Worker:
    name: str
    actor: Any  # Ray gives its handles no type
    queue: deque[tuple[AnyJob, Any]] = field(default_factory=deque)
    head_since: float = 0.0
    waking: Any = None  # an answer awaited after a loss: until then it gets no job
    who: Worker | None = None  # once it was up


class RayPool:
    """Trains on actors that keep datasets in memory.

    A job whose worker dies comes back as a failure; those that waited behind it go to the next free worker.
    """

    def __init__(
        self,
        datasets: Mapping[str, ImageDataset],
        search_space: SearchSpace,
        workers: int,
        gpus_per_worker: float,
        up_limit_s: float = UP_LIMIT_S,
    ) -> None:
        self.workers = workers
        self._up_limit_s = up_limit_s
        self._all_lost: Wait | None = None
        self._homeless: deque[AnyJob] = deque()
        self._dataset_references = {fingerprint: ray.put(dataset) for fingerprint, dataset in datasets.items()}
        self._search_space = ray.put(search_space)
        self._supernet_references: dict[str, Any] = {}
        remote = ray.remote(Trainer)
        self._workers = [
            _Worker(
                name := f"trainer-{number:02d}",
                remote.options(
                    name=f"{name}-{ray.get_runtime_context().get_job_id()}",
                    num_cpus=1,
                    num_gpus=gpus_per_worker,
                    max_restarts=-1,
                    max_task_retries=0,
                    scheduling_strategy="SPREAD",
                ).remote(name, gpus_per_worker),
            )
            for number in range(workers)
        ]
        try:
            self.nodes = self._wait_until_up()
        except BaseException:
            self.close()
            raise

    def free(self) -> int:
        awake = sum(QUEUED - len(worker.queue) for worker in self._workers if worker.waking is None)
        return max(0, awake - len(self._homeless))

    def idle(self) -> int:
        idle = sum(worker.waking is None and not worker.queue for worker in self._workers)
        return max(0, idle - len(self._homeless))

    def share(self, key: str, supernet: bytes) -> None:
        self._supernet_references[key] = ray.put(supernet)

    def submit(self, job: AnyJob) -> None:
        self._homeless.append(job)
        self._house()

    def next_outcome(self, timeout_s: float) -> AnyOutcome | None:
        ends = time.monotonic() + timeout_s
        while True:
            self._house()
            self._end_overdue()
            self._end_without_workers()
            heads = {worker.queue[0][1]: worker for worker in self._workers if worker.queue}
            waking = {worker.waking: worker for worker in self._workers if worker.waking is not None}
            awaited = [*heads, *waking]
            left = ends - time.monotonic()
            if not awaited or left <= 0:
                return None
            done, _ = ray.wait(awaited, num_returns=1, timeout=min(left, 1.0))
            for reference in done:
                if reference in waking:
                    self._woken(waking[reference])
                else:
                    return self._take(heads[reference])

    def close(self) -> None:
        for worker in self._workers:
            ray.kill(worker.actor)

    def _house(self) -> None:
        """Give jobs to the workers with the shortest queues; of equal ones not to one behind a long job."""
        while self._homeless:
            awake = [worker for worker in self._workers if worker.waking is None and len(worker.queue) < QUEUED]
            if not awake:
                return
            worker = min(awake, key=lambda each: (len(each.queue), sum(job.deadline_s for job, _ in each.queue)))
            job = self._homeless.popleft()
            doing, supernet = "look at" if isinstance(job, DescribeJob) else "train", supernet_for(job)
            references = [self._search_space, self._dataset_references[job.fingerprint]]
            if supernet is not None:
                doing = "cut"
                references.append(self._supernet_references[supernet])
            reference = worker.actor.perform.options(name=f"{doing} {job.name}").remote(job, references)
            if not worker.queue:
                worker.head_since = time.monotonic()
            worker.queue.append((job, reference))

    def _take(self, worker: _Worker) -> AnyOutcome:
        job, reference = worker.queue.popleft()
        busy_since, worker.head_since = worker.head_since, time.monotonic()
        try:
            return ray.get(reference)
        except RayActorError as error:
            self._homeless.extendleft(job for job, _ in reversed(worker.queue))
            worker.queue.clear()
            worker.waking = worker.actor.ready.remote()
            cause = Failure("WorkerLost", f"{worker.name} died: {reason(error)}")
        except RayError as error:
            cause = Failure(type(error).__name__, reason(error))
        seconds = Seconds(train=time.monotonic() - busy_since)
        assert worker.who is not None
        return failed(job, worker.who, seconds, cause)

    def _woken(self, worker: _Worker) -> None:
        try:
            worker.who = ray.get(worker.waking)
            worker.waking = None
        except RayActorError:
            time.sleep(0.2)  # it is still restarting: ask again
            worker.waking = worker.actor.ready.remote()

    def _end_overdue(self) -> None:
        for worker in self._workers:
            if worker.queue and time.monotonic() - worker.head_since > worker.queue[0][0].deadline_s + GRACE_S:
                worker.head_since = time.monotonic()
                ray.kill(worker.actor, no_restart=False)

    def _end_without_workers(self) -> None:
        """Ray would try to bring them back for ever."""
        if not all(worker.waking is not None for worker in self._workers):
            self._all_lost = None
            return
        if self._all_lost is None:
            what = f"one of {self.workers} lost workers to come back"
            self._all_lost = wait = Wait(what, self._up_limit_s, lambda: self._lost(wait.limit_s), machine_load)
        self._all_lost.check()

    def _lost(self, waited_s: float) -> PoolError:
        return PoolError(
            f"all {self.workers} workers died and none came back within {waited_s:.0f} s: look for memory and "
            "nodes that the cluster lost. What is committed stays; the same command goes on"
        )

    def _wait_until_up(self) -> set[str]:
        """The nodes that the workers are on."""
        what = f"{self.workers} workers to be up"
        wait = Wait(what, self._up_limit_s, lambda: self._not_up(wait.limit_s), machine_load)
        asked = {worker.actor.ready.remote(): worker for worker in self._workers}
        left = list(asked)
        while left:
            up, left = ray.wait(left, num_returns=len(left), timeout=min(wait.check(), 1.0))
            try:
                for reference in up:
                    asked[reference].who = ray.get(reference)
            except RayActorError as error:
                raise PoolError(
                    shadow_on_worker(str(error))
                    or f"a worker could not start ({reason(error)}): look for memory, and whether the nodes have our "
                    "libraries; --workers 0 trains in this process"
                ) from error
        return {worker.who.node for worker in self._workers if worker.who is not None}

    def _not_up(self, waited_s: float) -> PoolError:
        there, free = ray.cluster_resources(), ray.available_resources()
        return PoolError(
            f"not all of {self.workers} workers, one CPU each, were up after {waited_s:.0f} s; of the "
            f"cluster's {there.get('CPU', 0):.0f} CPUs {free.get('CPU', 0):.0f} are free, of its "
            f"{there.get('GPU', 0):.0f} GPUs {free.get('GPU', 0):.2g}: ask for fewer workers or wait for its other jobs"
        )


def check_wish(workers: int, address: str | None) -> None:
    """What can be known before anything starts: that this process has the CPUs and all else that Ray needs, or that the
    cluster is there and lets us in.

    Raises:
        ConfigError: it has not.
        PoolError: the cluster does not answer.
    """
    if address is not None:
        fitting_workers(workers, 0.0, True, float("inf"), 0.0)
        of_cluster(address)
        return
    cpus, shown = usable_cpus(), os.cpu_count() or 1
    if cpus < shown:
        say(f"{cpus} of this machine's {shown} CPUs are this process's to use (affinity or a cgroup's quota)")
    fitting_workers(workers, 0.0, False, cpus, 0.0)
    check_machine()


def fitting_workers(
    workers: int, gpus_per_worker: float | None, given: bool, cpus: float, gpus: float
) -> tuple[int, float]:
    """Compare the wish with what there is, before any actor is made.

    Args:
        gpus_per_worker: None: a quarter, where there is a GPU.
        given: the cluster was given by its address; our own Ray has the CPUs that this process may use.

    Returns:
        Workers and GPU share; the share is 0 where Ray sees no GPU.

    Raises:
        ConfigError: more workers than can ever run, or a share of a GPU was asked for and Ray sees none.
    """
    place = "the cluster" if given else "this process"
    if workers < 1:
        raise ConfigError(f"--workers must be at least 1, got {workers}")
    if workers > cpus:
        raise ConfigError(f"{workers} workers want one CPU each and {place} has {cpus:.0f}: use --workers {cpus:.0f}")
    if gpus == 0:
        if gpus_per_worker:
            raise ConfigError(
                f"--gpus-per-worker {gpus_per_worker:g} and {place} has no GPU that Ray sees: leave it out to train on "
                "CPUs, or look whether the driver's `nvidia-smi` and torch see one"
            )
        return workers, 0.0
    gpus_per_worker = SHARE if gpus_per_worker is None else gpus_per_worker
    if gpus_per_worker > 0 and workers > _fitting(gpus_per_worker, gpus):
        smaller = gpus / workers if workers <= gpus else 1 / math.ceil(workers / gpus)
        raise ConfigError(
            f"{workers} workers want {gpus_per_worker:g} GPU each and {place} has {gpus:.0f}: "
            f"use --gpus-per-worker {math.floor(100 * smaller) / 100:g} or fewer workers"
        )
    return workers, gpus_per_worker


def _fitting(gpus_per_worker: float, gpus: float) -> int:
    """How many workers fit on whole GPUs: a share below 1 is never of two of them."""
    if gpus_per_worker >= 1:
        return int(gpus / gpus_per_worker + 1e-9)
    return int(gpus) * int(1 / gpus_per_worker + 1e-9)
