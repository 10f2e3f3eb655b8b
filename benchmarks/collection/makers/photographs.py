"""Faces, surfaces, and which photograph a patch comes from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from benchmarks.collection.dataset import Dataset, Item
from benchmarks.collection.packages import Packages
from benchmarks.collection.pictures import fit, grey, images_under, spread, tiles

SKIMAGE = "usr/lib/python3/dist-packages/skimage/data"
WALLPAPERS = {
    "mate-backgrounds": "Aqua Blinds Dune FreshFlower Garden GreenMeadow LadyBird RainDrops Storm TwoWings Wood "
    "YellowFlower",
    "lomiri-wallpapers-16.04": "Bridge_by Dragonfly_by aitzgorri_by greentock_by picosdeeuropa_by umang_by sunset_by",
    "lomiri-wallpapers-20.04": "Kleiber_by",
}
OPENCV_PHOTOGRAPHS = (
    *("aloeL.jpg", "apple.jpg", "board.jpg", "building.jpg", "butterfly.jpg", "fruits.jpg", "graf1.png", "home.jpg"),
    *("leuvenA.jpg", "orange.jpg", "rubberwhale1.png", "smarties.png", "stuff.jpg", "squirrel_cls.jpg"),
    *("box_in_scene.png", "left01.jpg"),
)


def lfw_faces(packages: Packages, chance: Random) -> Iterator[Item]:
    faces = np.load(packages.unpacked("deb:python3-skimage") / SKIMAGE / "lfw_subset.npy")
    for number, image in enumerate(faces):
        yield grey(image * 255), "face" if number < 100 else "no face"


def ground_textures(packages: Packages, chance: Random) -> Iterator[Item]:
    data = packages.unpacked("deb:python3-skimage") / SKIMAGE
    for name in ("brick", "grass", "gravel"):
        for patch in tiles(Image.open(data / f"{name}.png").convert("L"), 32):
            yield patch, name


def wallpaper_photographs(packages: Packages, chance: Random) -> Iterator[Item]:
    for package, names in WALLPAPERS.items():
        there = images_under(packages.unpacked(f"deb:{package}") / "usr/share/backgrounds", "*.jpg")
        for name in names.split():
            (path,) = [path for path in there if path.name.startswith(name)]
            for patch in tiles(fit(Image.open(path).convert("RGB"), 1024), 64):
                if spread(patch) > 6:
                    yield patch, name.removesuffix("_by").lower()


def opencv_photographs(packages: Packages, chance: Random) -> Iterator[Item]:
    data = packages.unpacked("deb:opencv-doc") / "usr/share/doc/opencv-doc/examples/data"
    for name in OPENCV_PHOTOGRAPHS:
        for patch in tiles(fit(Image.open(data / name).convert("L"), 640), 32):
            if spread(patch) > 8:
                yield patch, Path(name).stem


DATASETS = (
    Dataset(
        name="lfw-faces",
        make=lfw_faces,
        source="scikit-image",
        kind="photograph",
        packages=("deb:python3-skimage",),
        native="25x25",
        note="Face or not: scikit-image's subset of Labeled Faces in the Wild.",
        most_per_class=100,
    ),
    Dataset(
        name="ground-textures",
        make=ground_textures,
        source="scikit-image",
        kind="photograph",
        packages=("deb:python3-skimage",),
        native="512x512",
        note="Patches of three photographed surfaces, 32 px, no overlap. One photograph a class: patches of a class "
        "share it.",
        most_per_class=256,
    ),
    Dataset(
        name="wallpaper-photographs",
        make=wallpaper_photographs,
        source="wallpapers",
        kind="photograph",
        packages=tuple(f"deb:{name}" for name in WALLPAPERS),
        native="1280 to 6028 px wide",
        note="Which photograph a 64 px patch comes from; photographs shrunk to 1,024 px, patches do not overlap. "
        "One photograph a class: patches of a class share it.",
        most_per_class=45,
        jpeg=85,
    ),
    Dataset(
        name="opencv-photographs",
        make=opencv_photographs,
        source="opencv",
        kind="photograph",
        packages=("deb:opencv-doc",),
        native="413 to 1282 px",
        note="Which of OpenCV's sample photographs a 32 px grey patch comes from; photographs shrunk to 640 px. "
        "One photograph a class.",
        most_per_class=80,
    ),
)
