"""Size and epochs for the seconds that there are, worked by hand."""

import pytest
import torch
from torch import nn

from tans_core.training.budget import LEAST_EPOCHS, MOST_EPOCHS, Timing, choose, timing
from tans_core.training.recipe import Recipe
from tests.core.training.toy import pictures

# An epoch takes 10 s at 64 px and 20 s at 96; test images a second and two. 85 % of the seconds are planned with.
TIMINGS = [Timing(image_size=64, epoch_s=10, test_s=1), Timing(image_size=96, epoch_s=20, test_s=2)]


@pytest.mark.parametrize(
    ("left_s", "plan"),
    [
        (121, (96, 5)),  # 102.85 - 2 is five times 20
        (119, (64, 10)),  # 101.15 - 2 is not, and 101.15 - 1 is ten times 10
        (40, (64, 3)),
        (14, (64, 1)),
        (12, None),
        (-3, None),
        (1e6, (96, MOST_EPOCHS)),
    ],
)
def test_the_largest_size_at_which_enough_epochs_fit_is_taken(left_s, plan):
    assert LEAST_EPOCHS == 5
    assert choose(TIMINGS, left_s) == plan


class Ticking(nn.Module):
    """A forward pass takes 2 s, a step 5; the first ones take 100 times as long, and one is disturbed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images):
        assert images.shape == (6, 3, 4, 4)
        return self.weight * images


def test_an_epoch_is_timed_by_a_few_steps_and_one_that_was_disturbed_does_not_count():
    # 12 images in training: two steps. 7 in validation and 7 in test: 7 / 6 of a batch. Statistics: two batches.
    readings = iter([0, 200, 500, 1000, 1002, 1005, 2000, 2002, 2005, 3000, 3040, 3090])
    network = Ticking()
    found = timing(network, pictures(), Recipe(batch_size=6), clock=lambda: next(readings))
    assert found.image_size == 4
    assert found.epoch_s == pytest.approx(2 * 5 + (2 + 7 / 6) * 2) and found.test_s == pytest.approx(7 / 6 * 2)
    assert network.weight.grad is None  # a copy was timed
