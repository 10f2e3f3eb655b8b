"""How far a measured share may be from the true one."""

from __future__ import annotations

import math

_Z_95 = 1.959964  # of a normal, two-sided


def wilson(correct: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a binomial share (Wilson's score interval, 1927); total is above 0."""
    share, z2 = correct / total, _Z_95**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z_95 * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2)) / (1 + z2 / total)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))  # rounding leaves no share outside
