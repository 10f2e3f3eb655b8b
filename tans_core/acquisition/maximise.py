"""The candidates of largest expected gain, exactly, though only few are judged exactly.

A bound of each gain is cheap: it takes the candidate's true mean and a deviation that is too large. The exact
deviation is dear; it is worked out by falling bounds until no bound left is above what was found.
Axes: D datasets, Q networks, F columns of a network, K steps of a front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tans_core.acquisition.gain import expected_gain, gain_bound
from tans_core.acquisition.hypervolume import FrontLevels
from tans_core.acquisition.surrogates.surrogate import Surrogate

FIRST = 16  # candidates of a dataset judged exactly before the bounds are looked at again


@dataclass(frozen=True)
class Best:
    """The candidate of largest expected gain on a dataset; `worth` orders those of several."""

    dataset: int
    network: int
    gain: float  # share of the dataset's box
    scaled_mean: float  # of its accuracy, 0 for chance and 1 for perfect
    scaled_std: float
    costs: tuple[float, float]  # scaled parameters and multiply-accumulates
    worth: float  # gain a second where seconds were given, else the gain


def best_candidates(
    surrogate: Surrogate,
    fronts: Sequence[FrontLevels],
    network_QF: Tensor,
    new_DQ: Tensor,
    count: int,
    seconds_D: Tensor | None = None,
) -> list[Best]:
    """Of the `count` datasets where most is to be gained the best candidate each, by falling gain (a second).

    Args:
        surrogate: given all rows and pending pairs.
        fronts: of each dataset that has candidates; these are the first of the surrogate's datasets.
        network_QF: networks, from `PairEncoder.networks`; their last two columns are the scaled costs.
        new_DQ: which pairs are candidates.
        count: how many datasets at most; one without candidates is left out.
        seconds_D: that a pair of each dataset takes; None: all take the same.
    """
    rate_D = torch.ones(len(fronts), dtype=torch.float64) if seconds_D is None else 1 / seconds_D
    costs_Q2 = network_QF[:, -2:]
    areas = [front.areas(costs_Q2) for front in fronts]
    survey = surrogate.survey(network_QF, len(fronts))
    surveyed = zip(survey.mean_DQ, survey.most_std(), fronts, areas)
    bound_DQ = torch.stack([gain_bound(mean, std, front.level_K, area) for mean, std, front, area in surveyed])
    bound_DQ = (bound_DQ * rate_D[:, None]).where(new_DQ, -1.0)

    def best_of(index: int, least: float) -> list[Best]:
        """The best candidate of one dataset, or none if it has none whose bound is above `least`."""
        best: list[Best] = []
        falling_Q = bound_DQ[index].argsort(descending=True, stable=True)
        for part_Q in (falling_Q[:FIRST], falling_Q[FIRST:]):
            part_Q = part_Q[bound_DQ[index, part_Q] > (best[0].worth if best else least)]
            if len(part_Q) > 0:
                mean, std = survey.mean_DQ[index, part_Q], survey.std(index, part_Q)
                gain = expected_gain(mean, std, fronts[index].level_K, areas[index][part_Q])
                at = int(gain.argmax())
                params, flops = costs_Q2[part_Q[at]].tolist()
                judged = Best(
                    index,
                    int(part_Q[at]),
                    gain[at].item(),
                    mean[at].item(),
                    std[at].item(),
                    (params, flops),
                    gain[at].item() * rate_D[index].item(),
                )
                best = _falling([*best, judged])[:1]
        return best

    found: list[Best] = []
    for index in bound_DQ.amax(dim=1).argsort(descending=True, stable=True).tolist():
        best = best_of(index, found[count - 1].worth if len(found) == count else -1.0)
        if not best:
            break
        found = _falling([*found, *best])[:count]
    return found


def _falling(found: list[Best]) -> list[Best]:
    return sorted(found, key=lambda each: each.worth, reverse=True)
