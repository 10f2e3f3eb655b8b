"""Hypervolume of a front and what one more network adds to it: by hand and against pygmo."""

import numpy as np
import pygmo
import pytest
import torch
from acquisition_worlds import CostedSpace, dataset_record, row

from tans_core.acquisition.gain import gain_at
from tans_core.acquisition.hypervolume import (
    CostScale,
    GrowingHypervolume,
    front_levels,
    front_volume,
    hypervolume_mean,
)
from tans_core.errors import ConfigError
from tans_core.search_space.latency import LatencyTable, PartTimes, Setting
from tans_core.search_space.topology import Layout

NOTHING = np.zeros((0, 2))
HALF = 0.55  # of the reference 1.1: opens half of a cost
# accuracies, costs, and the volume worked by hand
EDGES = {
    "empty front": ([], NOTHING, 0.0),
    "one point": ([0.6], [[HALF, HALF]], 0.6 * 0.25),
    "equal points": ([0.6, 0.6], [[HALF, HALF], [HALF, HALF]], 0.6 * 0.25),
    "tie in accuracy": ([0.6, 0.6], [[0.0, HALF], [HALF, 0.0]], 0.6 * 0.75),
    "tie in a cost": ([0.6, 0.8], [[HALF, 0.0], [HALF, HALF]], 0.6 * 0.5 + 0.2 * 0.25),
    "all dominated by one": ([1.0, 0.5, 0.2], [[0.0, 0.0], [0.1, 0.0], [0.5, 0.5]], 1.0),
    "on the reference": ([0.6, 0.9], [[HALF, HALF], [1.1, 0.0]], 0.6 * 0.25),
    "beyond the reference": ([0.6, 0.9], [[HALF, HALF], [1.2, 0.0]], 0.6 * 0.25),
    "only beyond": ([0.9], [[1.2, 1.2]], 0.0),
    "at chance": ([0.0, 0.6], [[0.0, 0.0], [HALF, HALF]], 0.6 * 0.25),
    "below chance": ([-0.5, 0.6], [[0.0, 0.0], [HALF, HALF]], 0.6 * 0.25),
    "only below chance": ([-0.5], [[0.0, 0.0]], 0.0),
}


@pytest.mark.parametrize(("accuracies", "costs", "volume"), EDGES.values(), ids=EDGES.keys())
def test_e24_volume_at_the_edges(accuracies: list, costs: list, volume: float):
    assert front_volume(accuracies, np.array(costs)) == pytest.approx(volume, abs=1e-12)


@pytest.mark.parametrize(("accuracies", "costs", "volume"), EDGES.values(), ids=EDGES.keys())
def test_e24_staircases_hold_the_same_volume_at_the_edges(accuracies: list, costs: list, volume: float):
    # A perfect network that costs nothing adds all that is left.
    levels = front_levels(accuracies, np.array(costs))
    left = gain_at(torch.ones(1), levels.level_K, levels.areas(torch.zeros(1, 2, dtype=torch.float64)))
    assert left.item() == pytest.approx(1 - volume, abs=1e-12)


@pytest.mark.parametrize("refuses", [front_volume, front_levels])
def test_e24_nan_is_refused(refuses):
    with pytest.raises(ValueError, match="NaN"):
        refuses([float("nan"), 0.5], np.full((2, 2), HALF))
    with pytest.raises(ValueError, match="NaN"):
        refuses([0.5], np.array([[float("nan"), 0.5]]))


