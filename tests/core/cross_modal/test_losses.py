import math

import pytest
import torch

from tans_core.cross_modal.losses import LOSSES, TEMPERATURE, infonce, negatives, printed, sum_of_hinges

SIMILARITY = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.5, 0.4], [0.0, 0.1, 0.6]])
APART = negatives(["a", "b", "c"])


def test_sum_of_hinges_by_hand():
    # Rows: 0.2 + 0.8 - 0.9 = 0.1; 0.2 + 0.4 - 0.5 = 0.1 (0.2 + 0.2 - 0.5 < 0). Columns: 0.2 + 0.8 - 0.5 = 0.5.
    assert sum_of_hinges(SIMILARITY, APART).item() == pytest.approx((0.1 + 0.1 + 0.5) / 3)


def test_infonce_by_hand():
    two = torch.tensor([[0.9, 0.8], [0.2, 0.5]])
    rows = math.log(1 + math.exp(-0.1 / TEMPERATURE)) + math.log(1 + math.exp(-0.3 / TEMPERATURE))
    columns = math.log(1 + math.exp(-0.7 / TEMPERATURE)) + math.log(1 + math.exp(0.3 / TEMPERATURE))
    assert infonce(two, negatives(["a", "b"])).item() == pytest.approx((rows + columns) / 4)


def test_equation_3_as_printed_is_content_while_a_negative_is_nearer_than_the_own():
    similarity = torch.tensor([[0.5, 0.9, -0.9], [-0.9, 0.5, 0.9], [0.9, -0.9, 0.5]])
    assert printed(similarity, APART) == 0
    assert sum_of_hinges(similarity, APART) > 1 and infonce(similarity, APART) > 1


@pytest.mark.parametrize("name", LOSSES)
def test_datasets_of_one_source_are_never_each_others_negatives(name):
    similarity = torch.tensor([[0.1, 0.9, 0.3], [0.8, 0.1, 0.2], [0.3, 0.2, 0.1]], requires_grad=True)
    LOSSES[name](similarity, negatives(["a", "a", "b"])).backward()
    assert similarity.grad is not None
    assert similarity.grad[0, 1] == 0 and similarity.grad[1, 0] == 0
    assert similarity.grad[0, 2] > 0 and similarity.grad[0, 0] < 0
