"""What people do without a zoo: a linear classifier in closed form on the features of a frozen backbone.

Axes: N images, D features, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

PENALTIES = tuple(10.0**exponent for exponent in range(-2, 6))


def ridge_predictions(
    train_ND: Tensor, train_labels_N: Tensor, validation_ND: Tensor, validation_labels_N: Tensor, test_ND: Tensor
) -> Tensor:
    """Classes int64 (N,) of the test features, by ridge regression on one-hot labels.

    Features are standardised by the training images, features that never vary left out; the penalty is the one of
    `PENALTIES` that is best in validation, of equal ones the largest.
    """
    train_ND, validation_ND, test_ND = train_ND.double(), validation_ND.double(), test_ND.double()
    mean_D, std_D = train_ND.mean(dim=0), train_ND.std(dim=0, correction=0)
    varies_D = std_D > 0

    def standardised(features_ND: Tensor) -> Tensor:
        return ((features_ND - mean_D) / std_D)[:, varies_D]

    x_ND = standardised(train_ND)
    target_NK = one_hot(train_labels_N).double()
    offset_K = target_NK.mean(dim=0)
    gram_NN = x_ND @ x_ND.T  # as many equations as images, and those are fewer than features
    best_right, best_NK = -1, offset_K.expand(len(test_ND), -1)
    for penalty in sorted(PENALTIES, reverse=True):
        dual_NK = torch.linalg.solve(gram_NN + penalty * torch.eye(len(gram_NN)).double(), target_NK - offset_K)
        weight_DK = x_ND.T @ dual_NK
        right = int(((standardised(validation_ND) @ weight_DK + offset_K).argmax(1) == validation_labels_N).sum())
        if right > best_right:
            best_right, best_NK = right, standardised(test_ND) @ weight_DK + offset_K
    return best_NK.argmax(dim=1)
