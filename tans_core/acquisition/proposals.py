"""Candidates for the next pair: fresh networks and mutations of the fronts, each for every dataset where it is new.

Axes: Q networks, D datasets, T topology, F networks of a front.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from tans_core.records import Candidate
from tans_core.search_space.space import SearchSpace

FRESH = 300  # networks of a draw
USED_UP_AFTER = 10  # draws without a new one


@dataclass(frozen=True, eq=False)
class Candidates:
    """Networks, each a candidate on all datasets but those that it was used on."""

    topology_QT: Tensor  # int64, masked
    new_DQ: Tensor  # bool; of equal networks only the first is new


class UsedPairs:
    """Pairs never to be proposed (again), known by 64-bit hashes: a collision can only cost a candidate."""

    def __init__(self, fingerprints: Sequence[str], search_space: SearchSpace, beside: Sequence[str] = ()) -> None:
        """Take the datasets that pairs may be proposed of, and those `beside` them that only have rows."""
        self._index = {fingerprint: index for index, fingerprint in enumerate((*fingerprints, *beside))}
        self._proposable = len(fingerprints)
        self._search_space = search_space
        self._factors = np.random.default_rng(0).integers(-(2**62), 2**62, search_space.topology_length + 1) * 2 + 1
        self._keys: set[int] = set()
        self._pending: frozenset[int] = frozenset()
        self._places: dict[Candidate, tuple[int, tuple[int, ...]]] = {}  # checked and masked once

    def located(self, candidate: Candidate) -> tuple[int, tuple[int, ...]] | None:
        """Index of its dataset and its masked topology; None for a dataset that it was not told of.

        Raises:
            InvalidTopology: no network of the search space.
        """
        if candidate.fingerprint not in self._index:
            return None
        if candidate not in self._places:
            masked = self._search_space.architecture(candidate.topology).topology
            self._places[candidate] = self._index[candidate.fingerprint], masked
        return self._places[candidate]

    def know_masked(self, drawn: Sequence[Candidate]) -> None:
        """Pairs as the space draws them need no check."""
        for candidate in drawn:
            self._places[candidate] = self._index[candidate.fingerprint], candidate.topology

    def add(self, candidate: Candidate) -> tuple[int, tuple[int, ...]] | None:
        """Take in a pair; returns where it is, as `located`."""
        place = self.located(candidate)
        if place is not None:
            self._keys.update(self._keys_of([place]))
        return place

    def __contains__(self, candidate: Candidate) -> bool:
        place = self.located(candidate)
        return place is not None and not self._keys.isdisjoint(self._keys_of([place]))

    def with_pending(self, pending: Sequence[Candidate]) -> UsedPairs:
        """These and the pending ones, as another view."""
        both = copy(self)
        both._pending = frozenset(self._keys_of([place for place in map(self.located, pending) if place is not None]))
        return both

    def _keys_of(self, places: Sequence[tuple[int, tuple[int, ...]]]) -> list[int]:
        if not places:
            return []
        dataset_P, topology_PT = zip(*places)
        return self._pair(np.array(dataset_P), self._hash(torch.tensor(topology_PT))).tolist()

    def new(self, topology_QT: Tensor) -> Tensor:
        """On which proposable datasets which networks are not used and stand here for the first time: bool (D, Q)."""
        key_Q = self._hash(topology_QT)
        first_Q = np.zeros(len(key_Q), bool)
        first_Q[np.unique(key_Q, return_index=True)[1]] = True
        pair_DQ = self._pair(np.arange(self._proposable)[:, None], key_Q)
        used = np.fromiter(chain(self._keys, self._pending), np.int64, len(self._keys) + len(self._pending))
        return torch.from_numpy(first_Q & ~np.isin(pair_DQ, used))

    def _hash(self, topology_QT: Tensor) -> np.ndarray:
        return (topology_QT.numpy() * self._factors[1:]).sum(axis=1)  # wraps at 64 bits, as it should

    def _pair(self, dataset: np.ndarray, network: np.ndarray) -> np.ndarray:
        return dataset * self._factors[0] + network


def fresh_networks(search_space: SearchSpace, used: UsedPairs, dataset: int, generator: torch.Generator) -> Tensor:
    """Networks new on one dataset, as the space's sampler draws them: (Q, T); Q = 0 only if it looks used up."""
    for _ in range(USED_UP_AFTER):
        topology_QT = search_space.sample(FRESH, generator)
        topology_QT = topology_QT[used.new(topology_QT)[dataset]]
        if len(topology_QT):
            return topology_QT
    return topology_QT


def propose_candidates(
    search_space: SearchSpace, fronts: Sequence[Tensor], used: UsedPairs, generator: torch.Generator, networks: int
) -> Candidates:
    """Networks, each for all datasets: what does well on one is looked at on the others.

    A dataset on which all of them are used gets as many more.

    Args:
        search_space: of the zoo.
        fronts: for each dataset the masked topologies of its front (F, T). Half of the networks are mutations of
            them, each front as often as any other; without any all are fresh.
        used: pairs to leave out: finished, pending, benched.
        generator: decides everything.
        networks: how many.
    """
    there = [front for front in fronts if len(front)]
    half = networks // 2 if there else 0
    topology_QT = search_space.sample(networks - half, generator)
    if there:
        mutated_QT = search_space.mutate(_parents(there, half, generator), generator)
        topology_QT = torch.cat([topology_QT, mutated_QT])
    new_DQ = used.new(topology_QT)
    if used_up := (~new_DQ.any(dim=1)).nonzero()[:, 0].tolist():
        more = [fresh_networks(search_space, used, index, generator) for index in used_up]
        topology_QT = torch.cat([topology_QT, *more])
        new_DQ = used.new(topology_QT)
    return Candidates(topology_QT, new_DQ)


def _parents(fronts: Sequence[Tensor], count: int, generator: torch.Generator) -> Tensor:
    """First a front is drawn, then one of its networks: (count, T)."""
    size_D = torch.tensor([len(front) for front in fronts])
    front_Q = torch.randint(len(fronts), (count,), generator=generator)
    place_Q = (torch.rand(count, dtype=torch.float64, generator=generator) * size_D[front_Q]).long()
    return torch.cat(list(fronts))[(size_D.cumsum(0) - size_D)[front_Q] + place_Q]
