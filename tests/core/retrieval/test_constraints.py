import pytest

from tans_core.errors import ConfigError
from tans_core.retrieval.constraints import Limits, RowCosts, explain_none, within

KEYS = ["aa", "bb", "cc"]
COSTS = RowCosts.of([1000, 2000, 3000], [30, 20, 10], [None, 2.5, 1.2], [8_000_000, 9_500_000, 12_000_000])


def _explained(**limits: float) -> str:
    return str(explain_none(Limits(**limits), COSTS, KEYS, "runs/zoo", "a processor"))


def test_limits_are_met_up_to_and_with_their_value():
    assert within(Limits(), COSTS).tolist() == [True, True, True]
    assert within(Limits(max_params=2000), COSTS).tolist() == [True, True, False]
    assert within(Limits(max_params=2000, max_flops=20), COSTS).tolist() == [False, True, False]


def test_a_row_that_was_never_timed_meets_no_limit_on_latency():
    assert within(Limits(max_latency_ms=100), COSTS).tolist() == [False, True, True]


def test_memory_is_in_millions_of_bytes():
    assert within(Limits(max_memory_mb=9.5), COSTS).tolist() == [True, True, False]
    assert "the nearest is aa with memory_mb 8: ask for `--max-memory-mb 8`" in _explained(max_memory_mb=7)


def test_none_feasible_names_the_nearest_and_what_to_raise():
    assert _explained(max_params=900) == (
        "none of 3 rows in runs/zoo has params <= 900; the nearest is aa with params 1,000: ask for `--max-params 1000`"
    )
    # aa oversteps flops by half, bb params by a third, cc params by 2.
    assert "the nearest is bb with params 2,000 and flops 20: ask for `--max-params 2000`" in _explained(
        max_params=1500, max_flops=20
    )


def test_what_is_said_to_be_enough_is_enough():
    costs = RowCosts.of([1], [1], [1.23456])
    said = str(explain_none(Limits(max_latency_ms=0.1), costs, ["aa"], "zoo", "cpu")).rsplit(" ", 1)[1].rstrip("`")
    assert within(Limits(max_latency_ms=float(said)), costs).all()


def test_no_latency_at_all_on_this_device_is_said():
    untimed = RowCosts.of([1, 2], [1, 2], [None, None])
    said = str(explain_none(Limits(max_latency_ms=5), untimed, ["aa", "bb"], "runs/zoo", "a processor"))
    assert "no latency was measured on this device (a processor), and no table is there to predict it" in said
    assert "`tans latency-table --zoo runs/zoo` makes one" in said


def test_limits_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="--max-params must be above 0, got 0"):
        Limits(max_params=0)
