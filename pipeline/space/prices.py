"""What each row of a zoo costs on a device: latencies that were measured there, and predicted ones for the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.running.output import percent, shown
from pipeline.running.progress import say
from pipeline.zoo import Zoo
from pipeline.zoo.latency import at_once, device_name, row_latencies, table_of
from tans_core.records import Row
from tans_core.retrieval.constraints import RowCosts
from tans_core.search_space import make_search_space


@dataclass(frozen=True, kw_only=True, eq=False)
class PricedRows:
    """Costs of R rows; a predicted latency is of a row that was never timed on the device."""

    device: str
    batch: int
    costs: RowCosts
    predicted_R: Tensor  # bool
    memory: bool  # whether it was worked out
    error: tuple[float, float] | None  # of the table, relative: median, and 95 of 100; None: there is no table

    def of(self, row: int) -> dict[str, Any]:
        """Costs of one row, as an answer has them."""
        latency_ms = self.costs.latency_ms_R[row].item()
        return {
            "params": int(self.costs.params_R[row]),
            "flops": int(self.costs.flops_R[row]),
            "latency_ms": None if latency_ms != latency_ms else latency_ms,
            "latency_predicted": bool(self.predicted_R[row]),
            "memory_mb": self.costs.memory_mb_R[row].item() if self.memory else None,
        }

    def say_where_latencies_are_from(self) -> None:
        """On standard error: of another device, predicted, or not there at all."""
        if (self.device, self.batch) != (device_name(), 1):
            say(f"latencies are of {shown(self.device)}, {at_once(self.batch)}: as the table that was given")
        if self.error is not None and (predicted := int(self.predicted_R.sum())):
            median, most = map(percent, self.error)
            say(
                f"{predicted} rows were never timed on {shown(self.device)}: their latencies are predicted, on "
                f"networks that the table had not seen to within {median} (median), {most} (95 of 100)"
            )
        if missing := int(self.costs.latency_ms_R.isnan().sum()):
            say(
                f"{missing} rows were never timed on this machine and are left out of a search by latency; "
                "`tans latency-table` makes a table that predicts them"
            )


def price_rows(store: Zoo, rows: Sequence[Row], latency_table: Path | None, memory: bool) -> PricedRows:
    """Price rows of a zoo.

    Args:
        latency_table: see `search`.
        memory: whether memory is wanted, for which the search space has to be made.

    Raises:
        ConfigError: the table is none, or of other networks.
    """
    table = table_of(latency_table, store.latency_tables(), store.settings)
    device, batch = (table.setting.device, table.setting.batch) if table else (device_name(), 1)
    latencies = row_latencies(rows, store.latencies(), table, device, batch)
    bytes_R = None
    if memory:
        kept, classes_R = store.settings, torch.tensor([len(row.class_names) for row in rows])
        topology_RT = torch.tensor([row.identity.topology for row in rows])
        search_space = make_search_space(kept.search_space, kept.width)
        bytes_R = search_space.memory(topology_RT, kept.image_size, classes_R, batch).tolist()
    costs = RowCosts.of(
        [row.costs.params for row in rows],
        [row.costs.flops for row in rows],
        [latency_ms for latency_ms, _ in latencies],
        bytes_R,
    )
    predicted_R = torch.tensor([predicted for _, predicted in latencies], dtype=torch.bool)
    error = (table.error_median, table.error_p95) if table else None
    return PricedRows(device=device, batch=batch, costs=costs, predicted_R=predicted_R, memory=memory, error=error)
