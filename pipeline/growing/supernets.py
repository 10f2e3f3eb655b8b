"""The supernets that a build's pairs are cut out of: each is trained once, by one worker, before its pairs are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Protocol

from pipeline.config import SUPERNET_DEADLINES
from pipeline.growing.identities import supernet_identity
from pipeline.pools import ATTEMPTS, WorkerPool
from pipeline.running.output import shown
from pipeline.running.progress import say
from pipeline.zoo import Zoo
from pipeline.zoo.history.journal import Event
from tans_core.acquisition.seconds import SupernetSeconds
from tans_core.errors import WeightsError
from tans_core.jobs import Failure, SupernetJob, SupernetOutcome
from tans_core.lineage import SupernetIdentity, supernet_of
from tans_core.records import Attempt, DatasetRecord, PairIdentity, Row, Worker
from tans_core.search_space.space import SearchSpace
from tans_core.training.recipe import SupernetRecipe


class Note(Protocol):
    """Takes an event for the journal."""

    def __call__(self, event: str, /, **payload: object) -> None: ...


class Supernets:
    """Which are there, which are at work, and which came to nothing in this run.

    A supernet that failed three times leaves its dataset out of this build; a later one tries it again.
    """

    def __init__(
        self,
        zoo: Zoo,
        datasets: Mapping[str, DatasetRecord],
        search_space: SearchSpace,
        pool: WorkerPool,
        note: Note,
        *,
        run: str,
        deadline_s: float,
    ) -> None:
        """Take up the zoo's.

        Args:
            deadline_s: of a pair.
        """
        self._zoo, self._datasets, self._pool, self._note = zoo, datasets, pool, note
        self._run, self._deadline_s = run, SUPERNET_DEADLINES * deadline_s
        settings = zoo.settings
        recipe = SupernetRecipe(**settings.supernet_recipe)
        self._seconds = SupernetSeconds(
            {fingerprint: record.counts for fingerprint, record in datasets.items()},
            search_space,
            settings.image_size,
            recipe,
        )
        self._identities = {each.fingerprint: supernet_identity(settings, each) for each in datasets.values()}
        self._kept = zoo.supernets.all()
        self._shared: set[str] = set()
        self._at_work: dict[str, SupernetJob] = {}
        self._again: list[SupernetJob] = []
        self._begun: Counter[str] = Counter()  # attempts since it last came to an end
        self._left: dict[str, str] = {}  # fingerprint -> why, of datasets left out
        self.trained = 0
        for kept in self._kept.values():
            self._seconds.took("supernet", kept.identity.fingerprint, kept.seconds.total)

    def resume(self, events: Sequence[Event], rows: Sequence[Row]) -> None:
        """Take up the journal, where a driver may have died, and what pairs took."""
        for event in events:
            if event.kind == "supernet":
                self._begun[event.payload["key"]] += 1
            elif event.kind == "supernet failure" and event.payload["final"]:
                self._begun[event.payload["key"]] = 0
        for row in rows:
            self.pair_took(row.identity, row.seconds.total)

    def pair_took(self, pair: PairIdentity, seconds: float) -> None:
        """Learn what a pair costs that was cut out."""
        if pair.mode == "from_supernet":
            self._seconds.took("pair", pair.fingerprint, seconds)

    @property
    def left(self) -> tuple[str, ...]:
        """Names of datasets that are left out, in the order in which they were."""
        return tuple(self._datasets[fingerprint].name for fingerprint in self._left)

    @property
    def names(self) -> list[str]:
        """Of those that are trained now, or are to be tried again."""
        return [job.name for job in (*self._at_work.values(), *self._again)]

    def is_training(self, key: str | None = None) -> bool:
        """Whether the outcome of that key is waited for, or of any."""
        return bool(self._at_work) if key is None else key in self._at_work

    def still_missing(self, fingerprint: str, mode: str) -> bool:
        """Whether a pair cannot have been at work, because the supernet that it is cut out of is not there."""
        return mode == "from_supernet" and self._identities[fingerprint].key not in self._kept

    def seconds_of_next_pairs(self) -> dict[str, float]:
        """Predicted seconds of the next pair of each dataset of which one may be chosen now.

        Those whose supernet is at work rest until it is there: a second pair that waits for it gains nothing.
        """
        resting = {job.fingerprint for job in (*self._at_work.values(), *self._again)} | self._left.keys()
        return {
            fingerprint: self._seconds.next_pair(fingerprint, identity.key in self._kept)
            for fingerprint, identity in self._identities.items()
            if fingerprint not in resting
        }

    def is_left(self, fingerprint: str) -> bool:
        """Whether a dataset is left out of this build."""
        return fingerprint in self._left

    def is_ready(self, pair: PairIdentity) -> bool:
        """Whether a pair can be cut out: its supernet is committed, and the workers can have it."""
        key = supernet_of(pair).key
        if key in self._shared:
            return True
        if key not in self._kept or self.is_left(pair.fingerprint):
            return False
        try:
            self._pool.share(key, self._zoo.supernets.read(self._kept[key]))
        except WeightsError as error:
            self._leave(key, pair.fingerprint, 0, Failure(type(error).__name__, str(error)), None)
            return False
        self._shared.add(key)
        return True

    def ask_for(self, pair: PairIdentity) -> SupernetJob | None:
        """The job that trains a pair's supernet; None where it is at work already, or its dataset is left out."""
        identity = supernet_of(pair)
        key = identity.key
        if key in self._at_work or any(job.key == key for job in self._again) or self.is_left(pair.fingerprint):
            return None
        if self._begun[key] >= ATTEMPTS:
            lost = Failure("WorkerLost", f"was at work in {self._begun[key]} runs that ended before it did")
            self._leave(key, pair.fingerprint, self._begun[key], lost, None)
            return None
        return self._job(identity)

    def to_try_again(self) -> SupernetJob | None:
        """The next of those that failed, if there is one."""
        return self._job(self._again.pop(0).identity) if self._again else None

    def take(self, outcome: SupernetOutcome) -> None:
        """What came back: commit it and let the workers have it, or try it again, or leave its dataset out."""
        job = self._at_work.pop(outcome.job.key)
        if outcome.trained is not None:
            self._kept[job.key] = self._zoo.commit_supernet(outcome, self._datasets[job.fingerprint])
            self._seconds.took("supernet", job.fingerprint, self._kept[job.key].seconds.total)
            self.trained += 1
            return
        assert outcome.failure is not None
        if job.attempt.number < ATTEMPTS:
            self._failed(job.key, job.fingerprint, job.attempt.number, outcome.failure, outcome.worker, final=False)
            self._again.append(job)
        else:
            self._leave(job.key, job.fingerprint, job.attempt.number, outcome.failure, outcome.worker)

    def forget_what_runs(self) -> None:
        """It was given up with its worker."""
        self._at_work.clear()

    def causes(self) -> list[str]:
        """Why datasets are left out."""
        return list(self._left.values())

    def _job(self, identity: SupernetIdentity) -> SupernetJob:
        key, dataset = identity.key, self._datasets[identity.fingerprint]
        self._begun[key] += 1
        job = SupernetJob(
            key=key,
            name=f"the supernet of {dataset.name}",
            identity=identity,
            attempt=Attempt(self._run, self._begun[key]),
            deadline_s=self._deadline_s,
        )
        self._at_work[key] = job
        self._note("supernet", key=key, fingerprint=job.fingerprint, name=dataset.name, attempt=job.attempt.number)
        return job

    def _leave(self, key: str, fingerprint: str, attempt: int, failure: Failure, worker: Worker | None) -> None:
        self._left[fingerprint] = f"{failure.kind}: {failure.message}"
        self._failed(key, fingerprint, attempt, failure, worker, final=True)
        name = shown(self._datasets[fingerprint].name)
        say(f"{name} is left out of this build: its supernet came to nothing; {failure.kind}: {failure.message}")

    def _failed(
        self, key: str, fingerprint: str, attempt: int, failure: Failure, worker: Worker | None, *, final: bool
    ) -> None:
        self._note(
            "supernet failure",
            key=key,
            fingerprint=fingerprint,
            name=self._datasets[fingerprint].name,
            attempt=attempt,
            final=final,
            worker=None if worker is None else asdict(worker),
            **asdict(failure),
        )
