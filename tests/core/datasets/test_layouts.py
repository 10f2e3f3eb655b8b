"""Folders as people have them: which folder is a class, and what is said about the rest."""

import os
import unicodedata

import pytest

from tans_core.datasets.opening import open_dataset
from tans_core.datasets.sources.layout import split_of
from tans_core.errors import DatasetError
from tests.trees import encoded, pasted, picture, plant, several

CATS, DOGS, MORE = several("c", 6), several("d", 7), several("m", 5)
HAM = "".join(["id,dx\n", *(f"{name},{number % 2}\n" for number, name in enumerate(CATS + DOGS))]).encode()
TWO, SEEN = {"cats/": CATS, "dogs/": DOGS}, {"cats/": ["x"], "dogs/": ["y"]}
MARKED = "filename, cat, dog\n" + "".join(
    [
        f"{name}.png,{int(name[0] == 'c' and name != 'c0')},{int(name[0] == 'd' and name != 'd6')}\n"
        for name in CATS + DOGS
    ]
).replace("d0.png,0,1", "d0.png,1,0")
FOREIGN = "file,is\n" + "".join(
    [f"/kaggle/input/z/train/{name}.png,x\n" for name in CATS[1:]]
    + ["C:\\x\\nobody.png,x\n"]
    + [f"more/{name}.jpg,y\n" for name in DOGS[1:]]
)


def below(folder, tree):
    return {f"{folder}/{place}": content for place, content in tree.items()}


