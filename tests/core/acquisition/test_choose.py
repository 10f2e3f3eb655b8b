"""The promise of a chooser over both keepers, and what the hypervolume chooser says and reaches."""

import random
from collections import Counter

import pytest
import torch
from acquisition_worlds import CostedSpace, dataset_record, row, trained

from tans_core.acquisition import choose
from tans_core.acquisition.choose import CHOOSERS, Chooser, HypervolumeChooser, make_chooser
from tans_core.acquisition.hypervolume import CostScale, hypervolume_mean
from tans_core.errors import ConfigError
from tans_core.records import Candidate, Choice, Observation

LARGE, SIXTEEN = CostedSpace(8), CostedSpace(1)
DATASETS = [dataset_record(index) for index in range(10)]


def run(chooser: Chooser, space: CostedSpace, decisions: range, pending: list[Candidate]) -> list[Choice]:
    """Two workers: each decision is made while one pair is in training; the eldest comes back after it."""
    choices = []
    for decision in decisions:
        choice = chooser.propose(decision, pending)
        assert choice is not None
        choices.append(choice)
        pending.append(choice.candidate)
        if len(pending) > 1:
            chooser.observe(trained(pending.pop(0), space))
    return choices


@pytest.mark.parametrize("name", CHOOSERS)
@pytest.mark.parametrize("seed", range(3))
def test_e5_e6_no_pair_is_proposed_twice_until_all_are_used_up(name: str, seed: int):
    # Eight workers, three datasets, sixteen networks; outcomes in any order, some pairs fail for good.
    chooser = make_chooser(name, DATASETS[:3], SIXTEEN, 64, seed)
    world = random.Random(seed)
    pending: list[Candidate] = []
    seen: set[Candidate] = set()
    for decision in range(49):
        choice = chooser.propose(decision, pending)
        if choice is None:
            break
        assert choice.candidate not in seen
        assert SIXTEEN.architecture(choice.candidate.topology).topology == choice.candidate.topology
        seen.add(choice.candidate)
        pending.append(choice.candidate)
        while len(pending) > world.randint(0, 7):
            ended = pending.pop(world.randrange(len(pending)))
            if world.random() < 0.1:
                chooser.exclude(ended)
            else:
                chooser.observe(trained(ended, SIXTEEN))
    assert len(seen) == 48
    assert chooser.propose(49, pending) is None
    chooser.close()


@pytest.mark.parametrize("name", CHOOSERS)
def test_e27_the_same_observations_in_the_same_order_give_the_same_choices(name: str):
    choosers = [make_chooser(name, DATASETS, LARGE, 64, seed) for seed in (1, 1, 2)]
    first, second, other_seed = (run(chooser, LARGE, range(16), []) for chooser in choosers)
    for chooser in choosers:
        chooser.close()
    assert first == second
    assert first != other_seed


@pytest.mark.parametrize("name", CHOOSERS)
@pytest.mark.parametrize("cut", [6, 13, 26])
def test_a_resumed_build_chooses_as_the_unbroken_one(name: str, cut: int):
    unbroken, resumed = (make_chooser(name, DATASETS, LARGE, 64, seed=0) for _ in range(2))
    choices = run(unbroken, LARGE, range(cut + 6), [])
    for choice in choices[: cut - 1]:
        resumed.observe(trained(choice.candidate, LARGE))
    again = run(resumed, LARGE, range(cut, cut + 6), [choices[cut - 1].candidate])
    unbroken.close()
    resumed.close()
    assert again == choices[cut:]


def test_rows_beyond_the_window_leave_it_in_steps_wherever_a_build_was_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(choose, "MAX_ROWS", 20)
    monkeypatch.setattr(choose, "WINDOW_STEP", 5)
    unbroken, resumed = (HypervolumeChooser(DATASETS, LARGE, 64, seed=0) for _ in range(2))
    choices = run(unbroken, LARGE, range(38), [])
    for choice in choices[:32]:
        resumed.observe(trained(choice.candidate, LARGE))
    again = run(resumed, LARGE, range(33, 38), [choices[32].candidate])
    for chooser in (unbroken, resumed):
        assert chooser._kept is not None
        assert [len(chooser._kept.X_NF), chooser._kept_first] == [16, 20]
        chooser.close()
    assert again == choices[33:]


@pytest.mark.parametrize("name", CHOOSERS)
def test_rows_of_other_builds_change_nothing(name: str):
    choosers = [make_chooser(name, DATASETS[:4], LARGE, 64, seed=0) for _ in range(2)]
    stranger = Candidate(DATASETS[8].fingerprint, tuple(LARGE.sample(1, torch.Generator())[0].tolist()))
    choosers[0].observe(Observation(stranger, 60, 60))
    choosers[0].exclude(stranger)
    with_them, without = (run(chooser, LARGE, range(12), []) for chooser in choosers)
    for chooser in choosers:
        chooser.close()
    assert with_them == without


