"""Decoded datasets are kept: instantly there again, and never for files that are not as they were."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tans_core.datasets.opening import DatasetCache, open_datasets
from tests.trees import encoded, picture, plant, several, write_parquet

CATS, DOGS = several("c", 6), several("d", 7)
LABELS = "".join(["id,what\n", *(f"{name},{number % 2}\n" for number, name in enumerate(CATS + DOGS))])


@pytest.fixture
def cache(tmp_path):
    return DatasetCache(tmp_path / "cache")


@pytest.fixture
def root(tmp_path):
    return plant(
        tmp_path / "set", {"cats/": CATS, "dogs/": DOGS, "cats/torn.jpg": b"<html>", "labels.csv": b"id,what\n"}
    )


def read(spec, cache, size=8):
    """Datasets, and whether their pictures were decoded."""
    seen = []
    datasets = open_datasets([spec], size, cache=cache, watch=lambda *state: seen.append(state))
    return datasets, bool(seen)


def test_the_second_reading_decodes_nothing_and_gives_the_same(root, cache):
    (first,), decoded = read(f"folder:{root}", cache)
    (second,), decoded_again = read(f"folder:{root}", cache)
    assert (decoded, decoded_again) == (True, False)
    for name in ("images", "labels", "train", "validation", "test"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert first.image_hashes and first.paths
    for name in ("fingerprint", "name", "source", "spec", "licence", "class_names", "report", "image_hashes", "paths"):
        assert getattr(first, name) == getattr(second, name)


def test_an_entry_is_a_file_of_safetensors_with_the_images_as_they_are_without_a_cache(root, cache, tmp_path):
    (kept,), _ = read(f"folder:{root}", cache)
    (entry,) = (tmp_path / "cache").iterdir()
    tensors = load_file(entry)
    (plain,) = open_datasets([f"folder:{root}"], 8)
    for name in ("images", "labels", "train", "validation", "test"):
        assert torch.equal(tensors[f"0.{name}"], getattr(plain, name))
        assert torch.equal(getattr(kept, name), getattr(plain, name))


def test_groups_and_shards_are_kept_too(tmp_path, cache):
    root = plant(tmp_path / "many", {f"class{number:02}/": several(f"{number}-", 5) for number in range(21)})
    first, _ = read(f"folder:{root}", cache)
    second, decoded = read(f"folder:{root}", cache)
    assert not decoded
    assert [each.name for each in second] == [each.name for each in first] == ["many-1of2", "many-2of2"]


def _rewrite(path: Path, content: bytes) -> None:
    """Other bytes of the same length and the old time."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "a picture more": lambda root: (root / "cats/new.png").write_bytes(encoded(picture("new"))),
    "a picture less": lambda root: (root / "cats/c0.png").unlink(),
    "a picture with another name": lambda root: (root / "cats/c0.png").rename(root / "cats/c.png"),
    "a picture in another class": lambda root: (root / "cats/c0.png").rename(root / "dogs/c0.png"),
    "other bytes of the same length and time": lambda root: _rewrite(
        root / "cats/c0.png", bytes(len((root / "cats/c0.png").read_bytes()))
    ),
    "another table": lambda root: (root / "labels.csv").write_text(LABELS),
    "a class with another name": lambda root: (root / "cats").rename(root / "lions"),
    "an empty class": lambda root: (root / "birds").mkdir(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_files_is_noticed(change, root, cache):
    read(f"folder:{root}", cache)
    CHANGES[change](root)
    assert read(f"folder:{root}", cache)[1]


def test_a_class_with_another_name_is_noticed_in_the_current_folder(root, cache, monkeypatch):
    monkeypatch.chdir(root)
    read("folder:.", cache)
    (root / "cats").rename(root / "bats")
    (dataset,), decoded = read("folder:.", cache)
    assert decoded and dataset.class_names == ("bats", "dogs")


@pytest.mark.parametrize("options,size", [("?without=cats", 8), ("?class=leaf", 8), ("", 16)])
def test_another_question_is_another_entry(options, size, tmp_path, cache):
    root = plant(tmp_path / "set", {"cats/": CATS, "dogs/": DOGS, "elks/": several("e", 5)})
    read(f"folder:{root}", cache)
    (dataset,), decoded = read(f"folder:{root}{options}", cache, size)
    assert decoded
    assert dataset.image_size == size


def test_parquet_is_kept_and_a_rewritten_file_is_noticed(tmp_path, cache):
    rows = [("cats", name) for name in CATS] + [("dogs", name) for name in DOGS]
    path = write_parquet(tmp_path / "set.parquet", rows)
    assert read(f"parquet:{path}", cache)[1]
    assert not read(f"parquet:{path}", cache)[1]
    write_parquet(path, rows)
    assert read(f"parquet:{path}", cache)[1]


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-1], lambda data: b"\xff" * 20 + data[20:]])
def test_a_damaged_entry_is_made_again(damage, root, cache, tmp_path):
    (first,), _ = read(f"folder:{root}", cache)
    images = first.images.clone()  # it is mapped
    (entry,) = (tmp_path / "cache").iterdir()
    entry.write_bytes(damage(entry.read_bytes()))
    (second,), decoded = read(f"folder:{root}", cache)
    assert decoded
    assert torch.equal(images, second.images)
    assert not read(f"folder:{root}", cache)[1]


def test_a_cache_that_takes_nothing_stops_nobody(root, tmp_path):
    (tmp_path / "file").write_text("no folder")
    cache = DatasetCache(tmp_path / "file")
    assert read(f"folder:{root}", cache)[1]
    assert read(f"folder:{root}", cache)[1]


def test_what_was_unused_for_longest_makes_room(root, tmp_path):
    (folder := tmp_path / "cache").mkdir()
    shutil.copytree(root, tmp_path / "other")
    read(f"folder:{root}", DatasetCache(folder))
    (first,) = folder.iterdir()
    small = DatasetCache(folder, most_bytes=first.stat().st_size)
    os.utime(first, (0, 0))
    read(f"folder:{tmp_path / 'other'}", small)
    assert first not in list(folder.iterdir())
    assert not read(f"folder:{tmp_path / 'other'}", small)[1]
