"""Builds of `--pair-mode from_supernet`: a dataset's supernet is trained once, and its pairs are cut out of it then."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import ClassVar

import pytest
from made_up import WORKER, MadeUpPool

from pipeline.growing.build_zoo import build_zoo
from pipeline.growing.supernets import Supernets
from pipeline.zoo import Zoo
from tans_core.acquisition.choose import RandomChooser
from tans_core.errors import ConfigError, PoolError
from tans_core.jobs import AnyJob, AnyOutcome, DescribeJob, Failure, Job, SupernetJob, SupernetOutcome
from tans_core.lineage import supernet_of
from tans_core.records import Row, Seconds
from tans_core.search_space import make_search_space
from tans_core.training.loop import keep_going

FACES, TEXTURES, DIGITS = "starter:lfw-faces", "starter:ground-textures", "starter:mnist-digits"


class Watched(MadeUpPool):
    """Keeps what it was given, in the order in which it was done; may fail supernets, or die."""

    done: ClassVar[list[Job | SupernetJob]] = []
    failing: ClassVar[set[str]] = set()  # names of datasets
    dies_at: ClassVar[int | None] = None  # how many jobs are done before

    def next_outcome(self, timeout_s: float) -> AnyOutcome | None:
        job = self._waiting[0] if self._waiting else None
        if job is None or isinstance(job, DescribeJob):
            return super().next_outcome(timeout_s)
        if self.dies_at == len(self.done):
            raise Died
        self.done.append(job)
        if isinstance(job, SupernetJob) and job.name.removeprefix("the supernet of ") in self.failing:
            self._waiting.popleft()
            failure = Failure("TrainingError", "it never works")
            return SupernetOutcome(job=job, worker=WORKER, seconds=Seconds(), failure=failure)
        if isinstance(job, Job) and job.identity.mode == "from_supernet":
            assert supernet_of(job.identity).key in self._supernets, "submitted before its supernet was shared"
        return super().next_outcome(timeout_s)


class Died(BaseException):
    """As SIGKILL, it lets nothing be tidied up after it."""


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch) -> type[Watched]:
    monkeypatch.setattr("pipeline.growing.workers.InlinePool", Watched)
    monkeypatch.setattr("pipeline.growing.build_zoo.measure_rows", lambda *_: [])
    monkeypatch.setattr(Watched, "done", [])
    monkeypatch.setattr(Watched, "failing", set())
    monkeypatch.setattr(Watched, "dies_at", None)
    return Watched


def build(zoo, *datasets: str, **arguments):
    given = {"preset_name": "smoke", "workers": 0, "pair_mode": "from_supernet"} | arguments
    return build_zoo(f"{zoo}?", datasets, **given)  # a name that SQLite cannot spell: no MLflow


def rows_of(zoo) -> tuple[Row, ...]:
    return Zoo.open(f"{zoo}?").snapshot().rows


def events_of(zoo, kind: str) -> list[dict]:
    return [event.payload for event in Zoo.open(f"{zoo}?").journal.events() if event.kind == kind]


def supernets(jobs: list[Job | SupernetJob]) -> list[str]:
    return [job.name.removeprefix("the supernet of ") for job in jobs if isinstance(job, SupernetJob)]


def test_each_supernet_is_trained_once_before_its_pairs_and_a_later_build_takes_it(tmp_path):
    built = build(tmp_path / "zoo", FACES, TEXTURES, pairs=8)
    assert (built.pairs, built.supernets, built.pair_mode) == (8, 2, "from_supernet")
    assert sorted(supernets(Watched.done)) == ["ground-textures", "lfw-faces"]
    seen = set()
    for job in Watched.done:
        if isinstance(job, SupernetJob):
            seen.add(job.key)
        else:
            assert supernet_of(job.identity).key in seen
    again = build(tmp_path / "zoo", FACES, TEXTURES, pairs=12)
    assert (again.pairs, again.supernets) == (12, 0) and len(supernets(Watched.done)) == 2
    kept = Zoo.open(f"{tmp_path / 'zoo'}?").supernets.all()
    assert {supernet_of(row.identity).key for row in rows_of(tmp_path / "zoo")} == set(kept)


class Slow(Watched):
    """Two workers, of which supernets take one for so long that others' jobs are done first."""

    workers = 2
    alone: ClassVar[list[int]] = []  # pairs done, whenever a supernet was the only work and pairs could have been cut

    def free(self) -> int:
        return 4 - len(self._waiting)

    def idle(self) -> int:
        return max(0, 2 - len(self._waiting))

    def next_outcome(self, timeout_s: float) -> AnyOutcome | None:
        keys = [job.key for job in self._waiting if isinstance(job, SupernetJob)]
        assert len(keys) == len(set(keys)), "two workers train the same supernet"
        if len(self._waiting) == len(keys) == 1 and self._supernets:
            self.alone.append(sum(isinstance(job, Job) for job in self.done))
        self._waiting: deque[AnyJob] = deque(sorted(self._waiting, key=lambda job: isinstance(job, SupernetJob)))
        return super().next_outcome(timeout_s)


