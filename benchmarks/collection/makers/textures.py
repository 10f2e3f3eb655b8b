"""Surfaces of two games."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Iterator
from random import Random
from zipfile import ZipFile

from PIL import Image

from benchmarks.collection.dataset import Dataset, Item
from benchmarks.collection.packages import Packages
from benchmarks.collection.pictures import flat, middle_square, to_square

UFO_FOLDERS = {
    "alienb": "alien base",
    "base": "base",
    "buildings": "building",
    "furniture": "furniture",
    "lights": "lights",
    "material": "material",
    "misc": "miscellaneous",
    "nature": "nature",
    "pics": "pictures",
    "shop": "shop",
    "streets": "street",
    "tech": "machinery",
    "trak": "trak panels",
    "ufo": "ufo",
    "vehicles": "vehicle",
}
NEXUIZ_SETS = (
    *("egyptsoc", "evil1", "evil2", "evil3", "evil4", "evil6", "evil8", "trak4", "trak5", "ex", "e7", "e8"),
    *("stralenex1", "dsi", "strength"),
)


def ufo_materials(packages: Packages, chance: Random) -> Iterator[Item]:
    path = packages.unpacked("deb:ufoai-textures") / "usr/share/games/ufoai/base/0textures.pk3"
    with ZipFile(path) as archive:
        for name, lower in _pictures(archive):
            found = re.match(r"textures/tex_([a-z]+)/[^/]+$", lower)
            is_layer = re.search(r"_(nm|gm|sm|rm|normal|glow)\.", lower)  # of light, not of colour
            if found and found[1] in UFO_FOLDERS and not is_layer:
                image = Image.open(io.BytesIO(archive.read(name)))
                yield to_square(middle_square(image), 48), UFO_FOLDERS[found[1]]


def nexuiz_styles(packages: Packages, chance: Random) -> Iterator[Item]:
    path = packages.unpacked("deb:nexuiz-textures") / "usr/share/games/nexuiz/data/textures.pk3"
    with ZipFile(path) as archive:
        sets = defaultdict(list)
        for name, lower in _pictures(archive):
            found = re.match(r"textures/([a-z]+\d?)[a-z_]*/[^/]+$", lower)
            is_layer = re.search(r"_(norm|gloss|bump|glow|shirt|pants|local|luma|reflect)\.", lower)
            if found and found[1] in NEXUIZ_SETS and not is_layer:
                sets[found[1]].append(name)
        for style, names in sorted(sets.items()):
            for name in chance.sample(names, min(90, len(names))):
                try:
                    image = flat(Image.open(io.BytesIO(archive.read(name))))
                except OSError:  # a few are in formats that Pillow does not read
                    continue
                yield to_square(middle_square(image), 48), style


def _pictures(archive: ZipFile) -> Iterator[tuple[str, str]]:
    """Names of the pictures, as they stand and in lower case."""
    for name in sorted(archive.namelist()):
        if name.lower().endswith((".jpg", ".tga", ".png")):
            yield name, name.lower()


DATASETS = (
    Dataset(
        name="ufo-materials",
        make=ufo_materials,
        source="ufoai",
        kind="texture",
        packages=("deb:ufoai-textures",),
        native="16 to 1024 px",
        note="Textures, most of them from photographs; the class is the folder: what the surface belongs to.",
        most_per_class=90,
        jpeg=88,
    ),
    Dataset(
        name="nexuiz-styles",
        make=nexuiz_styles,
        source="nexuiz",
        kind="texture",
        packages=("deb:nexuiz-textures",),
        native="32 to 1024 px",
        note="Textures of walls, floors and machines; the class is the set, each by one artist.",
        most_per_class=70,
        jpeg=88,
    ),
)
