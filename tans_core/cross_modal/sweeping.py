"""What a sweep tries, and which of it goes on.

Trial n is a function of (seed, n), whoever trains it and in whatever order. Trial 0 is the config as it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from tans_core.cross_modal.meta_training import SpaceConfig, generator_of

FACTOR = 3  # of three trials that come to a rung, one goes on


@dataclass(frozen=True)
class Between:
    """Any number from `low` to `high`, as often in each decade where `by_decades`."""

    low: float
    high: float
    by_decades: bool = True

    def at(self, share: float) -> float:
        """0 is the lowest, 1 the highest; of four digits, as one would write it."""
        if self.by_decades:
            value = self.low * (self.high / self.low) ** share
        else:
            value = self.low + (self.high - self.low) * share
        return float(f"{value:.4g}")


@dataclass(frozen=True)
class OneOf:
    """One of these, each as often."""

    values: tuple[int | str, ...]

    def at(self, share: float) -> int | str:
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


RANGES: Mapping[str, Between | OneOf] = {
    "dim": OneOf((32, 64, 128, 256)),
    "hidden": OneOf((32, 64, 128, 256)),
    "instances": OneOf((8, 16, 32, 64)),
    "loss": OneOf(("infonce", "hinges")),  # the one as printed does not train a space
    "temperature": Between(0.03, 0.3),
    "margin": Between(0.05, 0.8),
    "attraction": Between(0.5, 20.0),
    "keep": Between(1.0, 100.0),
    "predictor": Between(3.0, 300.0),  # the paper's lambda
    "dropout": Between(0.0, 0.5, by_decades=False),
    "peak_lr": Between(3e-4, 2e-2),
    "weight_decay": Between(1e-3, 1.0),
}


def drawn(base: SpaceConfig, kept: frozenset[str], seed: int, number: int) -> SpaceConfig:
    """Config of a trial: `base` for number 0, beyond it with all fields of `RANGES` drawn but those in `kept`."""
    if number == 0:
        return base
    share = torch.rand(len(RANGES), generator=generator_of(seed, "sweep", number), dtype=torch.float64).tolist()
    values = {name: each.at(at) for at, (name, each) in zip(share, RANGES.items()) if name not in kept}
    return replace(base, **values)


def first_rung(config: SpaceConfig) -> int:
    """Steps after which trials are first compared: the first evaluation, or a ninth of all steps."""
    return max(min(config.evaluate_every, config.steps), config.steps // FACTOR**2)


class Halving:
    """Asynchronous successive halving (ASHA, Li et al. 2020, arXiv 1810.05934): nobody waits for a rung to be full.

    A trial that comes to a rung goes on when its score is in the best third of those that came there before it. What
    Ray Tune's scheduler does, for trials that this process trains.
    """

    def __init__(self, steps: int, first: int) -> None:
        rungs = [first]
        while rungs[-1] * FACTOR <= steps:
            rungs.append(rungs[-1] * FACTOR)
        self._scores: dict[int, dict[int, float]] = {rung: {} for rung in reversed(rungs)}  # of the trials there

    def goes_on(self, number: int, step: int, score: float) -> bool:
        """Whether a trial is to be trained further; lower scores are better."""
        for rung, there in self._scores.items():
            if step < rung or number in there:
                continue
            others = torch.tensor(list(there.values()), dtype=torch.float64)
            there[number] = score
            return not len(others) or score <= others.quantile(1 / FACTOR).item()
        return True
