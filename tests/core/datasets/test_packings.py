"""One dataset is one fingerprint in any packing, and another when a pixel, a name or a side is another."""

import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tans_core.datasets.opening import open_dataset
from tans_core.datasets.sources.archive import unpack
from tests.trees import encoded, picture

NAMES = ("ant", "Bee", "käfer", "dragon fly", "7")
Classes = dict[str, list[Image.Image]]


@st.composite
def classes(draw) -> Classes:
    """Two or three classes of five to seven pictures, all different."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=3, unique=True))
    seed = draw(st.integers(0, 10**6))
    return {name: [picture(f"{seed} {name} {n}") for n in range(draw(st.integers(5, 7)))] for name in names}


def write(root: Path, made: Classes, kind: str = "PNG", prefix: str = "") -> Path:
    for name, images in made.items():
        (folder := root / prefix / name).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images):
            (folder / f"{number}.{kind.lower()}").write_bytes(encoded(image, kind, lossless=True))
    return root


def flat(root: Path, made: Classes) -> str:
    return f"folder:{write(root, made)}"


def in_another_format(root: Path, made: Classes) -> str:
    return f"folder:{write(root, made, 'WEBP')}"


def wrapped(root: Path, made: Classes) -> str:
    write(root, made, prefix="set/images")
    return f"folder:{root}"


def doubled(root: Path, made: Classes) -> str:
    write(root, made)
    write(root, made, prefix="all")
    return f"folder:{root}"


def in_splits_without_a_test_part(root: Path, made: Classes) -> str:
    write(root, {name: images[:4] for name, images in made.items()}, prefix="train")
    write(root, {name: images[4:] for name, images in made.items()}, prefix="valid")
    return f"folder:{root}"


def parquet(root: Path, made: Classes) -> str:
    rows = [(name, encoded(image)) for name, images in made.items() for image in images]
    labels = sorted(made)
    columns = {
        "image": [data for _, data in reversed(rows)],
        "label": [labels.index(name) for name, _ in reversed(rows)],
        "label_name": [name for name, _ in reversed(rows)],
    }
    pq.write_table(pa.table(columns), root / "set.parquet")
    return f"parquet:{root / 'set.parquet'}"


def zipped(root: Path, made: Classes) -> str:
    write(root / "loose", made)
    with zipfile.ZipFile(root / "set.zip", "w") as archive:
        for path in (root / "loose").rglob("*.png"):
            archive.write(path, path.relative_to(root / "loose"))
    unpack(root / "set.zip", root / "unpacked")
    return f"folder:{root / 'unpacked'}"


PACKINGS = (flat, in_another_format, wrapped, doubled, in_splits_without_a_test_part, parquet, zipped)


def with_test_part(root: Path, made: Classes) -> str:
    """The last two pictures of each class are a given test part."""
    write(root, {name: images[:-2] for name, images in made.items()}, prefix="train")
    write(root, {name: images[-2:] for name, images in made.items()}, prefix="test")
    return f"folder:{root}"


def fingerprint(pack, made: Classes) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return open_dataset(pack(Path(folder), made), 8).fingerprint


@settings(max_examples=15, deadline=None)
@given(classes())
def test_the_packing_leaves_no_trace(made):
    assert len({fingerprint(pack, made) for pack in PACKINGS}) == 1


@settings(max_examples=15, deadline=None)
@given(classes(), st.sampled_from(PACKINGS), st.data())
def test_one_pixel_or_one_name_makes_another_dataset(made, pack, data):
    before = fingerprint(flat, made)
    name = data.draw(st.sampled_from(sorted(made)))
    number = data.draw(st.integers(0, len(made[name]) - 1))
    pixels = np.array(made[name][number])
    place = tuple(data.draw(st.integers(0, size - 1)) for size in pixels.shape)
    pixels[place] ^= 1 << data.draw(st.integers(0, 7))
    changed = [*made[name][:number], Image.fromarray(pixels), *made[name][number + 1 :]]
    assert fingerprint(pack, made | {name: changed}) != before
    assert fingerprint(pack, {each if each != name else "moth": images for each, images in made.items()}) != before


@settings(max_examples=15, deadline=None)
@given(classes(), st.data())
def test_one_side_makes_another_dataset(made, data):
    name = data.draw(st.sampled_from(sorted(made)))
    images = made[name]
    other = {name: [*images[:-3], images[-1], images[-2], images[-3]]}  # one in training and one in test change places
    kept = fingerprint(with_test_part, made)
    assert fingerprint(with_test_part, made | other) != kept
    assert fingerprint(flat, made) != kept
