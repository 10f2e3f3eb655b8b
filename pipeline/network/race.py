"""The best network that so many seconds can give: contestants side by side, fewer of them at each turn.

First each answers by a classifier in closed form, at rising sizes while looking at the next one takes a tenth of what
is left for it, or less; some steps are timed. While there are several, those that half of what is left is enough for
are trained, for twice as many epochs each time, the best so far first; who is worse on the validation images than the
noise of a paired comparison allows leaves. What time is then left is the best one's. With one contestant there are no
turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from pipeline.network.contestants import Attempt, Bench, Contestant, Tried
from pipeline.running.progress import say
from tans_core.errors import TrainingError
from tans_core.evaluation.noise import peeled
from tans_core.training.budget import LEAST_EPOCHS, Timing, affordable, choose, timing
from tans_core.training.fine_tune import OutOfTime
from tans_core.training.loop import keep_going

NOISE = 1.64  # standard errors of a paired difference, below which nobody leaves: one-sided 95 %


class Race:
    """Attempts before `ends`, by the clock of the bench; at least one is made, however late it is."""

    def __init__(self, bench: Bench, ends: float) -> None:
        self._bench, self._ends = bench, ends
        self._timings: dict[str, list[Timing]] = {}
        self._latest: dict[str, Attempt] = {}  # of a contestant: its longest
        self._failed: dict[str, TrainingError] = {}
        self.best: Attempt | None = None  # most validation images right, of equals the latest
        self.tried: list[Tried] = []

    def run(self, contestants: Sequence[Contestant]) -> Attempt:
        """The best attempt.

        Raises:
            TrainingError: no contestant gave anything; the last one's reason.
        """
        for number, each in enumerate(contestants):
            self._look(each, share=1 / (len(contestants) - number))
        alive, epochs = list(contestants), LEAST_EPOCHS
        while len(alive := self._by_evidence(alive)) > 1:
            costs_s = [epochs * self._timings[each.name][0].epoch_s for each in alive]
            alive = alive[: affordable(costs_s, self._left_s() / 2)]
            if len(alive) < 2:
                break
            for each in alive:
                self._train(each, self._timings[each.name][0].image_size, epochs)
            alive = self._within_noise(alive)
            epochs *= 2
        if left := self._by_evidence(alive or contestants):
            self._spend(left[0])
        if self.best is None:
            raise [*self._failed.values()][-1]
        return self.best

    def _look(self, contestant: Contestant, share: float) -> None:
        """Closed forms at rising sizes; `share`: of what is left, for this contestant."""
        timings = self._timings[contestant.name] = []
        looked_s = 0.0
        for size in contestant.sizes:
            began = self._bench.clock()
            left_s = share * (self._ends - began)
            next_s = looked_s * (size / timings[-1].image_size) ** 2 if timings else 0.0
            if self.best and (left_s <= 0 or next_s > left_s / 10):
                break
            instant = self._attempt(contestant, size, 0)
            if instant is None:
                break
            timings.append(timing(instant.network, instant.dataset, contestant.recipe, self._bench.clock))
            looked_s = self._bench.clock() - began

    def _spend(self, contestant: Contestant) -> None:
        """All the time that is left."""
        timings, left_s = self._timings[contestant.name], self._left_s()
        chosen = choose(timings, left_s) if timings else None
        if chosen is None:
            say(f"{max(0, left_s):.0f} s are left, too few for an epoch")
        else:
            self._train(contestant, *chosen)

    def _train(self, contestant: Contestant, size: int, epochs: int) -> None:
        test_s = next(each.test_s for each in self._timings[contestant.name] if each.image_size == size)

        def check() -> None:
            if self._bench.clock() > self._ends - test_s:
                raise OutOfTime

        self._attempt(contestant, size, epochs, check)

    def _attempt(
        self, contestant: Contestant, size: int, epochs: int, check: Callable[[], None] = keep_going
    ) -> Attempt | None:
        try:
            attempt = self._bench.attempt(contestant, size, epochs, check)
        except OutOfTime:
            say("the time was up before the first epoch had ended")
            return None
        except TrainingError as error:
            say(f"{contestant.words} leaves: {error}")
            self._failed[contestant.name] = error
            return None
        self.tried.append(attempt.tried)
        self._latest[attempt.contestant.name] = attempt
        if self.best is None or attempt.learned.val_correct >= self.best.learned.val_correct:
            self.best = attempt
        return attempt

    def _by_evidence(self, alive: Sequence[Contestant]) -> list[Contestant]:
        """The most right in its longest training first, equals in the order they came in; who failed or never answered
        is out."""
        seen = [each for each in alive if each.name in self._latest and each.name not in self._failed]
        return sorted(seen, key=lambda each: -self._latest[each.name].learned.val_correct)

    def _within_noise(self, alive: Sequence[Contestant]) -> list[Contestant]:
        right_CN = torch.stack([self._latest[each.name].right_N for each in alive])
        return [alive[place] for place in peeled(right_CN, NOISE)[0]]

    def _left_s(self) -> float:
        return self._ends - self._bench.clock()
