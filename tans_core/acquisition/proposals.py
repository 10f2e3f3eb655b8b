"""Candidates for the next pair: fresh networks and mutations of each dataset's front, none of them used before.

Axes: C candidates of all datasets together, T topology, F networks of a front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tans_core.records import Candidate
from tans_core.search_space.space import SearchSpace

PER_DATASET = 300
USED_UP_AFTER = 10  # draws of PER_DATASET networks without a new one


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs to score, ordered by dataset."""

    dataset_C: Tensor  # int64, index into the build's datasets
    topology_CT: Tensor  # int64, masked


class UsedPairs:
    """Pairs never to be proposed (again), known by 64-bit hashes: a collision can only cost a candidate."""

    def __init__(self, fingerprints: Sequence[str], search_space: SearchSpace) -> None:
        self._index = {fingerprint: index for index, fingerprint in enumerate(fingerprints)}
        self._space = search_space
        self._factors = np.random.default_rng(0).integers(-(2**62), 2**62, search_space.topology_length + 1) * 2 + 1
        self._keys: set[int] = set()

    def located(self, candidate: Candidate) -> tuple[int, tuple[int, ...]] | None:
        """Index of its dataset and its masked topology; None for a dataset that is not of this build.

        Raises:
            InvalidTopology: no network of the search space.
        """
        if candidate.fingerprint not in self._index:
            return None
        return self._index[candidate.fingerprint], self._space.architecture(candidate.topology).topology

    def add(self, candidate: Candidate) -> tuple[int, tuple[int, ...]] | None:
        """Take in a pair; returns where it is, as `located`."""
        place = self.located(candidate)
        if place is not None:
            self._keys.update(self._hash(torch.tensor([place[0]]), torch.tensor([place[1]])).tolist())
        return place

    def with_pending(self, pending: Sequence[Candidate]) -> UsedPairs:
        """These and the pending ones, as a new set."""
        both = UsedPairs(list(self._index), self._space)
        both._keys = set(self._keys)
        for candidate in pending:
            both.add(candidate)
        return both

    def new(self, dataset_C: Tensor, topology_CT: Tensor) -> Tensor:
        """Which pairs are not used and stand here for the first time: bool (C,)."""
        key_C = self._hash(dataset_C, topology_CT)
        first_C = np.zeros(len(key_C), bool)
        first_C[np.unique(key_C, return_index=True)[1]] = True
        used = np.fromiter(self._keys, np.int64, len(self._keys))
        return torch.from_numpy(first_C & ~np.isin(key_C, used))

    def _hash(self, dataset_C: Tensor, topology_CT: Tensor) -> np.ndarray:
        pair_CT = torch.cat([dataset_C[:, None], topology_CT], dim=1).numpy()
        return (pair_CT * self._factors).sum(axis=1)  # wraps at 64 bits, as it should


def fresh_candidates(search_space: SearchSpace, used: UsedPairs, dataset: int, generator: torch.Generator) -> Tensor:
    """New networks for one dataset as the space's sampler draws them, (C, T); C = 0 only if it looks used up."""
    for _ in range(USED_UP_AFTER):
        topology_CT = search_space.sample(PER_DATASET, generator)
        topology_CT = topology_CT[used.new(torch.full((PER_DATASET,), dataset), topology_CT)]
        if len(topology_CT):
            return topology_CT
    return topology_CT


def propose_candidates(
    search_space: SearchSpace, fronts: Sequence[Tensor], used: UsedPairs, generator: torch.Generator
) -> Candidates:
    """At most `PER_DATASET` new pairs for each dataset; none for one whose search space looks used up.

    Args:
        search_space: of the zoo.
        fronts: for each dataset the masked topologies of its front (F, T). Half of its candidates are mutations of
            them; without a front all are fresh.
        used: pairs to leave out: finished, pending, benched.
        generator: decides everything.
    """
    half = PER_DATASET // 2
    fresh = torch.tensor([PER_DATASET - half if len(front) else PER_DATASET for front in fronts])
    dataset_C = torch.arange(len(fronts)).repeat_interleave(fresh)
    topology_CT = search_space.sample(int(fresh.sum()), generator)
    with_front = [index for index, front in enumerate(fronts) if len(front)]
    if with_front:
        parents = [fronts[i][torch.randint(len(fronts[i]), (half,), generator=generator)] for i in with_front]
        mutated_CT = search_space.mutate(torch.cat(parents), generator)
        topology_CT = torch.cat([topology_CT, mutated_CT])
        dataset_C = torch.cat([dataset_C, torch.tensor(with_front).repeat_interleave(half)])
    kept_C = used.new(dataset_C, topology_CT)
    dataset_C, topology_CT = dataset_C[kept_C], topology_CT[kept_C]
    for index in set(range(len(fronts))) - set(dataset_C.tolist()):
        last_look_CT = fresh_candidates(search_space, used, index, generator)
        topology_CT = torch.cat([topology_CT, last_look_CT])
        dataset_C = torch.cat([dataset_C, torch.full((len(last_look_CT),), index)])
    order_C = dataset_C.argsort(stable=True)
    return Candidates(dataset_C[order_C], topology_CT[order_C])
