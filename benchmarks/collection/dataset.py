"""What a dataset of the collection is: who makes its pictures, and what its file says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from PIL import Image

from benchmarks.collection.packages import Packages

Item = tuple[Image.Image, str]  # a picture and its class
Make = Callable[[Packages, Random], Iterable[Item]]  # all chance is drawn from the generator


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One dataset: how it is made, and what stands in its file's metadata."""

    name: str
    make: Make
    folder: str = "meta-train"
    source: str  # datasets of one source are related
    kind: str  # photograph, measurement, scan, drawing, render or texture
    packages: tuple[str, ...]  # as pins.json names them: "deb:stellarium-data"
    native: str  # size of the originals, in words
    note: str
    most_per_class: int = 80
    jpeg: int = 0  # quality; 0 is PNG

    @property
    def place(self) -> str:
        """Where its file lies in the collection, as `meta-train/nebula-types`."""
        return f"{self.folder}/{self.name}"
