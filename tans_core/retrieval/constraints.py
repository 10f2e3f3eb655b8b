"""Limits on what a network may cost, over all rows at once.

Axes: R rows.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tans_core.errors import ConfigError, NoFeasibleRow


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that a network may cost; None: no limit."""

    max_params: float | None = None
    max_flops: float | None = None
    max_latency_ms: float | None = None
    max_memory_mb: float | None = None  # of 1,000,000 bytes

    def __post_init__(self) -> None:
        for name in ("max_params", "max_flops", "max_latency_ms", "max_memory_mb"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{_flag(name)} must be above 0, got {value:g}")


@dataclass(frozen=True, kw_only=True, eq=False)
class RowCosts:
    """What each row costs, float64 (R,); a latency that is neither measured nor predicted is NaN."""

    params_R: Tensor
    flops_R: Tensor
    latency_ms_R: Tensor
    memory_mb_R: Tensor

    @classmethod
    def of(
        cls,
        params: Sequence[int],
        flops: Sequence[int],
        latency_ms: Sequence[float | None],
        memory_bytes: Sequence[int] | None = None,
    ) -> RowCosts:
        """Costs of rows; memory may be left out where no limit asks for it."""
        timed = [float("nan") if each is None else each for each in latency_ms]
        memory_bytes = [0] * len(params) if memory_bytes is None else memory_bytes
        return cls(
            params_R=torch.tensor(params, dtype=torch.float64),
            flops_R=torch.tensor(flops, dtype=torch.float64),
            latency_ms_R=torch.tensor(timed, dtype=torch.float64),
            memory_mb_R=torch.tensor(memory_bytes, dtype=torch.float64) / 1e6,
        )


def within(limits: Limits, costs: RowCosts) -> Tensor:
    """Which rows meet every limit, bool (R,); a row without latency meets none on latency."""
    allowed = torch.ones(len(costs.params_R), dtype=torch.bool)
    for _, limit, value_R in _bounds(limits, costs):
        allowed &= value_R <= limit
    return allowed


def explain_none(limits: Limits, costs: RowCosts, keys: Sequence[str], uri: str, device: str) -> NoFeasibleRow:
    """The error for limits that no row meets: names the row that oversteps them least, and what to raise for it."""
    bounds = _bounds(limits, costs)
    asked = " and ".join(f"{name} <= {limit:,.10g}" for name, limit, _ in bounds)
    none = f"none of {len(keys):,} rows in {uri} has {asked}"
    overstep_R = torch.stack([value_R / limit for _, limit, value_R in bounds]).amax(dim=0).nan_to_num(nan=torch.inf)
    least = overstep_R.min().item()
    if least == torch.inf:
        return NoFeasibleRow(
            f"{none}: no latency was measured on this device ({device}), and no table is there to predict it; "
            f"`tans latency-table --zoo {shlex.quote(uri)}` makes one in a minute, or leave the limit on latency out"
        )
    equal: list[int] = (overstep_R == least).nonzero().squeeze(1).tolist()
    nearest = min(equal, key=lambda place: keys[place])
    has = " and ".join(f"{name} {_rounded_up(name, value_R[nearest].item())}" for name, _, value_R in bounds)
    raised = [
        f"{_flag('max_' + name)} {_rounded_up(name, value_R[nearest].item()).replace(',', '')}"
        for name, limit, value_R in bounds
        if value_R[nearest] > limit
    ]
    return NoFeasibleRow(f"{none}; the nearest is {keys[nearest]} with {has}: ask for `{' '.join(raised)}`")


def _bounds(limits: Limits, costs: RowCosts) -> list[tuple[str, float, Tensor]]:
    """Name, limit and values of every limit that is set."""
    every = [
        ("params", limits.max_params, costs.params_R),
        ("flops", limits.max_flops, costs.flops_R),
        ("latency_ms", limits.max_latency_ms, costs.latency_ms_R),
        ("memory_mb", limits.max_memory_mb, costs.memory_mb_R),
    ]
    return [(name, limit, value_R) for name, limit, value_R in every if limit is not None]


def _flag(name: str) -> str:
    """As `tans search` spells it."""
    return "--" + name.replace("_", "-")


def _rounded_up(name: str, value: float) -> str:
    """A limit that the value meets: counts in full, milliseconds to a hundredth."""
    return f"{value:,.0f}" if name != "latency_ms" else f"{(value + 0.01):.2f}"
