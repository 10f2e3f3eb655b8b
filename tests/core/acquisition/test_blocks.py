"""The surrogate of any number of rows: exact where it can be compared with the exact one, and no row is forgotten."""

import pytest
import torch
from acquisition_worlds import CostedSpace, dataset_record

from tans_core.acquisition.hypervolume import CostScale
from tans_core.acquisition.inputs import LabelledPairs, Labels, PairEncoder
from tans_core.acquisition.surrogates import SURROGATES, blocks, exact
from tans_core.acquisition.surrogates.blocks import Blocks, Partition
from tans_core.acquisition.surrogates.fit import spread_rows
from tans_core.acquisition.surrogates.kernel import prior_hyperparameters
from tans_core.acquisition.surrogates.surrogate import Surrogate

SPACE = CostedSpace(4)
DATASETS = [dataset_record(index) for index in range(6)]
ENCODER = PairEncoder(DATASETS, SPACE, CostScale(SPACE, 64))
PRIOR = prior_hyperparameters(ENCODER.design)
NETWORKS_QF = ENCODER.networks(SPACE.sample(50, torch.Generator().manual_seed(9)))


def pairs(count: int, seed: int = 0) -> LabelledPairs:
    """On all datasets but the last."""
    generator = torch.Generator().manual_seed(seed)
    dataset_N = torch.randint(5, (count,), generator=generator).tolist()
    scaled_N = 0.6 + 0.2 * torch.randn(count, dtype=torch.float64, generator=generator)
    topologies = [tuple(each) for each in SPACE.sample(count, generator).tolist()]
    return ENCODER.labelled(dataset_N, topologies, scaled_N.tolist(), [3e-3] * count)


def given(rows: LabelledPairs, inducing_pairs: int, block_rows: int) -> Blocks:
    return blocks.condition(PRIOR, ENCODER.design, rows.X_NF, rows.labels, inducing_pairs, block_rows)


def stds(surrogate: Surrogate) -> torch.Tensor:
    survey = surrogate.survey(NETWORKS_QF, 6)
    return torch.stack([survey.std(index, torch.arange(50)) for index in range(6)])


@pytest.mark.parametrize("block_rows", [100, 4], ids=["a block a dataset", "several"])
def test_with_every_row_an_inducing_pair_it_is_the_exact_process(block_rows: int):
    rows = pairs(60)
    reference = exact.condition(PRIOR, ENCODER.design, rows.X_NF, rows.labels)
    surrogate = given(rows, 60, block_rows)
    assert len(surrogate.blocks) == (
        6 if block_rows == 100 else sum(-(-int((rows.dataset_N == d).sum()) // 4) or 1 for d in range(6))
    )
    mean_DQ = surrogate.survey(NETWORKS_QF, 6).mean_DQ
    torch.testing.assert_close(mean_DQ, reference.survey(NETWORKS_QF, 6).mean_DQ, atol=1e-5, rtol=0)
    torch.testing.assert_close(stds(surrogate), stds(reference), atol=1e-5, rtol=0)
    torch.testing.assert_close(surrogate.scaled_at_rows_N, reference.scaled_at_rows_N, atol=1e-5, rtol=0)


def test_a_dataset_alone_is_exact_whatever_the_inducing_pairs():
    rows = pairs(40)
    alone = ENCODER.labelled(
        [2] * 40, [tuple(t) for t in rows.topology_NT.tolist()], rows.labels.scaled_N.tolist(), [3e-3] * 40
    )
    surrogate, reference = given(alone, 3, 100), exact.condition(PRIOR, ENCODER.design, alone.X_NF, alone.labels)
    torch.testing.assert_close(surrogate.scaled_at_rows_N, reference.scaled_at_rows_N, atol=1e-5, rtol=0)
    torch.testing.assert_close(stds(surrogate)[2], stds(reference)[2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SURROGATES)
def test_rows_given_one_by_one_teach_the_same_as_together(name: str):
    rows, more = pairs(30), pairs(12, seed=1)
    one_by_one = SURROGATES[name](PRIOR, ENCODER.design, rows.X_NF, rows.labels, 10, 8)
    together = one_by_one.given(more.X_NF, more.labels)
    for row in range(12):
        one_by_one = one_by_one.given(more.X_NF[row : row + 1], more.labels[row : row + 1])
    assert len(one_by_one) == len(together) == 42
    torch.testing.assert_close(one_by_one.scaled_at_rows_N, together.scaled_at_rows_N)
    mean_DQ, X_QF = together.survey(NETWORKS_QF, 6).mean_DQ, torch.cat([torch.full((50, 1), 3.0), NETWORKS_QF], dim=1)
    torch.testing.assert_close(one_by_one.survey(NETWORKS_QF, 6).mean_DQ, mean_DQ)
    torch.testing.assert_close(together.means(X_QF), mean_DQ[3])
    torch.testing.assert_close(stds(one_by_one), stds(together))


@pytest.mark.parametrize("name", SURROGATES)
def test_a_bound_is_above_the_deviation(name: str):
    rows = pairs(60)
    surrogate = SURROGATES[name](PRIOR, ENCODER.design, rows.X_NF, rows.labels, 10, 8)
    assert (surrogate.survey(NETWORKS_QF, 6).most_std() >= stds(surrogate) * (1 - 1e-9)).all()


@pytest.mark.parametrize("row", [0, 1, 30, 59], ids=["the first", "the second", "in the middle", "the last"])
def test_no_row_is_forgotten(row: int):
    # With 6 inducing pairs and blocks of 8, what one label says still moves what is expected of its dataset.
    rows = pairs(60)
    moved_N = rows.labels.scaled_N.clone()
    moved_N[row] += 0.3
    moved = LabelledPairs(rows.dataset_N, rows.topology_NT, rows.X_NF, Labels(moved_N, rows.labels.variance_N))
    before, after = (given(each, 6, 8).survey(NETWORKS_QF, 6).mean_DQ for each in (rows, moved))
    dataset = int(rows.dataset_N[row])
    assert (after - before)[dataset].mean() > 0.003
    assert (after - before)[5].abs().max() > 1e-6  # and of one that has no row at all


def test_a_large_dataset_is_parted_by_the_first_cost():
    X_NF = torch.cat([torch.zeros(10, 1), torch.arange(10.0)[:, None] / 10, torch.zeros(10, 1)], dim=1).double()
    partition = Partition.of(X_NF, datasets=2, block_rows=5)
    assert partition.datasets == [0, 0, 1]
    assert [(block, places.tolist()) for block, places in partition.blocks(0, X_NF[:, 1:])] == [
        (0, [0, 1, 2, 3, 4]),
        (1, [5, 6, 7, 8, 9]),
    ]
    assert [block for block, _ in partition.blocks(1, X_NF[:, 1:])] == [2]


def test_rows_of_a_fit_are_from_all_times():
    places = spread_rows(10_000, 200)
    assert len(set(places.tolist())) == 200 and places.tolist() == sorted(places.tolist())
    shares = torch.histc(places.double(), 4, 0, 10_000) / 200
    assert (shares > 0.15).all()
    assert spread_rows(5, 200).tolist() == [0, 1, 2, 3, 4]
