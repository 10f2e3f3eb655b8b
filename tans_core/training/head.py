"""A linear classifier in closed form: ridge regression on penultimate features, its strength by leave-one-out.

Each image is judged by the fit to all others, exactly and without fitting again, because the residual of an image
left out follows from the hat matrix. Its near copies are left out with it: a copy would vouch for whatever fits
its twin. Axes: N images, D features, K classes, L strengths, M images left out together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, one_hot

STRENGTHS = tuple(10.0 ** (half / 2) for half in range(-4, 13))
MOST_COPIES = 15  # of one picture are left out with it

_ALIKE = 0.98  # product of two pictures as `near_copies` compares them
_SCALES = (1e-2, 1e4)  # of logits over scores from 0 to 1
_HALVINGS = 40


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """A linear layer, float64: logits are features @ weight.T + bias, and their softmax is calibrated."""

    weight_KD: Tensor
    bias_K: Tensor
    strength: float
    held_out_N: Tensor  # bool: images told right by the fit without them and their near copies
    held_out_loss: float  # cross-entropy of those judgements in nats, smoothed as `closed_form_head` says

    @property
    def held_out_right(self) -> int:
        return int(self.held_out_N.sum())

    def logits(self, features_ND: Tensor) -> Tensor:
        """Logits float64 (N, K)."""
        return features_ND.double() @ self.weight_KD.T + self.bias_K


def closed_form_head(
    features_ND: Tensor, labels_N: Tensor, classes: int, copies: dict[int, Tensor] | None = None
) -> Head:
    """Ridge regression on one-hot labels over centred and scaled features, with an intercept that is not penalised.

    Features are scaled by their standard deviation, or by the mean one where it is larger: what is silent for all but
    an image or two would be blown up, and drown the rest where it speaks on a new one.

    The strength is the one of `STRENGTHS` whose held-out scores, times the factor that suits them best, have the
    lowest cross-entropy (of equal ones the largest); that factor makes logits of the scores. Labels are smoothed by
    Laplace's rule of succession, (N + 1) / (N + K) instead of 1: all right is not certainty.

    Args:
        features_ND: finite.
        labels_N: int64, from 0 to `classes` - 1; a class may have no image.
        copies: as `near_copies` gives them; None: there are none.
    """
    x_ND, mean_D, scale_D = _standardised(features_ND.double())
    one_hot_NK = one_hot(labels_N, classes).double()
    prior_K = one_hot_NK.mean(dim=0)
    target_NK = one_hot_NK - prior_K
    values_R, turned_NR = _principal(x_ND)
    strengths_L = torch.tensor(STRENGTHS, dtype=torch.float64)
    shrink_LR = 1 / (values_R + strengths_L[:, None])
    fitted_LNK = turned_NR @ (shrink_LR[:, :, None] * (turned_NR.T @ target_NK))
    residual_LNK = _held_out_residuals(target_NK - fitted_LNK, turned_NR, shrink_LR, copies or {})
    score_LNK = one_hot_NK - residual_LNK
    factor_L, loss_L = _calibrated(score_LNK, one_hot_NK)
    best = len(STRENGTHS) - 1 - int(loss_L.flip(0).argmin())
    weight_DK = x_ND.T @ (target_NK - fitted_LNK[best]) / STRENGTHS[best]  # the dual's solution
    weight_KD = (weight_DK / scale_D[:, None]).T
    return Head(
        weight_KD=factor_L[best] * weight_KD,
        bias_K=factor_L[best] * (prior_K - weight_KD @ mean_D),
        strength=STRENGTHS[best],
        held_out_N=score_LNK[best].argmax(dim=1) == labels_N,
        held_out_loss=loss_L[best].item(),
    )


def near_copies(images: Tensor, labels_N: Tensor, most: int = MOST_COPIES) -> dict[int, Tensor]:
    """For each picture that has near copies in its class: the places of at most `most` of them, nearest first.

    Pictures uint8 (N, C, S, S) are compared as 16 x 16 grey ones, mean and strength taken out; flat ones are not.
    """
    grey_N256 = interpolate(images.float(), size=(16, 16), mode="bilinear", antialias=True).mean(dim=1).flatten(1)
    grey_N256 = grey_N256 - grey_N256.mean(dim=1, keepdim=True)
    strength_N1 = grey_N256.norm(dim=1, keepdim=True)
    unit_N256 = torch.where(strength_N1 > 16, grey_N256 / strength_N1, 0.0)  # one grey level a pixel
    copies = {}
    for label in labels_N.unique():
        members = (labels_N == label).nonzero()[:, 0]
        for places in members.split(1024):
            product = unit_N256[places] @ unit_N256[members].T
            product[places[:, None] == members] = 0.0
            nearest, order = product.topk(min(most, len(members)), dim=1)
            for place, alike, others in zip(places.tolist(), nearest > _ALIKE, order):
                if alike[0]:
                    copies[place] = members[others[alike]]
    return copies


def put_head(network: nn.Module, head: Head) -> None:
    """Make `head` the classifier of a network whose penultimate features it was fitted to; in place."""
    (linear,) = [layer for layer in network.classifier.modules() if isinstance(layer, nn.Linear)]  # type: ignore[union-attr]
    with torch.no_grad():
        linear.weight.copy_(head.weight_KD)
        linear.bias.copy_(head.bias_K)


def _standardised(features_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean_D, scale_D = features_ND.mean(dim=0), features_ND.std(dim=0, correction=0)
    scale_D = scale_D.clamp(min=scale_D.mean().item()).clamp(min=1e-12)
    return (features_ND - mean_D) / scale_D, mean_D, scale_D


def _principal(x_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Squared singular values (R,), and the images along those directions (N, R): the smaller Gram matrix is taken."""
    if x_ND.shape[0] > x_ND.shape[1]:
        values_R, direction_DR = torch.linalg.eigh(x_ND.T @ x_ND)
        return values_R.clamp(min=0), x_ND @ direction_DR
    values_R, direction_NR = torch.linalg.eigh(x_ND @ x_ND.T)
    values_R = values_R.clamp(min=0)
    return values_R, direction_NR * values_R.sqrt()


