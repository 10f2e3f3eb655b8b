"""`tans datasets`: what is said and drawn before anything is trained."""

import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.cli import run
from pipeline.growing.plan import plan_build
from pipeline.reading.contact_sheet import draw_contact_sheet
from pipeline.reading.read import read_dataset
from tests.trees import plant, several, write_parquet


def test_the_contact_sheet_shows_the_pixels_that_a_network_will_see(tmp_path):
    root = plant(tmp_path / "set", {"cats \x1b[31m/": several("c", 9), "dogs " + "x" * 90 + "/": several("d", 9)})
    dataset = read_dataset(f"folder:{root}", 64)
    draw_contact_sheet([dataset, dataset], tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (64, 64, 3))[:, :, 0]
    for side in (dataset.train, dataset.validation, dataset.test):
        tile = dataset.images[side[0]].expand(3, -1, -1).permute(1, 2, 0).numpy()
        corners = (windows[:, :, 20, 20] == tile[20, 20]).all(axis=-1) & (windows[:, :, 40, 31] == tile[40, 31]).all(-1)
        assert any((windows[place] == tile).all() for place in map(tuple, np.argwhere(corners)))


def test_small_pictures_are_enlarged_by_a_whole_factor(tmp_path):
    root = plant(tmp_path / "set", {"cats/": several("c", 5), "dogs/": several("d", 5)})
    draw_contact_sheet([read_dataset(f"folder:{root}", 8)], tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    left, top = 190, 40  # of the first tile
    tile = sheet[top : top + 64, left : left + 64]
    assert (tile == np.repeat(np.repeat(tile[::8, ::8], 8, 0), 8, 1)).all()


def test_the_command_draws_and_says_it_all_in_json(tmp_path):
    root = plant(tmp_path / "set", {"cats/": several("c", 5), "dogs/": several("d", 5), "dogs/a\nb.jpg": b"<html>"})
    sheet, summary = tmp_path / "sheet.png", tmp_path / "summary.json"
    assert run(["datasets", f"folder:{root}", "--pictures", str(sheet), "--json", str(summary)]) == 0
    assert Image.open(sheet).width > 500
    (said,) = json.loads(summary.read_text())
    assert said["report"]["skipped"] == [{"reason": "is HTML, not a picture", "paths": ["dogs/a\nb.jpg"]}]


def test_a_copy_of_another_specs_dataset_is_named_and_counts_once(tmp_path, capfd):
    rows = [(name[0], name) for name in several("c", 5) + several("d", 5)]
    path = write_parquet(tmp_path / "pets.parquet", rows)
    root = plant(tmp_path / "pets", {"c/": several("c", 5), "d/": several("d", 5)})
    specs = [f"parquet:{path}", f"folder:{root}", f"folder:{root}", f"parquet:{path}"]
    assert run(["datasets", *specs, "--json", "-"]) == 0
    printed = capfd.readouterr()
    (said,) = json.loads(printed.out)
    assert (said["spec"], said["report"]["copies"]) == (specs[0], [specs[1]])
    assert printed.err.count(f"{specs[1]} is a copy of {specs[0]}: the same pictures and classes; counted once") == 1


def test_a_build_names_a_copy_too(tmp_path, capfd):
    root, other = (plant(tmp_path / name, {"c/": several("c", 5), "d/": several("d", 5)}) for name in ("one", "two"))
    plan = plan_build(str(tmp_path / "zoo"), [f"folder:{root}", f"folder:{other}"], pairs=1, preset_name="smoke")
    assert [dataset.name for dataset in plan.datasets] == ["one"]
    assert f"folder:{other} is a copy of folder:{root}" in capfd.readouterr().err


def test_a_sheet_that_cannot_be_written(tmp_path, capfd):
    root = plant(tmp_path / "set", {"cats/": several("c", 5), "dogs/": several("d", 5)})
    assert run(["datasets", f"folder:{root}", "--pictures", str(tmp_path / "gone" / "sheet.png")]) == 2
    assert str(Path("gone") / "sheet.png") in capfd.readouterr().err


def test_an_older_sheet_is_replaced_and_a_picture_of_others_is_not(tmp_path, capfd):
    root = plant(tmp_path / "set", {"cats/": several("c", 5), "dogs/": several("d", 5)})
    sheet, photograph = tmp_path / "sheet.png", root / "cats" / "c0.png"
    before = photograph.read_bytes()
    assert [run(["datasets", f"folder:{root}", "--pictures", str(sheet)]) for _ in range(2)] == [0, 0]
    assert run(["datasets", f"folder:{root}", "--pictures", str(photograph)]) != 0
    assert "is no contact sheet of tans and would be lost: name another file" in capfd.readouterr().err
    assert photograph.read_bytes() == before


def test_the_ten_lines_for_arrays_in_the_docs_write_a_dataset(tmp_path, monkeypatch):
    text = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text()
    (lines,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 8), dtype=np.uint8)
    np.savez("digits.npz", images=images, labels=np.arange(20) % 2)
    exec(lines, {})
    dataset = read_dataset("parquet:digits.parquet", 8)
    assert dataset.class_names == ("0", "1")
    assert len(dataset.images) == 20
