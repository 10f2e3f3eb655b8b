"""The table of recipes, worked by hand from a few made-up runs; and the loop they are trained by."""

import pytest
import torch

from benchmarks.recipe import CANDIDATES, DATASETS, STARTS, complete, summary, tasks
from benchmarks.recipe_loop import BASE, train
from tans_core.training.loop import fit
from tans_core.training.recipe import Recipe
from tests.core.training.toy import SPACE, ToyNetwork, pictures


def runs() -> list[dict]:
    """Two starts, three datasets of 100 pictures; the candidate's rate that is worse in validation is best on test."""
    right = {  # of the base and of a candidate that gains 10, 20 and 30 points on average, 5 more from a row
        "a": (50, 60),
        "b": (40, 60),
        "c": (60, 90),
    }
    found = []
    for dataset, (base, candidate) in right.items():
        for start, more in (("smallest", -5), ("row", 5)):
            of_all = {"dataset": dataset, "start": start, "seed": 0, "val_total": 20, "test_total": 100}
            found += [
                {**of_all, "candidate": BASE.name, "rate": 0.03, "val_correct": 9, "test_correct": base, "cpu_s": 4.0},
                {
                    **of_all,
                    "candidate": "other",
                    "rate": 0.01,
                    "val_correct": 12,
                    "test_correct": candidate + more,
                    "cpu_s": 6.0,
                },
                {**of_all, "candidate": "other", "rate": 0.1, "val_correct": 11, "test_correct": 99, "cpu_s": 60.0},
            ]
    return found


def test_a_candidate_is_judged_by_its_rate_of_validation_against_the_base_dataset_by_dataset():
    found = summary(runs())
    other = found["candidates"]["other"]
    assert other["all"]["accuracy"] == pytest.approx(70)
    assert other["all"]["over_base_points"] == pytest.approx(20)
    # 10, 20 and 30: a standard deviation of 10, and Student's t of two degrees of freedom is 4.303.
    assert other["all"]["over_base_interval"] == pytest.approx((20 - 4.303 * 10 / 3**0.5, 20 + 4.303 * 10 / 3**0.5))
    assert other["all"]["cost"] == pytest.approx(1.5)
    assert (other["smallest"]["over_base_points"], other["row"]["over_base_points"]) == pytest.approx((15, 25))
    assert found["by_dataset"]["other"]["b"] == {"row": 65, "smallest": 55}
    assert found["candidates"][BASE.name]["all"]["over_base_interval"] == (0, 0)


def test_every_candidate_runs_on_every_dataset_and_start_and_the_base_comes_first():
    wanted = tasks(CANDIDATES)
    assert len(wanted) == len(set(wanted)) and CANDIDATES[0] == BASE
    assert len({candidate.name for candidate in CANDIDATES}) == len(CANDIDATES)
    for candidate in CANDIDATES:
        of_it = [(task.dataset, task.start) for task in wanted if task.candidate == candidate.name]
        assert set(of_it) == {(dataset, start) for dataset in DATASETS for start in STARTS}


def test_a_candidate_counts_when_all_its_runs_are_there():
    of_base, of_second = tasks(CANDIDATES[:1]), tasks(CANDIDATES[1:2])
    done = {task: {"candidate": task.candidate} for task in (*of_base, *of_second[1:])}
    assert complete(done) == [{"candidate": BASE.name}] * len(of_base)
    done[of_second[0]] = {"candidate": "second"}
    assert len(complete(done)) == len(of_base) + len(of_second)


def test_the_base_is_the_loop_that_pairs_are_trained_by_to_the_last_bit():
    data, ours, theirs = pictures(), ToyNetwork(1.0), ToyNetwork(1.0)
    train(ours, data, SPACE, BASE, 0.03, key="key", mirror=True)
    recipe = Recipe(epochs=BASE.epochs, peak_lr=0.03, mirror=True)
    fit(theirs, data, SPACE, recipe, key="key", evaluate_on=data.test, evaluate_at=())
    before = ToyNetwork(1.0).state_dict()
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name]), name
    assert not torch.equal(before["body"], theirs.state_dict()["body"])