def _random_front(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """With ties, points at chance and below, and costs on the edges of the box."""
    generator = np.random.default_rng(seed)
    return generator.normal(0.5, 0.4, rows).round(1), generator.random((rows, 2)).round(1)


@pytest.mark.parametrize("seed", range(20))
def test_gain_is_the_difference_that_pygmo_sees(seed: int):
    accuracies, costs = _random_front(seed, rows=seed)
    levels = front_levels(accuracies, costs)
    generator = np.random.default_rng(100 + seed)
    for accuracy, cost in zip(generator.normal(0.6, 0.3, 30), generator.random((30, 2))):
        gain = gain_at(torch.tensor([accuracy]), levels.level_K, levels.areas(torch.tensor(cost)[None]))
        points = np.column_stack([-np.append(accuracies, accuracy).clip(0, 1), np.vstack([costs, cost])])
        with_it, without = points[points[:, 0] < 0], points[:-1][points[:-1, 0] < 0]
        volumes = [
            pygmo.hypervolume(part).compute([0, 1.1, 1.1]) if len(part) else 0.0  # pyright: ignore[reportAttributeAccessIssue]
            for part in (with_it, without)
        ]
        assert gain.item() == pytest.approx((volumes[0] - volumes[1]) / 1.21, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_e24_gain_of_a_row_is_exactly_zero(seed: int):
    accuracies, costs = _random_front(seed, rows=12)
    levels = front_levels(accuracies, costs)
    gain = gain_at(torch.from_numpy(accuracies), levels.level_K, levels.areas(torch.from_numpy(costs)))
    assert (gain == 0).all()


@pytest.mark.parametrize("costs", [(1.2, 1.3), (1.2, 0.3), (0.3, 1.2), (1.1, 0.3), (1.1, 1.1)])
@pytest.mark.parametrize("seed", range(5))
def test_e24_gain_of_a_candidate_at_or_beyond_the_reference_is_exactly_zero(seed: int, costs: tuple[float, float]):
    levels = front_levels(*_random_front(seed, rows=3 * seed))
    gain = gain_at(torch.ones(1), levels.level_K, levels.areas(torch.tensor([costs], dtype=torch.float64)))
    assert gain.item() == 0


def test_rows_of_the_front_are_named():
    levels = front_levels(
        [0.5, 0.9, 0.4, 0.9, -0.1], np.array([[0.2, 0.2], [0.9, 0.9], [0.3, 0.3], [0.9, 0.9], [0, 0]])
    )
    assert levels.rows_F in {(1, 0), (3, 0)}  # best first; equal rows count once


def test_costs_are_quantiles_of_random_networks():
    space = CostedSpace(10)
    scale = CostScale(space, 64)
    scaled = scale(space.sample(2_000, torch.Generator().manual_seed(5)))
    assert scaled.dtype == torch.float64
    assert scaled.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.03)
    assert scaled.quantile(0.25, dim=0).tolist() == pytest.approx([0.25, 0.25], abs=0.04)
    smallest, largest = [3, 0] * 20 + [1] * 10, [7] * 20 + [6] * 20 + [2] * 10
    assert scale(torch.tensor([smallest, largest])).tolist() == [[0, 0], [1, 1]]


SMALL, DEEP, LARGE = (3, 0, 3, 0, 1), (3, 3, 3, 3, 2), (5, 7, 6, 3, 2)  # of the 16 members of `CostedSpace(1)`
FASTER_BY_KERNEL = torch.zeros(2, 4, 4, dtype=torch.float64)
FASTER_BY_KERNEL[1] = -torch.arange(4.0, dtype=torch.float64)[:, None]
TABLE = LatencyTable(  # the second block makes a network fast: latency contradicts the other costs
    setting=Setting(device="cpu", batch=1, search_space="costed", width=1.0, image_size=64),
    layout=Layout(stage_blocks=(2,), depth_choices=(1, 2, 3)),
    parts=PartTimes(
        stem_ms=0.0,
        head_ms=100.0,
        class_ms=0.0,
        block_ms_BVV=torch.arange(4.0, dtype=torch.float64)[None, :, None]
        * torch.tensor([0.0, -1.0])[:, None, None].expand(2, 1, 4),
    ),
    slope=1.0,
    intercept_ms=0.0,
    unseen=30,
    error_median=0.0,
    error_p95=0.0,
)


def test_the_two_costs_are_those_that_were_asked_for_in_their_order():
    topology_CT = torch.tensor([SMALL, DEEP, LARGE])
    of = {
        costs: CostScale(CostedSpace(1), 64, costs, TABLE)(topology_CT)
        for costs in (("params", "flops"), ("flops", "params"), ("latency", "params"), ("memory", "latency"))
    }
    params_C, flops_C = of["params", "flops"].T
    assert torch.equal(of["flops", "params"], torch.stack([flops_C, params_C], dim=1))
    # A half of all networks takes 100 ms, a sixth each 99, 98 and 97: mean ranks 9, 5, 3 and 1 twelfths.
    assert of["latency", "params"][:, 0].tolist() == [1, pytest.approx(0.5, abs=0.02), 0]
    assert torch.equal(of["latency", "params"][:, 1], params_C)
    sums = of["memory", "latency"][:, 0].tolist()
    assert sums[0] == 0 < sums[1] < sums[2] == 1 and torch.equal(
        of["memory", "latency"][:, 1], of["latency", "params"][:, 0]
    )
    assert CostScale(CostedSpace(1), 64, ("memory", "latency"), TABLE).names == ("memory", "latency")


@pytest.mark.parametrize(
    "costs", [("params",), ("params", "params"), ("params", "flops", "memory"), ("params", "euro")]
)
def test_anything_but_two_known_costs_is_refused(costs):
    with pytest.raises(ConfigError, match=f"takes two of params, flops, latency, memory.*got {','.join(costs)}"):
        CostScale(CostedSpace(1), 64, costs)


def test_latency_is_no_cost_without_a_table():
    with pytest.raises(ConfigError, match=r"latency is no cost without a table.*tans latency-table"):
        CostScale(CostedSpace(1), 64, ("params", "latency"))


def test_hypervolume_mean_worked_by_hand():
    space = CostedSpace(1)  # 16 members
    small, large = (3, 0, 3, 0, 1), (5, 7, 6, 3, 2)
    first, second, third = (dataset_record(index) for index in range(3))  # chance is a quarter
    rows = [
        row(first, small, validation=(40, 60), test=(60, 60)),
        row(first, large, validation=(50, 60), test=(30, 60)),
        row(second, small, validation=(50, 60), test=(30, 60)),
        row(second, large, validation=(40, 60), test=(60, 60)),  # worse and larger: not on the front
        row(dataset_record(7), small, validation=(60, 60), test=(60, 60)),  # not asked for
    ]
    scale = CostScale(space, 64)
    assert scale(torch.tensor([small, large])).tolist() == [[0, 0], [1, 1]]
    # First: 40/60 is 5/9 scaled and free; 50/60 is 7/9 at costs (1, 1), which opens 0.1 * 0.1. Second: 7/9, free.
    validation = 5 / 9 + (7 / 9 - 5 / 9) * 0.01 / 1.21 + 7 / 9
    test = 1 + 1 / 3  # on test 30/60 is 1/3 scaled: the first's large network adds nothing, the second's front is it
    datasets = [first, second, third]
    assert hypervolume_mean(datasets, rows, scale) == pytest.approx(validation / 3)
    assert hypervolume_mean(datasets, rows, scale, side="test") == pytest.approx(test / 3)
    assert hypervolume_mean([third], rows, scale) == 0
    assert hypervolume_mean([], rows, scale) == 0


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_the_mean_grows_with_rows_as_it_is_of_all_of_them(steps: int):
    space, datasets = CostedSpace(4), [dataset_record(index) for index in range(3)]
    scale, generator = CostScale(space, 64, ref_cost=1.2), torch.Generator().manual_seed(0)
    drawn = space.sample(60, generator).tolist()
    counts = torch.randint(10, 60, (60,), generator=generator).tolist()
    rows = [row(dataset_record(place % 4), tuple(t), (counts[place], 60), (1, 60)) for place, t in enumerate(drawn)]
    growing = GrowingHypervolume(datasets, scale)
    for place in range(0, 60, steps):
        mean = growing.add(rows[place : place + steps])
        assert mean == pytest.approx(hypervolume_mean(datasets, rows[: place + steps], scale))
    assert GrowingHypervolume([], scale).add(rows) == 0


def test_costs_may_be_a_share_of_the_way_from_the_smallest_to_the_largest():
    scale = CostScale(CostedSpace(1), 64, scaling="range")
    params_C = CostedSpace(1).costs(torch.tensor([SMALL, DEEP, LARGE]), 64, 2)[0].double()
    share = (params_C[1] - params_C[0]) / (params_C[2] - params_C[0])
    scaled_C = scale(torch.tensor([SMALL, DEEP, LARGE]))[:, 0]
    assert scaled_C.tolist() == [0, pytest.approx(share.item()), 1]


def test_a_nearer_reference_leaves_the_dearest_out():
    costs_R2, gone = np.array([[0.2, 0.2], [0.9, 0.9]]), 0.8
    assert front_volume([0.5, 0.9], costs_R2, gone) == pytest.approx(0.5 * 0.6 * 0.6 / 0.64)
    levels = front_levels([0.5, 0.9], costs_R2, gone)
    assert levels.rows_F == (0,)
    opens_CK = levels.areas(torch.tensor([[0.1, 0.1], [0.85, 0.1]], dtype=torch.float64))
    assert opens_CK[0].tolist() == pytest.approx([0.36 / 0.64, 0.13 / 0.64]) and (opens_CK[1] == 0).all()


def test_below_chance_a_dataset_has_no_hypervolume():
    dataset = dataset_record(0)
    rows = [row(dataset, (3, 0, 3, 0, 1), validation=(10, 60), test=(60, 60))]
    assert [
        hypervolume_mean([dataset], rows, CostScale(CostedSpace(1), 64), side) for side in ("validation", "test")
    ] == [0, 0]