def test_an_unknown_chooser_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"'best'.*hypervolume, random"):
        make_chooser("best", DATASETS, LARGE, 64, 0)


def test_counts_that_are_no_accuracy_are_refused():
    chooser = HypervolumeChooser(DATASETS, LARGE, 64, 0)
    candidate = Candidate(DATASETS[0].fingerprint, tuple(LARGE.sample(1, torch.Generator())[0].tolist()))
    for correct, total in ((3, 0), (61, 60), (-1, 60)):
        with pytest.raises(ConfigError, match="no accuracy"):
            chooser.observe(Observation(candidate, correct, total))
    chooser.close()


def test_random_goes_over_all_datasets_alike():
    chooser = make_chooser("random", DATASETS, LARGE, 64, 0)
    chosen = Counter(choice.candidate.fingerprint for choice in run(chooser, LARGE, range(300), []))
    assert len(chosen) == 10
    assert max(chosen.values()) < 2 * min(chosen.values())


def test_the_start_is_random_short_and_goes_round_the_datasets():
    chooser = HypervolumeChooser(DATASETS, LARGE, 64, 0)
    choices = run(chooser, LARGE, range(12), [])
    chooser.close()
    start = choices[: chooser.random_start]
    assert len({choice.candidate.fingerprint for choice in start}) == len(start) == 8
    assert {choice.chosen_by for choice in start} == {"random"}
    assert all("random start" in choice.reason for choice in start)
    assert {choice.chosen_by for choice in choices[8:]} == {"hypervolume"}


def test_without_rows_a_late_decision_is_random_and_says_why():
    chooser = HypervolumeChooser(DATASETS, LARGE, 64, 0)
    choice = chooser.propose(30, [])
    chooser.close()
    assert choice is not None
    assert choice.chosen_by == "random"
    assert "0 rows" in choice.reason


def test_a_choice_says_what_it_expects_and_why():
    chooser = HypervolumeChooser(DATASETS, LARGE, 64, 0)
    choice = run(chooser, LARGE, range(20), [])[-1]
    chooser.close()
    assert choice.predicted_mean is not None and 0.3 < choice.predicted_mean < 1
    assert choice.predicted_std is not None and 0 < choice.predicted_std < 0.3
    assert choice.expected_gain is not None and choice.expected_gain > 0
    assert 2_500 < choice.candidates_scored <= 3_000
    fingerprints, gains = zip(*choice.runners_up)
    assert len({choice.candidate.fingerprint, *fingerprints}) == 4
    assert choice.expected_gain >= gains[0] >= gains[1] >= gains[2]
    name = DATASETS[int(choice.candidate.fingerprint, 16)].name
    assert name in choice.reason and "fitted on 12 rows" in choice.reason


def test_a_pending_pair_takes_the_gain_of_its_likes():
    # Alone, the best pair is chosen again and again; pending, it makes the next decision look elsewhere.
    chooser = HypervolumeChooser(DATASETS[:2], LARGE, 64, 0)
    run(chooser, LARGE, range(10), [])
    alone = chooser.propose(10, [])
    assert alone is not None and alone.expected_gain is not None
    beside = chooser.propose(10, [alone.candidate])
    chooser.close()
    assert beside is not None and beside.expected_gain is not None
    assert beside.expected_gain < 0.9 * alone.expected_gain


def test_chosen_pairs_make_more_hypervolume_than_random_ones():
    volumes = {}
    for name in CHOOSERS:
        chooser = make_chooser(name, DATASETS, LARGE, 64, seed=0)
        observed = [trained(choice.candidate, LARGE) for choice in run(chooser, LARGE, range(40), [])]
        chooser.close()
        rows = [
            row(DATASETS[int(o.candidate.fingerprint, 16)], o.candidate.topology, (o.correct, o.total), (1, 1))
            for o in observed
        ]
        volumes[name] = hypervolume_mean(DATASETS, rows, CostScale(LARGE, 64))
    assert volumes["hypervolume"] > 1.2 * volumes["random"]


def test_e25_a_surrogate_that_gives_nothing_makes_a_random_choice_that_says_so():
    chooser = HypervolumeChooser(DATASETS, LARGE, 64, 0)
    choices = run(chooser, LARGE, range(12), [])
    chooser._rows.labels.accuracy_N.fill_(float("nan"))
    chooser._rows.X_NF[:, 1:] = float("nan")  # no matrix of these can be factored
    chooser._kept = None
    choice = chooser.propose(12, [])
    chooser.close()
    assert choice is not None and choice.candidate not in {each.candidate for each in choices}
    assert choice.chosen_by == "random" and "gives nothing" in choice.reason
