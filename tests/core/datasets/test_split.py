"""Identity and split: equal pictures are equal datasets in any packing, and every picture is on one side."""

import hashlib
import math
import random

import numpy as np
import pytest
import torch
from PIL import Image

from tans_core.datasets.opening import open_dataset, open_datasets
from tans_core.errors import DatasetError
from tests.trees import encoded, pasted, picture, plant, several, write_parquet

A, B, C = several("a", 25), several("b", 50), several("c", 10)


def rows(**classes):
    return [(name, each) for name, pictures in classes.items() for each in pictures]


def said(dataset):
    report = dataset.report
    skipped = [f"{each.reason}: {len(each.paths)}" for each in report.skipped]
    return " | ".join([*skipped, *report.dropped_classes, *report.notes])


def test_each_image_keeps_the_hash_of_its_picture_and_where_it_was_found(tmp_path):
    root = plant(tmp_path, {"x/": A, "y/é/": B, "x/copy.png": encoded(picture("a0")), "y/torn.png": b"<html>"})
    dataset = open_dataset(f"folder:{root}", 8)
    places = dataset.paths.decode().split("\0")
    pixels = [np.asarray(Image.open(root / place)) for place in places]
    hashes = [hashlib.blake2b(b"uint8 (6, 8, 3) " + each.tobytes(), digest_size=16).digest() for each in pixels]
    assert dataset.image_hashes == b"".join(hashes)
    assert len(set(places)) == len(dataset.images) == 75
    assert [place[0] for place in places] == [dataset.class_names[label] for label in dataset.labels]
    assert np.array_equal(dataset.images[:, :, 1:7].permute(0, 2, 3, 1), pixels)  # 6 x 8 pixels in a square of 8


def test_a2_one_dataset_in_every_packing_and_order(tmp_path):
    folder = open_dataset(f"folder:{plant(tmp_path / 'f', {'x/': A, 'y/': B})}", 8)
    shuffled = random.Random(0).sample(rows(y=B, x=A), 75)
    parquet = open_dataset(f"parquet:{write_parquet(tmp_path / 'p.parquet', shuffled)}", 8)
    doubled = plant(tmp_path / "d", {"train/x/": A[:9], "val/x/": A, "train/y/": B, "train/train/y/": B})
    for other in (parquet, open_dataset(f"folder:{doubled}", 8)):
        assert other.fingerprint == folder.fingerprint
        assert torch.equal(other.images, folder.images)
        assert torch.equal(other.labels, folder.labels)


def test_another_class_name_or_picture_or_test_part_is_another_dataset(tmp_path):
    trees = [
        {"train/x/": A, "train/y/": B},
        {"train/x/": A, "train/z/": B},
        {"train/x/": A[1:], "train/y/": B},
        {"train/x/": A[5:], "train/y/": B[5:], "test/x/": A[:5], "test/y/": B[:5]},
    ]
    specs = [f"folder:{plant(tmp_path / str(number), tree)}" for number, tree in enumerate(trees)]
    assert len({dataset.fingerprint for dataset in open_datasets(specs, 8)}) == len(trees)


def test_64_16_20_of_each_class_and_all_of_it(tmp_path):
    dataset = open_dataset(f"parquet:{write_parquet(tmp_path / 'p.parquet', rows(x=A, y=B))}", 8)
    assert dataset.counts() == {"train": [16, 32], "validation": [4, 8], "test": [5, 10]}
    together = torch.cat([dataset.train, dataset.validation, dataset.test])
    assert together.sort().values.tolist() == list(range(75))


@pytest.mark.parametrize("test", [0, 5])
def test_no_picture_stands_on_two_sides(test, tmp_path):
    tree = {"train/x/": A[test:], "test/x/": A[:test], "train/y/": B[test:], "test/y/": B[:test]}
    dataset = open_dataset(f"folder:{plant(tmp_path, tree)}", 8)
    hashes = {dataset.image_hashes[place : place + 16] for place in range(0, len(dataset.image_hashes), 16)}
    assert len(hashes) == len(dataset.images) == sum(map(sum, dataset.counts().values())) == 75


def test_a4_a_given_test_part_is_kept_and_the_rest_is_dealt_80_20(tmp_path):
    tree = {"train/x/": A[:15], "val/x/": A[15:20], "test/x/": A[20:], "train/y/": B[:40], "test/y/": B[40:]}
    dataset = open_dataset(f"folder:{plant(tmp_path, tree)}", 8)
    assert dataset.counts() == {"train": [16, 32], "validation": [4, 8], "test": [5, 10]}
    assert "own split: train 55, val 5, test 15; test kept, the rest dealt" in said(dataset)
    places = dataset.paths.decode().split("\0")
    sides = {side: {places[each].partition("/")[0] for each in getattr(dataset, side)} for side in dataset.counts()}
    assert sides["test"] == {"test"} and sides["train"] | sides["validation"] == {"train", "val"}


