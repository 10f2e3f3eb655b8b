import pytest
import torch

from tans_core.cross_modal.metrics import prediction_metrics, ranks, retrieval_metrics


def test_ranks_by_hand_and_equal_ones_stand_ahead():
    query = torch.eye(3)[None]
    model = torch.tensor([[[0.9, 0.2, 0.0], [0.1, 0.5, 0.3], [0.0, 0.5, 0.2]]])
    # Query 1: 0.9 is first. Query 2: own 0.5, equalled by the third: second. Query 3: own 0.2 below 0.3: second.
    assert ranks(query, model).tolist() == [[1, 2, 2]]


def test_networks_that_all_lie_in_one_point_are_no_success():
    query, model = torch.ones(2, 4, 3), torch.ones(2, 4, 3)
    assert retrieval_metrics(ranks(query, model)).r_at_1 == 0


def test_retrieval_metrics_by_hand():
    rank = torch.tensor([[1, 1, 6, 12] + [20] * 16, [1, 2, 3, 4] + [20] * 16])
    found = retrieval_metrics(rank)
    assert (found.gallery, found.draws) == (20, 2)
    assert (found.r_at_1, found.r_at_5, found.r_at_10) == pytest.approx((3 / 40, 6 / 40, 7 / 40))
    assert (found.r_at_1_random, found.r_at_5_random, found.r_at_10_random) == pytest.approx((0.05, 0.25, 0.5))
    assert found.mean_rank == pytest.approx((30 + 640) / 40) and found.median_rank == 20
    assert found.mean_rank_random == 10.5
    assert found.r_at_1_std == pytest.approx(0.025)


def test_prediction_metrics_by_hand():
    error = prediction_metrics(torch.tensor([0.5, 0.7]), torch.tensor([0.6, 0.9]), torch.tensor([0.75, 0.75]))
    assert (error.mse, error.mae) == pytest.approx(((0.01 + 0.04) / 2, 0.15))
    assert (error.mse_mean_baseline, error.mae_mean_baseline) == pytest.approx((0.0225, 0.15))
