"""Surrogates: one promise (surrogate.py), one keeper a file. A new one is a file and a line in `SURROGATES`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tans_core.acquisition.inputs import Design, Labels
from tans_core.acquisition.surrogates import blocks, constant, exact
from tans_core.acquisition.surrogates.kernel import Hyperparameters
from tans_core.acquisition.surrogates.surrogate import Surrogate

Given = Callable[[Hyperparameters, Design, Tensor, Labels, int, int], Surrogate]

SURROGATES: dict[str, Given] = {  # name -> the surrogate given rows; the last two are for those that need them
    "blocks": blocks.condition,
    "exact": lambda hyperparameters, design, X_NF, labels, *_: exact.condition(hyperparameters, design, X_NF, labels),
    "constant": lambda hyperparameters, design, X_NF, labels, *_: constant.condition(
        hyperparameters, design, X_NF, labels
    ),
}
