"""Which pair to train next.

Axes: N rows with labels, P pending pairs, Q networks, D datasets, T topology, F columns of a pair or a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from math import ceil
from typing import Protocol

import torch
from torch import Tensor

from tans_core.acquisition.hypervolume import CostScale, FrontLevels, front_levels, raw_accuracy
from tans_core.acquisition.inputs import LabelledPairs, Labeller, Labels, PairEncoder
from tans_core.acquisition.maximise import Best, best_candidates
from tans_core.acquisition.proposals import Candidates, UsedPairs, fresh_networks, propose_candidates
from tans_core.acquisition.refits import InForce, Refits
from tans_core.acquisition.surrogate import (
    MAX_ROWS,
    Hyperparameters,
    Posterior,
    condition,
    fit,
    prior_hyperparameters,
)
from tans_core.errors import ConfigError
from tans_core.records import Candidate, Choice, DatasetRecord, Observation
from tans_core.search_space.space import SearchSpace

LEAST_ROWS = 4  # below, the surrogate is not asked, whatever the number of the decision
RUNNERS_UP = 3
WINDOW_STEP = 100  # rows that leave the surrogate's window at once


class Chooser(Protocol):
    """Proposes each pair at most once, and none that is observed, pending or excluded.

    Decision n's random numbers follow from (seed, n) alone; so does the choice, given the same observations in the
    same order. Pairs of datasets that it was not told of are left aside.
    """

    refit_seconds: list[float]

    def observe(self, observation: Observation) -> None:
        """Take in a trained pair."""
        ...

    def exclude(self, candidate: Candidate) -> None:
        """Never propose this pair: it failed too often."""
        ...

    def propose(
        self, decision: int, pending: Sequence[Candidate], seconds: Mapping[str, float] | None = None
    ) -> Choice | None:
        """The pair to train next while `pending` are in training; None: no candidate is left on any dataset.

        Args:
            seconds: that the next pair of a dataset takes, by fingerprint; datasets without are left aside now.
                None: pairs of all datasets, which are equally dear.
        """
        ...

    def close(self) -> None:
        """End the thread that fits, if there is one."""
        ...


class RandomChooser:
    """The control: a dataset, uniform among those with a network left; a network as OFA's sampler draws it."""

    def __init__(self, datasets: Sequence[DatasetRecord], search_space: SearchSpace, seed: int) -> None:
        self.refit_seconds: list[float] = []
        self._datasets = tuple(datasets)
        self._search_space = search_space
        self._seed = seed
        self._used = UsedPairs(_fingerprints(datasets), search_space)

    def observe(self, observation: Observation) -> None:
        self._used.add(observation.candidate)

    def exclude(self, candidate: Candidate) -> None:
        self._used.add(candidate)

    def propose(
        self, decision: int, pending: Sequence[Candidate], seconds: Mapping[str, float] | None = None
    ) -> Choice | None:
        generator = _generator(self._seed, str(decision))
        order = torch.randperm(len(self._datasets), generator=generator).tolist()
        order = [index for index in order if _is_open(self._datasets[index], seconds)]
        candidate = _first_new(self._datasets, order, self._search_space, self._used.with_pending(pending), generator)
        if candidate is None:
            return None
        return Choice(candidate, decision, "random", "control: dataset uniform, network by the space's sampler")

    def close(self) -> None:
        pass


