"""Reading datasets for a stage: long reading is shown, and what was decoded once is kept in the user's cache folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from platformdirs import user_cache_path

from pipeline.running.output import shown
from pipeline.running.progress import Progress, say
from tans_core.datasets.opening import DatasetCache, open_dataset, open_datasets
from tans_core.errors import DatasetUnavailable
from tans_core.records import ImageDataset

_QUIET_S = 2.0  # of reading that is over before anybody wonders


def read_datasets(
    specs: Sequence[str], image_size: int, unavailable: Callable[[DatasetUnavailable], None] | None = None
) -> list[ImageDataset]:
    """All datasets of the SPECs, as `open_datasets` gives them; copies are said."""
    with _Watch() as watch:
        read = open_datasets(specs, image_size, cache=_cache(), watch=watch.see, unavailable=unavailable)
    for dataset in read:
        for copy in dataset.report.copies:
            say(f"{shown(copy)} is a copy of {shown(dataset.spec)}: the same pictures and classes; counted once")
    return read


def read_dataset(spec: str, image_size: int) -> ImageDataset:
    """The one dataset of a SPEC, as `open_dataset` gives it."""
    with _Watch() as watch:
        return open_dataset(spec, image_size, cache=_cache(), watch=watch.see)


def _cache() -> DatasetCache:
    return DatasetCache(user_cache_path("tans") / "datasets")


class _Watch:
    def __init__(self) -> None:
        self._progress, self._began_s = Progress(), time.monotonic()

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.clear()

    def see(self, name: str, done: int, count: int) -> None:
        if time.monotonic() - self._began_s > _QUIET_S:
            self._progress.show(f"reading {shown(name)}: {done:,} of {count:,} pictures")
