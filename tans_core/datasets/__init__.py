"""Datasets: from a SPEC to decoded, split, fingerprinted images."""

from __future__ import annotations

from collections.abc import Sequence

from tans_core.datasets.folder import folder_collections
from tans_core.datasets.kaggle import kaggle_collections
from tans_core.datasets.parquet import parquet_collections, starter_collections
from tans_core.datasets.spec import parse_spec
from tans_core.datasets.split import datasets_of
from tans_core.errors import DatasetError
from tans_core.records import ImageDataset

_READERS = {
    "starter": starter_collections,
    "folder": folder_collections,
    "parquet": parquet_collections,
    "kaggle": kaggle_collections,
}


def open_datasets(specs: Sequence[str], image_size: int) -> list[ImageDataset]:
    """Read all datasets that the SPECs give, in their order; one that comes twice is kept once.

    Raises:
        DatasetError: a SPEC cannot be read as a dataset of at least two classes.
    """
    opened: dict[str, ImageDataset] = {}
    for text in specs:
        spec = parse_spec(text)
        for collection in _READERS[spec.scheme](spec):
            for dataset in datasets_of(collection, image_size):
                opened.setdefault(dataset.fingerprint, dataset)
    return list(opened.values())


def open_dataset(spec: str, image_size: int) -> ImageDataset:
    """The one dataset of a SPEC.

    Raises:
        DatasetError: the SPEC gives none, or several.
    """
    found = open_datasets([spec], image_size)
    if len(found) != 1:
        names = ", ".join(dataset.spec for dataset in found)
        raise DatasetError(f"{spec} gives {len(found)} datasets and one is needed: choose one of {names}")
    return found[0]
