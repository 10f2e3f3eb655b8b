"""Parquet as others write it, and the datasets that come with the package."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tans_core.datasets.opening import open_dataset, open_datasets
from tans_core.datasets.sources.parquet import STARTER
from tans_core.errors import DatasetError
from tests.trees import encoded, picture, plant, several, write_parquet

CATS, DOGS = several("c", 8), several("d", 10)
META_TEST_SOURCES = {"japanese fonts", "endless sky", "hydrogen", "microscopy samples"}
META_TEST_SOURCES |= {"invesalius", "three-globe", "mapillary signs", "pychess"}


def hub_file(path, labels, names=("cat", "dog")):
    """As `datasets` writes it: rows are (label, name of a picture)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    images = [{"bytes": encoded(picture(name)), "path": f"{name}.png"} for _, name in labels]
    table = pa.table({"image": images, "label": pa.array([label for label, _ in labels], pa.int64())})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else {}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def labelled(cats, dogs):
    return [(0, name) for name in cats] + [(1, name) for name in dogs]


def test_d1_the_hubs_form_is_the_same_dataset_as_a_folder(tmp_path):
    hub_file(tmp_path / "pets.parquet", [*labelled(CATS, DOGS), (-1, "nobody")])
    hub = open_dataset(f"parquet:{tmp_path}/pets.parquet", 8)
    folder = open_dataset(f"folder:{plant(tmp_path / 'f', {'cat/': CATS, 'dog/': DOGS})}", 8)
    assert hub.fingerprint == folder.fingerprint
    assert [(each.reason, len(each.paths)) for each in hub.report.skipped] == [("no class", 1)]


def test_d1_labels_without_names_are_numbers_as_strings(tmp_path):
    hub_file(tmp_path / "pets.parquet", labelled(CATS, DOGS), names=())
    assert open_dataset(f"parquet:{tmp_path}/pets.parquet", 8).class_names == ("0", "1")


def test_d2_shards_of_one_folder_are_one_dataset_with_its_test_part(tmp_path):
    home = tmp_path / "pets" / "data"
    hub_file(home / "train-00000-of-00002.parquet", labelled(CATS[:4], DOGS[:4]))
    hub_file(home / "train-00001-of-00002.parquet", labelled(CATS[4:6], DOGS[4:7]))
    hub_file(home / "test-00000-of-00001.parquet", labelled(CATS[6:], DOGS[7:]))
    write_parquet(home / "alone.parquet", [("x", name) for name in CATS] + [("y", name) for name in DOGS])
    alone, pets = open_datasets([f"parquet:{home}/*.parquet"], 8)
    assert (alone.name, pets.name) == ("alone", "pets")
    assert pets.counts()["test"] == [2, 3]
    assert "own split: train 13, test 5; test kept, the rest dealt" in pets.report.notes
    assert open_dataset(pets.spec, 8).fingerprint == pets.fingerprint


def test_d1_a_test_shard_without_labels_is_no_test_part(tmp_path):
    hub_file(tmp_path / "train-00000-of-00001.parquet", labelled(CATS, DOGS))
    hub_file(tmp_path / "test-00000-of-00001.parquet", [(-1, name) for name in several("t", 3)])
    dataset = open_dataset(f"parquet:{tmp_path}/*.parquet", 8)
    assert dataset.counts()["test"] == [2, 2]  # dealt by hash
    assert dataset.report.notes[0] == "3 pictures in test-00000-of-00001.parquet have no class"
    assert not any("own split" in note for note in dataset.report.notes)


def test_d1_labels_that_are_strings(tmp_path):
    rows = (
        [("é", name) for name in CATS] + [("e\u0301", name) for name in DOGS[:5]] + [("x", name) for name in DOGS[5:]]
    )
    table = pa.table({"image": [encoded(picture(name)) for _, name in rows], "label": [label for label, _ in rows]})
    pq.write_table(table, tmp_path / "p.parquet")
    assert open_dataset(f"parquet:{tmp_path}/p.parquet", 8).class_names == ("x", "é")


REFUSED = {
    "addresses": (
        {"image": ["http://127.0.0.1:1/a.png"], "label": [0]},
        "nothing is fetched from a path or an address",
    ),
    "another name": ({"img": [b"x"], "fine_label": [0]}, "columns img binary, fine_label int64; image .* needed"),
    "a struct of paths": ({"image": [{"path": "a.png"}], "label": [0]}, "image struct<path: string>"),
    "no label": ({"image": [b"x"]}, "columns image binary; image .* and label are needed"),
    "paths": ({"image": ["a.png"], "label": [0]}, "image string, label int64; image must hold the bytes"),
    "no image": ({"picture": [b"x"], "label": [0]}, "columns picture binary, label int64; image .* needed"),
    "fractions": ({"image": [b"x"], "label": [0.5]}, "label must be a whole number or a string"),
}


@pytest.mark.parametrize("columns", REFUSED)
def test_d3_another_layout_is_refused_with_what_was_found(columns, tmp_path):
    content, message = REFUSED[columns]
    pq.write_table(pa.table(content), tmp_path / "p.parquet")
    with pytest.raises(DatasetError, match=message):
        open_dataset(f"parquet:{tmp_path}/p.parquet", 8)


def test_what_is_no_parquet_file_is_refused(tmp_path):
    (tmp_path / "p.parquet").write_bytes(b"<html>")
    for spec, message in ((f"parquet:{tmp_path}/p.parquet", "no Parquet file"), (f"parquet:{tmp_path}/q*", "no file")):
        with pytest.raises(DatasetError, match=message):
            open_dataset(spec, 8)


@pytest.mark.parametrize("option", ["labels=name:(.)", "class=top"])
def test_options_of_folders_are_refused(option):
    with pytest.raises(DatasetError, match="without= and group="):
        open_dataset(f"starter:mnist-digits?{option}", 8)


def test_an_unknown_starter_is_refused_with_the_nearest():
    with pytest.raises(DatasetError, match="did you mean mnist-digits"):
        open_dataset("starter:mnist-digit", 8)


def test_the_starter_is_small_diverse_and_free():
    files = sorted(STARTER.glob("*.parquet"))
    about = [pq.read_schema(path).metadata for path in files]
    sources = {each[b"source"].decode() for each in about}
    assert sum(path.stat().st_size for path in STARTER.iterdir()) <= 5_000_000
    assert len(files) >= 12
    assert len(sources) >= 8
    assert not sources & META_TEST_SOURCES
    assert [each[b"name"] for each in about if b"GPL" in each[b"licence"].upper() or not each[b"licence"]] == []


def test_every_starter_opens():
    datasets = open_datasets(["starter:all"], 8)
    assert [dataset.name for dataset in datasets] == [path.stem for path in sorted(STARTER.glob("*.parquet"))]
    assert all(2 <= len(dataset.class_names) <= 20 for dataset in datasets)
