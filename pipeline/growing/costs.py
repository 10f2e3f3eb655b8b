"""The two costs that a build's fronts are made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.running.output import percent, shown
from pipeline.running.progress import say
from pipeline.zoo import Zoo
from pipeline.zoo.latency import at_once, device_name, table_of
from tans_core.acquisition.config import AcquisitionConfig
from tans_core.acquisition.hypervolume import CostScale
from tans_core.errors import ConfigError
from tans_core.records import ZooSettings
from tans_core.search_space.space import SearchSpace


def cost_scale(
    zoo: str,
    settings: ZooSettings,
    search_space: SearchSpace,
    costs: Sequence[str],
    latency_table: Path | None,
    config: AcquisitionConfig,
) -> CostScale:
    """The scale of `costs`; where latency is one of them, it is said whose.

    Args:
        zoo: which may not be there yet.
        latency_table: a file, of whatever device; None: the zoo's own table of this processor.
        config: how costs are scaled, and their reference.

    Raises:
        ConfigError: a table is needed and is not there, is of other networks, or is given and not needed.
    """
    if "latency" not in costs:
        if latency_table is not None:
            raise ConfigError("--latency-table goes with --costs that name latency: params,latency for example")
        return CostScale(search_space, settings.image_size, costs, None, config.cost_scaling, config.ref_cost)
    kept = Zoo.open(zoo).latency_tables() if Zoo.exists(zoo) else ()
    table = table_of(latency_table, kept, settings)
    if table is not None:
        of = f"{shown(table.setting.device)}, {at_once(table.setting.batch)}"
        beside = "" if table.setting.device == device_name() else ", which is not this one"
        say(
            f"latency is that of {of}{beside}: predicted, on networks that its table had not seen to within "
            f"{percent(table.error_median)} (median), {percent(table.error_p95)} (95 of 100)"
        )
    return CostScale(search_space, settings.image_size, costs, table, config.cost_scaling, config.ref_cost)
