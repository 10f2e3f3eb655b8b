"""Datasets: from a SPEC to decoded, split, fingerprinted images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tans_core.datasets.cache import DatasetCache
from tans_core.datasets.sources.folder import folder_collections
from tans_core.datasets.sources.kaggle import kaggle_collections
from tans_core.datasets.sources.parquet import parquet_collections, starter_collections
from tans_core.datasets.spec import parse_spec
from tans_core.datasets.split import Watch, datasets_of, unwatched
from tans_core.errors import DatasetUnavailable, SpecError
from tans_core.records import ImageDataset

_READERS = {
    "starter": starter_collections,
    "folder": folder_collections,
    "parquet": parquet_collections,
    "kaggle": kaggle_collections,
}


def open_datasets(
    specs: Sequence[str],
    image_size: int,
    *,
    cache: DatasetCache | None = None,
    watch: Watch = unwatched,
    unavailable: Callable[[DatasetUnavailable], None] | None = None,
) -> list[ImageDataset]:
    """Read all datasets that the SPECs give, in their order; one that comes twice is kept once, and says of what else.

    Args:
        image_size: pixels of the longest side.
        cache: asked before files are read, and given what they held.
        watch: told the name, pictures read and pictures in all, every few hundred pictures.
        unavailable: told of a dataset that a service does not give now, while the others are read; else it is raised.

    Raises:
        DatasetError: a SPEC cannot be read as a dataset of at least two classes; or none could be had.
    """
    opened: dict[str, ImageDataset] = {}
    missed: list[DatasetUnavailable] = []
    for text in specs:
        spec = parse_spec(text)
        try:
            for unread in _READERS[spec.scheme](spec):
                datasets = cache.get(unread, image_size) if cache else None
                if datasets is None:
                    unstacked = datasets_of(unread.read(), image_size, watch)
                    datasets = cache.put(unread, image_size, unstacked) if cache else None
                    datasets = datasets or [each.stacked() for each in unstacked]
                for dataset in datasets:
                    there = opened.get(dataset.fingerprint)
                    opened[dataset.fingerprint] = _with_copy(there, dataset.spec) if there else dataset
        except DatasetUnavailable as error:
            if unavailable is None:
                raise
            missed.append(error)
    if missed and not opened:
        raise missed[0]
    for error in missed:
        assert unavailable is not None
        unavailable(error)
    return list(opened.values())


def _with_copy(dataset: ImageDataset, spec: str) -> ImageDataset:
    if spec in (dataset.spec, *dataset.report.copies):
        return dataset
    return replace(dataset, report=replace(dataset.report, copies=(*dataset.report.copies, spec)))


def open_dataset(
    spec: str, image_size: int, *, cache: DatasetCache | None = None, watch: Watch = unwatched
) -> ImageDataset:
    """The one dataset of a SPEC.

    Raises:
        DatasetError: the SPEC gives none, or several.
    """
    found = open_datasets([spec], image_size, cache=cache, watch=watch)
    if len(found) != 1:
        names = ", ".join(dataset.spec for dataset in found)
        raise SpecError(f"{spec} gives {len(found)} datasets and one is needed: choose one of {names}")
    return found[0]
