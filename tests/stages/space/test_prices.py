"""What rows cost: memory as the search space works it out, for each row's own classes and the batch of the device."""

from dataclasses import replace
from pathlib import Path

import torch

from pipeline.space.prices import price_rows
from pipeline.zoo import Zoo
from pipeline.zoo.latency import device_name, write_table
from tans_core.records import Row
from tans_core.search_space import make_search_space
from tans_core.search_space.latency import LatencyTable, PartTimes, Setting
from tests.worlds import SETTINGS, World


def test_memory_is_that_of_each_rows_network_and_classes_and_of_the_tables_batch(tmp_path: Path):
    zoo, space = Zoo.create(tmp_path / "zoo", SETTINGS), make_search_space("ofa-lite")
    drawn_CT = space.sample(2, torch.Generator().manual_seed(0))
    rows = [_row(topology, classes) for topology, classes in zip(drawn_CT.tolist(), (2, 5000))]
    priced = price_rows(zoo, rows, None, memory=True)
    alone = [space.memory(drawn_CT[[place]], 32, classes).item() / 1e6 for place, classes in enumerate((2, 5000))]
    assert [priced.of(place)["memory_mb"] for place in range(2)] == alone
    assert (priced.device, priced.batch, priced.error, priced.of(0)["latency_ms"]) == (device_name(), 1, None, None)
    parts = PartTimes(stem_ms=1.0, head_ms=0.0, class_ms=0.0, block_ms_BVV=torch.zeros(21, 4, 4).double())
    of_eight = LatencyTable(
        setting=Setting(device="gpu", batch=8, search_space="ofa-lite", width=1.0, image_size=32),
        layout=space.layout,
        parts=parts,
        slope=1.0,
        intercept_ms=0.0,
        unseen=30,
        error_median=0.0,
        error_p95=0.0,
    )
    write_table(tmp_path / "table.json", of_eight)
    priced = price_rows(zoo, rows, tmp_path / "table.json", memory=True)
    assert priced.of(0)["memory_mb"] == space.memory(drawn_CT[:1], 32, 2, batch=8).item() / 1e6
    assert priced.of(0)["latency_predicted"] and price_rows(zoo, rows, None, memory=False).of(0)["memory_mb"] is None


def _row(topology: list[int], classes: int) -> Row:
    (row,) = World(datasets=1, rows_each=1).snapshot().rows
    identity = replace(row.identity, topology=tuple(topology))
    names = tuple(f"class {number}" for number in range(classes))
    return replace(row, key=identity.key, identity=identity, class_names=names)
