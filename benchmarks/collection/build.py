"""From packages to Parquet files, in the makers' environment: `python -m benchmarks.collection.build FOLDER PLACE...`.

The same pins give the same pictures: all chance comes from generators seeded with the dataset's name. A dataset holds
no picture twice and none that another holds; `meta-test` holds no near copy of what is in `meta-train`.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import sys
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.collection.dataset import Dataset
from benchmarks.collection.makers import DATASETS
from benchmarks.collection.packages import Packages, read_pins
from benchmarks.collection.pictures import LONGEST_SIDE
from pipeline.running.files import write_whole
from pipeline.running.progress import say

MOST_CLASSES, FEWEST_PER_CLASS = 20, 12
NEAR = 0.99  # product of two thumbprints


@dataclass(frozen=True)
class Encoded:
    """A picture as its file, its class, and the hash of what is seen when the file is read."""

    file: bytes
    label: str
    pixels: str


def build(folder: Path, places: Sequence[str], packages: Packages, workers: int) -> None:
    """Make these datasets and write them into the folder; those that are there already are read, to be held against.

    Args:
        places: as `meta-train/nebula-types`.
        packages: those that the datasets are made of.
        workers: processes that make pictures.
    """
    wanted = [dataset for dataset in DATASETS if dataset.place in places]
    others = Others()
    for dataset in DATASETS:
        if dataset not in wanted and _path(folder, dataset).exists():
            others.add(dataset, _read(_path(folder, dataset)))
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _trust_sizes)
    try:
        futures = [pool.submit(make, dataset.place, packages) for dataset in wanted]
        for dataset, future in zip(wanted, futures, strict=True):
            images = others.without_copies(dataset, future.result())
            others.add(dataset, images)
            write(_path(folder, dataset), dataset, images, packages)
            say(f"{dataset.place}: {len(images):,} images of {len({image.label for image in images})} classes")
    finally:
        pool.shutdown(cancel_futures=True)


def _trust_sizes() -> None:
    Image.MAX_IMAGE_PIXELS = None  # one clip art has 600 million; what a package holds is known by its hash


def make(place: str, packages: Packages) -> list[Encoded]:
    """All pictures of a dataset, in a fixed order.

    Exact copies count once; a picture under two classes is in none of them; small classes are left out, and of large
    ones so many are drawn as the dataset takes.
    """
    (dataset,) = (dataset for dataset in DATASETS if dataset.place == place)
    chance = Random(dataset.name)
    by_class: dict[str, dict[str, Encoded]] = defaultdict(dict)
    class_of: dict[str, str] = {}
    for picture, label in dataset.make(packages, chance):
        assert max(picture.size) <= LONGEST_SIDE, f"{place}: a picture of {picture.size}"
        image = _encoded(picture, label, dataset.jpeg)
        known = class_of.get(image.pixels)
        if known is None:
            class_of[image.pixels] = label
            by_class[label][image.pixels] = image
        elif known != label:
            by_class[known].pop(image.pixels, None)
    kept: list[Encoded] = []
    for _, images in sorted(by_class.items()):
        if len(images) >= FEWEST_PER_CLASS:
            kept += _drawn(list(images.values()), dataset.most_per_class, chance)
    chance.shuffle(kept)
    return kept


def _drawn(images: list[Encoded], most: int, chance: Random) -> list[Encoded]:
    if len(images) <= most:
        return images
    return [images[at] for at in sorted(chance.sample(range(len(images)), most))]


def _encoded(picture: Image.Image, label: str, quality: int) -> Encoded:
    picture = picture if picture.mode == "L" else picture.convert("RGB")
    stream = io.BytesIO()
    if quality:
        picture.save(stream, "JPEG", quality=quality, optimize=True)
    else:
        picture.save(stream, "PNG", optimize=True)
    return Encoded(stream.getvalue(), label, _pixels(stream.getvalue()))


def _pixels(file: bytes) -> str:
    image = Image.open(io.BytesIO(file))
    return hashlib.sha256(f"{image.mode}{image.size}".encode() + image.tobytes()).hexdigest()


class Others:
    """What the other datasets hold, so that no picture stands in two."""

    def __init__(self) -> None:
        self._pixels: set[str] = set()
        self._meta_train: list[np.ndarray] = []  # thumbprints

    def add(self, dataset: Dataset, images: Sequence[Encoded]) -> None:
        """This dataset is there from now on."""
        self._pixels.update(image.pixels for image in images)
        if dataset.folder == "meta-train":
            self._meta_train.append(thumbprints(images))

    def without_copies(self, dataset: Dataset, images: Sequence[Encoded]) -> list[Encoded]:
        """The pictures that no other dataset holds; in `meta-test`, no near copies of those of `meta-train` either."""
        new = [image for image in images if image.pixels not in self._pixels]
        if dataset.folder == "meta-train" or not self._meta_train:
            return new
        nearest = (thumbprints(new) @ np.concatenate(self._meta_train).T).max(axis=1)
        return [image for image, product in zip(new, nearest, strict=True) if product <= NEAR]


def thumbprints(images: Sequence[Encoded]) -> np.ndarray:
    """Pictures at 16x16 in grey (N, 256) without their mean and strength; the product of near copies is near one.

    Flat pictures give zeros: they are near nothing.
    """
    bilinear = Image.Resampling.BILINEAR
    small = (Image.open(io.BytesIO(image.file)).convert("L").resize((16, 16), bilinear) for image in images)
    rows = np.stack([np.asarray(each, dtype=np.float32).ravel() for each in small])
    rows = rows - rows.mean(axis=1, keepdims=True)
    strength = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(rows.std(axis=1, keepdims=True) > 4, rows / np.maximum(strength, 1e-6), 0)


def write(path: Path, dataset: Dataset, images: Sequence[Encoded], packages: Packages) -> None:
    """Write a dataset's file; it has its name when it is whole.

    One row a picture: `image` (a PNG or JPEG file), `label` in the order of the sorted names, `label_name`. What it is
    and where it comes from stands in the schema's metadata.
    """
    labels = sorted({image.label for image in images})
    assert 2 <= len(labels) <= MOST_CLASSES, f"{dataset.place}: {len(labels)} classes"
    pins = [packages.pins[package] for package in dataset.packages]
    origin = [
        {"registry": pin.registry, "package": pin.name, "version": pin.version, "licence": pin.licence} for pin in pins
    ]
    about = {
        "name": dataset.name,
        "folder": dataset.folder,
        "source": dataset.source,
        "kind": dataset.kind,
        "origin": json.dumps(origin),
        "licence": " | ".join(sorted({pin.licence for pin in pins})),
        "native_size": dataset.native,
        "note": dataset.note,
        "classes": json.dumps(labels),
    }
    columns = {
        "image": pa.array([image.file for image in images], pa.binary()),
        "label": pa.array([labels.index(image.label) for image in images], pa.int32()),
        "label_name": pa.array([image.label for image in images], pa.string()),
    }
    stream = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(about), stream, compression="zstd", compression_level=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, stream.getvalue())


def _read(path: Path) -> list[Encoded]:
    table = pq.read_table(path, columns=["image", "label_name"]).to_pydict()
    return [
        Encoded(file, label, _pixels(file)) for file, label in zip(table["image"], table["label_name"], strict=True)
    ]


def _path(folder: Path, dataset: Dataset) -> Path:
    return folder / f"{dataset.place}.parquet"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where meta-train/ and meta-test/ are written")
    parser.add_argument("places", nargs="+", help="datasets, as meta-train/nebula-types")
    parser.add_argument("--packages", type=Path, required=True, help="where they were fetched to")
    parser.add_argument("--workers", type=int, required=True)
    given = parser.parse_args()
    try:
        build(given.folder, given.places, Packages(given.packages, read_pins()), given.workers)
    except KeyboardInterrupt:  # said by who called
        sys.exit(130)


if __name__ == "__main__":
    main()
