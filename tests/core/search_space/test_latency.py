"""Latency tables: worked by hand, fitted to made-up networks whose law is known, kept in files, and timed for real."""

import json

import pytest
import torch
from torch import Tensor, nn

from tans_core.errors import ConfigError, InvalidTopology
from tans_core.search_space import make_search_space
from tans_core.search_space.latency import (
    LatencyTable,
    PartTimes,
    Setting,
    fit_table,
    summed,
    table_from_json,
    table_to_json,
)
from tans_core.search_space.timing import Parts, in_rounds, whole
from tans_core.search_space.topology import Layout
from tans_core.training.loop import CPU

LAYOUT = Layout(stage_blocks=(2,), fixed_blocks=1, kernel_choices=(3, 5), expand_choices=(2, 4), depth_choices=(1, 2))
SETTING = Setting(device="cpu: a processor, 1 thread", batch=1, search_space="toy", width=1.0, image_size=64)
# Block b with kernel k and expansion e: b + 1 ms, 10 more for the larger kernel, 100 more for the larger expansion.
BLOCK_MS = torch.zeros(3, 3, 3, dtype=torch.float64)
for block in range(3):
    for kernel in (1, 2):
        for expand in (1, 2):
            BLOCK_MS[block, kernel, expand] = block + 1 + 10 * (kernel - 1) + 100 * (expand - 1)
PARTS = PartTimes(stem_ms=0.5, head_ms=0.25, class_ms=0.001, block_ms_BVV=BLOCK_MS)


def table(slope: float = 2.0, intercept_ms: float = 7.0) -> LatencyTable:
    return LatencyTable(
        setting=SETTING,
        layout=LAYOUT,
        parts=PARTS,
        slope=slope,
        intercept_ms=intercept_ms,
        unseen=30,
        error_median=0.02,
        error_p95=0.06,
        facts={"load_average": 0.1},
    )


def test_a_latency_is_intercept_and_slope_over_stem_blocks_and_head():
    shallow, deep = (3, 0, 5, 2, 0, 4, 1), (5, 3, 3, 4, 2, 2, 2)
    # Blocks 1 and 3: 1 and 3 + 10 + 100. All three: 1 + 10 + 100, 2 and 3.
    latency_ms = table().latency_ms(torch.tensor([shallow, deep]))
    assert latency_ms.dtype == torch.float64
    assert latency_ms.tolist() == pytest.approx([7 + 2 * (0.75 + 114), 7 + 2 * (0.75 + 116)])
    more = table().latency_ms(torch.tensor([shallow, deep]), torch.tensor([2, 1002])) - latency_ms
    assert more.tolist() == pytest.approx([0, 2 * 1.0])
    with pytest.raises(InvalidTopology):
        table().latency_ms(torch.tensor([[4, 0, 5, 2, 0, 4, 1]]))


def test_slope_and_intercept_are_found_and_errors_are_of_the_unseen_networks():
    drawn_CT = LAYOUT.sample(60, torch.Generator().manual_seed(0))
    took_ms_C = 3 + 1.5 * summed(PARTS, LAYOUT, drawn_CT)
    fitted, unseen = slice(0, 40), slice(40, 60)
    off_C = torch.ones(20, dtype=torch.float64)
    off_C[:6], off_C[6] = 1.25, 2.0  # predictions are 1/5 below what these took, and half below that one
    found = fit_table(
        SETTING, LAYOUT, PARTS, drawn_CT[fitted], took_ms_C[fitted], drawn_CT[unseen], took_ms_C[unseen] * off_C, {}
    )
    assert (found.intercept_ms, found.slope) == pytest.approx((3, 1.5))
    assert found.unseen == 20 and found.error_median == pytest.approx(0, abs=1e-9)
    assert found.error_p95 == pytest.approx(0.2 + 0.05 * 0.3)  # 18.05 of 0 to 19 steps up the sorted errors


def test_networks_that_do_not_take_longer_when_larger_make_no_table():
    drawn_CT = LAYOUT.sample(20, torch.Generator().manual_seed(0))
    falling_C = 1000 - summed(PARTS, LAYOUT, drawn_CT)
    with pytest.raises(ConfigError, match=r"did not take longer on cpu: a processor, 1 thread.* when it is quiet"):
        fit_table(SETTING, LAYOUT, PARTS, drawn_CT, falling_C, drawn_CT, falling_C, {})


def test_a_table_comes_back_from_json():
    back = table_from_json(json.loads(json.dumps(table_to_json(table()))))
    assert (back.setting, back.layout, back.facts) == (SETTING, LAYOUT, {"load_average": 0.1})
    drawn_CT = LAYOUT.sample(20, torch.Generator().manual_seed(0))
    assert torch.equal(back.latency_ms(drawn_CT, 7), table().latency_ms(drawn_CT, 7))
    assert (back.unseen, back.error_median, back.error_p95) == (30, 0.02, 0.06)


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: record.update(format=2),
        lambda record: record.pop("slope"),
        lambda record: record.update(block_ms=[[[0.0]]]),
        lambda record: record["block_ms"][1][1].__setitem__(1, float("nan")),
        lambda record: record.update(layout=3),
    ],
)
def test_what_is_no_table_is_refused(damage):
    record = table_to_json(table())
    damage(record)
    with pytest.raises(ValueError):
        table_from_json(record)
    with pytest.raises(ValueError):
        table_from_json([])


def test_every_call_is_timed_in_every_round_warm_and_in_another_order():
    seen: list[str] = []
    now_s = iter(range(1_000_000))
    calls = [lambda name=name: seen.append(name) for name in "abc"]
    took_ms_RN = in_rounds(calls, lambda: next(now_s), CPU, rounds=20)
    assert took_ms_RN.shape == (20, 3) and (took_ms_RN == 1000).all()
    rounds = [tuple(seen[first : first + 6]) for first in range(0, 120, 6)]
    assert all(each[0::2] == each[1::2] and {*each} == {*"abc"} for each in rounds)  # twice in a row
    assert len({*rounds}) > 1


@pytest.mark.parametrize("name", ["ofa-lite", "ofa-mbv3"])
def test_the_parts_of_a_network_are_all_of_it_and_stand_where_they_belong(name: str):
    """Counted instead of timed: a part's multiply-accumulates. Their sum is that of the whole network."""
    space = make_search_space(name)
    parts = Parts(space, 64, 1, CPU)
    times = parts.times(torch.tensor([float(_macs(call)) for call in parts.calls], dtype=torch.float64))
    topology_CT = space.sample(10, torch.Generator().manual_seed(1))
    assert summed(times, space.layout, topology_CT).tolist() == space.costs(topology_CT, 64, 2)[1].tolist()
    assert summed(times, space.layout, topology_CT, 9).tolist() == space.costs(topology_CT, 64, 9)[1].tolist()
    network = whole(space, topology_CT[0].tolist(), 2, 64, 1, CPU)
    assert _macs(network) == space.costs(topology_CT[:1], 64, 2)[1].item()


def _macs(call) -> int:
    """Multiply-accumulates of convolutions and linear layers that a call does."""
    macs = 0

    def count(layer: nn.Module, _, output: Tensor) -> None:
        nonlocal macs
        if isinstance(layer, nn.Conv2d | nn.Linear):
            macs += layer.weight.numel() * (output[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1)

    hook = nn.modules.module.register_module_forward_hook(count)
    try:
        with torch.inference_mode():
            call()
    finally:
        hook.remove()
    return macs
