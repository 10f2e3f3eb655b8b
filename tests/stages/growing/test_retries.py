"""Pairs that fail: how often they are tried, across runs too, and that what was left stays left."""

import pytest
import torch

import pipeline.pools
from pipeline.growing.build_zoo import BuildSummary, build_zoo
from pipeline.zoo import Zoo
from tans_core.errors import TrainingError
from tans_core.search_space import make_search_space

SPEC = "starter:lfw-faces"


class Died(BaseException):
    """As SIGKILL, it lets nothing be tidied up after it."""


class Slow(pipeline.pools.InlinePool):
    """Gives nothing when it is first asked, as a worker that trains for long: meanwhile the journal is written."""

    asked = False

    def next_outcome(self, timeout_s):
        self.asked = not self.asked
        return None if self.asked else super().next_outcome(timeout_s)


def build(zoo, pairs: int) -> BuildSummary:
    return build_zoo(str(zoo), [SPEC], pairs=pairs, preset_name="smoke", workers=0)


def failures(zoo) -> list[dict]:
    return [event.payload for event in Zoo.open(str(zoo)).journal.events() if event.kind == "failure"]


@pytest.fixture
def search_space(monkeypatch: pytest.MonkeyPatch):
    """Four networks and no more, so that what may be proposed again would be."""
    search_space = make_search_space("ofa-lite")
    four = search_space.sample(4, torch.Generator().manual_seed(1))
    monkeypatch.setattr(
        search_space, "sample", lambda count, random: four[torch.randint(4, (count,), generator=random)]
    )
    monkeypatch.setattr(search_space, "mutate", lambda parents, random: search_space.sample(len(parents), random))
    monkeypatch.setattr("pipeline.growing.plan.make_search_space", lambda *_: search_space)
    monkeypatch.setattr(
        "pipeline.zoo.upkeep.verify.make_search_space", lambda *_: search_space
    )  # once the zoo is there
    return search_space


def test_a_pair_is_tried_three_times_and_never_again_by_a_later_run(tmp_path, monkeypatch, search_space):
    real, tried, poisoned = pipeline.pools.train_pair, [], []

    def train(identity, *arguments, **rest):
        poisoned.append(identity.key) if not poisoned else None
        tried.append(identity.key)
        if identity.key == poisoned[0]:
            raise TrainingError("poisoned")
        return real(identity, *arguments, **rest)

    monkeypatch.setattr(pipeline.pools, "train_pair", train)
    first = build(tmp_path / "zoo", 80)
    assert (first.pairs, first.failures, first.exhausted) == (3, 1, True)
    assert tried.count(poisoned[0]) == 3 and len(tried) == 6
    assert [(each["attempt"], each["final"]) for each in failures(tmp_path / "zoo")] == [
        (1, False),
        (2, False),
        (3, True),
    ]
    again = build(tmp_path / "zoo", 80)
    assert (again.pairs, again.failures, again.exhausted) == (3, 0, True)
    assert len(tried) == 6


def killed_at_work(zoo, monkeypatch: pytest.MonkeyPatch) -> str:
    """A build whose first pair ends it, as a SIGKILL would: nobody is left to write a failure down. The pair's key."""

    def die(identity, *_arguments, **_rest):
        tried.append(identity.key)
        raise Died

    tried: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.growing.workers.InlinePool", Slow)
        patch.setattr("pipeline.growing.growth.COMMIT_S", 0.0)
        patch.setattr(pipeline.pools, "train_pair", die)
        with pytest.raises(Died):
            build(zoo, 80)
    (key,) = tried
    return key


def test_what_was_at_work_when_its_run_was_killed_comes_first_in_the_next_as_a_second_attempt(
    tmp_path, monkeypatch, search_space
):
    key = killed_at_work(tmp_path / "zoo", monkeypatch)
    build(tmp_path / "zoo", 2)
    rows = Zoo.open(str(tmp_path / "zoo")).snapshot().rows
    assert [(row.key == key, row.attempt.number, row.choice.decision) for row in rows] == [(True, 2, 0), (False, 1, 1)]


def test_a_pair_that_was_at_work_in_three_runs_that_were_killed_is_left(tmp_path, monkeypatch, search_space):
    keys = [killed_at_work(tmp_path / "zoo", monkeypatch) for _ in range(3)]
    assert len(set(keys)) == 1
    built = build(tmp_path / "zoo", 80)
    assert (built.pairs, built.failures, built.exhausted) == (3, 1, True)
    assert keys[0] not in Zoo.open(str(tmp_path / "zoo")).snapshot().row_by_key
    (left,) = failures(tmp_path / "zoo")
    assert left["final"] and left["key"] == keys[0] and "at work in 3 runs" in left["message"]


def test_failing_pairs_end_a_build_only_in_a_row(tmp_path, monkeypatch):
    """Six of twelve pairs fail, every other one: the build goes on to its end."""
    real, seen = pipeline.pools.train_pair, {}

    def train(identity, *arguments, **rest):
        if seen.setdefault(identity.key, len(seen)) % 2:
            raise TrainingError("every other one")
        return real(identity, *arguments, **rest)

    monkeypatch.setattr(pipeline.pools, "train_pair", train)
    built = build(tmp_path / "zoo", 7)
    assert (built.pairs, built.failures) == (7, 6)
