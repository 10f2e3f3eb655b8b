"""What is made of simulated builds, worked by hand."""

import pytest

from benchmarks.scale.builds import pairs_until, summary


def test_pairs_until_a_volume_worked_by_hand():
    curve = [0.1, 0.3, 0.3, 0.5]  # after 20, 40, 60 and 80 pairs
    assert pairs_until(curve, 0.05) == pytest.approx(10)
    assert pairs_until(curve, 0.2) == pytest.approx(30)
    assert pairs_until(curve, 0.4) == pytest.approx(70)
    assert pairs_until(curve, 0.6) == float("inf")


def test_builds_are_compared_with_the_exact_one_of_their_seed():
    def result(surrogate: str, seed: int, curve: list[float]) -> dict:
        return {"world": "smooth", "surrogate": surrogate, "seed": seed, "curve": curve}

    # What is to be reached is the exact build's volume after nine tenths of its pairs: 0.9, after 180 of 200.
    exact = [0.1 * step for step in range(1, 11)]
    slow, never = [0.05 * step for step in range(1, 19)], [0.1] * 10
    told = summary([result("exact", 0, exact), result("slow", 0, slow), result("never", 0, never)])
    assert told["smooth exact"]["pairs_beside_exact"] == [pytest.approx(1)]
    assert told["smooth slow"]["pairs_beside_exact"] == [pytest.approx(2)]
    assert told["smooth never"]["pairs_beside_exact"] == [None]
    assert told["smooth never"]["hypervolume_minus_exact"] == [pytest.approx(-0.9)]
