"""Whether a folder holds the collection: each dataset is known by its fingerprint, as `tans datasets` works it out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tans_core.datasets.opening import open_dataset
from tans_core.errors import DatasetError

FINGERPRINTS = Path(__file__).with_name("fingerprints.json")
_IMAGE_SIZE = 16  # the fingerprint is of the pictures as they are stored, whatever size they are read at


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a dataset of the collection is."""

    fingerprint: str
    images: int
    classes: int

    def __str__(self) -> str:
        return f"{self.fingerprint} ({self.images:,} images of {self.classes} classes)"


def known_datasets() -> dict[str, Known]:
    """All datasets of the collection, by their place, as `meta-train/nebula-types`."""
    return {place: Known(**known) for place, known in json.loads(FINGERPRINTS.read_text()).items()}


def missing(folder: Path, known: Iterable[str]) -> list[str]:
    """Places of the datasets that are not in the folder."""
    return [place for place in known if not (folder / f"{place}.parquet").exists()]


def strangers(folder: Path, known: Iterable[str]) -> list[str]:
    """A sentence for each file that benchmarks would read although it is none of the collection's."""
    ours = {folder / f"{place}.parquet" for place in known}
    there = sorted(path for part in {path.parent for path in ours} for path in part.glob("*.parquet"))
    return [f"{path} is none of the collection's datasets: move it away" for path in there if path not in ours]


def difference(folder: Path, place: str, known: Known) -> str | None:
    """A sentence where the dataset that is there is not what it should be."""
    path = folder / f"{place}.parquet"
    try:
        found = _look(path)
    except DatasetError as error:
        return f"{error}: move {path} away, and it is built anew"
    if found == known:
        return None
    return (
        f"{path} is another dataset than {place} of the collection: its fingerprint is {found}, and "
        f"{FINGERPRINTS.name} says {known}: move it away, and it is built anew"
    )


def _look(path: Path) -> Known:
    dataset = open_dataset(f"parquet:{path}", _IMAGE_SIZE)
    return Known(fingerprint=dataset.fingerprint, images=len(dataset.images), classes=len(dataset.class_names))
