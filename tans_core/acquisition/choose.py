"""Which pair to train next.

Axes: N rows with labels, P pending pairs, C candidates, D datasets, T topology, F columns of a pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil
from typing import Protocol

import torch
from torch import Tensor

from tans_core.acquisition.gain import expected_gain
from tans_core.acquisition.hypervolume import FrontLevels, front_levels
from tans_core.acquisition.inputs import LabelledPairs, Labels, PairEncoder, label
from tans_core.acquisition.proposals import Candidates, UsedPairs, fresh_candidates, propose_candidates
from tans_core.acquisition.refits import Refits
from tans_core.acquisition.surrogate import Hyperparameters, Posterior, condition, fit, prior_hyperparameters
from tans_core.errors import ConfigError
from tans_core.records import Candidate, Choice, DatasetRecord, Observation
from tans_core.search_space.space import SearchSpace

LEAST_ROWS = 4  # below, the surrogate is not asked, whatever the number of the decision
RUNNERS_UP = 3


class Chooser(Protocol):
    """Proposes each pair at most once, and none that is observed, pending or excluded.

    Decision n's random numbers follow from (seed, n) alone; so does the choice, given the same observations in the
    same order. Pairs of datasets that are not of this build are left aside.
    """

    refit_seconds: list[float]

    def observe(self, observation: Observation) -> None:
        """Take in a trained pair."""
        ...

    def exclude(self, candidate: Candidate) -> None:
        """Never propose this pair: it failed too often."""
        ...

    def propose(self, decision: int, pending: Sequence[Candidate]) -> Choice | None:
        """The pair to train next while `pending` are in training; None: no candidate is left on any dataset."""
        ...

    def close(self) -> None:
        """End the thread that fits, if there is one."""
        ...


class RandomChooser:
    """The control: a dataset, uniform among those with a network left; a network as OFA's sampler draws it."""

    def __init__(self, datasets: Sequence[DatasetRecord], search_space: SearchSpace, seed: int) -> None:
        self.refit_seconds: list[float] = []
        self._datasets = tuple(datasets)
        self._space = search_space
        self._seed = seed
        self._used = UsedPairs([dataset.fingerprint for dataset in datasets], search_space)

    def observe(self, observation: Observation) -> None:
        self._used.add(observation.candidate)

    def exclude(self, candidate: Candidate) -> None:
        self._used.add(candidate)

    def propose(self, decision: int, pending: Sequence[Candidate]) -> Choice | None:
        generator = _generator(self._seed, str(decision))
        order = torch.randperm(len(self._datasets), generator=generator).tolist()
        candidate = _first_new(self._datasets, order, self._space, self._used.with_pending(pending), generator)
        if candidate is None:
            return None
        return Choice(candidate, decision, "random", "control: dataset uniform, network by the space's sampler")

    def close(self) -> None:
        pass


