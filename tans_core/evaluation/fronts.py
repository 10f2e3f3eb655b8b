"""The front of a dataset's networks in one cost, as a picture shows it."""

from __future__ import annotations

from collections.abc import Sequence


def front(costs: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Places of the networks that no other beats, by rising cost.

    A network is beaten by one that costs no more and is at least as accurate, and better in one of the two; of equal
    ones the first stands for all. Along the front both numbers rise, so a staircase through it says what accuracy a
    cost buys. The zoo chooses by two costs at once: there, a network may be on the front that is not on this one.
    """
    by_cost = sorted(range(len(costs)), key=lambda place: (costs[place], -accuracies[place]))
    places: list[int] = []
    for place in by_cost:
        if not places or accuracies[place] > accuracies[places[-1]]:
            places.append(place)
    return places
