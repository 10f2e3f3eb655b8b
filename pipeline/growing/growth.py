"""Growing a zoo: decide, train, commit. Decisions and commits are made here alone."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from pipeline.pools import ATTEMPTS, WorkerPool
from pipeline.running.progress import Pace, Progress, say
from pipeline.running.signals import FINISH_S, GivenUp, StopRequest
from pipeline.tracking.tracker import Tracker
from pipeline.zoo import Zoo
from tans_core.acquisition.choose import Chooser
from tans_core.errors import PoolError
from tans_core.jobs import Described, Job, Outcome
from tans_core.records import Attempt, Candidate, Choice, DatasetRecord, Observation, PairIdentity, Row
from tans_core.training.recipe import Recipe

FAILURES_IN_A_ROW = 5  # over at least two datasets, where there are two: then something is wrong with all of them
COMMIT_ROWS, COMMIT_S = 64, 1.0


@dataclass(frozen=True, kw_only=True)
class Grown:
    """What a build did: counts of this run, but for `rows`."""

    rows: tuple[Row, ...]  # all of the zoo
    failures: int
    utilisation: float | None
    decision_ms: tuple[float, ...]
    exhausted: bool


class Growth:
    """One driver's run. The journal is what a later run goes on from."""

    def __init__(
        self,
        zoo: Zoo,
        datasets: Sequence[DatasetRecord],
        chooser: Chooser,
        pool: WorkerPool,
        tracker: Tracker,
        *,
        run: str,
        deadline_s: float,
        stop: StopRequest,
        progress: Progress,
        hypervolume: Callable[[Sequence[Row]], float],
    ) -> None:
        self._zoo, self._chooser, self._pool, self._tracker = zoo, chooser, pool, tracker
        self._datasets = {record.fingerprint: record for record in datasets}
        self._run, self._deadline_s, self._stop = run, deadline_s, stop
        self._hypervolume = hypervolume
        self._at_work: dict[str, Job] = {}
        self._events: list[tuple[str, dict]] = []
        self._done: list[Outcome] = []
        self._last_flush_s = time.monotonic()
        self._decision_ms: list[float] = []
        self._busy_s, self._first_start_s, self._last_end_s = 0.0, None, 0.0
        self._failures = 0
        self._failed_in_a_row: list[Outcome] = []
        self._progress = progress
        self._resume()
        self._pace = Pace(len(self._rows))

    def grow(self, rows: int, ends: float | None) -> Grown:
        """Train until the zoo has `rows` rows, the clock passes `ends`, or a stop is asked for.

        Raises:
            PoolError: pair after pair fails, over more than one dataset.
        """
        exhausted = False
        while not self._stop:
            wanted = rows - len(self._rows) - len(self._at_work) - len(self._done)
            late = ends is not None and time.monotonic() > ends
            while not late and (self._retries or not exhausted) and wanted > 0 and self._room(wanted) > 0:
                exhausted = not self._start_next()
                wanted -= 1
            if not self._at_work and (wanted <= 0 or late or exhausted):
                break
            self._show(rows)
            try:
                self._take(self._pool.next_outcome(COMMIT_S))
            except GivenUp:  # it ran in this process
                self._at_work.clear()
            self._flush_when_due()
        self._finish_what_runs()
        self._flush()
        self._show(rows, last=True)
        return Grown(
            rows=tuple(self._rows),
            failures=self._failures,
            utilisation=self._utilisation(),
            decision_ms=tuple(self._decision_ms),
            exhausted=exhausted and len(self._rows) < rows,
        )

    def _room(self, wanted: int) -> int:
        """How many jobs to start now; the last ones wait for idle workers, not behind another pair at a busy one."""
        return self._pool.free() if wanted > self._pool.workers else self._pool.idle()

    # --- deciding ---------------------------------------------------------------------------------

    def _resume(self) -> None:
        """Take up the journal: rows teach the chooser, what was at work is tried again, what was left stays left."""
        snapshot = self._zoo.snapshot()
        self._rows, keys = list(snapshot.rows), set(snapshot.row_by_key)
        self._next_decision = max((row.choice.decision + 1 for row in self._rows), default=0)
        self._retries: list[tuple[Choice, int]] = []
        attempts: Counter[str] = Counter()
        open_choices: dict[str, Choice] = {}
        for event in self._zoo.journal.events():
            if event.kind == "decision":
                choice = choice_from(event.payload["choice"])
                self._next_decision = max(self._next_decision, choice.decision + 1)
                open_choices[event.payload["key"]] = choice
                attempts[event.payload["key"]] = max(attempts[event.payload["key"]], event.payload["attempt"])
            elif event.kind == "failure" and event.payload["final"]:
                choice = open_choices.pop(event.payload["key"], None)
                if choice is not None:
                    self._chooser.exclude(choice.candidate)
        for row in snapshot.rows:
            self._chooser.observe(Observation(row.candidate, row.val_correct, row.val_total))
        for key, choice in open_choices.items():
            if key in keys or choice.candidate.fingerprint not in self._datasets:
                continue
            if attempts[key] >= ATTEMPTS:
                self._leave(key, choice, "WorkerLost", f"was at work in {attempts[key]} runs that ended before it did")
            else:
                self._retries.append((choice, attempts[key] + 1))

    def _start_next(self) -> bool:
        """Start what is to be tried again, else decide; False where no candidate is left."""
        if self._retries:
            choice, attempt = self._retries.pop(0)
            decision_ms = None
        else:
            pending = [Candidate(job.fingerprint, job.identity.topology) for job in self._at_work.values()]
            began = time.perf_counter()
            chosen = self._chooser.propose(self._next_decision, pending)
            decision_ms = 1000 * (time.perf_counter() - began)
            self._decision_ms.append(decision_ms)
            if chosen is None:
                return False
            choice, attempt = chosen, 1
            self._next_decision += 1
        job = self._job(choice, attempt)
        self._note(
            "decision",
            key=job.key,
            attempt=attempt,
            name=job.name,
            choice=asdict(choice),
            zoo_version=self._zoo.version,
            decision_ms=decision_ms,
        )
        self._at_work[job.key] = job
        if self._first_start_s is None:
            self._first_start_s = time.monotonic()
        self._pool.submit(job)
        return True

    def _job(self, choice: Choice, attempt: int) -> Job:
        settings, record = self._zoo.settings, self._datasets[choice.candidate.fingerprint]
        recipe = Recipe(**settings.recipe)
        if recipe.mirror is None:
            recipe = replace(recipe, mirror=record.mirror)
        identity = PairIdentity(
            fingerprint=record.fingerprint,
            search_space=settings.search_space,
            topology=choice.candidate.topology,
            width=settings.width,
            image_size=settings.image_size,
            mode="standalone",
            recipe=asdict(recipe),
            supernet=settings.supernet,
            seed=settings.seed,
        )
        return Job(
            key=identity.key,
            name=f"{record.name} {identity.key[:6]}",
            identity=identity,
            attempt=Attempt(self._run, attempt),
            choice=choice,
            deadline_s=self._deadline_s,
        )

    # --- taking what comes back ---------------------------------------------------------------------

    def _take(self, outcome: Outcome | Described | None) -> None:
        if not isinstance(outcome, Outcome) or self._at_work.pop(outcome.job.key, None) is None:
            return
        self._busy_s += outcome.seconds.total
        self._last_end_s = time.monotonic()
        if outcome.failure is not None:
            self._failed(outcome)
            return
        self._failed_in_a_row.clear()
        self._done.append(outcome)
        assert outcome.trained is not None
        candidate = Candidate(outcome.job.fingerprint, outcome.job.identity.topology)
        self._chooser.observe(Observation(candidate, outcome.trained.val_correct, outcome.trained.val_total))

    def _failed(self, outcome: Outcome) -> None:
        job, failure = outcome.job, outcome.failure
        assert failure is not None
        if job.attempt.number < ATTEMPTS:
            self._note("failure", key=job.key, attempt=job.attempt.number, final=False, **asdict(failure))
            self._retries.append((job.choice, job.attempt.number + 1))
            return
        self._leave(job.key, job.choice, failure.kind, failure.message)
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

    def _leave(self, key: str, choice: Choice, kind: str, message: str) -> None:
        self._failures += 1
        self._chooser.exclude(choice.candidate)
        self._note("failure", key=key, attempt=ATTEMPTS, final=True, kind=kind, message=message)

    def _finish_what_runs(self) -> None:
        """After a stop was asked for: take what comes back within its time."""
        ends = time.monotonic() + FINISH_S
        while self._stop and self._at_work and time.monotonic() < ends:
            self._take(self._pool.next_outcome(max(0.0, ends - time.monotonic())))

    # --- committing ---------------------------------------------------------------------------------

    def _note(self, event: str, /, **payload: object) -> None:
        self._events.append((event, payload))

    def _flush_when_due(self) -> None:
        if len(self._done) >= COMMIT_ROWS or time.monotonic() - self._last_flush_s >= COMMIT_S:
            self._flush()

    def _flush(self) -> None:
        """Commit rows and journal; the rows first, so that a decision is never open that has its row."""
        self._last_flush_s = time.monotonic()
        if self._done:
            began = time.perf_counter()
            rows = self._zoo.commit(self._done, self._datasets)
            self._note("commit", rows=len(rows), commit_ms=1000 * (time.perf_counter() - began))
            self._done = []
            self._rows.extend(rows)
            self._tracker.log(self._metrics(), step=len(self._rows))
        if self._events:
            events, self._events = self._events, []
            self._zoo.journal.append(self._run, events)

    def _metrics(self) -> dict[str, float]:
        metrics = {"zoo size": float(len(self._rows)), "failures": float(self._failures)}
        metrics["hypervolume"] = self._hypervolume(self._rows)
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
        names = ", ".join(job.name for job in list(self._at_work.values())[: self._pool.workers])
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
