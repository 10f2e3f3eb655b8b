"""When the surrogate's hyperparameters change: by the count of rows alone, beside the decisions, failures survived."""

import threading

import pytest
import torch

from tans_core.acquisition.inputs import Labels
from tans_core.acquisition.refits import Refits
from tans_core.acquisition.surrogates.constant import Constant
from tans_core.acquisition.surrogates.fit import FitFailed
from tans_core.acquisition.surrogates.kernel import Hyperparameters


def given(fitted_on: int, rows: int) -> Constant:
    labels = Labels(*torch.full((2, rows), 0.5, dtype=torch.float64))
    return Constant(Hyperparameters(fitted_on, 0.5, (1.0,), (1.0,), (0.1,) * 5), labels)


def fitted(rows: int) -> Constant:
    return given(rows, rows)


PRIOR = fitted(0)


def made(fit) -> Refits:
    return Refits(fit, PRIOR, lambda surrogate: surrogate)


def fitted_on(refits: Refits, rows: int) -> int:
    return refits.at(rows).surrogate.hyperparameters.rows


def fails_on(*counts: int):
    def fit(rows: int) -> Constant:
        if rows in counts:
            raise FitFailed("NotPSDError: matrix not positive definite")
        return fitted(rows)

    return fit


def test_a_fit_on_r_rows_holds_from_r_plus_4():
    refits = made(fitted)
    in_force = [fitted_on(refits, rows) for rows in range(38)]
    refits.close()
    assert in_force == [0] * 12 + [8] * 4 + [12] * 4 + [16] * 8 + [24] * 8 + [32] * 2
    assert len(refits.seconds) == 5


def test_later_fits_have_longer_to_be_ready():
    refits = made(fitted)
    in_force = [fitted_on(refits, rows) for rows in (71, 72, 107, 108, 143, 144)]
    refits.close()
    assert in_force == [48, 64, 64, 96, 96, 128]


def test_a_fit_that_is_not_due_takes_up_rows_with_the_others():
    # Else a decision would wait for all of them at once when it is.
    there, taken = 0, []

    def take_up(surrogate):
        taken.append(there - len(surrogate))
        return given(surrogate.hyperparameters.rows, there)

    done = {64: threading.Event()}

    def fit(rows: int) -> Constant:
        try:
            return fitted(rows)
        finally:
            done.get(rows, threading.Event()).set()

    refits = Refits(fit, PRIOR, take_up)
    for there in range(64, 73):
        in_force = refits.at(there).surrogate
        assert done[64].wait(60) and len(in_force) == there
    refits.close()
    assert in_force.hyperparameters.rows == 64
    assert max(taken[2:]) <= 2  # of 48 and of 64 rows, side by side


def test_a_decision_does_not_wait_for_a_fit_that_is_not_due():
    done = threading.Event()

    def slow(rows: int) -> Constant:
        assert done.wait(60)
        return fitted(rows)

    refits = made(slow)
    assert [fitted_on(refits, rows) for rows in range(7, 12)] == [0] * 5
    done.set()
    assert fitted_on(refits, 12) == 8
    refits.close()


def test_a_resumed_build_fits_only_what_is_due():
    counts: list[int] = []

    def counting(rows: int) -> Constant:
        counts.append(rows)
        return fitted(rows)

    refits = made(counting)
    assert fitted_on(refits, 110) == 96
    refits.close()
    assert counts == [96]


@pytest.mark.parametrize("first", [12, 20], ids=["unbroken", "resumed"])
def test_e25_after_a_failed_fit_the_last_one_holds_and_says_so(first: int):
    refits = made(fails_on(16))
    for rows in range(first, 20):
        refits.at(rows)
    in_force = refits.at(20)
    refits.close()
    assert in_force.surrogate.hyperparameters.rows == 12
    assert "fit on 16 rows failed (NotPSDError: matrix not positive definite)" in in_force.note
    assert "fitted on 12 rows" in in_force.note


def test_e25_where_no_fit_succeeds_the_priors_hold_and_say_so():
    refits = made(fails_on(8, 12))
    in_force = refits.at(16)
    refits.close()
    assert in_force.surrogate is PRIOR
    assert "fit on 12 rows failed" in in_force.note
    assert "priors" in in_force.note


def test_no_thread_outlives_close():
    refits = made(fitted)
    refits.at(12)
    refits.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("surrogate-fit")]
