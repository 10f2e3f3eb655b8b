"""What can be told from counts: which of several candidates are as good as the best, as far as it is known.

One standard error is the line (the rule of Breiman et al., Classification and Regression Trees, 1984: of all that
are within one of the best, take the simplest). Axes: C candidates, N images.
"""

from __future__ import annotations

import math

from torch import Tensor


def level_with(best: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether (right, total) lies within one standard error of the difference below the best; images may be others."""
    (right, total), (other_right, other_total) = best, other
    error = math.hypot(_error(right, total), _error(other_right, other_total))
    return right / total - other_right / other_total <= error


def peeled(right_CN: Tensor, errors: float = 1.0) -> list[list[int]]:
    """Candidates in groups, best first: each group those that cannot be told from the best one left.

    All have answered the same images, so that only those count which one had right and the other wrong.

    Args:
        right_CN: bool.
        errors: standard errors of the paired difference that are within the noise.
    """
    left, groups = list(range(len(right_CN))), []
    while left:
        best = max(left, key=lambda place: int(right_CN[place].sum()))
        group = [place for place in left if _within(right_CN[best], right_CN[place], errors)]
        groups.append(group)
        left = [place for place in left if place not in group]
    return groups


def _within(best_N: Tensor, other_N: Tensor, errors: float) -> bool:
    gained, lost = int((best_N & ~other_N).sum()), int((other_N & ~best_N).sum())
    return gained - lost <= errors * math.sqrt(gained + lost)  # McNemar's: were they equal, each would be even money


def _error(right: int, total: int) -> float:
    """Of a share, Laplace's rule of succession in it: 32 of 32 is not certainty."""
    share = (right + 1) / (total + 2)
    return math.sqrt(share * (1 - share) / total)
