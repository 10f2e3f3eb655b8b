"""The build loop in simulated time: the real `Growth` and chooser, a function in the place of training.

It lives here and not in the packages: no command needs it, and it may import both of them. A table of real results
takes the place of `World.observe` as any other function of a pair does.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count

import torch

from pipeline.growing.growth import Grown, Growth
from pipeline.running.progress import Progress
from pipeline.running.signals import StopRequest
from pipeline.tracking.tracker import NoTracker
from pipeline.zoo import Zoo
from pipeline.zoo.history.journal import Event
from tans_core.acquisition.choose import Chooser
from tans_core.acquisition.hypervolume import GrowingHypervolume
from tans_core.jobs import AnyJob, Job, Outcome
from tans_core.records import (
    Candidate,
    Costs,
    DatasetRecord,
    Observation,
    Row,
    Seconds,
    TrainedPair,
    WeightsReference,
    Worker,
    ZooSettings,
    ZooSnapshot,
)
from tans_core.search_space.space import SearchSpace
from tans_core.training.recipe import Recipe

Observe = Callable[[Candidate], Observation]  # what training a pair gives
TrainS = Callable[[Candidate], float]  # and how long it takes


class SimulatedClock:
    """Seconds that the driver really worked, and those that it waited for in simulation."""

    def __init__(self, worked_s: Callable[[], float] = time.thread_time) -> None:
        """Take what counts as the driver's work: its own processor time, or nothing (`lambda: 0.0`)."""
        self._worked_s, self._began_s = worked_s, worked_s()
        self._waited_s = 0.0

    def __call__(self) -> float:
        return self._waited_s + self._worked_s() - self._began_s

    def wait_until(self, when_s: float) -> None:
        self._waited_s += max(0.0, when_s - self())


class SimulatedPool:
    """A `WorkerPool` of any number of workers, each with one job at work and one waiting."""

    def __init__(self, workers: int, clock: SimulatedClock, observe: Observe, train_s: TrainS) -> None:
        self.workers = workers
        self._clock, self._observe, self._train_s = clock, observe, train_s
        self._ends: list[tuple[float, int, Job]] = []  # of those at work
        self._waiting: deque[Job] = deque()
        self._number = count()

    def free(self) -> int:
        return 2 * self.workers - len(self._ends) - len(self._waiting)

    def idle(self) -> int:
        return max(0, self.workers - len(self._ends) - len(self._waiting))

    def share(self, key: str, supernet: bytes) -> None:
        raise AssertionError("pairs of a simulation are standalone")

    def submit(self, job: AnyJob) -> None:
        assert isinstance(job, Job), "datasets of a simulation are described"
        if len(self._ends) < self.workers:
            self._begin(job, self._clock())
        else:
            self._waiting.append(job)

    def next_outcome(self, timeout_s: float) -> Outcome | None:
        if not self._ends or self._ends[0][0] > self._clock() + timeout_s:
            self._clock.wait_until(self._clock() + timeout_s)
            return None
        end_s, _, job = heapq.heappop(self._ends)
        if self._waiting:
            self._begin(self._waiting.popleft(), end_s)
        self._clock.wait_until(end_s)
        candidate = Candidate(job.fingerprint, job.identity.topology)
        return _outcome(job, self._observe(candidate), self._train_s(candidate))

    def close(self) -> None:
        self._ends.clear()
        self._waiting.clear()

    def _begin(self, job: Job, when_s: float) -> None:
        seconds = self._train_s(Candidate(job.fingerprint, job.identity.topology))
        heapq.heappush(self._ends, (when_s + seconds, next(self._number), job))


def _outcome(job: Job, observation: Observation, seconds: float) -> Outcome:
    """Validation and test say the same; costs are known before, and there are no weights."""
    correct, total = (observation.correct,), (observation.total,)
    trained = TrainedPair(
        costs=_NO_COSTS,
        val_correct_by_class=correct,
        val_total_by_class=total,
        test_correct_by_class=correct,
        test_total_by_class=total,
        response=_NO_RESPONSE,
        curve=(),
        weights=b"",
    )
    return Outcome(job=job, worker=_WORKER, seconds=Seconds(train=seconds), trained=trained)


_WORKER = Worker("simulated", "simulated", "cpu")
_NO_COSTS = Costs(0, 0)
_NO_RESPONSE = torch.zeros(0, 0, dtype=torch.float16)
_NO_WEIGHTS = WeightsReference("", "", 0, "float16")