class HypervolumeChooser:
    """Largest expected hypervolume gain (DESIGN, equation 7) under one surrogate over all datasets.

    The first `random_start` decisions go round the datasets with random networks. Pending pairs count as rows at
    their predicted mean. The levels of a front are posterior means, not labels: a front of the luckiest
    labels would stop the search.
    """

    def __init__(
        self, datasets: Sequence[DatasetRecord], search_space: SearchSpace, image_size: int, seed: int
    ) -> None:
        self.random_start = min(20, max(8, ceil(len(datasets) / 4)))
        self._datasets = tuple(datasets)
        self._space = search_space
        self._seed = seed
        self._used = UsedPairs([dataset.fingerprint for dataset in datasets], search_space)
        self._encoder = PairEncoder(datasets, search_space, image_size)
        self._design = self._encoder.design
        self._rows = self._encoder.labelled([], [], [], [])
        self._observed: list[tuple[int, tuple[int, ...], float, float]] = []  # not yet among the rows
        self._refits = Refits(self._fit_first, prior_hyperparameters(self._design))
        self.refit_seconds = self._refits.seconds

    def observe(self, observation: Observation) -> None:
        if not 0 <= observation.correct <= observation.total or observation.total < 1:
            raise ConfigError(f"{observation.correct} of {observation.total} is no accuracy: {observation.candidate}")
        if place := self._used.add(observation.candidate):
            chance = self._datasets[place[0]].chance
            self._observed.append((*place, *label(observation.correct, observation.total, chance)))

    def exclude(self, candidate: Candidate) -> None:
        self._used.add(candidate)

    def propose(self, decision: int, pending: Sequence[Candidate]) -> Choice | None:
        if self._observed:
            self._rows += self._encoder.labelled(*zip(*self._observed))
            self._observed = []
        used = self._used.with_pending(pending)
        generator = _generator(self._seed, str(decision))
        if decision < self.random_start or len(self._rows) < LEAST_ROWS:
            return self._propose_random(decision, used, generator)
        in_force = self._refits.at(len(self._rows))
        try:
            rows, posterior = self._with_pending(in_force.hyperparameters, pending)
        except torch.linalg.LinAlgError as error:  # type: ignore[reportPrivateImportUsage]
            return self._propose_random(
                decision, used, generator, f"random: {in_force.note} and gives nothing ({error})"
            )
        fronts = self._fronts(rows, _levels(rows, posterior))
        candidates = propose_candidates(
            self._space, [rows.topology_NT[front.indices] for front in fronts], used, generator
        )
        if len(candidates.dataset_C) == 0:
            return None
        scores = _score(candidates, fronts, posterior, self._encoder)
        return self._choice(decision, candidates, scores, in_force.note)

    def close(self) -> None:
        self._refits.close()

    def _propose_random(
        self, decision: int, used: UsedPairs, generator: torch.Generator, why: str | None = None
    ) -> Choice | None:
        count = len(self._datasets)
        order = torch.randperm(count, generator=_generator(self._seed, "start")).tolist()
        turn = decision % max(count, 1)
        candidate = _first_new(self._datasets, order[turn:] + order[:turn], self._space, used, generator)
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
        labels = Labels(rows.labels.accuracy_N[:count], rows.labels.variance_N[:count])
        return fit(self._design, rows.X_NF[:count], labels)

    def _with_pending(
        self, hyperparameters: Hyperparameters, pending: Sequence[Candidate]
    ) -> tuple[LabelledPairs, Posterior]:
        """Rows and pending pairs, the latter at their predicted means, and the surrogate given both."""
        posterior = condition(hyperparameters, self._design, self._rows.X_NF, self._rows.labels)
        places = [place for place in map(self._used.located, pending) if place is not None]
        if not places:
            return self._rows, posterior
        datasets, topologies = zip(*places)
        mean_P, _ = posterior.predict(self._encoder.encode(torch.tensor(datasets), torch.tensor(topologies)))
        variances = [self._variance_to_come(index, mean) for index, mean in zip(datasets, mean_P.tolist())]
        rows = self._rows + self._encoder.labelled(datasets, topologies, mean_P.tolist(), variances)
        return rows, condition(hyperparameters, self._design, rows.X_NF, rows.labels)

    def _variance_to_come(self, index: int, mean: float) -> float:
        """Of the label that a pending pair will get, if it turns out as predicted."""
        dataset = self._datasets[index]
        total = sum(dataset.counts["validation"])
        return label(_raw_accuracy(mean, dataset.chance) * total, total, dataset.chance)[1]

    def _fronts(self, rows: LabelledPairs, level_N: Tensor) -> list[_Front]:
        """Rebuilt at each decision (0.1 ms a dataset): one new row anywhere moves every level of a joint surrogate."""
        fronts = []
        for index in range(len(self._datasets)):
            own = (rows.dataset_N == index).nonzero()[:, 0]
            levels = front_levels(level_N[own].tolist(), rows.costs_N2[own].numpy())
            fronts.append(_Front(levels, own[list(levels.rows_F)]))
        return fronts

    def _choice(self, decision: int, candidates: Candidates, scores: _Scores, note: str) -> Choice:
        best = int(scores.gain_C.argmax())
        index = int(candidates.dataset_C[best])
        dataset = self._datasets[index]
        runners_up = self._runners_up(candidates, scores.gain_C, leave_out=index)
        gain, mean, std = (part[best].item() for part in (scores.gain_C, scores.mean_C, scores.std_C))
        params, flops = scores.costs_C2[best].tolist()
        reason = (
            f"largest expected gain of {len(scores.gain_C):,} candidates: {gain:.2%} of the box of {dataset.name}, "
            f"at cost quantiles {params:.2f} (params) and {flops:.2f} (FLOPs); {note}"
        )
        return Choice(
            candidate=Candidate(dataset.fingerprint, tuple(candidates.topology_CT[best].tolist())),
            decision=decision,
            chosen_by="hypervolume",
            reason=reason,
            predicted_mean=_raw_accuracy(mean, dataset.chance),
            predicted_std=std * (1 - dataset.chance),
            expected_gain=gain,
            candidates_scored=len(scores.gain_C),
            runners_up=runners_up,
        )

    def _runners_up(self, candidates: Candidates, gain_C: Tensor, leave_out: int) -> tuple[tuple[str, float], ...]:
        """The best gain on each of the next datasets."""
        best_D = torch.full((len(self._datasets),), -1.0, dtype=gain_C.dtype)
        best_D.scatter_reduce_(0, candidates.dataset_C, gain_C, "amax")
        best_D[leave_out] = -1
        order = best_D.argsort(descending=True, stable=True)[:RUNNERS_UP].tolist()
        return tuple((self._datasets[index].fingerprint, best_D[index].item()) for index in order if best_D[index] >= 0)


