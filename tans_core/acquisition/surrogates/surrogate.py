"""What a surrogate promises: scaled accuracies of all pairs, given rows, and given a row more.

Axes: N rows with labels, P more, C other pairs, Q networks, D datasets, F columns of a pair or a network.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from tans_core.acquisition.inputs import Labels
from tans_core.acquisition.surrogates.kernel import Hyperparameters


class Surrogate(Protocol):
    """Never changed: more rows make another one. The same steps give the same numbers, to the last bit.

    Equal pairs count as two networks of one kind: what they share is the same, their luck differs.
    """

    @property
    def hyperparameters(self) -> Hyperparameters: ...

    def __len__(self) -> int:
        """Rows that it was given; each counts in all that it says."""
        ...

    @property
    def scaled_at_rows_N(self) -> Tensor:
        """Expected true scaled accuracy of the very networks that the labels measured."""
        ...

    def given(self, X_PF: Tensor, labels: Labels) -> Surrogate:
        """The surrogate after P more rows.

        Raises:
            LinAlgError: their covariance cannot be factored.
        """
        ...

    def means(self, X_CF: Tensor) -> Tensor:
        """Of the scaled accuracy of new pairs, float64 (C,)."""
        ...

    def survey(self, network_QF: Tensor, datasets: int) -> Survey:
        """What it expects of networks on each of the first `datasets` datasets."""
        ...


class Survey(Protocol):
    """Scaled accuracies of networks on D datasets, before they are trained.

    Standard deviations are of the true scaled accuracy, without the noise of counting.
    """

    @property
    def mean_DQ(self) -> Tensor: ...

    def std(self, dataset: int, part_Q: Tensor) -> Tensor:
        """Standard deviations of some of the networks on one dataset."""
        ...

    def most_std(self) -> Tensor:
        """Bounds of all standard deviations, (D, Q); a cheap one for each.

        Raises:
            LinAlgError: a covariance cannot be factored.
        """
        ...
