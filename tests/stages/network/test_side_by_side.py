"""Fine-tuning side by side on a small real zoo: who competes, what is kept, what is said."""

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline.cli import run
from pipeline.commands.space.search import leaderboard
from pipeline.network.contestants import LITE0, lite0
from pipeline.network.side_by_side import side_by_side
from pipeline.pools import InlinePool
from pipeline.zoo import Zoo
from tans_core.cross_modal.describe import describe
from tans_core.errors import ConfigError, DatasetError
from tans_core.exported import load
from tans_core.retrieval.constraints import Limits
from tans_core.search_space import make_search_space
from tans_core.search_space.ofa_lite import lite0_backbone, lite0_space, lite0_topology
from tans_core.training.recipe import Recipe
from tests.jobs import pair_jobs
from tests.stages.zoo.zoo_examples import SETTINGS
from tests.synthetic import patterns

SIDE = 32


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Zoo:
    """One row, of 32 px."""
    space, dataset = make_search_space("ofa-lite"), patterns()
    zoo = Zoo.create(tmp_path_factory.mktemp("zoos") / "zoo", replace(SETTINGS, supernet=space.supernet_hash))
    pool = InlinePool({dataset.fingerprint: dataset}, space, lambda: None)
    pool.submit(pair_jobs([dataset], space)[0])
    record = zoo.record_dataset(describe(dataset))
    zoo.commit([pool.next_outcome(0)], {record.fingerprint: record})  # type: ignore[list-item]
    return zoo


@pytest.fixture(scope="module")
def query(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("stripes")
    generator = torch.Generator().manual_seed(0)
    for name, shape in (("across", (SIDE, 1)), ("along", (1, SIDE))):
        (folder / name).mkdir()
        for number in range(15):
            stripe = 200 * (torch.arange(SIDE) // 4 % 2).reshape(shape)
            pixels = (stripe + torch.randint(0, 55, (SIDE, SIDE), generator=generator)).to(torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / name / f"{number}.png")
    return f"folder:{folder}"


def ticking():
    """A clock that goes on by a second each time it is read."""
    readings = itertools.count(1)
    return lambda: float(next(readings))


@pytest.fixture(scope="module")
def tuned(zoo, query, tmp_path_factory):
    out = tmp_path_factory.mktemp("network")
    key = zoo.snapshot().rows[0].key
    return out, side_by_side(query, zoo.uri, [key], out, minutes=1.5, clock=ticking())


def test_a_row_its_architecture_without_a_source_and_efficientnet_lite0_compete(tuned, zoo):
    _, said = tuned
    row = zoo.snapshot().rows[0]
    assert {each.name: each.from_dataset for each in said.leaderboard} == {
        row.key: "patterns",
        f"start:{row.key}": None,
        LITE0: None,
    }
    assert said.left_out == ()
    (frozen,) = [each for each in said.best.tried if each.name == LITE0 and each.epochs == 0]
    assert frozen.image_size == 96


def test_the_leaderboard_is_of_validation_and_the_first_was_exported(tuned, query):
    out, said = tuned
    accuracies = [each.val_accuracy for each in said.leaderboard]
    assert accuracies == sorted(accuracies, reverse=True)
    for each in said.leaderboard:
        assert (
            each.val_interval[0] <= each.val_accuracy <= each.val_interval[1] and each.val_total == said.best.val_total
        )
        mine = [attempt for attempt in said.best.tried if attempt.name == each.name]
        assert each.attempts == len(mine) and each.val_accuracy == max(attempt.val_accuracy for attempt in mine)
        assert each.wall_s == sum(attempt.wall_s for attempt in mine) and 1e6 < each.params < 5e6
    assert said.best.val_accuracy == accuracies[0]
    config = json.loads((out / "config.json").read_text())
    assert config["accuracy"]["test_accuracy"] == said.best.test_accuracy
    assert set(load(out).probabilities(next(Path(query.removeprefix("folder:")).rglob("*.png")))) == {"across", "along"}


def test_efficientnet_lite0_competes_with_its_imagenet_features_exactly():
    contestant, images = lite0(Recipe()), torch.randn(2, 3, 96, 96)
    space = lite0_space()
    network = space.subnet(space.architecture(lite0_topology()), 3, torch.Generator()).eval()
    with torch.no_grad():
        assert torch.allclose(space.features(network, images), lite0_backbone()(images), atol=1e-4)
    assert contestant.topology == lite0_topology() and contestant.sizes[0] == 96


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(max_params=2e6), "EfficientNet-Lite0 has 3,"),
        (Limits(max_flops=1e6), "multiply-accumulates at 96 px, above 1,000,000"),
        (Limits(max_memory_mb=1), "MB of memory at 96 px, above 1"),
        (Limits(max_latency_ms=5), "was not timed on the device"),
    ],
)
def test_efficientnet_lite0_has_to_meet_the_limits_too(zoo, query, tmp_path, limits, reason):
    key = zoo.snapshot().rows[0].key
    said = side_by_side(query, zoo.uri, [f"start:{key}"], tmp_path, minutes=1e-9, limits=limits)
    assert LITE0 not in {each.name for each in said.leaderboard} and reason in said.left_out[0]


def test_nothing_is_left_behind_where_it_fails(zoo, query, tmp_path):
    key = zoo.snapshot().rows[0].key
    with pytest.raises(DatasetError):
        side_by_side(f"folder:{tmp_path / 'nowhere'}", zoo.uri, [key], tmp_path / "out")
    with pytest.raises(ConfigError, match="no row 'zz'"):
        side_by_side(query, zoo.uri, ["zz"], tmp_path / "out")
    with pytest.raises(ConfigError, match="--minutes must be above 0"):
        side_by_side("folder:x", zoo.uri, [key], tmp_path / "out", minutes=0)
    assert list(tmp_path.iterdir()) == []


def test_a_row_without_its_weights_is_left_out_and_said(zoo, query, tmp_path, capsys):
    shutil.copytree(zoo.uri, tmp_path / "zoo")
    shutil.rmtree(tmp_path / "zoo" / "weights")
    key = zoo.snapshot().rows[0].key
    said = side_by_side(query, str(tmp_path / "zoo"), [key], tmp_path / "out", minutes=1e-9)
    assert key not in {each.name for each in said.leaderboard} and len(said.left_out) == 1
    assert f"left out: {said.left_out[0]}" in capsys.readouterr().err and key in said.left_out[0]


def test_options_that_do_not_go_together_are_said_before_anything_is_read(capfd, tmp_path):
    asked = ["search", "folder:x", "--zoo", "nowhere", "--space", "nowhere"]
    for flags, said in (
        (["--fine-tune", "2"], "name a folder for it with --out DIR"),
        (["--fine-tune", "0", "--out", str(tmp_path / "out")], "--fine-tune must be at least 1, got 0"),
        (["--minutes", "3"], "--minutes goes with --fine-tune N alone"),
        (["--out", str(tmp_path / "out")], "--out goes with --fine-tune N alone"),
        (["--overwrite"], "--overwrite goes with --fine-tune N alone"),
    ):
        assert run([*asked, *flags]) == 2
        assert said in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_leaderboard_is_a_table_that_says_who_read_test(tuned):
    _, said = tuned
    text = leaderboard(said)
    assert "network" in text.splitlines()[0] and len(text.splitlines()) == 2 + len(said.leaderboard) + 2
    assert f"test, read once, for the first alone: {100 * said.best.test_accuracy:.1f} %" in text