CHOOSERS: dict[str, Callable[[Sequence[DatasetRecord], SearchSpace, int, int], Chooser]] = {
    "hypervolume": HypervolumeChooser,
    "random": lambda datasets, search_space, _image_size, seed: RandomChooser(datasets, search_space, seed),
}


def make_chooser(
    name: str, datasets: Sequence[DatasetRecord], search_space: SearchSpace, image_size: int, seed: int
) -> Chooser:
    """The chooser of that name over the build's datasets; to be closed after use.

    Raises:
        ConfigError: no such chooser.
    """
    if name not in CHOOSERS:
        raise ConfigError(f"there is no acquisition {name!r}: choose one of {', '.join(CHOOSERS)}")
    return CHOOSERS[name](datasets, search_space, image_size, seed)


@dataclass(frozen=True, eq=False)
class _Front:
    levels: FrontLevels
    indices: Tensor  # of its rows


@dataclass(frozen=True, eq=False)
class _Scores:
    mean_C: Tensor
    std_C: Tensor
    gain_C: Tensor
    costs_C2: Tensor


def _levels(rows: LabelledPairs, posterior: Posterior) -> Tensor:
    """Posterior mean at each row; those beyond the surrogate's window count as it predicts them."""
    beyond = len(rows) - len(posterior.accuracy_at_rows_N)
    predicted, _ = posterior.predict(rows.X_NF[:beyond])
    return torch.cat([predicted, posterior.accuracy_at_rows_N])


def _score(candidates: Candidates, fronts: Sequence[_Front], posterior: Posterior, encoder: PairEncoder) -> _Scores:
    X_CF = encoder.encode(candidates.dataset_C, candidates.topology_CT)
    mean_C, std_C = posterior.predict(X_CF)
    costs_C2 = X_CF[:, -2:]
    counts = candidates.dataset_C.bincount(minlength=len(fronts)).tolist()
    gains = [
        expected_gain(mean, std, front.levels.level_K, front.levels.areas(costs))
        for front, mean, std, costs in zip(fronts, mean_C.split(counts), std_C.split(counts), costs_C2.split(counts))
    ]
    return _Scores(mean_C, std_C, torch.cat(gains), costs_C2)


def _raw_accuracy(scaled: float, chance: float) -> float:
    """0 to 1, from 0 for chance to 1 for perfect."""
    return min(1.0, max(0.0, chance + (1 - chance) * scaled))


def _first_new(
    datasets: Sequence[DatasetRecord],
    order: Sequence[int],
    search_space: SearchSpace,
    used: UsedPairs,
    generator: torch.Generator,
) -> Candidate | None:
    """A fresh network for the first dataset in this order that has one left."""
    for index in order:
        topology_CT = fresh_candidates(search_space, used, index, generator)
        if len(topology_CT):
            return Candidate(datasets[index].fingerprint, tuple(topology_CT[0].tolist()))
    return None


def _generator(seed: int, purpose: str) -> torch.Generator:
    """Random numbers that follow from (seed, purpose) alone."""
    digest = blake2b(f"{seed}/{purpose}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest))