def test_b24_the_smallest_class_stands_on_every_side(tmp_path):
    dataset = open_dataset(f"parquet:{write_parquet(tmp_path / 'p.parquet', rows(x=A[:5], y=B[:5], z=C[:4]))}", 8)
    assert dataset.class_names == ("x", "y")
    assert all(count >= 1 for side in dataset.counts().values() for count in side)
    assert "class 'z' is dropped: 4 distinct pictures, 5 are needed" in said(dataset)


def test_a6_b24_a_class_that_the_test_part_lacks_is_dropped_and_named(tmp_path):
    tree = {
        "train/x/": A[5:],
        "test/x/": A[:5],
        "train/y/": B[5:],
        "test/y/": B[:5],
        "train/z/": C,
        "test/u/": several("u", 9),
    }
    dataset = open_dataset(f"folder:{plant(tmp_path, tree)}", 8)
    assert dataset.class_names == ("x", "y")
    assert "class 'z' is dropped: none of its 10 distinct pictures is in the test part" in said(dataset)
    assert "class 'u' is dropped: 9 of its 9 distinct pictures are in the test part" in said(dataset)


def test_b23_a_picture_in_train_and_test_stays_in_test_only(tmp_path):
    tree = {"train/x/": A, "test/x/": A[:5], "train/y/": B, "test/y/": B[:5]}
    dataset = open_dataset(f"folder:{plant(tmp_path, tree)}", 8)
    assert dataset.counts()["test"] == [5, 5]
    assert len(dataset.images) == 75
    assert "10 training pictures also stand in the test part" in said(dataset)


def test_b22_a_picture_under_two_classes_is_dropped_from_both(tmp_path):
    dataset = open_dataset(f"folder:{plant(tmp_path, {'x/': A, 'y/': [*B, *A[:3]]})}", 8)
    assert dataset.labels.bincount().tolist() == [22, 50]
    assert "3 pictures stand under both 'x' and 'y'" in said(dataset)
    assert dataset.report.skipped[0].paths[:2] == ("x/a0.png", "y/a0.png")


def test_b22_c16_a_class_twice_under_two_names_can_be_left_out(tmp_path):
    plant(tmp_path, {"x/": A, "y/": B, "z/": B})
    with pytest.raises(DatasetError, match=r"copies of each other .* without=") as caught:
        open_dataset(f"folder:{tmp_path}", 8)
    (spec,) = pasted(str(caught.value))
    assert open_dataset(spec, 8).labels.bincount().tolist() == [25, 50]


@pytest.mark.parametrize("classes", [20, 21, 41])
def test_many_classes_are_dealt_into_groups_of_one_source(classes, tmp_path):
    many = {f"{number:02}": several(f"{number}-", 5) for number in range(classes)}
    path = write_parquet(tmp_path / "p.parquet", rows(**many), {"source": "s"})
    groups = open_datasets([f"parquet:{path}"], 8)
    sizes = [len(group.class_names) for group in groups]
    assert len(groups) == math.ceil(classes / 20)
    assert sum(sizes) == classes
    assert max(sizes) - min(sizes) <= 1
    assert {group.source for group in groups} == {"s"}
    assert open_dataset(groups[-1].spec, 8).fingerprint == groups[-1].fingerprint
    assert len({group.fingerprint for group in groups}) == len(groups)


def test_a_group_of_another_number_is_refused(tmp_path):
    path = write_parquet(tmp_path / "p.parquet", rows(x=A, y=B))
    with pytest.raises(DatasetError, match="1 groups, not 3"):
        open_dataset(f"parquet:{path}?group=1of3", 8)


def test_b9_b26_a_truncated_picture_among_good_ones_is_skipped_counted_and_named(tmp_path):
    broken = encoded(picture("z"))[:-40]
    dataset = open_dataset(f"folder:{plant(tmp_path, {'x/': A, 'y/': B, 'y/bad.png': broken})}", 8)
    assert len(dataset.images) == 75
    assert [each.paths for each in dataset.report.skipped] == [("y/bad.png",)]
    assert any("truncated" in each.reason or "damaged" in each.reason for each in dataset.report.skipped)


def test_reading_is_watched_to_its_end(tmp_path):
    root = plant(tmp_path / "set", {"cats/": several("c", 50), "dogs/": several("d", 50), "dogs/torn.png": b""})
    seen = []
    open_datasets([f"folder:{root}"], 8, watch=lambda *state: seen.append(state))
    assert [name for name, _, _ in seen] == ["set"] * len(seen)
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})
    assert seen[-1][1:] == (101, 101) and len(seen) > 1
