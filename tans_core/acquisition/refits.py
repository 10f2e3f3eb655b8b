"""When the surrogate's hyperparameters are fitted, and from when on a decision uses them.

A fit on the first r rows starts once they are there and holds from r + LAG rows on. So it runs beside the decisions,
and still which hyperparameters a decision uses follows from the order of the rows alone: a resumed build
chooses as the unbroken one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from tans_core.acquisition.surrogate import FitFailed, Hyperparameters

FIRST_FIT = 8  # rows
LAG = 4  # rows


@dataclass(frozen=True)
class InForce:
    """The hyperparameters of a decision, and where they come from, for its reason."""

    hyperparameters: Hyperparameters
    since: int  # rows that there were when they came into force
    note: str


class Refits:
    """Fits after 8, 12, 16, 24, 32, 48, ... rows in a thread of its own."""

    def __init__(self, fit: Callable[[int], Hyperparameters], prior: Hyperparameters) -> None:
        """Take `fit`, a deterministic function of r that fits on the first r rows or raises FitFailed."""
        self.seconds: list[float] = []
        self._fit = fit
        self._prior = prior
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="surrogate-fit")
        self._fits: dict[int, Future[Hyperparameters]] = {}

    def at(self, rows: int) -> InForce:
        """Hyperparameters for a decision after this many rows; waits for a fit only if it is due and not done."""
        started = list(_fit_counts(rows))
        due = [count for count in started if count + LAG <= rows]
        for count in due[-1:] + started[len(due) :]:
            self._start(count)
        failures = ""
        for count in reversed(due):
            try:
                hyperparameters = self._start(count).result()
            except FitFailed as failure:
                failures += f"the fit on {count} rows failed ({failure}); "
                continue
            return InForce(hyperparameters, count + LAG, f"{failures}surrogate fitted on {hyperparameters.rows} rows")
        return InForce(self._prior, 0, f"{failures}surrogate not fitted yet, priors hold")

    def close(self) -> None:
        """Wait for a running fit and end the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _start(self, count: int) -> Future[Hyperparameters]:
        if count not in self._fits:
            self._fits[count] = self._thread.submit(self._timed, count)
        return self._fits[count]

    def _timed(self, count: int) -> Hyperparameters:
        start = time.perf_counter()
        try:
            return self._fit(count)
        finally:
            self.seconds.append(time.perf_counter() - start)


def _fit_counts(rows: int) -> Iterator[int]:
    """8, 12, 16, 24, 32, 48, ... up to `rows`."""
    count = FIRST_FIT
    while count <= rows:
        yield count
        if count * 3 // 2 <= rows:
            yield count * 3 // 2
        count *= 2
