"""Folders as people have them: which folder is a class, and what is said about the rest."""

import os
import unicodedata

import pytest

from tans_core.datasets import open_dataset
from tans_core.errors import DatasetError
from tests.trees import plant, several

CATS, DOGS, MORE = several("c", 6), several("d", 7), several("m", 5)
HAM = "".join(["id,dx\n", *(f"{name},{number % 2}\n" for number, name in enumerate(CATS + DOGS))]).encode()
TWO = {"cats/": CATS, "dogs/": DOGS}


def below(folder, tree):
    return {f"{folder}/{place}": content for place, content in tree.items()}


READ = {  # tree, options -> pictures a class, and a piece of what is said
    "flat": (TWO, "", {"cats": 6, "dogs": 7}, ""),
    "wrapped twice": (below("flowers/flowers", TWO), "", {"cats": 6, "dogs": 7}, ""),
    "again inside itself": (TWO | below("all", TWO), "", {"cats": 6, "dogs": 7}, "copy: 13"),
    "a sample beside it": (
        below("train", TWO) | below("valid", {"cats/": ["v"]}) | below("sample/train", TWO),
        "",
        {"cats": 7, "dogs": 7},
        "copy: 13",
    ),
    "split folders doubled": (
        below("training_set/training_set", TWO) | below("test_set/test_set", {"cats/": ["x"], "dogs/": ["y"]}),
        "",
        {"cats": 7, "dogs": 8},
        "own split: train 13, test 2; test kept, the rest dealt",
    ),
    "an unlabelled split": (
        below("seg_train/seg_train", TWO) | {"seg_pred/seg_pred/": MORE},
        "",
        {"cats": 6, "dogs": 7},
        "5 pictures in seg_pred have no class",
    ),
    "a flat test folder": (below("Train", TWO) | {"Test/": MORE}, "", {"cats": 6, "dogs": 7}, "5 pictures in Test"),
    "trains are a class": ({"train/": CATS, "bus/": DOGS}, "", {"bus": 7, "train": 6}, ""),
    "masks": (
        {"A/images/": CATS, "A/masks/": MORE, "B/images/": DOGS, "B/masks/": MORE},
        "",
        {"A": 6, "B": 7},
        "mask: 10",
    ),
    "faces with masks": ({"mask/": CATS, "no_mask/": DOGS}, "", {"mask": 6, "no_mask": 7}, ""),
    "masks by name": (
        {"cats/": [*CATS, "c1_mask", "c1_mask_1", "x_mask"], "dogs/": DOGS},
        "",
        {"cats": 7, "dogs": 7},
        "mask: 2",
    ),
    "two levels, top": (below("0", TWO) | below("1", {"cats/": MORE}), "?class=top", {"0": 13, "1": 5}, ""),
    "two levels, leaf": (below("0", TWO) | below("1", {"cats/": MORE}), "?class=leaf", {"cats": 11, "dogs": 7}, ""),
    "a table that repeats the folders": (
        TWO | {"labels.csv": b"id,breed\nc0,x\n"},
        "",
        {"cats": 6, "dogs": 7},
        ".csv 1",
    ),
    "larger pictures beside the tiles": (
        below("tiles/tiles", TWO) | {"larger/larger/": MORE},
        "",
        {"cats": 6, "dogs": 7},
        "5 pictures in larger have no class",
    ),
    "loose at the top": (TWO | {"./": MORE}, "", {"cats": 6, "dogs": 7}, "5 pictures in the top"),
    "hidden and system files": (
        TWO | {"cats/._c0.png": b"\0\5\26\7", "__MACOSX/": MORE, ".ipynb_checkpoints/": MORE, "cats/Thumbs.db": b"x"},
        "",
        {"cats": 6, "dogs": 7},
        "hidden or system 4",
    ),
    "upper case in the test part": (
        below("train", {"NORMAL/": CATS, "ILL/": DOGS}) | below("test", {"Normal/": ["x"], "Ill/": ["y"]}),
        "",
        {"ILL": 8, "NORMAL": 7},
        "NORMAL and Normal differ in case only",
    ),
    "numbers": ({"1/": CATS, "10/": DOGS, "2/": MORE}, "", {"1": 6, "10": 7, "2": 5}, ""),
    "an empty class": (TWO | {"birds/": []}, "", {"cats": 6, "dogs": 7}, "no picture in birds"),
    "without": (TWO | {"birds/": MORE}, "?without=birds", {"cats": 6, "dogs": 7}, ""),
    "names of all kinds": (
        {"a b%'\n\x1b[31m/": CATS, "🐈" * 60 + "/": DOGS},
        "",
        {"a b%'\n\x1b[31m": 6, "🐈" * 60: 7},
        "",
    ),
}


