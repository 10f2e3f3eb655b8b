"""Expected hypervolume gain of training one more pair.

Accuracy is the only unknown before training, so its expectation is exact.
Axes: C candidates, K steps of the front.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Normal

_NORMAL = Normal(torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64), validate_args=False)


def gain_at(scaled_C: Tensor, level_K: Tensor, area_CK: Tensor) -> Tensor:
    """Hypervolume a candidate adds to its dataset's front if its scaled accuracy turns out to be `scaled_C`.

    Args:
        scaled_C: scaled accuracies, 0 for chance and 1 for perfect; count as the nearer of the two beyond them.
        level_K: scaled accuracies from which a candidate beats one more network of the front; 0 to 1.
        area_CK: cost area that opens there, as a share of the reference box.

    Returns:
        Shape (C,), scaled accuracy x area; exactly 0 for a network that is on the front.
    """
    return (area_CK * (scaled_C.clamp(0, 1)[:, None] - level_K).clamp_min(0)).sum(dim=1)


def expected_gain(mean_C: Tensor, std_C: Tensor, level_K: Tensor, area_CK: Tensor) -> Tensor:
    """Hypervolume a candidate is expected to add to its dataset's front.

    Equation 7 of the paper in closed form: the gain is piecewise linear in accuracy.

    Args:
        mean_C, std_C: of the scaled accuracy, as predicted; std > 0; float64.
        level_K: scaled accuracies from which a candidate beats one more network of the front; 0 to 1.
        area_CK: cost area that opens there, as a share of the reference box.

    Returns:
        Shape (C,), scaled accuracy x area, at least 0.

    Raises:
        ValueError: a std is not positive.
    """
    if not (std_C > 0).all():
        raise ValueError(f"std_C must be positive; its smallest entry is {std_C.min():.3g}")
    terms_CK = _terms(mean_C[:, None], std_C[:, None], level_K)
    return (area_CK * terms_CK).sum(dim=1).clamp_min(0)  # rounding, far below every level


def gain_bound(mean_C: Tensor, most_std_C: Tensor, level_K: Tensor, area_CK: Tensor) -> Tensor:
    """Upper bound of `expected_gain` over all deviations up to `most_std_C`, and the gain itself where that is it.

    With d psi / d sigma = pdf(z), a term psi(t) - psi(1) of equation 7 grows with the deviation while the mean is
    nearer to t than to 1; beyond that it falls, from min(mean, 1) - t on.
    """
    mean_C1 = mean_C[:, None]
    terms_CK = _terms(mean_C1, most_std_C[:, None], level_K)
    most_CK = torch.where(mean_C1 > (1 + level_K) / 2, mean_C1.clamp_max(1) - level_K, terms_CK)
    return (area_CK * most_CK).sum(dim=1).clamp_min(0)


def _terms(mean_C1: Tensor, std_C1: Tensor, level_K: Tensor) -> Tensor:
    """psi(t) - psi(1) at each level."""
    return _mean_excess(mean_C1, std_C1, level_K) - _mean_excess(mean_C1, std_C1, torch.ones_like(mean_C1))


def _mean_excess(mean: Tensor, std: Tensor, level: Tensor) -> Tensor:
    """E[(A - level)+] for a normal A."""
    z = (mean - level) / std
    return std * (_NORMAL.log_prob(z).exp() + z * _NORMAL.cdf(z))
