"""Zoos of past schemas are read, searched, verified and grown on.

`zoo_of_schema_1.tar.xz` was made by the tans of commit 8873886: `build-zoo` of two starter datasets, 4 pairs, preset
smoke, `--init lite0`. So that it is small, its weights are zeros of the true shapes, and features and responses are
rounded.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from pipeline.growing.build_zoo import build_zoo
from pipeline.space.meta_train import meta_train
from pipeline.space.search import search
from pipeline.zoo import Zoo
from pipeline.zoo.show import show_zoo
from pipeline.zoo.upkeep.verify import verify_zoo
from tans_core.cross_modal.meta_training import SpaceConfig
from tans_core.training.recipe import SupernetRecipe

ARCHIVE = Path(__file__).parent / "zoo_of_schema_1.tar.xz"
SPECS = ["starter:lfw-faces", "starter:mnist-digits"]


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return (tmp_path / "zoo-of-schema-1").rename(tmp_path / "zoo?")  # a name that SQLite cannot spell: no MLflow


def said_schema(zoo: Path) -> int:
    return json.loads((zoo / "zoo.json").read_text())["schema"]


def test_a_zoo_of_schema_1_is_read_and_verified_as_it_is(zoo: Path):
    before = {path: path.stat().st_mtime_ns for path in zoo.rglob("*")}
    snapshot = Zoo.open(str(zoo)).snapshot()
    assert len(snapshot.rows) == 4 and snapshot.settings.schema == 1
    assert (snapshot.settings.pair_mode, snapshot.settings.supernet_recipe["epochs"]) == ("standalone", 1)
    assert SupernetRecipe(**snapshot.settings.supernet_recipe).max_train_images == 64  # of its preset
    for row in snapshot.rows:
        assert row.identity.key == row.key and row.identity.mode == "standalone"
        assert row.worker is None and row.identity.parent is None
    shown = show_zoo(str(zoo))
    assert (shown.supernets, {row.parent for row in shown.rows}) == (0, {None})
    assert verify_zoo(str(zoo)).problems == ()
    assert {path: path.stat().st_mtime_ns for path in zoo.rglob("*")} == before


def test_a_zoo_of_schema_1_is_searched(zoo: Path, tmp_path: Path):
    config = SpaceConfig(dim=32, hidden=16, steps=60, evaluate_every=30, validation_draws=2)
    meta_train(str(zoo), tmp_path / "space", config=config)
    found = search("starter:ground-textures", str(zoo), tmp_path / "space")
    rows = {each.key for each in found.entries if not each.key.startswith("start:")}
    assert rows == set(Zoo.open(str(zoo)).snapshot().row_by_key)


def test_a_zoo_of_schema_1_is_grown_on_in_both_modes_and_is_of_schema_2_then(zoo: Path, capfd):
    old = Zoo.open(str(zoo)).snapshot().rows
    assert build_zoo(str(zoo), SPECS, pairs=4, workers=0).pairs == 4
    assert said_schema(zoo) == 1  # nothing was to be done
    build_zoo(str(zoo), SPECS, pairs=5, workers=0)
    assert "was of schema 1 and is of 2 now: older tans cannot read it" in capfd.readouterr().err
    build_zoo(str(zoo), SPECS, pairs=6, workers=0, pair_mode="from_supernet")
    rows = Zoo.open(str(zoo)).snapshot().rows
    assert said_schema(zoo) == 2 and [row.key for row in rows[:4]] == [row.key for row in old]
    assert [row.identity.mode for row in rows[4:]] == ["standalone", "from_supernet"]
    assert [row.worker.name if row.worker else None for row in rows] == [None] * 4 + ["inline"] * 2
    assert verify_zoo(str(zoo)).problems == ()


def test_dying_while_it_is_raised_leaves_a_zoo_of_schema_1_that_can_be_raised(zoo: Path, monkeypatch):
    def die(*_):
        raise SystemExit

    monkeypatch.setattr("pipeline.zoo.migrations.write_whole", die)
    with pytest.raises(SystemExit):
        Zoo.open_to_grow(str(zoo))
    assert len(Zoo.open(str(zoo)).snapshot().rows) == 4 and said_schema(zoo) == 1
    monkeypatch.undo()
    assert Zoo.open_to_grow(str(zoo)).supernets.all() == {}
    assert Zoo.open(str(zoo)).settings.schema == 2