def said(dataset):
    report = dataset.report
    skipped = [f"{each.reason}: {len(each.paths)}" for each in report.skipped]
    ignored = [f"{kind} {count}" for kind, count in report.ignored.items()]
    return " | ".join([*skipped, *ignored, *report.dropped_classes, *report.notes])


def per_class(dataset):
    return dict(zip(dataset.class_names, dataset.labels.bincount().tolist(), strict=True))


@pytest.mark.parametrize("layout", READ)
def test_layout_is_read(layout, tmp_path):
    tree, options, classes, sentence = READ[layout]
    dataset = open_dataset(f"folder:{plant(tmp_path, tree)}{options}", 8)
    assert per_class(dataset) == classes
    assert sentence in said(dataset)
    assert dataset.name == tmp_path.name


REFUSED = {  # tree, options -> pieces of the message
    "subjects above classes": (
        below("00", TWO) | below("01", TWO),
        "",
        ["2 classes 00 to 01 (class=top)", "2 classes cats to dogs (class=leaf)"],
    ),
    "batches below classes": ({"cats/part1/": CATS, "dogs/part1/": DOGS}, "", ["class=top", "class=leaf"]),
    "variants side by side": (
        below("set/color", TWO) | below("set/grayscale", {"cats/": MORE, "dogs/": ["x"]}),
        "",
        ["2 folders with the same classes", "/set/color", "/set/grayscale"],
    ),
    "one class": ({"cats/": CATS}, "", ["one class only, cats", "6 pictures in cats"]),
    "splits without classes": (
        {"train/": CATS, "test/": DOGS},
        "",
        ["no class folders", "6 pictures in train", "7 pictures in test"],
    ),
    "an empty folder": ({}, "", ["no picture found", "empty"]),
    "arrays": (
        {"k49-train-imgs.npz": b"PK\3\4"},
        "",
        ["no picture found", "k49-train-imgs.npz holds arrays", "parquet:"],
    ),
    "case in one folder": ({"Cat/": CATS, "cat/": DOGS}, "", ["'Cat'", "'cat'"]),
    "a table": (
        {"train/": ["a1", "a2", "b1", "b2"], "labels.csv": b"id,breed\na1,a\na2,a\nb1,b\nb2,b\n"},
        "",
        ["labels.csv has columns id, breed", "all 4 values of id match", "?labels=labels.csv:id,breed"],
    ),
    "parts of one heap": (
        {"HAM_part_1/": CATS, "HAM_part_2/": DOGS, "m.csv": HAM},
        "",
        ["no class folders", "7 pictures in HAM_part_2", "?labels=m.csv:id,dx"],
    ),
    "names": (
        {"train/": [f"{kind}.{number}" for kind in ("cat", "dog") for number in range(6)]},
        "",
        ["cat.0.png", "?labels=name:"],
    ),
    "boxes": (
        {"images/": CATS} | {f"labels/{name}.txt": b"0 1 1 1 1" for name in CATS},
        "",
        ["looks like boxes", "6 .txt"],
    ),
    "many labels a picture": (
        {"train/": ["a", "b"], "train/_classes.csv": b"filename,x,y\na.png,1,1\nb.png,0,1\n"},
        "",
        ["not one class a picture: 1 rows"],
    ),
    "two labels in a table": (
        {"p/": ["a", "b"], "t.csv": b"id,what\na,x|y\nb,x\n"},
        "?labels=t.csv:id,what",
        ["not one class a picture: 1 rows"],
    ),
    "no such column": (
        {"p/": ["a"], "t.csv": b"id,breed\na,x\n"},
        "?labels=t.csv:id,bred",
        ["'bred'", "did you mean breed"],
    ),
    "no such table": ({"p/": ["a"], "t.csv": b"id,breed\na,x\n"}, "?labels=u.csv:id,breed", ["no such file", "t.csv"]),
    "a pattern without a group": ({"p/": ["a"]}, "?labels=name:a", ["no group"]),
    "no regular expression": ({"p/": ["a"]}, "?labels=name:(", ["no regular expression"]),
    "no such class": (TWO, "?without=cat", ["without=cat", "did you mean cats"]),
}


