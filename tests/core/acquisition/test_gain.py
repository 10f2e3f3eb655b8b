"""The expected gain: by hand, against quadrature, and against pygmo over drawn accuracies."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor

from tans_core.acquisition.gain import expected_gain, gain_at, gain_bound
from tans_core.acquisition.hypervolume import front_levels, front_volume


def float64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_gain_worked_by_hand():
    # The front: 0.6 at half the budget. We come with 0.8 at a quarter of it:
    # 0.25 of the budget is new below 0.6, 0.75 above: 0.25 * 0.6 + 0.75 * 0.2 = 0.30
    gain = expected_gain(float64(0.8), float64(1e-6), float64(0.0, 0.6), float64(0.25, 0.5))
    assert gain.item() == pytest.approx(0.30)


def test_uncertain_gain_worked_by_hand():
    # At mean = level the excess of a normal is std / sqrt(2 pi).
    gain = expected_gain(float64(0.5), float64(0.01), float64(0.5), float64(1.0)[None])
    assert gain.item() == pytest.approx(0.01 / np.sqrt(2 * np.pi))


def test_accuracy_beyond_perfect_adds_nothing():
    sure = expected_gain(float64(1.0, 5.0), float64(1e-9, 1e-9), float64(0.2), torch.ones(2, 1, dtype=torch.float64))
    assert sure.tolist() == pytest.approx([0.8, 0.8])


@pytest.mark.parametrize(("mean", "std"), [(0.7, 0.1), (0.2, 0.05), (0.95, 0.2), (-0.3, 0.2), (1.2, 0.1), (0.0, 1.0)])
def test_closed_form_is_the_integral(mean: float, std: float):
    levels = front_levels([0.6, 0.8, 0.3], np.array([[0.5, 0.4], [0.9, 0.8], [0.1, 0.2]]))
    areas = levels.areas(float64(0.4, 0.6)[None])

    def density(accuracy: float) -> float:
        return gain_at(float64(accuracy), levels.level_K, areas).item() * float(norm.pdf(accuracy, mean, std))

    breaks = sorted([*levels.level_K.tolist(), 1.0, mean])
    edges = [mean - 12 * std, *(b for b in breaks if abs(b - mean) < 12 * std), mean + 12 * std]
    integral = sum(quad(density, left, right, epsabs=1e-12)[0] for left, right in pairwise(edges))
    gain = expected_gain(float64(mean), float64(std), levels.level_K, areas)
    assert gain.item() == pytest.approx(integral, abs=1e-9)


def test_closed_form_is_the_mean_over_drawn_accuracies_of_what_pygmo_sees():
    accuracies, costs = [0.6, 0.8, 0.3], np.array([[0.5, 0.4], [0.9, 0.8], [0.1, 0.2]])
    candidate, mean, std = np.array([0.4, 0.6]), 0.55, 0.15
    before = front_volume(accuracies, costs)
    drawn = norm.ppf((np.arange(2_000) + 0.5) / 2_000, mean, std)  # stratified: error far below 1e-4
    after = [front_volume([*accuracies, a], np.vstack([costs, candidate])) for a in drawn]
    levels = front_levels(accuracies, costs)
    gain = expected_gain(float64(mean), float64(std), levels.level_K, levels.areas(torch.tensor(candidate)[None]))
    assert gain.item() == pytest.approx(np.mean(after) - before, abs=1e-5)


@pytest.mark.parametrize("std", [0.0, -0.1, float("nan")])
def test_std_must_be_positive(std: float):
    with pytest.raises(ValueError, match="positive"):
        expected_gain(float64(0.5), float64(std), float64(0.0), float64(1.0)[None])


@pytest.mark.parametrize("mean", [-0.2, 0.3, 0.55, 0.65, 0.9, 1.3])
@pytest.mark.parametrize("levels", [(0.3,), (0.8, 0.5, 0.0)])
def test_the_bound_is_above_the_gain_of_every_smaller_deviation(mean: float, levels: tuple[float, ...]):
    stds = torch.linspace(0, 0.2, 401, dtype=torch.float64)[1:]
    areas = float64(0.2, 0.5, 0.3)[: len(levels)].expand(400, -1)
    gains = expected_gain(torch.full_like(stds, mean), stds, float64(*levels), areas)
    bound = gain_bound(float64(mean), float64(0.2), float64(*levels), areas[:1]).item()
    assert bound >= gains.max() - 1e-15
    if len(levels) == 1:
        assert bound == pytest.approx(gains.max().item(), abs=1e-6), "of one level it is the largest of them"
