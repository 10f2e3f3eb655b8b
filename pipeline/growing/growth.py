"""Growing a zoo: decide, train, commit. Decisions and commits are made here alone."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from pipeline.growing.identities import pair_identity
from pipeline.growing.supernets import Supernets
from pipeline.pools import ATTEMPTS, WorkerPool
from pipeline.running.progress import Pace, Progress, say
from pipeline.running.signals import FINISH_S, GivenUp, StopRequest
from pipeline.tracking.tracker import Tracker
from pipeline.zoo import Zoo
from tans_core.acquisition.choose import Chooser
from tans_core.errors import PoolError
from tans_core.jobs import AnyOutcome, Job, Outcome, SupernetJob, SupernetOutcome
from tans_core.records import Attempt, Candidate, Choice, DatasetRecord, Observation, Row, Worker
from tans_core.search_space.space import SearchSpace

FAILURES_IN_A_ROW = 5  # over at least two datasets, where there are two: then something is wrong with all of them
COMMIT_ROWS, COMMIT_S = 64, 1.0
SHOWN = 8  # pairs in the line of progress


@dataclass(frozen=True, kw_only=True)
class Grown:
    """What a build did: counts of this run, but for `rows`."""

    rows: tuple[Row, ...]  # all of the zoo
    failures: int
    utilisation: float | None
    decision_ms: tuple[float, ...]
    exhausted: bool
    supernets: int  # trained
    datasets_left: tuple[str, ...]  # names of those whose supernets came to nothing


@dataclass(frozen=True)
class _Retry:
    """A pair that is to be tried again, in the mode in which it was chosen."""

    choice: Choice
    mode: str
    attempt: int


class Growth:
    """One driver's run. The journal is what a later run goes on from."""

    def __init__(
        self,
        zoo: Zoo,
        datasets: Sequence[DatasetRecord],
        chooser: Chooser,
        pool: WorkerPool,
        tracker: Tracker,
        search_space: SearchSpace,
        *,
        pair_mode: str,
        run: str,
        deadline_s: float,
        stop: StopRequest,
        progress: Progress,
        hypervolume: Callable[[Sequence[Row]], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take up where the zoo's journal ends.

        Args:
            hypervolume: takes in rows as they come, each once, and gives the mean of all so far.
            clock: in seconds; a simulation has its own.
        """
        self._zoo, self._chooser, self._pool, self._tracker = zoo, chooser, pool, tracker
        self._datasets = {record.fingerprint: record for record in datasets}
        self._pair_mode, self._run, self._deadline_s, self._stop = pair_mode, run, deadline_s, stop
        self._hypervolume, self._clock = hypervolume, clock
        self._at_work: dict[str, Job] = {}
        self._waiting: list[Job] = []  # for their supernets
        self._exhausted = False
        self._events: list[tuple[str, dict]] = []
        self._done: list[Outcome] = []
        self._last_flush_s = self._clock()
        self._decision_ms: list[float] = []
        self._busy_s, self._first_start_s, self._last_end_s = 0.0, None, 0.0
        self._failures = 0
        self._failed_in_a_row: list[Outcome] = []
        self._progress = progress
        self._supernets = Supernets(zoo, self._datasets, search_space, pool, self._note, run=run, deadline_s=deadline_s)
        self._resume()
        self._pace = Pace(len(self._rows), clock)

    def grow(self, rows: int, ends: float | None) -> Grown:
        """Train until the zoo has `rows` rows, the clock passes `ends`, or a stop is asked for.

        Raises:
            PoolError: pair after pair fails, over more than one dataset.
        """
        while not self._stop:
            late = ends is not None and self._clock() > ends
            while not late and self._room(rows) > 0 and self._start_next(rows):
                pass
            over = late or self._exhausted or self._wanted(rows) <= 0
            if over and not self._at_work and not self._supernets.is_training():
                break
            self._show(rows)
            try:
                self._take(self._pool.next_outcome(COMMIT_S))
            except GivenUp:  # it ran in this process
                self._at_work.clear()
                self._supernets.forget_what_runs()
            self._flush_when_due()
        self._finish_what_runs()
        self._flush()
        self._show(rows, last=True)
        self._refuse_without_supernets()
        return Grown(
            rows=tuple(self._rows),
            failures=self._failures,
            utilisation=self._utilisation(),
            decision_ms=tuple(self._decision_ms),
            exhausted=self._exhausted and len(self._rows) < rows,
            supernets=self._supernets.trained,
            datasets_left=self._supernets.left,
        )

    def _wanted(self, rows: int) -> int:
        """Pairs that are still to be chosen."""
        return rows - len(self._rows) - len(self._at_work) - len(self._waiting) - len(self._done)

    def _room(self, rows: int) -> int:
        """How many jobs to start now; the last ones wait for idle workers, not behind another pair at a busy one."""
        to_start = self._wanted(rows) + len(self._waiting)
        return self._pool.free() if to_start > self._pool.workers else self._pool.idle()

    # --- deciding ---------------------------------------------------------------------------------

    def _resume(self) -> None:
        """Take up the journal: rows teach the chooser, what was at work is tried again, what was left stays left."""
        snapshot = self._zoo.snapshot()
        self._rows, keys = list(snapshot.rows), set(snapshot.row_by_key)
        self._volume = self._hypervolume(self._rows)
        self._next_decision = max((row.choice.decision + 1 for row in self._rows), default=0)
        self._retries: list[_Retry] = []
        attempts: Counter[str] = Counter()
        open_choices: dict[str, Choice] = {}
        modes: dict[str, str] = {}
        events = self._zoo.journal.events()
        self._supernets.resume(events, self._rows)
        for event in events:
            if event.kind == "decision":
                choice = choice_from(event.payload["choice"])
                self._next_decision = max(self._next_decision, choice.decision + 1)
                open_choices[event.payload["key"]] = choice
                modes[event.payload["key"]] = event.payload.get("mode", "standalone")
                attempts[event.payload["key"]] = max(attempts[event.payload["key"]], event.payload["attempt"])
            elif event.kind == "failure" and event.payload["final"]:
                choice = open_choices.pop(event.payload["key"], None)
                if choice is not None:
                    self._chooser.exclude(choice.candidate)
            elif event.kind == "drop":  # as if they had never been tried: no retry, but they may be chosen again
                for key in event.payload["keys"]:
                    open_choices.pop(key, None)
                    attempts.pop(key, None)
        for row in snapshot.rows:
            if row.identity.parent is None:  # a polished row says what more training gives, not what the next pair will
                self._chooser.observe(Observation(row.candidate, row.val_correct, row.val_total))
        for key, choice in open_choices.items():
            if key in keys or choice.candidate.fingerprint not in self._datasets:
                continue
            begun = attempts[key] - self._supernets.still_missing(choice.candidate.fingerprint, modes[key])
            if begun >= ATTEMPTS:
                self._leave(key, choice, "WorkerLost", f"was at work in {begun} runs that ended before it did")
            else:
                self._retries.append(_Retry(choice, modes[key], begun + 1))

    def _start_next(self, rows: int) -> bool:
        """Start what waited for its supernet, or is to be tried again, else decide; False where nothing is started."""
        if supernet := self._supernets.to_try_again():
            self._submit(supernet)
            return True
        ready = next((job for job in self._waiting if self._supernets.is_ready(job.identity)), None)
        if ready is not None:
            self._waiting.remove(ready)
            self._submit(ready)
            return True
        self._waiting = [job for job in self._waiting if not self._supernets.is_left(job.fingerprint)]
        if self._wanted(rows) <= 0:
            return False
        job = self._again() or self._decided()
        if job is None:
            return False
        if job.identity.mode == "standalone" or self._supernets.is_ready(job.identity):
            self._submit(job)
            return True
        self._waiting.append(job)
        if supernet := self._supernets.ask_for(job.identity):
            self._submit(supernet)
        return True

    def _again(self) -> Job | None:
        """The next pair that is to be tried again."""
        while self._retries:
            retry = self._retries.pop(0)
            if retry.mode == "standalone" or not self._supernets.is_left(retry.choice.candidate.fingerprint):
                return self._job(retry, None)
        return None

    def _decided(self) -> Job | None:
        """A new pair; None where none may be chosen now, or no candidate is left at all."""
        if self._exhausted:
            return None
        pending = [
            Candidate(job.fingerprint, job.identity.topology) for job in (*self._at_work.values(), *self._waiting)
        ]
        seconds = self._supernets.seconds_of_next_pairs() if self._pair_mode == "from_supernet" else None
        choice, decision_ms = None, 0.0
        if seconds != {}:
            began = time.perf_counter()
            choice = self._chooser.propose(self._next_decision, pending, seconds)
            decision_ms = 1000 * (time.perf_counter() - began)
            self._decision_ms.append(decision_ms)
        if choice is None:
            self._exhausted = not self._supernets.names
            return None
        self._next_decision += 1
        return self._job(_Retry(choice, self._pair_mode, 1), decision_ms)

    def _submit(self, job: Job | SupernetJob) -> None:
        if isinstance(job, Job):
            self._at_work[job.key] = job
        if self._first_start_s is None:
            self._first_start_s = self._clock()
        self._pool.submit(job)

    def _job(self, wish: _Retry, decision_ms: float | None) -> Job:
        """A pair as a job, which the journal now knows."""
        choice, record = wish.choice, self._datasets[wish.choice.candidate.fingerprint]
        identity = pair_identity(self._zoo.settings, record, choice.candidate.topology, wish.mode)
        job = Job(
            key=identity.key,
            name=f"{record.name} {identity.key[:6]}",
            identity=identity,
            attempt=Attempt(self._run, wish.attempt),
            choice=choice,
            deadline_s=self._deadline_s,
        )
        self._note(
            "decision",
            key=job.key,
            attempt=wish.attempt,
            name=job.name,
            mode=wish.mode,
            choice=asdict(choice),
            zoo_version=self._zoo.version,
            decision_ms=decision_ms,
        )
        return job

    # --- taking what comes back ---------------------------------------------------------------------

    def _take(self, outcome: AnyOutcome | None) -> None:
        if isinstance(outcome, SupernetOutcome) and self._supernets.is_training(outcome.job.key):
            self._busy_s += outcome.seconds.total
            self._last_end_s = self._clock()
            self._flush()  # the pair that waits for it is in the journal before it is in the zoo
            self._supernets.take(outcome)
        if not isinstance(outcome, Outcome) or self._at_work.pop(outcome.job.key, None) is None:
            return
        self._busy_s += outcome.seconds.total
        self._last_end_s = self._clock()
        if outcome.failure is not None:
            self._failed(outcome)
            return
        self._failed_in_a_row.clear()
        self._done.append(outcome)
        assert outcome.trained is not None
        candidate = Candidate(outcome.job.fingerprint, outcome.job.identity.topology)
        self._chooser.observe(Observation(candidate, outcome.trained.val_correct, outcome.trained.val_total))
        self._supernets.pair_took(outcome.job.identity, outcome.seconds.total)

    def _failed(self, outcome: Outcome) -> None:
        job, failure = outcome.job, outcome.failure
        assert failure is not None
        if job.attempt.number < ATTEMPTS:
            worker = asdict(outcome.worker)
            self._note(
                "failure", key=job.key, attempt=job.attempt.number, final=False, worker=worker, **asdict(failure)
            )
            self._retries.append(_Retry(job.choice, job.identity.mode, job.attempt.number + 1))
            return
        self._leave(job.key, job.choice, failure.kind, failure.message, outcome.worker)
        say(f"left {job.name} after {ATTEMPTS} attempts: {failure.kind}: {failure.message}")
        self._failed_in_a_row.append(outcome)
        datasets = {failed.job.fingerprint for failed in self._failed_in_a_row}
        if len(self._failed_in_a_row) >= FAILURES_IN_A_ROW and len(datasets) >= min(2, len(self._datasets)):
            causes = Counter(
                f"{each.failure.kind}: {each.failure.message}" for each in self._failed_in_a_row if each.failure
            )
            cause, _ = causes.most_common(1)[0]
            self._flush()
            raise PoolError(
                f"{len(self._failed_in_a_row)} pairs in a row failed {ATTEMPTS} times each, over {len(datasets)} "
                f"datasets; most often {cause}. What is committed stays; the journal has every cause"
            )

    def _leave(self, key: str, choice: Choice, kind: str, message: str, worker: Worker | None = None) -> None:
        self._failures += 1
        self._chooser.exclude(choice.candidate)
        where = None if worker is None else asdict(worker)
        self._note("failure", key=key, attempt=ATTEMPTS, final=True, worker=where, kind=kind, message=message)

    def _refuse_without_supernets(self) -> None:
        """Where not one dataset has a supernet, something is wrong with all of them."""
        if self._datasets and len(self._supernets.left) == len(self._datasets):
            cause, _ = Counter(self._supernets.causes()).most_common(1)[0]
            raise PoolError(
                f"the supernets of all {len(self._datasets)} datasets came to nothing; most often {cause}. "
                "What is committed stays; the journal has every cause"
            )

    def _finish_what_runs(self) -> None:
        """After a stop was asked for: take what comes back within its time."""
        ends = self._clock() + FINISH_S
        while self._stop and (self._at_work or self._supernets.is_training()) and self._clock() < ends:
            self._take(self._pool.next_outcome(max(0.0, ends - self._clock())))

    # --- committing ---------------------------------------------------------------------------------

    def _note(self, event: str, /, **payload: object) -> None:
        self._events.append((event, payload))

    def _flush_when_due(self) -> None:
        if len(self._done) >= COMMIT_ROWS or self._clock() - self._last_flush_s >= COMMIT_S:
            self._flush()

    def _flush(self) -> None:
        """Commit rows and journal; the rows first, so that a decision is never open that has its row."""
        self._last_flush_s = self._clock()
        if self._done:
            began = time.perf_counter()
            rows = self._zoo.commit(self._done, self._datasets)
            self._note("commit", rows=len(rows), commit_ms=1000 * (time.perf_counter() - began))
            self._done = []
            self._rows.extend(rows)
            self._volume = self._hypervolume(rows)
            self._tracker.log(self._metrics(), step=len(self._rows))
        if self._events:
            events, self._events = self._events, []
            self._zoo.journal.append(self._run, events)

    def _metrics(self) -> dict[str, float]:
        metrics = {"zoo size": float(len(self._rows)), "failures": float(self._failures)}
        metrics["hypervolume"] = self._volume
        utilisation = self._utilisation()
        if utilisation is not None:
            metrics["utilisation"] = utilisation
        return metrics

    def _utilisation(self) -> float | None:
        """Busy seconds of the workers over what they had, from the first start to the last outcome."""
        if self._first_start_s is None or self._last_end_s <= self._first_start_s:
            return None
        return self._busy_s / (self._pool.workers * (self._last_end_s - self._first_start_s))

    def _show(self, rows: int, last: bool = False) -> None:
        at_work = [*self._supernets.names, *(job.name for job in self._at_work.values())][: self._pool.workers]
        names = ", ".join(at_work[:SHOWN]) + (f" and {len(at_work) - SHOWN} more" if at_work[SHOWN:] else "")
        line = (
            f"{len(self._rows)} of {rows} pairs, {self._failures} failures, {self._pace.words(len(self._rows), rows)}"
        )
        if self._decision_ms:
            line += f", decision {statistics.median(self._decision_ms):.0f} ms"
        self._progress.show(f"{line}; training {names}" if names else line, last)


def choice_from(payload: dict) -> Choice:
    """The choice that a journal's decision holds."""
    candidate = Candidate(payload["candidate"]["fingerprint"], tuple(payload["candidate"]["topology"]))
    runners_up = tuple((fingerprint, gain) for fingerprint, gain in payload["runners_up"])
    return Choice(**{**payload, "candidate": candidate, "runners_up": runners_up})