class MemoryZoo(Zoo):
    """Rows and events of a simulation, in memory. What is not overridden here needs a folder and has none."""

    def __init__(self, settings: ZooSettings, datasets: Sequence[DatasetRecord]) -> None:
        self.uri, self.settings = "memory", settings
        self.journal: MemoryJournal = MemoryJournal()  # pyright: ignore[reportIncompatibleVariableOverride]
        self.supernets = NoSupernets()  # pyright: ignore[reportAttributeAccessIssue]
        self.rows_there: dict[str, Row] = {}
        self._records = {record.fingerprint: record for record in datasets}

    @property
    def version(self) -> int:
        return len(self.rows_there)

    def snapshot(self, version: int | None = None) -> ZooSnapshot:
        rows = tuple(self.rows_there.values())
        return ZooSnapshot(
            uri=self.uri, version=len(rows), settings=self.settings, rows=rows, datasets=dict(self._records)
        )

    def commit(self, outcomes: Sequence[Outcome], datasets: Mapping[str, DatasetRecord]) -> list[Row]:
        new: list[Row] = []
        for outcome in outcomes:
            job, trained, dataset = outcome.job, outcome.trained, datasets[outcome.job.fingerprint]
            assert trained is not None
            self.journal.open_decisions.pop(job.key, None)
            if job.key not in self.rows_there:
                self.rows_there[job.key] = Row(
                    key=job.key,
                    attempt=job.attempt,
                    identity=job.identity,
                    dataset_name=dataset.name,
                    source=dataset.source,
                    class_names=dataset.class_names,
                    costs=trained.costs,
                    val_correct_by_class=trained.val_correct_by_class,
                    val_total_by_class=trained.val_total_by_class,
                    test_correct_by_class=trained.test_correct_by_class,
                    test_total_by_class=trained.test_total_by_class,
                    response=trained.response,
                    curve=trained.curve,
                    seconds=outcome.seconds,
                    weights=_NO_WEIGHTS,
                    choice=job.choice,
                    versions={},
                )
                new.append(self.rows_there[job.key])
        return new


class MemoryJournal:
    """Keeps what a build goes on from: decisions that have no row yet."""

    def __init__(self) -> None:
        self.open_decisions: dict[str, Event] = {}

    def append(self, run: str, events: Sequence[tuple[str, Mapping[str, object]]]) -> None:
        for kind, payload in events:
            if kind == "decision":
                key = str(payload["key"])
                self.open_decisions[key] = Event(0, datetime.now(UTC), kind, run, dict(payload))

    def events(self) -> tuple[Event, ...]:
        return tuple(self.open_decisions.values())


class NoSupernets:
    """Pairs of a simulation are standalone."""

    def all(self) -> dict[str, object]:
        return {}


def simulated_settings(search_space: str, supernet: str, image_size: int, seed: int) -> ZooSettings:
    return ZooSettings(
        zoo_id="simulated",
        preset="laptop",
        schema=Zoo.SCHEMA_VERSION,
        search_space=search_space,
        width=1.0,
        image_size=image_size,
        recipe=asdict(Recipe()),
        supernet=supernet,
        noise="0" * 32,
        seed=seed,
    )


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A build in simulated time."""

    grown: Grown
    simulated_s: float
    hypervolume: tuple[float, ...]  # after each commit
    rows_then: tuple[int, ...]


def simulate(
    zoo: MemoryZoo,
    datasets: Sequence[DatasetRecord],
    search_space: SearchSpace,
    chooser: Chooser,
    hypervolume: GrowingHypervolume,
    observe: Observe,
    *,
    pairs: int,
    workers: int,
    train_s: TrainS,
    clock: SimulatedClock,
) -> Simulated:
    """Grow a zoo to so many pairs, or from what it holds.

    Args:
        observe: what training a pair gives.
        train_s: how long it takes, in simulated seconds.
        clock: its own, or one on which deciding takes time too.
    """
    curve: list[float] = []
    then: list[int] = []

    def taken(rows: Sequence[Row]) -> float:
        curve.append(hypervolume.add(rows))
        then.append(len(zoo.rows_there))
        return curve[-1]

    growth = Growth(
        zoo,
        datasets,
        chooser,
        SimulatedPool(workers, clock, observe, train_s),
        NoTracker(),
        search_space,
        pair_mode="standalone",
        run="simulated",
        deadline_s=float("inf"),
        stop=StopRequest(),
        progress=Progress(),
        hypervolume=taken,
        clock=clock,
    )
    began_s = clock()
    grown = growth.grow(pairs, None)
    return Simulated(grown=grown, simulated_s=clock() - began_s, hypervolume=tuple(curve), rows_then=tuple(then))