def test_while_a_supernet_is_at_work_the_others_datasets_pairs_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.growing.workers.InlinePool", Slow)
    monkeypatch.setattr(Slow, "alone", [])
    built = build(tmp_path / "zoo", FACES, TEXTURES, DIGITS, pairs=20)
    assert (built.pairs, built.supernets) == (20, 3)
    assert len({row.key for row in rows_of(tmp_path / "zoo")}) == 20
    assert all(done >= 18 for done in Slow.alone), "a worker idled beside a supernet"


def test_a_pair_that_waits_for_its_supernet_is_pending(tmp_path, monkeypatch):
    """The choice is told of it, and there are never more jobs than pairs asked for."""
    monkeypatch.setattr("pipeline.growing.workers.InlinePool", Slow)
    monkeypatch.setattr(Slow, "alone", [])
    pending = []
    real = RandomChooser.propose
    monkeypatch.setattr(
        RandomChooser, "propose", lambda self, *given: (pending.append(len(given[1])), real(self, *given))[1]
    )
    build(tmp_path / "zoo", FACES, TEXTURES, pairs=2, acquisition="random")
    assert pending == [0, 1] and [type(job) for job in Watched.done] == [SupernetJob, Job] * 2


def test_a_supernet_that_fails_three_times_leaves_its_dataset_out_and_the_others_go_on(tmp_path, capfd):
    Watched.failing.add("lfw-faces")
    built = build(tmp_path / "zoo", FACES, TEXTURES, pairs=4)
    assert (built.pairs, built.supernets, built.datasets_left, built.failures) == (4, 1, ("lfw-faces",), 0)
    assert supernets(Watched.done).count("lfw-faces") == 3
    assert {row.dataset_name for row in rows_of(tmp_path / "zoo")} == {"ground-textures"}
    failures = events_of(tmp_path / "zoo", "supernet failure")
    assert [(each["name"], each["attempt"], each["final"]) for each in failures] == [
        ("lfw-faces", 1, False),
        ("lfw-faces", 2, False),
        ("lfw-faces", 3, True),
    ]
    assert failures[-1]["worker"] == {"name": "made-up", "node": "here", "device": "cpu"}
    assert "lfw-faces is left out of this build: its supernet came to nothing; TrainingError: it never works" in (
        capfd.readouterr().err
    )
    Watched.failing.clear()  # its cause is gone: a later build tries it again, and what was chosen of it
    later = build(tmp_path / "zoo", FACES, TEXTURES, pairs=8)
    assert (later.pairs, later.supernets, later.datasets_left) == (8, 1, ())
    assert "lfw-faces" in {row.dataset_name for row in rows_of(tmp_path / "zoo")}


def test_when_no_dataset_gets_a_supernet_the_build_ends_with_the_cause(tmp_path):
    Watched.failing.update(("lfw-faces", "ground-textures"))
    with pytest.raises(PoolError, match="supernets of all 2 datasets came to nothing; most often TrainingError"):
        build(tmp_path / "zoo", FACES, TEXTURES, pairs=4)


@pytest.mark.parametrize("jobs", range(1, 5))
def test_e4_a_driver_killed_after_any_job_goes_on_as_the_unbroken_one(tmp_path, monkeypatch, jobs):
    monkeypatch.setattr("pipeline.growing.growth.COMMIT_S", 0.0)
    build(tmp_path / "whole", FACES, TEXTURES, pairs=11)
    whole = list(Watched.done)
    Watched.done.clear()
    monkeypatch.setattr(Watched, "dies_at", jobs)
    with pytest.raises(Died):
        build(tmp_path / "cut", FACES, TEXTURES, pairs=11)
    monkeypatch.setattr(Watched, "dies_at", None)
    build(tmp_path / "cut", FACES, TEXTURES, pairs=11)
    assert [job.key for job in Watched.done] == [job.key for job in whole]  # nothing twice, least of all a supernet
    assert [row.key for row in rows_of(tmp_path / "cut")] == [row.key for row in rows_of(tmp_path / "whole")]
    assert [row.choice.expected_gain for row in rows_of(tmp_path / "cut")] == [
        row.choice.expected_gain for row in rows_of(tmp_path / "whole")
    ]


