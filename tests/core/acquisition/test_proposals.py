"""Candidates: new, masked, at most 300 a dataset, half of them mutations of the front."""

import torch
from acquisition_worlds import CostedSpace

from tans_core.acquisition.proposals import Candidates, UsedPairs, propose_candidates
from tans_core.records import Candidate

LARGE, SIXTEEN = CostedSpace(8), CostedSpace(1)
NO_FRONT_LARGE, NO_FRONT_SIXTEEN = (torch.empty(0, s.topology_length, dtype=torch.int64) for s in (LARGE, SIXTEEN))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairs(candidates: Candidates) -> list[tuple[int, ...]]:
    return [(d, *t) for d, t in zip(candidates.dataset_C.tolist(), candidates.topology_CT.tolist())]


def test_candidates_are_masked_unique_and_at_most_300_a_dataset():
    front = LARGE.sample(5, generator(1))
    proposed = propose_candidates(LARGE, [front, NO_FRONT_LARGE, front], UsedPairs(["a", "b", "c"], LARGE), generator())
    counts = proposed.dataset_C.bincount().tolist()
    assert counts[1] == 300 and min(counts) > 270 and max(counts) == 300  # some mutations come out alike
    assert len(set(pairs(proposed))) == sum(counts)
    assert all(LARGE.architecture(t).topology == tuple(t) for t in proposed.topology_CT.tolist())


def test_half_are_mutations_of_the_front():
    front = LARGE.sample(1, generator(1))
    proposed = propose_candidates(LARGE, [front], UsedPairs(["a"], LARGE), generator())
    differing_C = (proposed.topology_CT != front).sum(dim=1)
    assert (differing_C < 12).sum() >= 120  # of 40 numbers; two random networks differ in 25
    assert (differing_C > 15).sum() >= 140


def test_e5_used_pairs_are_left_out_whatever_their_masked_numbers():
    used = UsedPairs(["a", "b"], SIXTEEN)
    used.add(Candidate("a", (3, 7, 3, 3, 1)))  # the second block is beyond the depth: the same network
    proposed = pairs(propose_candidates(SIXTEEN, [NO_FRONT_SIXTEEN] * 2, used, generator()))
    assert (0, 3, 0, 3, 0, 1) not in proposed
    assert len(proposed) == 15 + 16


def test_e6_a_used_up_dataset_gives_none_and_the_others_theirs():
    used = UsedPairs(["a", "b"], SIXTEEN)
    members = SIXTEEN.sample(1_000, generator()).unique(dim=0)
    for topology in members.tolist():
        used.add(Candidate("a", tuple(topology)))
    proposed = propose_candidates(SIXTEEN, [members[:2], NO_FRONT_SIXTEEN], used, generator())
    assert proposed.dataset_C.bincount(minlength=2).tolist() == [0, 16]
    none = propose_candidates(SIXTEEN, [members[:2]], used, generator())
    assert none.topology_CT.shape == (0, 5)


def test_pending_pairs_count_for_one_decision_only():
    used = UsedPairs(["a"], SIXTEEN)
    pending = used.with_pending([Candidate("a", (3, 0, 3, 0, 1))])
    assert len(pairs(propose_candidates(SIXTEEN, [NO_FRONT_SIXTEEN], pending, generator()))) == 15
    assert len(pairs(propose_candidates(SIXTEEN, [NO_FRONT_SIXTEEN], used, generator()))) == 16


def test_the_generator_decides_everything():
    front, used = LARGE.sample(3, generator(1)), UsedPairs(["a"], LARGE)
    same = [pairs(propose_candidates(LARGE, [front], used, generator(seed))) for seed in (5, 5, 6)]
    assert same[0] == same[1] != same[2]