@pytest.mark.parametrize("layout", REFUSED)
def test_layout_is_refused_with_the_way_out(layout, tmp_path):
    tree, options, pieces = REFUSED[layout]
    with pytest.raises(DatasetError) as caught:
        open_dataset(f"folder:{plant(tmp_path, tree)}{options}", 8)
    assert [piece for piece in pieces if piece not in str(caught.value)] == []


def test_a_suggested_pattern_gives_the_classes(tmp_path):
    tree = {"train/": [f"{kind}.{number}" for kind in ("cat", "dog") for number in range(6)]}
    with pytest.raises(DatasetError) as caught:
        open_dataset(f"folder:{plant(tmp_path, tree)}", 8)
    options = str(caught.value).rpartition("?")[2]
    assert per_class(open_dataset(f"folder:{tmp_path}?{options}", 8)) == {"cat": 6, "dog": 6}


def test_a_table_names_pictures_by_path_name_or_stem_and_wins_over_folders(tmp_path):
    rows = [("f/c0.png", "x"), ("c1.png", "x"), ("c2", "x"), ("c3", "x"), ("c4", "x"), ("nowhere", "y")]
    rows += [(name, "é") for name in DOGS[:3]] + [(name, unicodedata.normalize("NFD", "é")) for name in DOGS[3:]]
    table = "id;what\n" + "".join(f"{image};{label}\n" for image, label in rows)
    plant(tmp_path, {"f/": CATS, "g/": DOGS, "t.csv": table.encode()})
    dataset = open_dataset(f"folder:{tmp_path}?labels=t.csv:id,what", 8)
    assert per_class(dataset) == {"x": 5, "é": 7}
    assert "1 without a picture; 1 pictures without a row" in said(dataset)


def test_classes_in_composed_and_decomposed_letters_are_one(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    plant(tmp_path, {f"train/{composed}/": CATS, "train/x/": DOGS, f"test/{decomposed}/": ["t"], "test/x/": ["u"]})
    assert per_class(open_dataset(f"folder:{tmp_path}", 8)) == {composed: 7, "x": 8}


def test_names_that_are_no_text_are_escaped(tmp_path):
    root = plant(tmp_path, {"cats/": CATS, "caf?/": DOGS, "cats/torn.png": b"<html>"})
    latin = os.fsdecode(b"caf\xe9")  # as an archive from an old code page leaves it
    os.rename(root / "caf?", root / latin)
    os.rename(root / "cats/torn.png", root / "cats" / f"{latin}.png")
    dataset = open_dataset(f"folder:{root}", 8)
    assert per_class(dataset) == {r"caf\udce9": 7, "cats": 6}
    assert [skipped.paths for skipped in dataset.report.skipped] == [(r"cats/caf\udce9.png",)]


def test_links_are_followed_once_and_a_loop_ends(tmp_path):
    plant(tmp_path / "store", {"dogs/": DOGS})
    root = plant(tmp_path / "set", {"cats/": CATS})
    os.symlink(tmp_path / "store/dogs", root / "a-dogs")
    os.symlink(root, root / "cats/back")
    os.symlink(root / "gone.png", root / "cats/gone.png")
    os.symlink(root / "cats", root / "again")
    dataset = open_dataset(f"folder:{root}", 8)
    assert per_class(dataset) == {"a-dogs": 7, "cats": 6}
    for piece in ("dead link: 1", "cats/back is a link back", "again is the same folder as cats"):
        assert piece in said(dataset)


def test_two_specs_of_variants_open_as_the_message_says(tmp_path):
    plant(tmp_path, below("set/color", TWO) | below("set/gray", TWO))
    with pytest.raises(DatasetError) as caught:
        open_dataset(f"folder:{tmp_path}", 8)
    spec = str(caught.value).partition("choose one of ")[2].partition(",")[0]
    assert per_class(open_dataset(spec, 8)) == {"cats": 6, "dogs": 7}
