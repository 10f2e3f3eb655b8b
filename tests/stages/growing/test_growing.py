"""What a build makes of the rows that are there: its own and other builds', validation and never test."""

from typing import ClassVar

import pytest
import torch
from made_up import MadeUpPool

from pipeline.growing.build_zoo import build_zoo
from pipeline.zoo import Zoo
from pipeline.zoo.upkeep.drop import drop_rows
from tans_core.jobs import Described, Failure, Job, Outcome
from tans_core.records import Row, Seconds, Worker
from tans_core.search_space import make_search_space

FACES, TEXTURES = "starter:lfw-faces", "starter:ground-textures"


@pytest.fixture(autouse=True)
def made_up_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.growing.workers.InlinePool", MadeUpPool)
    monkeypatch.setattr("pipeline.growing.build_zoo.measure_rows", lambda *_: [])


def build(zoo, *datasets: str, **arguments):
    return build_zoo(str(zoo), datasets, preset_name="smoke", workers=0, **arguments)


def rows_of(zoo) -> tuple[Row, ...]:
    return Zoo.open(str(zoo)).snapshot().rows


def test_predictions_follow_validation_and_not_test(tmp_path):
    # Networks are right in at least 85 % on validation and in at most 30 % on test.
    build(tmp_path / "zoo", FACES, pairs=10)
    last = rows_of(tmp_path / "zoo")[-1]
    assert last.choice.chosen_by == "hypervolume" and last.choice.predicted_mean is not None
    assert last.choice.predicted_mean > 0.7


def test_rows_of_an_earlier_run_count_with_their_validation_and_not_their_test(tmp_path):
    build(tmp_path / "zoo", FACES, pairs=9)
    build(tmp_path / "zoo", FACES, pairs=10)
    last = rows_of(tmp_path / "zoo")[-1]
    assert last.choice.chosen_by == "hypervolume" and last.choice.predicted_mean is not None
    assert last.choice.predicted_mean > 0.7


def test_a_build_of_another_dataset_goes_on_from_the_rows_that_are_there(tmp_path):
    build(tmp_path / "zoo", FACES, pairs=12)
    build(tmp_path / "zoo", TEXTURES, pairs=14)
    old, new = rows_of(tmp_path / "zoo")[:12], rows_of(tmp_path / "zoo")[12:]
    assert {row.dataset_name for row in old} == {"lfw-faces"}
    assert {row.dataset_name for row in new} == {"ground-textures"}
    assert {row.choice.chosen_by for row in new} == {"hypervolume"}  # not one of them is drawn at random
    assert all("fitted on 8 rows" in row.choice.reason for row in new)  # the old ones


def test_a_dropped_pair_is_not_taken_for_one_that_was_at_work_when_its_run_was_killed(tmp_path):
    build(tmp_path / "zoo", FACES, pairs=9)
    drop_rows(str(tmp_path / "zoo"), rows=[rows_of(tmp_path / "zoo")[3].key])
    build(tmp_path / "zoo", FACES, pairs=9)
    last = rows_of(tmp_path / "zoo")[-1]
    assert (last.choice.decision, last.attempt.number) == (9, 1)
    assert last.choice.chosen_by == "hypervolume"


def test_no_pair_of_a_dataset_that_was_not_asked_for_is_trained(tmp_path):
    build(tmp_path / "zoo", FACES, TEXTURES, pairs=9)
    build(tmp_path / "zoo", TEXTURES, pairs=15)
    assert {row.dataset_name for row in rows_of(tmp_path / "zoo")[9:]} == {"ground-textures"}


def test_e4_a_build_beside_old_rows_that_was_cut_chooses_as_the_unbroken_one(tmp_path):
    for zoo, steps in (("whole", (14,)), ("cut", (11, 14))):
        build(tmp_path / zoo, FACES, pairs=9)
        for pairs in steps:
            build(tmp_path / zoo, TEXTURES, pairs=pairs)
    whole, cut = rows_of(tmp_path / "whole"), rows_of(tmp_path / "cut")
    assert [row.key for row in whole] == [row.key for row in cut]
    assert [row.choice.expected_gain for row in whole] == [row.choice.expected_gain for row in cut]


def test_hypervolume_is_of_all_datasets_of_the_zoo_whichever_a_run_grows(tmp_path, monkeypatch):
    curve = []

    class Curve:
        """A tracker that keeps the curve in memory."""

        def log(self, metrics, step):
            curve.append(metrics["hypervolume"])

        def finish(self, status):
            pass

    monkeypatch.setattr("pipeline.growing.build_zoo.make_tracker", lambda *_: Curve())
    alone = build(tmp_path / "zoo", FACES, pairs=9).hypervolume_mean
    assert alone > 0.5 and curve[-1] == alone
    looked_at = build(tmp_path / "zoo", TEXTURES, pairs=10, hours=0.0)  # a dataset more, not a row on it
    assert looked_at.hypervolume_mean == pytest.approx(alone / 2)
    both = build(tmp_path / "zoo", TEXTURES, pairs=12)
    assert both.hypervolume_mean > 0.75 * alone and curve[-1] == both.hypervolume_mean
    for datasets in ([FACES], [TEXTURES], [FACES, TEXTURES]):
        nothing_to_do = build(tmp_path / "zoo", *datasets, pairs=12)
        assert nothing_to_do.hypervolume_mean == pytest.approx(both.hypervolume_mean)
        assert nothing_to_do.hypervolume_mean_test == pytest.approx(both.hypervolume_mean_test)


def test_hypervolume_on_test_is_of_the_networks_that_validation_chose(tmp_path):
    # On test all networks are near chance, on validation far above.
    built = build(tmp_path / "zoo", TEXTURES, pairs=12)
    assert built.hypervolume_mean_test < 0.4 < built.hypervolume_mean


class SecondFails(MadeUpPool):
    """What was decided second never works."""

    tried: ClassVar[list[int]] = []  # decisions

    def next_outcome(self, timeout_s: float) -> Outcome | Described | None:
        job = self._waiting[0] if self._waiting else None
        if not isinstance(job, Job):
            return super().next_outcome(timeout_s)
        self.tried.append(job.choice.decision)
        if job.choice.decision != 1:
            return super().next_outcome(timeout_s)
        self._waiting.popleft()
        failure = Failure("TrainingError", "it never works")
        return Outcome(job=job, worker=Worker("made-up", "here", "cpu"), seconds=Seconds(), failure=failure)


def test_a_pair_that_failed_for_good_is_left_after_a_restart_and_its_number_too(tmp_path, monkeypatch):
    # A search space of two networks, then of three.
    search_space = make_search_space("ofa-lite")
    three = search_space.sample(3, torch.Generator().manual_seed(1))
    members = three[:2]
    monkeypatch.setattr(
        search_space, "sample", lambda count, random: members[torch.randint(len(members), (count,), generator=random)]
    )
    monkeypatch.setattr("pipeline.growing.plan.make_search_space", lambda *_: search_space)
    monkeypatch.setattr(
        "pipeline.zoo.upkeep.verify.make_search_space", lambda *_: search_space
    )  # once the zoo is there
    monkeypatch.setattr("pipeline.growing.workers.InlinePool", SecondFails)
    first = build(tmp_path / "zoo", FACES, pairs=3)
    assert (first.pairs, first.failures, first.exhausted) == (1, 1, True)
    again = build(tmp_path / "zoo", FACES, pairs=3)
    assert (again.pairs, again.failures, again.exhausted) == (1, 0, True)
    members = three
    assert build(tmp_path / "zoo", FACES, pairs=2).pairs == 2
    assert SecondFails.tried == [0, 1, 1, 1, 2]