class HypervolumeChooser:
    """Largest expected hypervolume gain (DESIGN, equation 7) under one surrogate over all datasets of the zoo.

    The first `random_start` decisions go round the datasets with random networks. Pending pairs count as rows at
    their predicted mean. The levels of a front are posterior means, not labels: a front of the luckiest
    labels would stop the search.
    """

    def __init__(
        self,
        datasets: Sequence[DatasetRecord],
        beside: Sequence[DatasetRecord],
        search_space: SearchSpace,
        cost_scale: CostScale,
        seed: int,
    ) -> None:
        self.random_start = min(20, max(8, ceil(len(datasets) / 4)))
        self._datasets = tuple(datasets)  # pairs are proposed of these; they come first in every index of a dataset
        beside = sorted(beside, key=lambda dataset: dataset.fingerprint)  # workers hand them to the zoo in any order
        every = (*datasets, *beside)
        self._search_space = search_space
        self._seed = seed
        self._used = UsedPairs(_fingerprints(datasets), search_space, beside=_fingerprints(beside))
        self._labellers = [Labeller(dataset.chance) for dataset in every]
        self._encoder = PairEncoder(every, search_space, cost_scale)
        self._design = self._encoder.design
        self._rows = self._encoder.labelled([], [], [], [])
        self._kept: Posterior | None = None  # given the rows from `_kept_first` on
        self._kept_first = 0
        self._observed: list[tuple[int, tuple[int, ...], float, float]] = []  # not yet among the rows
        self._refits = Refits(self._fit_first, prior_hyperparameters(self._design))
        self.refit_seconds = self._refits.seconds

    def observe(self, observation: Observation) -> None:
        if not 0 <= observation.correct <= observation.total or observation.total < 1:
            raise ConfigError(f"{observation.correct} of {observation.total} is no accuracy: {observation.candidate}")
        if place := self._used.add(observation.candidate):
            label = self._labellers[place[0]].label(observation.correct, observation.total)
            self._observed.append((*place, *label))

    def exclude(self, candidate: Candidate) -> None:
        self._used.add(candidate)

    def propose(
        self, decision: int, pending: Sequence[Candidate], seconds: Mapping[str, float] | None = None
    ) -> Choice | None:
        if self._observed:
            self._rows += self._encoder.labelled(*zip(*self._observed))
            self._observed = []
        used = self._used.with_pending(pending)
        generator = _generator(self._seed, str(decision))
        if decision < self.random_start or len(self._rows) < LEAST_ROWS or not self._datasets:
            return self._propose_random(decision, used, generator, seconds)
        in_force = self._refits.at(len(self._rows))
        try:
            return self._propose_best(decision, pending, used, generator, in_force, seconds)
        except torch.linalg.LinAlgError as error:  # type: ignore[reportPrivateImportUsage]
            return self._propose_random(
                decision, used, generator, seconds, f"random: {in_force.note} and gives nothing ({error})"
            )

    def close(self) -> None:
        self._refits.close()

    def _propose_best(
        self,
        decision: int,
        pending: Sequence[Candidate],
        used: UsedPairs,
        generator: torch.Generator,
        in_force: InForce,
        seconds: Mapping[str, float] | None,
    ) -> Choice | None:
        """Raises LinAlgError where the surrogate cannot be worked out."""
        rows, posterior = self._with_pending(self._surrogate(in_force), pending)
        fronts = self._fronts(rows, _levels(rows, posterior))
        candidates = propose_candidates(
            self._search_space, [rows.topology_NT[front.indices] for front in fronts], used, generator
        )
        network_QF = self._encoder.networks(candidates.topology_QT)
        levels, seconds_D = [front.levels for front in fronts], None
        if seconds is not None:
            open_D = torch.tensor([_is_open(dataset, seconds) for dataset in self._datasets])
            candidates = replace(candidates, new_DQ=candidates.new_DQ & open_D[:, None])
            seconds_D = torch.tensor([seconds.get(dataset.fingerprint, 1.0) for dataset in self._datasets]).double()
        best = best_candidates(posterior, levels, network_QF, candidates.new_DQ, 1 + RUNNERS_UP, seconds_D)
        return self._choice(decision, candidates, best, in_force.note, seconds) if best else None

    def _propose_random(
        self,
        decision: int,
        used: UsedPairs,
        generator: torch.Generator,
        seconds: Mapping[str, float] | None,
        why: str | None = None,
    ) -> Choice | None:
        count = len(self._datasets)
        order = torch.randperm(count, generator=_generator(self._seed, "start")).tolist()
        turn = decision % max(count, 1)
        order = [index for index in order[turn:] + order[:turn] if _is_open(self._datasets[index], seconds)]
        candidate = _first_new(self._datasets, order, self._search_space, used, generator)
        if candidate is None:
            return None
        if why is not None:
            reason = why
        elif decision < self.random_start:
            reason = f"random start: decision {decision + 1} of {self.random_start}, datasets in turn"
        else:
            reason = f"random: {len(self._rows)} rows so far, the surrogate is asked from {LEAST_ROWS} on"
        return Choice(candidate, decision, "random", reason)

    def _fit_first(self, count: int) -> Hyperparameters:
        """In the thread of the fits: rows are only ever replaced by longer ones that begin alike."""
        rows = self._rows
        return fit(self._design, rows.X_NF[:count], rows.labels[:count])

    def _surrogate(self, in_force: InForce) -> Posterior:
        """Given the rows of the window, taken up one by one: in the same steps wherever a build was cut."""
        first = WINDOW_STEP * ceil(max(0, len(self._rows) - MAX_ROWS) / WINDOW_STEP)
        X_NF, labels = self._rows.X_NF[first:], self._rows.labels[first:]
        if self._kept is None or self._kept_first != first or self._kept.hyperparameters != in_force.hyperparameters:
            begins = max(in_force.since - first, MAX_ROWS - WINDOW_STEP + 1 if first else 0)
            self._kept = condition(in_force.hyperparameters, self._design, X_NF[:begins], labels[:begins])
            self._kept_first = first
        for row in range(len(self._kept.X_NF), len(X_NF)):
            self._kept = self._kept.given(X_NF[row : row + 1], labels[row : row + 1])
        return self._kept

    def _with_pending(self, posterior: Posterior, pending: Sequence[Candidate]) -> tuple[LabelledPairs, Posterior]:
        """Rows and pending pairs, the latter at their predicted means, and the surrogate given both."""
        places = [place for place in map(self._used.located, pending) if place is not None]
        if not places:
            return self._rows, posterior
        dataset_P, topology_PT = (torch.tensor(part) for part in zip(*places))
        X_PF = self._encoder.encode(dataset_P, topology_PT)
        variances = [self._variance_to_come(index) for index, _ in places]
        labels = Labels(posterior.means(X_PF), torch.tensor(variances, dtype=torch.float64))
        return self._rows + LabelledPairs(dataset_P, topology_PT, X_PF, labels), posterior.given(X_PF, labels)

    def _variance_to_come(self, index: int) -> float:
        """Of the label that a pending pair would get if it came back now."""
        return self._labellers[index].variance(sum(self._datasets[index].counts["validation"]))

    def _fronts(self, rows: LabelledPairs, level_N: Tensor) -> list[_Front]:
        """Rebuilt at each decision (0.1 ms a dataset): one new row anywhere moves every level of a joint surrogate."""
        fronts = []
        for index in range(len(self._datasets)):
            there = (rows.dataset_N == index).nonzero()[:, 0]
            levels = front_levels(level_N[there].tolist(), rows.costs_N2[there].numpy())
            fronts.append(_Front(levels, there[list(levels.rows_F)]))
        return fronts

    def _choice(
        self,
        decision: int,
        candidates: Candidates,
        best: Sequence[Best],
        note: str,
        seconds: Mapping[str, float] | None,
    ) -> Choice:
        first, *others = best
        dataset, scored = self._datasets[first.dataset], int(candidates.new_DQ.sum())
        costs = self._encoder.cost_scale.names
        a_second = "" if seconds is None else " a second"
        in_time = "" if seconds is None else f" in about {seconds[dataset.fingerprint]:.1f} s"
        reason = (
            f"largest expected gain{a_second} of {scored:,} candidates: {first.gain:.2%} of the box of {dataset.name}"
            f"{in_time}, "
            f"at cost quantiles {first.costs[0]:.2f} ({costs[0]}) and {first.costs[1]:.2f} ({costs[1]}); {note}"
        )
        return Choice(
            candidate=Candidate(dataset.fingerprint, tuple(candidates.topology_QT[first.network].tolist())),
            decision=decision,
            chosen_by="hypervolume",
            reason=reason,
            predicted_mean=raw_accuracy(first.scaled_mean, dataset.chance),
            predicted_std=first.scaled_std * (1 - dataset.chance),
            expected_gain=first.gain,
            candidates_scored=scored,
            runners_up=tuple((self._datasets[other.dataset].fingerprint, other.gain) for other in others),
        )


