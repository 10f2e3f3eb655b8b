"""What there was before: the exact process over the newest rows alone, for comparison.

Axes: as in `tans_core.acquisition.surrogates.exact`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tans_core.acquisition.inputs import Design, Labels
from tans_core.acquisition.surrogates import SURROGATES, exact
from tans_core.acquisition.surrogates.exact import Exact, ExactSurvey
from tans_core.acquisition.surrogates.kernel import Hyperparameters


@dataclass(frozen=True, eq=False)
class Window:
    """A `Surrogate` that forgets: rows before `newest` count as it predicts them."""

    design: Design
    rows: int  # of the window, at least; an eighth more at most
    before_NF: Tensor
    newest: Exact

    @property
    def hyperparameters(self) -> Hyperparameters:
        return self.newest.hyperparameters

    def __len__(self) -> int:
        return len(self.before_NF) + len(self.newest)

    @property
    def scaled_at_rows_N(self) -> Tensor:
        return torch.cat([self.newest.means(self.before_NF), self.newest.scaled_at_rows_N])

    def given(self, X_PF: Tensor, labels: Labels) -> Window:
        newest = self.newest.given(X_PF, labels)
        left = len(newest) - self.rows
        if left < self.rows // 8:
            return replace(self, newest=newest)
        kept = exact.condition(self.hyperparameters, self.design, newest.X_NF[left:], newest.labels[left:])
        return replace(self, before_NF=torch.cat([self.before_NF, newest.X_NF[:left]]), newest=kept)

    def means(self, X_CF: Tensor) -> Tensor:
        return self.newest.means(X_CF)

    def survey(self, network_QF: Tensor, datasets: int) -> ExactSurvey:
        return self.newest.survey(network_QF, datasets)


@contextmanager
def with_window(rows: int | None) -> Iterator[None]:
    """Meanwhile the surrogate called "exact" has a window of so many rows; None: it is as it is."""
    whole = SURROGATES["exact"]

    def windowed(
        hyperparameters: Hyperparameters, design: Design, X_NF: Tensor, labels: Labels, _pairs: int, _rows: int
    ) -> Window:
        assert rows is not None
        left = max(0, len(X_NF) - rows)
        newest = exact.condition(hyperparameters, design, X_NF[left:], labels[left:])
        return Window(design, rows, X_NF[:left], newest)

    try:
        if rows is not None:
            SURROGATES["exact"] = windowed
        yield
    finally:
        SURROGATES["exact"] = whole