def test_e4_killed_as_soon_as_a_supernet_is_committed_the_journal_knows_whose_it_is(tmp_path, monkeypatch):
    def commit(self, *given):
        real(self, *given)
        raise Died

    real = Zoo.commit_supernet
    monkeypatch.setattr("pipeline.growing.growth.COMMIT_S", 1000.0)
    monkeypatch.setattr(Zoo, "commit_supernet", commit)
    with pytest.raises(Died):
        build(tmp_path / "zoo", FACES, pairs=2)
    (kept,) = Zoo.open(f"{tmp_path / 'zoo'}?").supernets.all()
    assert [each["key"] for each in events_of(tmp_path / "zoo", "supernet")] == [kept]
    assert [each["mode"] for each in events_of(tmp_path / "zoo", "decision")] == ["from_supernet"]
    monkeypatch.setattr(Zoo, "commit_supernet", real)
    assert build(tmp_path / "zoo", FACES, pairs=2).supernets == 0


def test_two_pairs_that_wait_for_one_supernet_ask_for_it_once(tmp_path):
    build(tmp_path / "zoo", FACES, pairs=2)
    zoo, space = Zoo.open(f"{tmp_path / 'zoo'}?"), make_search_space("ofa-lite")
    first, second = (replace(row.identity, seed=5) for row in zoo.snapshot().rows)  # of a supernet that is not there
    events: list[str] = []
    pool = Watched({}, space, keep_going)
    theirs = Supernets(
        zoo, zoo.datasets(), space, pool, lambda event, **_: events.append(event), run="run", deadline_s=60.0
    )
    job = theirs.ask_for(first)
    assert job is not None and job.deadline_s > 60 and theirs.ask_for(second) is None
    theirs.take(SupernetOutcome(job=job, worker=WORKER, seconds=Seconds(), failure=Failure("TrainingError", "once")))
    assert theirs.ask_for(second) is None and theirs.is_training() is False
    again = theirs.to_try_again()
    assert again is not None and (again.key, again.attempt.number) == (job.key, 2)
    assert events == ["supernet", "supernet failure", "supernet"]


def test_e4_a_supernet_that_takes_its_driver_with_it_is_left_out_after_three_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.growing.growth.COMMIT_S", 0.0)
    monkeypatch.setattr(Watched, "dies_at", 0)

    class AndSlow(Watched):
        """Gives nothing when it is first asked, as a worker that trains for long: meanwhile the journal is written."""

        asked = False

        def next_outcome(self, timeout_s: float) -> AnyOutcome | None:
            if self._waiting and not isinstance(self._waiting[0], DescribeJob):
                self.asked = not self.asked
            return None if self.asked else super().next_outcome(timeout_s)

    monkeypatch.setattr("pipeline.growing.workers.InlinePool", AndSlow)
    for _ in range(3):
        with pytest.raises(Died):
            build(tmp_path / "zoo", FACES, pairs=3)
    with pytest.raises(PoolError, match="WorkerLost: was at work in 3 runs that ended before it did"):
        build(tmp_path / "zoo", FACES, pairs=3)
    assert [each["attempt"] for each in events_of(tmp_path / "zoo", "supernet")] == [1, 2, 3]
    monkeypatch.setattr(Watched, "dies_at", None)
    assert build(tmp_path / "zoo", FACES, pairs=3).pairs == 3


def test_a_lost_file_of_a_supernet_leaves_its_dataset_out(tmp_path, capfd):
    build(tmp_path / "zoo", FACES, pairs=2)
    (kept,) = Zoo.open(f"{tmp_path / 'zoo'}?").supernets.all().values()
    (tmp_path / "zoo?" / kept.weights.path).unlink()
    built = build(tmp_path / "zoo", FACES, TEXTURES, pairs=4)
    assert (built.datasets_left, built.pairs) == (("lfw-faces",), 4)
    assert "the supernet of lfw-faces, out of which its pairs are cut: its weights" in capfd.readouterr().err


def test_the_zoo_keeps_the_mode_that_it_was_begun_with_and_a_build_may_have_another(tmp_path):
    build(tmp_path / "zoo", FACES, pairs=1)
    assert build(tmp_path / "zoo", FACES, pairs=2, pair_mode=None).pair_mode == "from_supernet"
    assert build(tmp_path / "zoo", FACES, pairs=3, pair_mode="standalone").pair_mode == "standalone"
    assert build(tmp_path / "zoo", FACES, pairs=4, pair_mode=None).pair_mode == "from_supernet"
    modes = ["from_supernet", "from_supernet", "standalone", "from_supernet"]
    assert [row.identity.mode for row in rows_of(tmp_path / "zoo")] == modes
    assert [each["pair_mode"] for each in events_of(tmp_path / "zoo", "start")] == modes
    build(tmp_path / "other", FACES, pairs=1, pair_mode=None)
    assert rows_of(tmp_path / "other")[0].identity.mode == "standalone"
    with pytest.raises(ConfigError, match="no pair mode 'none': choose one of standalone, from_supernet"):
        build(tmp_path / "other", FACES, pairs=2, pair_mode="none")


def test_rows_say_who_trained_them(tmp_path):
    build(tmp_path / "zoo", FACES, pairs=1)
    assert rows_of(tmp_path / "zoo")[0].worker == WORKER
