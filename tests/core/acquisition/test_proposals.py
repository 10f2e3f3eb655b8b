"""Candidates: networks new and masked, half of them mutations of the fronts, each for all datasets."""

import torch
from acquisition_worlds import CostedSpace

from tans_core.acquisition.proposals import FRESH, Candidates, UsedPairs, propose_candidates
from tans_core.records import Candidate

LARGE, SIXTEEN = CostedSpace(8), CostedSpace(1)
NO_FRONT_LARGE, NO_FRONT_SIXTEEN = (torch.empty(0, s.topology_length, dtype=torch.int64) for s in (LARGE, SIXTEEN))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairs(candidates: Candidates) -> list[tuple[int, ...]]:
    return [(d, *candidates.topology_QT[q].tolist()) for d, q in candidates.new_DQ.nonzero().tolist()]


def test_candidates_are_masked_unique_and_the_same_for_all_datasets():
    front = LARGE.sample(5, generator(1))
    proposed = propose_candidates(
        LARGE, [front, NO_FRONT_LARGE, front], UsedPairs(["a", "b", "c"], LARGE), generator(), 300
    )
    counts = proposed.new_DQ.sum(dim=1).tolist()
    assert 270 < counts[0] <= 300 and len(set(counts)) == 1  # some mutations come out alike
    assert len(set(pairs(proposed))) == sum(counts)
    assert all(LARGE.architecture(t).topology == tuple(t) for t in proposed.topology_QT.tolist())


def test_half_are_mutations_of_the_front():
    front = LARGE.sample(1, generator(1))
    proposed = propose_candidates(LARGE, [front], UsedPairs(["a"], LARGE), generator(), 300)
    differing_Q = (proposed.topology_QT != front).sum(dim=1)
    assert (differing_Q < 12).sum() >= 120  # of 40 numbers; two random networks differ in 25
    assert (differing_Q > 15).sum() >= 140


def test_every_front_is_a_parent_as_often_and_every_network_of_it():
    fronts = [LARGE.sample(count, generator(count)) for count in (1, 5)]
    proposed = propose_candidates(LARGE, [*fronts, NO_FRONT_LARGE], UsedPairs(["a", "b", "c"], LARGE), generator(), 300)
    near_FQ = (proposed.topology_QT != torch.cat(fronts)[:, None]).sum(dim=2) < 12
    assert near_FQ[0].sum() >= 50 and near_FQ[1:].any(dim=0).sum() >= 50
    assert near_FQ.any(dim=1).all()


def test_e5_used_pairs_are_left_out_whatever_their_masked_numbers():
    used = UsedPairs(["a", "b"], SIXTEEN)
    used.add(Candidate("a", (3, 7, 3, 3, 1)))  # the second block is beyond the depth: the same network
    proposed = pairs(propose_candidates(SIXTEEN, [NO_FRONT_SIXTEEN] * 2, used, generator(), 300))
    assert (0, 3, 0, 3, 0, 1) not in proposed
    assert len(proposed) == 15 + 16


def test_e6_a_used_up_dataset_gives_none_and_the_others_theirs():
    used = UsedPairs(["a", "b"], SIXTEEN)
    members = SIXTEEN.sample(1_000, generator()).unique(dim=0)
    for topology in members.tolist():
        used.add(Candidate("a", tuple(topology)))
    proposed = propose_candidates(SIXTEEN, [members[:2], NO_FRONT_SIXTEEN], used, generator(), 300)
    assert proposed.new_DQ.sum(dim=1).tolist() == [0, 16]
    none = propose_candidates(SIXTEEN, [members[:2]], used, generator(), 300)
    assert not none.new_DQ[0].any()


def test_pending_pairs_count_for_one_decision_only():
    used = UsedPairs(["a"], SIXTEEN)
    pending = used.with_pending([Candidate("a", (3, 0, 3, 0, 1))])
    assert len(pairs(propose_candidates(SIXTEEN, [NO_FRONT_SIXTEEN], pending, generator(), 300))) == 15
    assert len(pairs(propose_candidates(SIXTEEN, [NO_FRONT_SIXTEEN], used, generator(), 300))) == 16


def test_the_generator_decides_everything():
    front, used = LARGE.sample(3, generator(1)), UsedPairs(["a"], LARGE)
    same = [pairs(propose_candidates(LARGE, [front], used, generator(seed), 300)) for seed in (5, 5, 6)]
    assert same[0] == same[1] != same[2]


def test_a_dataset_where_all_candidates_are_used_gets_a_last_look():
    # The draw of this seed is used on b already: it alone gets networks of a second draw.
    drawn = LARGE.sample(FRESH, generator())
    used = UsedPairs(["a", "b"], LARGE)
    for topology in drawn.tolist():
        used.add(Candidate("b", tuple(topology)))
    proposed = propose_candidates(LARGE, [NO_FRONT_LARGE] * 2, used, generator(), 300)
    assert proposed.new_DQ.sum(dim=1).tolist() == [2 * FRESH, FRESH]
    assert not proposed.new_DQ[1, :FRESH].any()
