"""Sky and planets: Stellarium's photographs, maps, panoramas and figures."""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from benchmarks.collection.dataset import Dataset, Item
from benchmarks.collection.packages import Packages
from benchmarks.collection.pictures import BLACK, fit, flat, images_under, is_opaque, spread, tiles

PACKAGE, FOLDER = "deb:stellarium-data", "usr/share/stellarium"
CATALOGUES = ("n", "ic", "m", "c", "b", "sh2-", "vdb", "rcw", "ldn", "lbn", "cr", "mel", "pgc", "ugc")
NEBULA_TYPES = {
    **dict.fromkeys((0, 1, 2, 3), "galaxy"),
    5: "cluster",
    6: "open cluster",
    7: "globular cluster",
    **dict.fromkeys((10, 13, 14, 15, 17), "bright nebula"),
    11: "planetary nebula",
    12: "dark nebula",
    16: "cluster with nebula",
    18: "supernova remnant",
}
BODIES = (
    "callisto ceres dione enceladus europa ganymede iapetus io jupiter lune mars mercury mimas phobos rhea saturn "
    "tethys triton venus vesta"
)
PANORAMAS = {
    "field in Garching": "garching/garching-gl*.png",
    "Leeberg at Grossmugl": "grossmugl/*_crop11.25_2048.png",
    "meadow at Guereins": "guereins/guereins[1-8].png",
    "Hurricane Ridge": "hurricane/hurricane[1-8].png",
    "sea": "ocean/ocean[1-8].png",
    "Mars": "mars/mars.png",
    "Moon": "moon/apollo17.png",
    "trees": "trees/trees_512.png",
}


def nebula_types(packages: Packages, chance: Random) -> Iterator[Item]:
    folder = packages.unpacked(PACKAGE) / FOLDER / "nebulae/default"
    types = _nebula_catalogue(folder / "catalog.dat")
    for path in images_under(folder):
        named = re.match(r"(ngc|n|ic|m|c|b|sh2-|vdb|rcw|ldn|lbn|cr|mel|pgc|ugc)0*(\d+)", path.stem.lower())
        if named:
            catalogue = "n" if named[1] == "ngc" else named[1]
            kind = NEBULA_TYPES.get(types.get((catalogue, named[2]), -1))
            if kind:
                yield fit(flat(Image.open(path), BLACK)), kind


def planet_surfaces(packages: Packages, chance: Random) -> Iterator[Item]:
    folder = packages.unpacked(PACKAGE) / FOLDER / "textures"
    for body in BODIES.split():
        chart = flat(Image.open(folder / f"{body}.png"), BLACK).convert("L")
        for patch in tiles(chart.crop((0, 32, chart.width, chart.height - 32)), 32):
            if spread(patch) > 2:
                yield patch, "moon" if body == "lune" else body


def panorama_sites(packages: Packages, chance: Random) -> Iterator[Item]:
    folder = packages.unpacked(PACKAGE) / FOLDER / "landscapes"
    for site, pattern in PANORAMAS.items():
        for path in sorted(folder.glob(pattern)):
            for patch in tiles(Image.open(path).convert("RGBA"), 32):
                if is_opaque(patch) and spread(patch) > 3:
                    yield patch.convert("L"), site


def sky_cultures(packages: Packages, chance: Random) -> Iterator[Item]:
    folder = packages.unpacked(PACKAGE) / FOLDER / "skycultures"
    for culture in sorted(path for path in folder.iterdir() if path.is_dir()):
        terms = (culture / "info.ini").read_text(errors="replace")
        free = re.search(r"license\s*=", terms) and not re.search(r"license\s*=.*-(ND|NC)", terms)
        if free and culture.name != "chinese_contemporary":  # its figures are the western ones
            for path in images_under(culture):
                yield fit(flat(Image.open(path), BLACK)), culture.name.replace("_", " ")


def _nebula_catalogue(path: Path) -> dict[tuple[str, str], int]:
    """Name in a catalogue, such as ('n', '224') for NGC 224, to the number of its type."""
    stream = _QtStream(gzip.decompress(path.read_bytes()))
    stream.text()  # version
    stream.text()  # edition
    types: dict[tuple[str, str], int] = {}
    while stream.at < len(stream.data):
        *_, kind = stream.take("IddddI")
        stream.text()
        stream.take("ddi" + "d" * 6)
        for catalogue, number in zip(CATALOGUES, stream.take("14I"), strict=True):
            if number:
                types.setdefault((catalogue, str(number)), kind)
        stream.text()
        stream.take("2I")
        for _ in range(7):
            stream.text()
        stream.take("5I")
    return types


class _QtStream:
    """The few types of Qt's QDataStream that the catalogue is written in."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> tuple[Any, ...]:
        """Numbers, by their letters in `struct`."""
        values = struct.unpack_from(f">{form}", self.data, self.at)
        self.at += struct.calcsize(f">{form}")
        return values

    def text(self) -> str:
        (length,) = self.take("I")
        if length == 0xFFFFFFFF:  # Qt's null string
            return ""
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-16-be")


DATASETS = (
    Dataset(
        name="nebula-types",
        make=nebula_types,
        source="stellarium",
        kind="photograph",
        packages=(PACKAGE,),
        native="128 to 2048 px",
        note="Photographs of deep-sky objects, labelled with the type in Stellarium's own catalogue; one or two "
        "photographs an object.",
        most_per_class=150,
        jpeg=90,
    ),
    Dataset(
        name="planet-surfaces",
        make=planet_surfaces,
        source="stellarium",
        kind="photograph",
        packages=(PACKAGE,),
        native="512x256 maps",
        note="Grey 32 px patches of maps made from spacecraft images, poles left out; one map a class: patches of a "
        "class share it.",
        most_per_class=70,
    ),
    Dataset(
        name="panorama-sites",
        make=panorama_sites,
        source="stellarium",
        kind="photograph",
        packages=(PACKAGE,),
        native="256 to 2048 px wide",
        note="Grey 32 px patches of the ground in panoramas photographed at eight places; patches of a class share "
        "its panorama.",
        most_per_class=110,
    ),
    Dataset(
        name="sky-cultures",
        make=sky_cultures,
        source="stellarium",
        kind="drawing",
        packages=(PACKAGE,),
        native="64 to 3507 px",
        note="Figures of constellations; the class is the culture whose sky they stand in. Cultures under ND or NC "
        "licences are left out.",
        most_per_class=60,
        jpeg=85,
    ),
)
