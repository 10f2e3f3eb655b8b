"""When the surrogate's hyperparameters are fitted, and from when on a decision uses them.

A fit on the first r rows starts once they are there and holds from r + r / 8 rows on (at least four). So it runs
beside the decisions, and still which surrogate a decision uses follows from the order of the rows alone: a resumed
build chooses as the unbroken one. A surrogate takes up row after row from the r-th on, the same steps wherever a
build was cut.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import torch

from tans_core.acquisition.surrogates.fit import FitFailed
from tans_core.acquisition.surrogates.surrogate import Surrogate

FIRST_FIT = 8  # rows
LEAST_LAG = 4  # rows


@dataclass(frozen=True)
class InForce:
    """The surrogate of a decision, given all rows, and where it comes from, for its reason."""

    surrogate: Surrogate
    note: str


class Refits:
    """Fits after 8, 12, 16, 24, 32, 48, ... rows in a thread of its own."""

    def __init__(
        self, fit: Callable[[int], Surrogate], prior: Surrogate, take_up: Callable[[Surrogate], Surrogate]
    ) -> None:
        """Begin with the prior.

        Args:
            fit: gives the surrogate fitted on the first r rows and given them, or more of those that there are, or
                raises FitFailed; called in the thread.
            prior: holds before the first fit; given no row.
            take_up: gives a surrogate the rows that it lacks, one after the other.
        """
        self.seconds: list[float] = []
        self._fit, self._take_up = fit, take_up
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="surrogate-fit")
        self._fits: dict[int, Future[Surrogate]] = {}
        self._kept = {0: prior}  # by the rows that it was fitted on: what is in force, and what will be

    def at(self, rows: int) -> InForce:
        """The surrogate for a decision after this many rows; waits for a fit only if it is due and not done.

        Raises:
            LinAlgError: it cannot take up a row.
        """
        started = list(_fit_counts(rows))
        due = [count for count in started if count + max(LEAST_LAG, count // 8) <= rows]
        coming = started[len(due) :]
        for count in due[-1:] + coming:
            self._start(count)
        for count in coming:
            self._keep_up(count)
        failures = ""
        for count in (*reversed(due), 0):
            try:
                surrogate = self._fitted(count)
            except FitFailed as failure:
                failures += f"the fit on {count} rows failed ({failure}); "
                continue
            self._forget_before(count)
            self._kept[count] = self._take_up(surrogate)
            return InForce(self._kept[count], failures + _note(surrogate.hyperparameters.rows, count))
        raise AssertionError("the prior is always there")

    def close(self) -> None:
        """Wait for a running fit and end the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _start(self, count: int) -> None:
        if count not in self._fits and count not in self._kept:
            self._fits[count] = self._thread.submit(self._timed, count)

    def _fitted(self, count: int) -> Surrogate:
        """Raises FitFailed."""
        if count not in self._kept:
            self._start(count)
            self._kept[count] = self._fits[count].result()
            del self._fits[count]
        return self._kept[count]

    def _keep_up(self, count: int) -> None:
        """A fit that is done before it is due takes up rows with the others: few are left when it is."""
        if count in self._kept or self._fits[count].done():
            with suppress(FitFailed, torch.linalg.LinAlgError):  # type: ignore[reportPrivateImportUsage]
                self._kept[count] = self._take_up(self._fitted(count))

    def _forget_before(self, count: int) -> None:
        for known in (self._kept, self._fits):
            for older in [each for each in known if each < count]:
                del known[older]

    def _timed(self, count: int) -> Surrogate:
        start = time.perf_counter()
        try:
            return self._fit(count)
        finally:
            self.seconds.append(time.perf_counter() - start)


def _note(fitted_on: int, count: int) -> str:
    if count == 0:
        return "surrogate not fitted yet, priors hold"
    return f"surrogate fitted on {fitted_on:,}{'' if fitted_on == count else f' of {count:,}'} rows"


def _fit_counts(rows: int) -> Iterator[int]:
    """8, 12, 16, 24, 32, 48, ... up to `rows`."""
    count = FIRST_FIT
    while count <= rows:
        yield count
        if count * 3 // 2 <= rows:
            yield count * 3 // 2
        count *= 2
