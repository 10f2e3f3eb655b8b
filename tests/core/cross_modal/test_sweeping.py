"""What a sweep tries, and which of it goes on: the latter against Ray Tune's own scheduler."""

import random
from collections import Counter
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest

from tans_core.cross_modal.meta_training import SpaceConfig
from tans_core.cross_modal.sweeping import RANGES, Between, Halving, OneOf, drawn, first_rung

BASE = SpaceConfig(steps=81, evaluate_every=3, peak_lr=0.005)


def test_trial_0_is_as_it_was_given_and_the_others_are_drawn_by_their_number_alone():
    assert drawn(BASE, frozenset(), 0, 0) == BASE
    drawn_ones = [drawn(BASE, frozenset(), 0, number) for number in range(1, 40)]
    assert drawn_ones[6] == drawn(BASE, frozenset(), 0, 7) != drawn(BASE, frozenset(), 1, 7)
    assert len(set(map(str, drawn_ones))) == 39
    for name in asdict(BASE):
        values = {getattr(each, name) for each in drawn_ones}
        assert (len(values) > 1) == (name in RANGES), name
    assert Counter(each.loss for each in drawn_ones).keys() == {"infonce", "hinges"}


def test_what_is_kept_stays_and_changes_nothing_of_the_others():
    free, held = drawn(BASE, frozenset(), 0, 3), drawn(BASE, frozenset({"peak_lr", "dim"}), 0, 3)
    assert (held.peak_lr, held.dim) == (BASE.peak_lr, BASE.dim)
    assert replace(held, peak_lr=free.peak_lr, dim=free.dim) == free


def test_shares_become_values_by_hand():
    assert [Between(0.001, 1.0).at(share) for share in (0, 1 / 3, 1)] == pytest.approx([0.001, 0.01, 1.0])
    assert Between(0.0, 0.5, by_decades=False).at(0.5) == 0.25
    assert [OneOf((8, 16, 32)).at(share) for share in (0, 0.34, 0.99, 1)] == [8, 16, 32, 32]


def test_trials_are_first_compared_after_a_ninth_of_their_steps_or_the_first_evaluation():
    assert first_rung(BASE) == 9
    assert first_rung(replace(BASE, evaluate_every=20)) == 20
    assert first_rung(replace(BASE, steps=5, evaluate_every=20)) == 5


def test_one_of_three_goes_on_by_hand():
    halving = Halving(steps=81, first=9)
    assert halving.goes_on(0, 9, 0.5)  # nobody was there before
    assert not halving.goes_on(1, 9, 0.6)
    assert halving.goes_on(2, 9, 0.4)
    assert not halving.goes_on(3, 9, 0.47)  # a third of the way from 0.4 to 0.6 is 0.4667 (0.4, 0.5, 0.6)
    assert halving.goes_on(4, 9, 0.46)
    assert halving.goes_on(4, 12, 9.9)  # between rungs nobody asks
    assert halving.goes_on(4, 27, 9.9)


@pytest.mark.parametrize("seed", range(5))
def test_it_decides_as_ray_tunes_scheduler(seed):
    from ray.tune.schedulers import ASHAScheduler, TrialScheduler

    chance, steps, first = random.Random(seed), 90, 5
    asha = ASHAScheduler(
        time_attr="step", metric="score", mode="min", max_t=steps, grace_period=first, reduction_factor=3
    )
    halving, stopped = Halving(steps, first), 0
    trials = [SimpleNamespace(trial_id=str(number)) for number in range(30)]
    for trial in trials:
        asha.on_trial_add(None, trial)  # type: ignore[arg-type]
    under_way = {number: 0 for number in range(30)}
    while under_way:
        number = chance.choice(list(under_way))
        under_way[number] += 5
        step, score = under_way[number], chance.random()
        goes_on = halving.goes_on(number, step, score)
        theirs = asha.on_trial_result(None, trials[number], {"step": step, "score": score})  # type: ignore[arg-type]
        assert goes_on == (theirs == TrialScheduler.CONTINUE), (number, step)
        stopped += not goes_on
        if not goes_on or step + 5 >= steps:
            del under_way[number]
    assert stopped > 10