CHOOSERS: dict[
    str, Callable[[Sequence[DatasetRecord], Sequence[DatasetRecord], SearchSpace, CostScale, int], Chooser]
] = {
    "hypervolume": HypervolumeChooser,
    "random": lambda datasets, _beside, search_space, _cost_scale, seed: RandomChooser(datasets, search_space, seed),
}


def check_chooser(name: str) -> None:
    """Refuse a name that no chooser has.

    Raises:
        ConfigError: it is one.
    """
    if name not in CHOOSERS:
        raise ConfigError(f"there is no acquisition {name!r}: choose one of {', '.join(CHOOSERS)}")


def make_chooser(
    name: str,
    datasets: Sequence[DatasetRecord],
    beside: Sequence[DatasetRecord],
    search_space: SearchSpace,
    cost_scale: CostScale,
    seed: int,
) -> Chooser:
    """The chooser of that name; to be closed after use.

    Args:
        name: one of `CHOOSERS`.
        datasets: of this build; pairs are proposed of these alone.
        beside: the zoo's other datasets; what was observed of them counts as well.
        search_space, seed: of the zoo.
        cost_scale: the two costs that a front is made of, beside accuracy.

    Raises:
        ConfigError: no such chooser.
    """
    check_chooser(name)
    return CHOOSERS[name](datasets, beside, search_space, cost_scale, seed)


@dataclass(frozen=True, eq=False)
class _Front:
    levels: FrontLevels
    indices: Tensor  # of its rows


def _levels(rows: LabelledPairs, posterior: Posterior) -> Tensor:
    """Posterior mean at each row; those beyond the surrogate's window count as it predicts them."""
    beyond = len(rows) - len(posterior.scaled_at_rows_N)
    return torch.cat([posterior.means(rows.X_NF[:beyond]), posterior.scaled_at_rows_N])


def _is_open(dataset: DatasetRecord, seconds: Mapping[str, float] | None) -> bool:
    return seconds is None or dataset.fingerprint in seconds


def _fingerprints(datasets: Sequence[DatasetRecord]) -> list[str]:
    return [dataset.fingerprint for dataset in datasets]


def _first_new(
    datasets: Sequence[DatasetRecord],
    order: Sequence[int],
    search_space: SearchSpace,
    used: UsedPairs,
    generator: torch.Generator,
) -> Candidate | None:
    """A fresh network for the first dataset in this order that has one left."""
    for index in order:
        topology_QT = fresh_networks(search_space, used, index, generator)
        if len(topology_QT):
            return Candidate(datasets[index].fingerprint, tuple(topology_QT[0].tolist()))
    return None


def _generator(seed: int, purpose: str) -> torch.Generator:
    """Random numbers that follow from (seed, purpose) alone."""
    digest = blake2b(f"{seed}/{purpose}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest))
