"""How well a space finds networks, over many gallery draws, and how well it predicts their accuracy.

Axes: G gallery draws, K datasets, each with one row a draw; E the space; P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RetrievalMetrics:
    """Where a dataset's row stands among one row of every dataset; never to be read without `gallery`."""

    gallery: int  # datasets, of which each query belongs to one
    draws: int
    r_at_1: float  # share of queries whose dataset's row is the first
    r_at_5: float
    r_at_10: float
    r_at_1_std: float  # over draws
    mean_rank: float
    median_rank: float
    r_at_1_random: float  # what chance alone would give
    r_at_5_random: float
    r_at_10_random: float
    mean_rank_random: float


@dataclass(frozen=True, kw_only=True)
class PredictionMetrics:
    """Error of predicted accuracies (0 to 1), beside that of always predicting the mean of the training rows."""

    pairs: int
    mse: float
    mae: float
    mse_mean_baseline: float
    mae_mean_baseline: float


def ranks(query_GKE: Tensor, model_GKE: Tensor) -> Tensor:
    """Rank of the row of each query's dataset in its draw, from 1, int64 (G, K). Equal ones stand ahead of it."""
    similarity_GKK = query_GKE @ model_GKE.transpose(1, 2)
    matching_GK1 = similarity_GKK.diagonal(dim1=1, dim2=2)[:, :, None]
    return (similarity_GKK >= matching_GK1).sum(dim=2)


def retrieval_metrics(rank_GK: Tensor) -> RetrievalMetrics:
    """Summarise the ranks of many draws."""
    draws, gallery = rank_GK.shape
    rank = rank_GK.double()
    found = {most: (rank <= most).double() for most in (1, 5, 10)}
    return RetrievalMetrics(
        gallery=gallery,
        draws=draws,
        r_at_1=found[1].mean().item(),
        r_at_5=found[5].mean().item(),
        r_at_10=found[10].mean().item(),
        r_at_1_std=found[1].mean(dim=1).std(correction=0).item(),
        mean_rank=rank.mean().item(),
        median_rank=rank.median().item(),
        r_at_1_random=1 / gallery,
        r_at_5_random=min(1.0, 5 / gallery),
        r_at_10_random=min(1.0, 10 / gallery),
        mean_rank_random=(gallery + 1) / 2,
    )


def prediction_metrics(predicted_P: Tensor, accuracy_P: Tensor, baseline_P: Tensor) -> PredictionMetrics:
    """Compare predictions, and the mean that the training rows would have given, with what was measured."""
    error, baseline_error = predicted_P - accuracy_P, baseline_P - accuracy_P
    return PredictionMetrics(
        pairs=len(accuracy_P),
        mse=error.square().mean().item(),
        mae=error.abs().mean().item(),
        mse_mean_baseline=baseline_error.square().mean().item(),
        mae_mean_baseline=baseline_error.abs().mean().item(),
    )
