"""Latency of any network of a search space on one device, from a table over its blocks.

A block alone is faster than inside a network, where its input is not at hand. So the times of stem, blocks and head are
summed and then fitted, by a slope and an intercept, to whole networks that were timed between them.
Axes: C candidates, T entries, B blocks, V values that a kernel size or expansion ratio may have (0: not there).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from tans_core.errors import ConfigError
from tans_core.search_space.topology import Layout

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a latency holds for: other devices, and other settings of one, have other latencies."""

    device: str  # with its number of threads
    batch: int
    search_space: str
    width: float
    image_size: int

    def is_for(self, search_space: str, width: float, image_size: int) -> bool:
        """Whether these networks are priced, at this size."""
        return (self.search_space, self.width, self.image_size) == (search_space, width, image_size)


@dataclass(frozen=True, kw_only=True, eq=False)
class PartTimes:
    """Milliseconds of each part by itself, float64."""

    stem_ms: float
    head_ms: float  # with a classifier of two classes
    class_ms: float  # more for each class more
    block_ms_BVV: Tensor  # index 0 of both V axes, "not there", is 0


@dataclass(frozen=True, kw_only=True, eq=False)
class LatencyTable:
    """Made by `fit_table`; `error_median` and `error_p95` are its relative errors on `unseen` random networks."""

    setting: Setting
    layout: Layout
    parts: PartTimes
    slope: float
    intercept_ms: float
    unseen: int
    error_median: float
    error_p95: float
    facts: Mapping[str, Any] = field(default_factory=dict)  # of the measurement: versions, time, load; for people

    def latency_ms(self, topology_CT: Tensor, classes: int | Tensor = 2) -> Tensor:
        """Milliseconds of a forward pass of each network, float64 (C,); microseconds of work for each of them.

        Args:
            classes: of all networks, or of each (C,).

        Raises:
            InvalidTopology: a topology is none of the search space.
        """
        sum_C = summed(self.parts, self.layout, topology_CT, classes)
        return (self.intercept_ms + self.slope * sum_C).clamp_min(0.0)


def summed(parts: PartTimes, layout: Layout, topology_CT: Tensor, classes: int | Tensor = 2) -> Tensor:
    """Milliseconds of the parts of each network together, float64 (C,)."""
    blocks_C = layout.gather(parts.block_ms_BVV, layout.check(topology_CT)).sum(dim=1)
    return blocks_C + parts.stem_ms + parts.head_ms + parts.class_ms * (classes - 2)


def fit_table(
    setting: Setting,
    layout: Layout,
    parts: PartTimes,
    fitted_CT: Tensor,
    fitted_ms_C: Tensor,
    unseen_CT: Tensor,
    unseen_ms_C: Tensor,
    facts: Mapping[str, Any],
) -> LatencyTable:
    """Fit slope and intercept so that relative errors on the timed networks are least, in squares.

    Args:
        fitted_CT, fitted_ms_C: whole networks of two classes and their milliseconds, float64.
        unseen_CT, unseen_ms_C: others, on which the errors are taken.

    Raises:
        ConfigError: larger networks did not take longer.
    """
    sum_C = summed(parts, layout, fitted_CT)
    relative_C2 = torch.stack([torch.ones_like(sum_C), sum_C], dim=1) / fitted_ms_C[:, None]
    intercept_ms, slope = torch.linalg.lstsq(relative_C2, torch.ones_like(sum_C)[:, None]).solution[:, 0].tolist()
    if not slope > 0:
        raise ConfigError(
            f"larger networks did not take longer on {setting.device}: something else keeps the machine busy; "
            "make the table again when it is quiet"
        )
    predicted_C = intercept_ms + slope * summed(parts, layout, unseen_CT)
    error_C = relative_errors(predicted_C, unseen_ms_C)
    return LatencyTable(
        setting=setting,
        layout=layout,
        parts=parts,
        slope=slope,
        intercept_ms=intercept_ms,
        unseen=len(unseen_CT),
        error_median=error_C.quantile(0.5).item(),
        error_p95=error_C.quantile(0.95).item(),
        facts=dict(facts),
    )


def relative_errors(predicted_C: Tensor, measured_C: Tensor) -> Tensor:
    """Distance of each prediction from what was measured, as a share of the latter."""
    return (predicted_C - measured_C).abs() / measured_C


def table_to_json(table: LatencyTable) -> dict[str, Any]:
    """For a file that anyone can read; `table_from_json` gives the same table."""
    parts = table.parts
    return {
        "format": FORMAT,
        **asdict(table.setting),
        "layout": asdict(table.layout),
        "stem_ms": parts.stem_ms,
        "head_ms": parts.head_ms,
        "class_ms": parts.class_ms,
        "block_ms": parts.block_ms_BVV.tolist(),
        "slope": table.slope,
        "intercept_ms": table.intercept_ms,
        "unseen": table.unseen,
        "error_median": table.error_median,
        "error_p95": table.error_p95,
        "facts": dict(table.facts),
    }


def table_from_json(record: Any) -> LatencyTable:
    """The table of a record as `table_to_json` makes them.

    Raises:
        ValueError: it is none, or of a format that this tans does not know.
    """
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"no latency table of format {FORMAT}")
    try:
        layout = Layout(**{name: _as_tuple(value) for name, value in record["layout"].items()})
        block_ms_BVV = torch.tensor(record["block_ms"], dtype=torch.float64)
        choices = (len(layout.kernel_choices) + 1, len(layout.expand_choices) + 1)
        if block_ms_BVV.shape != (layout.blocks, *choices):
            raise ValueError(f"it has times of {tuple(block_ms_BVV.shape)} blocks and choices")
        numbers = {name: float(record[name]) for name in ("slope", "intercept_ms", "error_median", "error_p95")}
        table = LatencyTable(
            setting=Setting(**{name: record[name] for name in Setting.__dataclass_fields__}),
            layout=layout,
            parts=PartTimes(
                stem_ms=float(record["stem_ms"]),
                head_ms=float(record["head_ms"]),
                class_ms=float(record["class_ms"]),
                block_ms_BVV=block_ms_BVV,
            ),
            unseen=record["unseen"],
            facts=record["facts"],
            **numbers,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"an entry is missing or of another kind ({type(error).__name__}: {error})") from error
    if not torch.isfinite(block_ms_BVV).all() or not all(map(torch.isfinite, map(torch.tensor, numbers.values()))):
        raise ValueError("it has times that are not finite")
    return table


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
