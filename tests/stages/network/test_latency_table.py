"""`tans latency-table`: where tables go, whom they serve, and what is said of a machine.

The clock counts multiply-accumulates instead of seconds, so that no test depends on how busy the machine is.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.cli import run
from pipeline.network import latency_table as stage
from pipeline.zoo import Zoo
from pipeline.zoo.latency import device_name, read_table
from tans_core.search_space import make_search_space
from tests.worlds import SETTINGS


@pytest.fixture(autouse=True)
def counted(monkeypatch) -> Iterator[None]:
    """A second for each thousand multiply-accumulates of convolutions and linear layers: 1e-6 of them a millisecond."""
    macs = 0

    def count(layer: nn.Module, _, output: Tensor) -> None:
        nonlocal macs
        if isinstance(layer, nn.Conv2d | nn.Linear):
            macs += layer.weight.numel() * (output[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1)

    monkeypatch.setattr(stage, "clock_of", lambda device, threads: lambda: macs / 1e9)
    for name, count_of in (("ROUNDS", 1), ("FITTED", 5), ("UNSEEN", 3)):
        monkeypatch.setattr(stage, name, count_of)
    hook = nn.modules.module.register_module_forward_hook(count)
    yield
    hook.remove()


def test_a_table_goes_into_the_zoo_and_prices_its_networks(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.1, 0.1))
    zoo = Zoo.create(tmp_path / "zoo", SETTINGS)
    assert zoo.latency_tables() == ()
    made = stage.latency_table(zoo.uri)
    (table,) = Zoo.open(zoo.uri).latency_tables()
    assert [str(path) for path in (tmp_path / "zoo" / "latency_tables").iterdir()] == [made.out]
    assert (made.device, made.batch, made.image_size, made.unseen) == (device_name(), 1, SETTINGS.image_size, 3)
    assert (made.error_median, made.error_p95) == pytest.approx((0, 0), abs=1e-9)
    assert table.facts["torch"] == torch.__version__.partition("+")[0] and made.load_average == 0.1
    space = make_search_space("ofa-lite")
    drawn_CT = space.sample(20, torch.Generator().manual_seed(9))
    macs_C = space.costs(drawn_CT, SETTINGS.image_size, 12)[1]
    assert table.latency_ms(drawn_CT, 12).tolist() == pytest.approx((macs_C / 1e6).tolist())
    assert "not quiet" not in capsys.readouterr().err
    zoo.write_latency_table(table)  # a newer one of this setting takes its place
    assert len(zoo.latency_tables()) == 1


def test_without_a_zoo_a_file_holds_the_table_and_a_busy_machine_is_told_of(tmp_path: Path, monkeypatch, capfd):
    monkeypatch.setattr(os, "getloadavg", lambda: (50.0, 50.0, 50.0))
    out = tmp_path / "table.json"
    out.write_text(json.dumps(OLDER))  # over its own kind
    command = ["latency-table", "--search-space", "ofa-lite", "--image-size", "32", "--batch", "2", "--out", str(out)]
    assert run([*command, "--json", str(tmp_path / "summary.json")]) == 0
    table = read_table(out)
    assert (table.setting.batch, table.setting.image_size, table.setting.device) == (2, 32, device_name())
    said = capfd.readouterr()
    assert "3 random networks that it had not seen were predicted to within 0.0 % (median)" in said.out
    assert "this machine is not quiet (load average 50.0" in said.err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["out"], summary["load_average"]) == (str(out), 50.0)


OLDER = {
    **{"format": 1, "device": "cpu", "batch": 1, "search_space": "toy", "width": 1.0, "image_size": 32},
    "layout": {"stage_blocks": [1], "kernel_choices": [3], "expand_choices": [2], "depth_choices": [1]},
    **{"stem_ms": 1, "head_ms": 1, "class_ms": 0, "block_ms": [[[0, 0], [0, 1]]], "slope": 1, "intercept_ms": 0},
    **{"unseen": 3, "error_median": 0, "error_p95": 0, "facts": {}},
}


def test_devices_are_told_apart_by_their_threads():
    assert device_name(threads=4).removesuffix("4 threads") == device_name().removesuffix("1 thread")
