"""Which pair to train next.

Axes: N rows with labels, P pending pairs, Q networks, D datasets, T topology, F columns of a pair or a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from math import ceil
from typing import Protocol

import torch
from torch import Tensor

from tans_core.acquisition.config import DEFAULT, AcquisitionConfig
from tans_core.acquisition.hypervolume import CostScale, FrontLevels, front_levels, raw_accuracy
from tans_core.acquisition.inputs import LabelledPairs, Labeller, Labels, PairEncoder
from tans_core.acquisition.maximise import Best, best_candidates
from tans_core.acquisition.proposals import Candidates, UsedPairs, fresh_networks, propose_candidates
from tans_core.acquisition.refits import InForce, Refits
from tans_core.acquisition.surrogates import SURROGATES
from tans_core.acquisition.surrogates.fit import FitFailed, fit, spread_rows
from tans_core.acquisition.surrogates.kernel import Hyperparameters, prior_hyperparameters
from tans_core.acquisition.surrogates.surrogate import Surrogate
from tans_core.errors import ConfigError
from tans_core.records import Candidate, Choice, DatasetRecord, Observation
from tans_core.search_space.space import SearchSpace

LEAST_ROWS = 4  # below, the surrogate is not asked, whatever the number of the decision
RUNNERS_UP = 3
DRAWN = 512  # random pairs at a time


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
        self._block: tuple[int, list[Candidate]] | None = None

    def observe(self, observation: Observation) -> None:
        self._used.add(observation.candidate)

    def exclude(self, candidate: Candidate) -> None:
        self._used.add(candidate)

    def propose(
        self, decision: int, pending: Sequence[Candidate], seconds: Mapping[str, float] | None = None
    ) -> Choice | None:
        candidate = self._drawn(decision) if self._datasets else None
        if candidate is None or not self._is_new(candidate, pending, seconds):
            generator = _generator(self._seed, str(decision))
            order = torch.randperm(len(self._datasets), generator=generator).tolist()
            order = [index for index in order if _is_open(self._datasets[index], seconds)]
            used = self._used.with_pending(pending)
            candidate = _first_new(self._datasets, order, self._search_space, used, generator)
        if candidate is None:
            return None
        return Choice(candidate, decision, "random", "control: dataset uniform, network by the space's sampler")

    def close(self) -> None:
        pass

    def _is_new(self, candidate: Candidate, pending: Sequence[Candidate], seconds: Mapping[str, float] | None) -> bool:
        is_open = seconds is None or candidate.fingerprint in seconds
        return is_open and candidate not in self._used and candidate not in pending

    def _drawn(self, decision: int) -> Candidate:
        """Drawn with those of the decisions beside it: a call of the sampler costs as much for hundreds as for one."""
        block, place = divmod(decision, DRAWN)
        if self._block is None or self._block[0] != block:
            generator = _generator(self._seed, f"block {block}")
            dataset = torch.randint(len(self._datasets), (DRAWN,), generator=generator).tolist()
            topologies = self._search_space.sample(DRAWN, generator).tolist()
            pairs = [Candidate(self._datasets[d].fingerprint, tuple(t)) for d, t in zip(dataset, topologies)]
            self._used.know_masked(pairs)
            self._block = block, pairs
        return self._block[1][place]


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
        config: AcquisitionConfig = DEFAULT,
    ) -> None:
        self.random_start = min(20, max(8, ceil(len(datasets) / 4)))
        self._datasets = tuple(datasets)  # pairs are proposed of these; they come first in every index of a dataset
        beside = sorted(beside, key=lambda dataset: dataset.fingerprint)  # workers hand them to the zoo in any order
        every = (*datasets, *beside)
        self._search_space = search_space
        self._seed = seed
        self._config = config
        self._used = UsedPairs(_fingerprints(datasets), search_space, beside=_fingerprints(beside))
        self._labellers = [Labeller(dataset.chance) for dataset in every]
        self._encoder = PairEncoder(every, search_space, cost_scale)
        self._design = self._encoder.design
        self._rows = self._encoder.labelled([], [], [], [])
        self._observed: list[tuple[int, tuple[int, ...], float, float]] = []  # not yet among the rows
        prior = self._given_first(0, prior_hyperparameters(self._design))
        self._refits = Refits(self._fit_first, prior, self._take_up)
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
        try:
            in_force = self._refits.at(len(self._rows))
            return self._propose_best(decision, pending, used, generator, in_force, seconds)
        except torch.linalg.LinAlgError as error:  # type: ignore[reportPrivateImportUsage]
            why = f"random: the surrogate gives nothing ({error})"
            return self._propose_random(decision, used, generator, seconds, why)

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
        rows, surrogate = self._with_pending(in_force.surrogate, pending)
        fronts = self._fronts(rows, surrogate.scaled_at_rows_N)
        parents = [rows.topology_NT[front.indices] for front in fronts]
        candidates = propose_candidates(self._search_space, parents, used, generator, self._config.networks)
        network_QF = self._encoder.networks(candidates.topology_QT)
        levels, seconds_D = [front.levels for front in fronts], None
        if seconds is not None:
            open_D = torch.tensor([_is_open(dataset, seconds) for dataset in self._datasets])
            candidates = replace(candidates, new_DQ=candidates.new_DQ & open_D[:, None])
            seconds_D = torch.tensor([seconds.get(dataset.fingerprint, 1.0) for dataset in self._datasets]).double()
        best = best_candidates(surrogate, levels, network_QF, candidates.new_DQ, 1 + RUNNERS_UP, seconds_D)
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

    def _fit_first(self, count: int) -> Surrogate:
        """In the thread of the fits: rows are only ever replaced by longer ones that begin alike."""
        rows = self._rows
        some = spread_rows(count, self._config.fit_rows)
        fitted = fit(self._design, rows.X_NF[some], rows.labels[some])
        try:
            surrogate = self._given_first(count, fitted)
        except torch.linalg.LinAlgError as error:  # type: ignore[reportPrivateImportUsage]
            raise FitFailed(str(error)) from error
        with suppress(torch.linalg.LinAlgError):  # type: ignore[reportPrivateImportUsage]
            return self._take_up(surrogate)  # else the driver finds the row that it is
        return surrogate

    def _given_first(self, count: int, hyperparameters: Hyperparameters) -> Surrogate:
        given, config = SURROGATES[self._config.surrogate], self._config
        X_NF, labels = self._rows.X_NF[:count], self._rows.labels[:count]
        return given(hyperparameters, self._design, X_NF, labels, config.inducing_pairs, config.block_rows)

    def _take_up(self, surrogate: Surrogate) -> Surrogate:
        """Row by row: in the same steps wherever a build was cut."""
        rows = self._rows
        for row in range(len(surrogate), len(rows)):
            surrogate = surrogate.given(rows.X_NF[row : row + 1], rows.labels[row : row + 1])
        return surrogate

    def _with_pending(self, surrogate: Surrogate, pending: Sequence[Candidate]) -> tuple[LabelledPairs, Surrogate]:
        """Rows and pending pairs, the latter at their predicted means, and the surrogate given both."""
        places = [place for place in map(self._used.located, pending) if place is not None]
        if not places:
            return self._rows, surrogate
        dataset_P, topology_PT = (torch.tensor(part) for part in zip(*places))
        X_PF = self._encoder.encode(dataset_P, topology_PT)
        variances = [self._variance_to_come(index) for index, _ in places]
        labels = Labels(surrogate.means(X_PF), torch.tensor(variances, dtype=torch.float64))
        return self._rows + LabelledPairs(dataset_P, topology_PT, X_PF, labels), surrogate.given(X_PF, labels)

    def _variance_to_come(self, index: int) -> float:
        """Of the label that a pending pair would get if it came back now."""
        return self._labellers[index].variance(sum(self._datasets[index].counts["validation"]))

    def _fronts(self, rows: LabelledPairs, level_N: Tensor) -> list[_Front]:
        """Rebuilt at each decision (0.1 ms a dataset): one new row anywhere moves every level of a joint surrogate."""
        fronts = []
        for index in range(len(self._datasets)):
            there = (rows.dataset_N == index).nonzero()[:, 0]
            levels = front_levels(
                level_N[there].tolist(), rows.costs_N2[there].numpy(), self._encoder.cost_scale.ref_cost
            )
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


MakeChooser = Callable[
    [Sequence[DatasetRecord], Sequence[DatasetRecord], SearchSpace, CostScale, int, AcquisitionConfig], Chooser
]
CHOOSERS: dict[str, MakeChooser] = {
    "hypervolume": HypervolumeChooser,
    "random": lambda datasets, _beside, search_space, _scale, seed, _: RandomChooser(datasets, search_space, seed),
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
    config: AcquisitionConfig = DEFAULT,
) -> Chooser:
    """The chooser of that name; to be closed after use.

    Args:
        name: one of `CHOOSERS`.
        datasets: of this build; pairs are proposed of these alone.
        beside: the zoo's other datasets; what was observed of them counts as well.
        search_space, seed: of the zoo.
        cost_scale: the two costs that a front is made of, beside accuracy.
        config: of the hypervolume chooser.

    Raises:
        ConfigError: no such chooser.
    """
    check_chooser(name)
    return CHOOSERS[name](datasets, beside, search_space, cost_scale, seed, config)


@dataclass(frozen=True, eq=False)
class _Front:
    levels: FrontLevels
    indices: Tensor  # of its rows


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
