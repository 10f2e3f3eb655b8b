"""What a picture of a zoo calls a front."""

import pytest

from tans_core.evaluation.fronts import front


def test_a_front_worked_by_hand():
    #          cheap   worse   better  beaten by the one before  dearer and best
    costs = [1.0, 2.0, 2.0, 3.0, 4.0]
    accuracies = [0.5, 0.4, 0.7, 0.6, 0.9]
    assert front(costs, accuracies) == [0, 2, 4]


def test_rows_come_in_any_order_and_the_front_by_rising_cost():
    assert front([4.0, 3.0, 2.0, 1.0], [0.9, 0.6, 0.7, 0.5]) == [3, 2, 0]


@pytest.mark.parametrize(
    ("costs", "accuracies", "places"),
    [
        ([], [], []),
        ([1.0], [0.0], [0]),
        ([1.0, 1.0], [0.5, 0.6], [1]),  # as dear and less accurate
        ([2.0, 1.0], [0.5, 0.5], [1]),  # as accurate and dearer
        ([1.0, 1.0], [0.5, 0.5], [0]),  # equal: one stands for both
        ([1.0, 2.0, 3.0], [0.9, 0.8, 0.7], [0]),  # the cheapest beats all
    ],
)
def test_who_is_beaten(costs: list[float], accuracies: list[float], places: list[int]):
    assert front(costs, accuracies) == places