READ = {  # tree, options -> pictures a class, and a piece of what is said
    "a1 flat": (TWO, "", {"cats": 6, "dogs": 7}, ""),
    "a1 wrapped twice": (below("flowers/flowers", TWO), "", {"cats": 6, "dogs": 7}, ""),
    "a2 again inside itself": (
        TWO | below("all", TWO) | {"__MACOSX/cats/._c0.png": b"\0\5\26\7", "Thumbs.db": b"x"},
        "",
        {"cats": 6, "dogs": 7},
        "copy: 13",
    ),
    "a2 again inside itself, with splits": (
        below("set", below("train", TWO) | below("test", SEEN))
        | below("set/set", below("train", TWO) | below("test", SEEN)),
        "",
        {"cats": 7, "dogs": 8},
        "own split: train 13, test 2",
    ),
    "a16 a sample beside it": (
        below("train", TWO) | below("valid", {"cats/": ["v"]}) | below("sample/train", TWO),
        "",
        {"cats": 7, "dogs": 7},
        "copy: 13",
    ),
    "a3 split folders doubled": (
        below("training_set/training_set", TWO) | below("test_set/test_set", {"cats/": ["x"], "dogs/": ["y"]}),
        "",
        {"cats": 7, "dogs": 8},
        "own split: train 13, test 2; test kept, the rest dealt",
    ),
    "a5 an unlabelled split": (
        below("seg_train/seg_train", TWO) | {"seg_pred/seg_pred/": MORE},
        "",
        {"cats": 6, "dogs": 7},
        "5 pictures in seg_pred have no class",
    ),
    "a5 a flat test folder": (below("Train", TWO) | {"Test/": MORE}, "", {"cats": 6, "dogs": 7}, "5 pictures in Test"),
    "a5 pictures of no class in a split's own folder": (
        below("asl_train/asl_train", TWO) | {"asl_test/asl_test/": MORE},
        "",
        {"cats": 6, "dogs": 7},
        "5 pictures in asl_test have no class",
    ),
    "a6 splits with different classes": (
        below("train", TWO | {"birds/": MORE, "ants/": []})
        | below("valid", {"dogs/": ["v"], "fish/": several("f", 5)}),
        "",
        {"birds": 5, "cats": 6, "dogs": 8, "fish": 5},
        "no picture in train/ants",
    ),
    "a7 masks beside pictures and a table": (
        below("COVID/COVID", {"images/": CATS, "masks/": MORE})
        | below("Normal", {"images/": DOGS, "masks/": MORE})
        | {"COVID.metadata.xlsx": b"PK", "Normal.metadata.xlsx": b"PK"},
        "",
        {"COVID": 6, "Normal": 7},
        ".xlsx 2",
    ),
    "a11 a table and a model beside class folders": (
        below("train", TWO)
        | below("test", SEEN)
        | {"sports.csv": b"filepaths,labels\ntrain/cats/c0.png,x\n", "m.h5": b"h"},
        "",
        {"cats": 7, "dogs": 8},
        ".h5 1",
    ),
    "a12 one column a class": (
        {"train/": CATS + DOGS, "train/_classes.csv": MARKED.encode()},
        "?labels=train/_classes.csv:filename,*",
        {"cat": 6, "dog": 5},
        "train/_classes.csv: 13 rows, 0 without a picture; 2 pictures without a row",
    ),
    "a10 names from another machine": (
        {"set/train/": CATS, "set/more/": DOGS, "t.csv": FOREIGN.encode()},
        "?labels=t.csv:file,is",
        {"x": 5, "y": 6},
        "1 without a picture",
    ),
    "a15 loose pictures of a description": (
        below("Train", TWO) | {"Meta/": MORE, "test-multiple_fruits/": ["x"]},
        "",
        {"cats": 6, "dogs": 7},
        "5 pictures in Meta have no class",
    ),
    "b20 upper case in the test part, by top folders": (
        below("train/NORMAL", {"a/": CATS, "b/": MORE})
        | below("train/ILL", {"a/": DOGS, "b/": ["z"]})
        | below("test/Normal", {"a/": ["x"], "b/": ["w"]})
        | below("test/ill", {"a/": ["y"], "b/": ["v"]}),
        "?class=top",
        {"ILL": 10, "NORMAL": 13},
        "'NORMAL' and 'Normal' differ in case only",
    ),
    "a4 splits below the classes": (
        {"cats/train/": CATS, "cats/test/": ["x"], "dogs/train/": DOGS, "dogs/test/": ["y"]},
        "",
        {"cats": 7, "dogs": 8},
        "own split: train 13, test 2",
    ),
    "a4 trains are a class": ({"train/": CATS, "bus/": DOGS}, "", {"bus": 7, "train": 6}, ""),
    "a7 masks": (
        {"A/images/": CATS, "A/masks/": MORE, "B/images/": DOGS, "B/masks/": MORE},
        "",
        {"A": 6, "B": 7},
        "mask: 10",
    ),
    "a7 faces with masks": ({"mask/": CATS, "no_mask/": DOGS}, "", {"mask": 6, "no_mask": 7}, ""),
    "b25 masks by name": (
        {"cats/": [*CATS, "c1_mask", "c1_mask_1", "x_mask"], "dogs/": DOGS},
        "",
        {"cats": 7, "dogs": 7},
        "mask: 2",
    ),
    "a9 class=top": (below("0", TWO) | below("1", {"cats/": MORE}), "?class=top", {"0": 13, "1": 5}, ""),
    "a9 class=leaf": (below("0", TWO) | below("1", {"cats/": MORE}), "?class=leaf", {"cats": 11, "dogs": 7}, ""),
    "a11 a table that repeats the folders": (
        TWO | {"labels.csv": b"id,breed\nc0,x\n"},
        "",
        {"cats": 6, "dogs": 7},
        ".csv 1",
    ),
    "a15 larger pictures beside the tiles": (
        below("tiles/tiles", TWO) | {"larger/larger/": MORE},
        "",
        {"cats": 6, "dogs": 7},
        "5 pictures in larger have no class",
    ),
    "a17 loose at the top": (TWO | {"./": MORE}, "", {"cats": 6, "dogs": 7}, "5 pictures in the top"),
    "b16 hidden and system files": (
        TWO
        | {"cats/._c0.png": b"\0\5\26\7", "__MACOSX/": MORE, ".ipynb_checkpoints/": MORE, "cats/Thumbs.db": b"x"}
        | {"@eaDir/": MORE, "cats/.DS_Store": b"x", "cats/desktop.ini": b"x", "dogs/.ipynb_checkpoints/": MORE},
        "",
        {"cats": 6, "dogs": 7},
        "hidden or system 8",
    ),
    "b20 upper case in the test part": (
        below("train", {"NORMAL/": CATS, "ILL/": DOGS}) | below("test", {"Normal/": ["x"], "Ill/": ["y"]}),
        "",
        {"ILL": 8, "NORMAL": 7},
        "'NORMAL' and 'Normal' differ in case only: one class, 'NORMAL'",
    ),
    "a class spelt with one blank, two, and one at its end in three splits": (
        below("train", {"wood elf/": CATS, "orc/": DOGS})
        | below("val", {"wood  elf/": ["v"]})
        | below("test", {"wood elf /": ["x"], "Orc/": ["y"]}),
        "",
        {"orc": 8, "wood elf": 8},
        "'wood  elf', 'wood elf' and 'wood elf ' differ in blanks only: one class, 'wood elf'",
    ),
    "a class that only training spells with two blanks": (
        below("train", {"wood  elf/": CATS, "orc/": DOGS}) | below("test", {"Wood elf/": ["x"], "orc/": ["y"]}),
        "",
        {"orc": 8, "wood elf": 7},
        "'Wood elf' and 'wood  elf' differ in case and blanks only: one class, 'wood elf'",
    ),
    "two classes in one folder whose names differ in _ and - alone": (
        {"elves_wood/": CATS, "elves-wood/": DOGS},
        "",
        {"elves-wood": 7, "elves_wood": 6},
        "'elves-wood' and 'elves_wood' differ in case, blanks, _ or - alone and are 2 classes: if they are one,",
    ),
    "without exactly one of two spellings in one folder": (
        TWO | {"Cats/": MORE, "birds/": several("b", 5)},
        "?without=Cats",
        {"birds": 5, "cats": 6, "dogs": 7},
        "",
    ),
    "without exactly one of two spellings, and the other one in the test part": (
        below("train", TWO | {"Cats/": MORE}) | below("test", {"Cats/": ["x"], "cats/": ["z"], "dogs/": ["y"]}),
        "?without=Cats",
        {"cats": 7, "dogs": 8},
        "",
    ),
    "without a class that another split spells otherwise": (
        below("train", TWO | {"birds/": MORE}) | below("test", {"cats/": ["x"], "dogs/": ["y"], "Birds /": ["z"]}),
        "?without=birds",
        {"cats": 7, "dogs": 8},
        "",
    ),
    "b21 numbers": ({"1/": CATS, "10/": DOGS, "2/": MORE}, "", {"1": 6, "10": 7, "2": 5}, ""),
    "a6 an empty class": (TWO | {"birds/": []}, "", {"cats": 6, "dogs": 7}, "no picture in birds"),
    "without a class": (TWO | {"birds/": MORE}, "?without=birds", {"cats": 6, "dogs": 7}, ""),
    "b18 names of all kinds": (
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
    assert list(dataset.class_names) == sorted(classes)
    assert sentence in said(dataset)
    assert dataset.name == tmp_path.name


REFUSED = {  # tree, options -> pieces of the message
    "a9 subjects above classes": (
        below("00", TWO) | below("01", TWO),
        "",
        ["2 classes 00 to 01 (class=top)", "2 classes cats to dogs (class=leaf)"],
    ),
    "a9 batches below classes": ({"cats/part1/": CATS, "dogs/part1/": DOGS}, "", ["class=top", "class=leaf"]),
    "a8 variants side by side": (
        below("set/color", TWO) | below("set/grayscale", {"cats/": MORE, "dogs/": ["x"]}),
        "",
        ["2 folders with the same classes", "/set/color", "/set/grayscale"],
    ),
    "a17 one class": ({"cats/": CATS}, "", ["one class only, cats", "6 pictures in cats"]),
    "a17 splits without classes": (
        {"train/": CATS, "test/": DOGS},
        "",
        ["no class folders", "6 pictures in train", "7 pictures in test"],
    ),
    "an empty folder": ({}, "", ["no picture found", "empty"]),
    "b20 case in one folder, by top folders": (
        below("Cat", {"a/": CATS, "b/": MORE}) | below("cat", {"a/": DOGS, "b/": ["z"]}),
        "?class=top",
        ["'Cat'", "'cat'"],
    ),
    "a12 one column a class, not asked for": (
        {"train/": CATS + DOGS, "train/_classes.csv": MARKED.replace("c0.png,0,0", "c0.png,1,0").encode()},
        "",
        ["all 13 values of filename match", "?labels=train/_classes.csv:filename,*"],
    ),
    "a12 one column a class, two in a row": (
        {"train/": CATS + DOGS, "train/_classes.csv": MARKED.replace("c0.png,0,0", "c0.png,1,1").encode()},
        "?labels=train/_classes.csv:filename,*",
        ["not one class a picture: 1 rows"],
    ),
    "a12 another column among them": (
        {"train/": ["a", "b"], "t.csv": b"id,x,y,age\na,1,0,34\nb,0,1,0\n"},
        "?labels=t.csv:id,*",
        ["'age'", "'34'"],
    ),
    "a12 names joined by a bar": (
        {"p/": CATS, "t.csv": b"Image Index,Finding Labels\nc0,A|B\nc1,A\nc2,B\nc3,A|C\nc4,A\nc5,C\n"},
        "",
        ["not one class a picture: 2 rows"],
    ),
    "a13 numbers in names": (
        {"UTKFace/": [f"{age}_{sex}_{age % 3}_2017{age:04}" for age in range(30) for sex in (0, 1)]},
        "",
        ["0_0_0_20170000.png", "?labels=name:"],
    ),
    "a17 all in one folder": ({"./": CATS}, "", ["no class folders", "6 pictures in the top folder"]),
    "a18 boxes in XML": (
        {"images/": CATS} | {f"Annotations/{name}.xml": b"<annotation>" for name in CATS},
        "",
        ["looks like boxes", "6 .xml"],
    ),
    "a14 pixels in a table": ({"train.csv": b"label,pixel1\n3,107\n"}, "", ["train.csv is a table", "parquet:"]),
    "a14 an archive": ({"train.zip": b"PK\3\4"}, "", ["train.zip is a zip archive", "Unpack train.zip"]),
    "a14 Parquet in a folder": ({"data/a.parquet": b"PAR1"}, "", ["'parquet:", "/data/*.parquet'"]),
    "a10 a sheet": (
        {"p/": CATS, "labels.xlsx": b"PK\3\4"},
        "",
        ["labels.xlsx may hold the labels: save it as CSV", "?labels=labels.csv:IMAGE_COLUMN,LABEL_COLUMN"],
    ),
    "a14 idx": ({"train-images-idx3-ubyte": b"\0\0\x08\3"}, "", ["no picture found", "train-images-idx3-ubyte"]),
    "a14 arrays": (
        {"k49-train-imgs.npz": b"PK\3\4"},
        "",
        ["no picture found", "k49-train-imgs.npz holds arrays", "parquet:"],
    ),
    "b20 case in one folder": ({"Cat/": CATS, "cat/": DOGS}, "", ["'Cat'", "'cat'"]),
    "blanks in one folder": ({"cat/": CATS, "cat /": MORE, "dog/": DOGS}, "", ["'cat'", "'cat '", "differ in blanks"]),
    "a10 a table": (
        {"train/": ["a1", "a2", "b1", "b2"], "labels.csv": b"id,breed\na1,a\na2,a\nb1,b\nb2,b\n"},
        "",
        ["labels.csv has columns id, breed", "all 4 values of id match", "?labels=labels.csv:id,breed"],
    ),
    "a10 parts of one heap": (
        {"HAM_part_1/": CATS, "HAM_part_2/": DOGS, "m.csv": HAM},
        "",
        ["no class folders", "7 pictures in HAM_part_2", "?labels=m.csv:id,dx"],
    ),
    "a13 names": (
        {"train/": [f"{kind}.{number}" for kind in ("cat", "dog") for number in range(6)]},
        "",
        ["cat.0.png", "?labels=name:"],
    ),
    "a18 boxes": (
        {"images/": CATS} | {f"labels/{name}.txt": b"0 1 1 1 1" for name in CATS},
        "",
        ["looks like boxes", "6 .txt"],
    ),
    "a12 many labels a picture": (
        {"train/": ["a", "b"], "train/_classes.csv": b"filename,x,y\na.png,1,1\nb.png,0,1\n"},
        "",
        ["not one class a picture: 1 rows"],
    ),
    "a12 two labels in a table": (
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


TO_PASTE = {  # tree -> pictures a class, read by the SPECs of the message
    "a13 a pattern": (
        {"train/": [f"{kind}.{number}" for kind in ("cat", "dog") for number in range(6)]},
        [{"cat": 6, "dog": 6}],
    ),
    "a10 a table": ({"my pictures/": CATS + DOGS, "my labels.csv": HAM}, [{"0": 7, "1": 6}]),
    "a12 one column a class": (
        {"train/": CATS + DOGS, "train/_classes.csv": MARKED.encode()},
        [{"cat": 6, "dog": 5}],
    ),
    "a9 two levels": (
        below("0", TWO) | below("1", {"cats/": MORE, "dogs/": ["x"]}),
        [{"0": 13, "1": 6}, {"cats": 11, "dogs": 8}],
    ),
    "a8 variants": (
        below("a set/color", TWO) | below("a set/gray", {"cats/": MORE, "dogs/": CATS}),
        [{"cats": 6, "dogs": 7}, {"cats": 5, "dogs": 6}],
    ),
    "b22 copies": (TWO | {"hounds/": DOGS}, [{"cats": 6, "dogs": 7}]),
    "b20 case in one folder": (
        {"Orcs/": CATS, "orcs/": MORE, "elves/": DOGS},
        [{"elves": 7, "orcs": 5}, {"Orcs": 6, "elves": 7}],
    ),
    "blanks in one folder": (
        {"orcs /": CATS, "orcs/": MORE, "elves/": DOGS},
        [{"elves": 7, "orcs ": 6}, {"elves": 7, "orcs": 5}],
    ),
}


@pytest.mark.parametrize("layout", TO_PASTE)
def test_a_message_gives_the_spec_to_paste(layout, tmp_path):
    tree, classes = TO_PASTE[layout]
    with pytest.raises(DatasetError) as caught:
        open_dataset(f"folder:{plant(tmp_path / 'a set', tree)}", 8)
    assert [per_class(open_dataset(spec, 8)) for spec in pasted(str(caught.value))] == classes


def test_a4_splits_in_every_spelling(tmp_path):
    spellings = {"train": ["train", "training", "Training", "train_set", "seg_train", "TRAIN_data", "dogs-train"]}
    spellings |= {
        "val": ["val", "valid", "validation", "dev", "Val2"],
        "test": ["test", "testing", "Test", "test1", "eval"],
    }
    assert {name: split_of(name) for names in spellings.values() for name in names} == {
        name: side for side, names in spellings.items() for name in names
    }
    assert [split_of(name) for name in ("trains", "contest", "cat", "value", "latest")] == [""] * 5
    for number, (train, test) in enumerate(zip(spellings["train"], spellings["test"])):
        root = plant(tmp_path / str(number), below(train, TWO) | below("val", {"cats/": ["v"]}) | below(test, SEEN))
        assert "own split: train 13, val 1, test 2" in said(open_dataset(f"folder:{root}", 8))


def test_a10_an_entry_that_could_be_two_pictures_is_none(tmp_path):
    table = "id,is\n" + "".join(f"{name},{name[0]}\n" for name in CATS + DOGS)
    tree = {"x/": CATS + DOGS, "y/c0.png": encoded(picture("other"), "BMP"), "t.csv": table.encode()}
    dataset = open_dataset(f"folder:{plant(tmp_path, tree)}?labels=t.csv:id,is", 8)
    assert per_class(dataset) == {"c": 5, "d": 7}
    assert "1 without a picture; 2 pictures without a row" in said(dataset)


def test_a10_a_picture_is_not_labelled_by_the_row_of_one_that_is_gone(tmp_path):
    rows = [f"cats/{number}.png,cat\n" for number in range(6)] + [f"dogs/{number}.png,dog\n" for number in range(7)]
    tree = {f"cats/{number}.png": encoded(picture(f"c{number}")) for number in range(6)}
    tree |= {f"dogs/{number}.png": encoded(picture(f"d{number}")) for number in range(1, 7)}
    plant(tmp_path, tree | {"t.csv": ("id,is\n" + "".join(rows)).encode()})
    assert per_class(open_dataset(f"folder:{tmp_path}?labels=t.csv:id,is", 8)) == {"cat": 6, "dog": 6}


def test_a10_b19_a_table_names_pictures_by_path_name_or_stem_and_wins_over_folders(tmp_path):
    rows = [("f/c0.png", "x"), ("c1.png", "x"), ("c2", "x"), ("c3", "x"), ("c4", "x"), ("nowhere", "y")]
    rows += [(name, "é") for name in DOGS[:3]] + [(name, unicodedata.normalize("NFD", "é")) for name in DOGS[3:]]
    table = "id;what\n" + "".join(f"{image};{label}\n" for image, label in rows)
    plant(tmp_path, {"f/": CATS, "g/": DOGS, "t.csv": table.encode()})
    dataset = open_dataset(f"folder:{tmp_path}?labels=t.csv:id,what", 8)
    assert per_class(dataset) == {"x": 5, "é": 7}
    assert "1 without a picture; 1 pictures without a row" in said(dataset)


def test_b19_classes_in_composed_and_decomposed_letters_are_one(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    plant(tmp_path, {f"train/{composed}/": CATS, "train/x/": DOGS, f"test/{decomposed}/": ["t"], "test/x/": ["u"]})
    assert per_class(open_dataset(f"folder:{tmp_path}", 8)) == {composed: 7, "x": 8}


def test_b18_c16_names_that_are_no_text_are_escaped(tmp_path):
    root = plant(tmp_path, {"cats/": CATS, "caf?/": DOGS, "cats/torn.png": b"<html>"})
    latin = os.fsdecode(b"caf\xe9")  # as an archive from an old code page leaves it
    os.rename(root / "caf?", root / latin)
    os.rename(root / "cats/torn.png", root / "cats" / f"{latin}.png")
    dataset = open_dataset(f"folder:{root}", 8)
    assert per_class(dataset) == {r"caf\udce9": 7, "cats": 6}
    assert [skipped.paths for skipped in dataset.report.skipped] == [(r"cats/caf\udce9.png",)]


def test_b17_links_are_followed_once_and_a_loop_ends(tmp_path):
    plant(tmp_path / "store", {"dogs/": DOGS})
    root = plant(tmp_path / "set", {"cats/": CATS})
    os.symlink(tmp_path / "store/dogs", root / "a-dogs")
    os.symlink(root, root / "cats/back")
    os.symlink(root / "gone.png", root / "cats/gone.png")
    os.symlink(plant(tmp_path / "other", {"./": ["z"]}) / "z.png", root / "cats/z.png")
    os.symlink(root / "cats", root / "again")
    dataset = open_dataset(f"folder:{root}", 8)
    assert per_class(dataset) == {"a-dogs": 7, "cats": 7}
    for piece in ("dead link: 1", "cats/back is a link back", "again is the same folder as cats"):
        assert piece in said(dataset)
