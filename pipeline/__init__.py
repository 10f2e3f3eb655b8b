"""The public door: the functions behind the commands, each imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.growing.build_zoo import build_zoo
    from pipeline.growing.pretrain import pretrain
    from pipeline.network.fine_tune import fine_tune
    from pipeline.network.latency_table import latency_table
    from pipeline.network.load_network import load_network
    from pipeline.network.polish import polish
    from pipeline.network.predict import predict
    from pipeline.network.side_by_side import side_by_side
    from pipeline.reading.datasets import datasets
    from pipeline.space.meta_train import meta_train
    from pipeline.space.search import search
    from pipeline.space.sweep import sweep
    from pipeline.zoo.show import show_journal, show_zoo
    from pipeline.zoo.store import Zoo
    from pipeline.zoo.upkeep.compact import compact_zoo
    from pipeline.zoo.upkeep.drop import drop_rows
    from pipeline.zoo.upkeep.gc import collect_garbage
    from pipeline.zoo.upkeep.merge import merge_zoos
    from pipeline.zoo.upkeep.verify import verify_zoo
    from tans_core.evaluation.fronts import front

__all__ = [
    "Zoo",
    "build_zoo",
    "collect_garbage",
    "compact_zoo",
    "datasets",
    "drop_rows",
    "fine_tune",
    "front",
    "latency_table",
    "load_network",
    "merge_zoos",
    "meta_train",
    "polish",
    "predict",
    "pretrain",
    "search",
    "show_journal",
    "show_zoo",
    "side_by_side",
    "sweep",
    "verify_zoo",
]

_HOMES = {
    "Zoo": "pipeline.zoo.store",
    "build_zoo": "pipeline.growing.build_zoo",
    "collect_garbage": "pipeline.zoo.upkeep.gc",
    "compact_zoo": "pipeline.zoo.upkeep.compact",
    "datasets": "pipeline.reading.datasets",
    "drop_rows": "pipeline.zoo.upkeep.drop",
    "fine_tune": "pipeline.network.fine_tune",
    "front": "tans_core.evaluation.fronts",
    "latency_table": "pipeline.network.latency_table",
    "load_network": "pipeline.network.load_network",
    "merge_zoos": "pipeline.zoo.upkeep.merge",
    "meta_train": "pipeline.space.meta_train",
    "polish": "pipeline.network.polish",
    "predict": "pipeline.network.predict",
    "pretrain": "pipeline.growing.pretrain",
    "search": "pipeline.space.search",
    "show_journal": "pipeline.zoo.show",
    "show_zoo": "pipeline.zoo.show",
    "side_by_side": "pipeline.network.side_by_side",
    "sweep": "pipeline.space.sweep",
    "verify_zoo": "pipeline.zoo.upkeep.verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
