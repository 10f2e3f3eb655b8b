"""The manifest says of every picture that is used on which side it is, and of no other."""

import csv
import hashlib
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.cli import run
from pipeline.reading.datasets import datasets
from tans_core.errors import ConfigError
from tests.trees import encoded, picture, plant, several, write_parquet

CATS, DOGS = several("c", 10), several("d", 15)
TREE = {"train/cats, wild/": CATS[:8], "test/cats, wild/": CATS[8:], "train/dogs/": DOGS[:12], "test/dogs/": DOGS[12:]}
COPY = {"train/dogs/copy.png": encoded(picture("d0")), "train/cats, wild/leak.png": encoded(picture("c9"))}


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_picture_is_in_it_once_with_class_side_and_hash(tmp_path):
    root = plant(tmp_path / "my set", TREE | COPY | {"train/dogs/torn.png": b"<html>"})
    (summary,) = datasets([f"folder:{root}"], 8, manifest=tmp_path / "sides.csv")
    said = lines(tmp_path / "sides.csv")
    assert list(said[0]) == ["dataset", "fingerprint", "class", "side", "path", "image_hash"]
    assert {(each["dataset"], each["fingerprint"]) for each in said} == {("my set", summary.fingerprint)}
    used = {str(path.relative_to(root)) for path in root.rglob("*.png")} - set(COPY) - {"train/dogs/torn.png"}
    twins = {"train/dogs/copy.png": "train/dogs/d0.png"}  # either of two copies stands for both
    assert {twins.get(each["path"], each["path"]) for each in said} == used and len(said) == len(used) == 25
    for each in said:
        assert Path(each["path"]).parent.name == each["class"]
        assert (each["side"] == "test") == each["path"].startswith("test/")
        pixels = np.asarray(Image.open(root / each["path"]))
        hashed = hashlib.blake2b(b"uint8 (6, 8, 3) " + pixels.tobytes(), digest_size=16).hexdigest()
        assert each["image_hash"] == hashed
    counted = Counter((each["side"], each["class"]) for each in said)
    assert summary.counts == {
        side: [counted[side, name] for name in summary.class_names] for side in ("train", "validation", "test")
    }


def test_several_datasets_stand_in_one_and_rows_of_parquet_are_numbered(tmp_path):
    rows = [("cats", name) for name in CATS] + [("dogs", name) for name in DOGS]
    one, other = (write_parquet(tmp_path / f"{name}.parquet", rows[cut:]) for name, cut in (("one", 0), ("other", 1)))
    assert run(["datasets", f"parquet:{one}", f"parquet:{other}", "--manifest", str(tmp_path / "all.csv")]) == 0
    said = lines(tmp_path / "all.csv")
    assert [each["dataset"] for each in said] == ["one"] * 25 + ["other"] * 24
    assert {each["path"] for each in said if each["dataset"] == "one"} == {f"one.parquet[{row}]" for row in range(25)}


def test_names_of_all_kinds_come_back(tmp_path):
    odd = 'a "b",\n\x1b[31mé'
    root = plant(tmp_path / "set", {f"{odd}/": CATS, "dogs/": DOGS})
    datasets([f"folder:{root}"], 8, manifest=tmp_path / "sides.csv")
    assert Counter(each["class"] for each in lines(tmp_path / "sides.csv")) == {odd: 10, "dogs": 15}


def test_an_older_manifest_is_replaced_and_what_is_none_is_not(tmp_path):
    root = plant(tmp_path / "set", {"cats/": CATS, "dogs/": DOGS})
    manifest, thesis = tmp_path / "sides.csv", tmp_path / "thesis.csv"
    datasets([f"folder:{root}"], 8, manifest=manifest)
    before = manifest.read_bytes()
    manifest.write_bytes(before[:200])
    datasets([f"folder:{root}"], 8, manifest=manifest)
    assert manifest.read_bytes() == before
    thesis.write_text("chapter,words\n1,9000\n")
    with pytest.raises(ConfigError, match=r"thesis\.csv holds something that is no manifest"):
        datasets([f"folder:{root}"], 8, manifest=thesis)
    assert thesis.read_text() == "chapter,words\n1,9000\n"


@pytest.mark.parametrize("place", ["gone/sides.csv", ".", "pipe"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(place, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="--manifest"):
        datasets(["folder:nowhere"], 8, manifest=tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_reading_that_fails_leaves_no_manifest_and_an_older_one_as_it_was(tmp_path):
    manifest = tmp_path / "sides.csv"
    for _ in range(2):
        assert run(["datasets", "folder:nowhere", "--manifest", str(manifest)]) == 1
        assert not manifest.exists()
    root = plant(tmp_path / "set", {"cats/": CATS, "dogs/": DOGS})
    datasets([f"folder:{root}"], 8, manifest=manifest)
    before = manifest.read_bytes()
    assert run(["datasets", f"folder:{root}", "folder:nowhere", "--manifest", str(manifest)]) == 1
    assert manifest.read_bytes() == before
