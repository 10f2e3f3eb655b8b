"""When the surrogate's hyperparameters change: by the count of rows alone, beside the decisions, failures survived."""

import threading

import pytest

from tans_core.acquisition.refits import Refits
from tans_core.acquisition.surrogate import FitFailed, Hyperparameters

PRIOR = Hyperparameters(0, 0.5, (1.0,), (1.0,), (0.1,) * 5)


def fitted(rows: int) -> Hyperparameters:
    return Hyperparameters(rows, 0.5, (1.0,), (1.0,), (0.1,) * 5)


def fails_on(*counts: int):
    def fit(rows: int) -> Hyperparameters:
        if rows in counts:
            raise FitFailed("NotPSDError: matrix not positive definite")
        return fitted(rows)

    return fit


def test_a_fit_on_r_rows_holds_from_r_plus_4():
    refits = Refits(fitted, PRIOR)
    in_force = [refits.at(rows).hyperparameters.rows for rows in range(38)]
    refits.close()
    assert in_force == [0] * 12 + [8] * 4 + [12] * 4 + [16] * 8 + [24] * 8 + [32] * 2
    assert len(refits.seconds) == 5


def test_a_decision_does_not_wait_for_a_fit_that_is_not_due():
    done = threading.Event()

    def slow(rows: int) -> Hyperparameters:
        assert done.wait(60)
        return fitted(rows)

    refits = Refits(slow, PRIOR)
    assert [refits.at(rows).hyperparameters for rows in range(7, 12)] == [PRIOR] * 5
    done.set()
    assert refits.at(12).hyperparameters == fitted(8)
    refits.close()


def test_a_resumed_build_fits_only_what_is_due():
    counts: list[int] = []

    def counting(rows: int) -> Hyperparameters:
        counts.append(rows)
        return fitted(rows)

    refits = Refits(counting, PRIOR)
    assert refits.at(100).hyperparameters == fitted(96)
    refits.close()
    assert counts == [96]


@pytest.mark.parametrize("first", [12, 20], ids=["unbroken", "resumed"])
def test_e25_after_a_failed_fit_the_last_one_holds_and_says_so(first: int):
    refits = Refits(fails_on(16), PRIOR)
    for rows in range(first, 20):
        refits.at(rows)
    in_force = refits.at(20)
    refits.close()
    assert in_force.hyperparameters == fitted(12)
    assert "fit on 16 rows failed (NotPSDError: matrix not positive definite)" in in_force.note
    assert "fitted on 12 rows" in in_force.note


def test_e25_where_no_fit_succeeds_the_priors_hold_and_say_so():
    refits = Refits(fails_on(8, 12), PRIOR)
    in_force = refits.at(16)
    refits.close()
    assert in_force.hyperparameters == PRIOR
    assert "fit on 12 rows failed" in in_force.note
    assert "priors" in in_force.note


def test_no_thread_outlives_close():
    refits = Refits(fitted, PRIOR)
    refits.at(12)
    refits.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("surrogate-fit")]