def _held_out_residuals(
    residual_LNK: Tensor, turned_NR: Tensor, shrink_LR: Tensor, copies: dict[int, Tensor]
) -> Tensor:
    """What label and score differ by where an image and its copies were no part of the fit."""
    count = len(turned_NR)
    hat_LN = shrink_LR @ turned_NR.square().T + 1 / count  # 1 / N: the intercept
    held_out_LNK = residual_LNK / (1 - hat_LN)[:, :, None]
    for place, others in copies.items():
        out_M = torch.cat([torch.tensor([place]), others])
        turned_MR = turned_NR[out_M]
        hat_LMM = (turned_MR * shrink_LR[:, None]) @ turned_MR.T + 1 / count
        held_out_LNK[:, place] = torch.linalg.solve(torch.eye(len(out_M)) - hat_LMM, residual_LNK[:, out_M])[:, 0]
    return held_out_LNK


def _calibrated(score_LNK: Tensor, one_hot_NK: Tensor) -> tuple[Tensor, Tensor]:
    """For each strength the factor of its scores with the lowest cross-entropy, and that cross-entropy."""
    count, classes = one_hot_NK.shape
    target_NK = (count * one_hot_NK + 1) / (count + classes)
    low_L, high_L = (torch.full((len(score_LNK),), end, dtype=torch.float64).log() for end in _SCALES)
    for _ in range(_HALVINGS):  # the loss is convex in the factor: halve where its slope turns
        middle_L = (low_L + high_L) / 2
        share_LNK = (middle_L.exp()[:, None, None] * score_LNK).softmax(dim=2)
        rises_L = ((share_LNK - target_NK) * score_LNK).sum(dim=(1, 2)) > 0
        low_L, high_L = torch.where(rises_L, low_L, middle_L), torch.where(rises_L, middle_L, high_L)
    factor_L = ((low_L + high_L) / 2).exp()
    log_share_LNK = (factor_L[:, None, None] * score_LNK).log_softmax(dim=2)
    return factor_L, -(target_NK * log_share_LNK).sum(dim=2).mean(dim=1)
