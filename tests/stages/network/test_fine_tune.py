"""Fine-tuning as a stage: from which weights, on which pictures, what is kept, and what is said of it."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from pipeline.cli import run
from pipeline.network.fine_tune import fine_tune
from pipeline.network.predict import predict
from pipeline.pools import InlinePool
from pipeline.reading.read import read_dataset
from pipeline.running.threads import usable_cpus
from pipeline.zoo import Zoo
from tans_core.cross_modal.describe import describe
from tans_core.errors import ConfigError, DatasetError
from tans_core.exported import load
from tans_core.search_space import make_search_space
from tans_core.training.augment import ImageBatches
from tans_core.training.loop import CPU, evaluate
from tans_core.training.weights import decode_weights, load_into
from tests.jobs import pair_jobs
from tests.stages.zoo.zoo_examples import SETTINGS
from tests.synthetic import patterns
from tests.worlds import World

SIDE = 64


def _plant(folder: Path, classes: dict[str, torch.Tensor], each: int) -> str:
    """Grey pictures of 64 x 64: that of their class, and noise."""
    generator = torch.Generator().manual_seed(0)
    for name, picture in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = (picture * 200 + torch.randint(0, 55, (SIDE, SIDE), generator=generator)).to(torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / name / f"{number}.png")
    return f"folder:{folder}"


@pytest.fixture(scope="module")
def sides(tmp_path_factory) -> str:
    """Bright on the left, bright on the right: mirrored, one is the other."""
    left = (torch.arange(SIDE) < SIDE // 2).float().expand(SIDE, SIDE)
    return _plant(tmp_path_factory.mktemp("sides"), {"left": left, "right": 1 - left}, 12)


@pytest.fixture(scope="module")
def lines(tmp_path_factory) -> str:
    """Lines of one pixel, across or along: at half the size all is one grey. Mirrored, they stay what they are."""
    along = (torch.arange(SIDE) % 2).float().expand(SIDE, SIDE)
    return _plant(tmp_path_factory.mktemp("lines"), {"along": along, "across": along.T}, 30)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Zoo:
    """One row, of 32 px."""
    space, dataset = make_search_space("ofa-lite"), patterns()
    settings = replace(SETTINGS, supernet=space.supernet_hash)
    zoo = Zoo.create(tmp_path_factory.mktemp("zoos") / "zoo", settings)
    pool = InlinePool({dataset.fingerprint: dataset}, space, lambda: None)
    pool.submit(pair_jobs([dataset], space)[0])
    record = zoo.record_dataset(describe(dataset))
    zoo.commit([pool.next_outcome(0)], {record.fingerprint: record})
    return zoo


@pytest.fixture(scope="module")
def world_zoo(tmp_path_factory) -> Zoo:
    """36 rows without weights, of a zoo begun from weights that nobody has."""
    zoo, world = Zoo.create(tmp_path_factory.mktemp("zoos") / "world", SETTINGS), World()
    zoo.commit(world.outcomes(), {each.fingerprint: zoo.record_dataset(each) for each in world.records()})
    return zoo


@pytest.fixture(scope="module")
def key(zoo) -> str:
    return zoo.snapshot().rows[0].key


@pytest.fixture(scope="module")
def tuned(zoo, key, sides, tmp_path_factory):
    out = tmp_path_factory.mktemp("network")
    return out, fine_tune(sides, zoo.uri, key[:6], out, 3, batch_size=8, seed=5)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return decode_weights((folder / "weights.safetensors").read_bytes())


def _same_body(one, other) -> bool:
    names = [name for name in one if name.endswith("conv.weight")]
    return len(names) > 20 and all(torch.allclose(one[name], other[name], atol=1e-6) for name in names)


def test_the_summary_has_counts_an_interval_and_a_confusion_table(tuned):
    _, said = tuned
    assert said.class_names == ("left", "right") and said.from_dataset == "patterns" and said.start == "retrieved"
    assert tuple(map(sum, said.test_confusion)) == said.test_total_by_class
    assert tuple(row[place] for place, row in enumerate(said.test_confusion)) == said.test_correct_by_class
    assert said.test_accuracy == sum(said.test_correct_by_class) / said.test_total
    assert said.test_interval[0] <= said.test_accuracy <= said.test_interval[1]
    by_epoch = said.val_accuracy_by_epoch
    assert len(by_epoch) == len(said.train_loss_by_epoch) == 3
    assert by_epoch[said.best_epoch - 1] == said.val_accuracy == max(by_epoch)
    assert max(by_epoch) not in by_epoch[said.best_epoch :]
    assert (said.seed, said.threads, said.image_size, said.recipe["batch_size"]) == (5, 1, 32, 8)


def test_the_counts_are_those_of_the_network_that_was_written(tuned, zoo, sides):
    out, said = tuned
    space, dataset = make_search_space("ofa-lite"), read_dataset(sides, 32)
    topology = zoo.snapshot().rows[0].identity.topology
    network = space.random_subnet(space.architecture(topology), 2, torch.Generator())
    load_into(network, _weights(out))
    batches = ImageBatches(dataset, space, CPU)
    assert evaluate(network, batches, dataset.validation, 2) == (said.val_correct_by_class, said.val_total_by_class)
    assert evaluate(network, batches, dataset.test, 2) == (said.test_correct_by_class, said.test_total_by_class)


def test_no_epochs_leave_the_rows_body_as_it_is_and_fit_a_classifier_to_it(zoo, key, lines, tmp_path, capfd):
    """Lines across and along are told apart by the row's features as they come; drawn, a classifier guesses."""
    out, summary = tmp_path / "network", tmp_path / "summary.json"
    flags = ["--row", key, "--out", str(out), "--epochs", "0", "--image-size", "96", "--json", str(summary)]
    assert run(["fine-tune", lines, "--zoo", zoo.uri, *flags]) == 0
    assert "in validation, by a classifier in closed form, 96 px; written to" in capfd.readouterr().out
    body, row = _weights(out), zoo.load_weights(zoo.snapshot().rows[0])
    same = {name for name in row if not name.startswith("classifier.") and torch.equal(body[name], row[name])}
    moved = {name for name in row if not name.startswith("classifier.")} - same
    assert all("running_" in name or "num_batches" in name for name in moved)  # statistics of batch norm at most
    found = json.loads(summary.read_text())
    assert (found["epochs"], found["best_epoch"], found["recipe"]["epochs"]) == (0, 0, 0)
    assert found["val_accuracy_by_epoch"] == [found["val_accuracy"]] and len(found["train_loss_by_epoch"]) == 1
    assert tuple(map(sum, found["test_confusion"])) == tuple(found["test_total_by_class"])
    assert found["test_accuracy"] > 0.9 and found["train_loss_by_epoch"][0] < 0.5 < math.log(2)
    pictures = sorted((Path(lines.removeprefix("folder:")) / "across").iterdir())[:8]
    answers = predict(out, pictures).predictions
    assert sum(answer.class_name == "across" for answer in answers) >= 7
    dataset, outside = read_dataset(lines, 96), load(out)  # pictures of 64 px: enlarged here and there alike
    for path, ours in zip(dataset.paths.decode().split("\0"), dataset.images.expand(-1, 3, -1, -1), strict=True):
        assert np.array_equal(outside.read(Path(lines.removeprefix("folder:")) / path), ours.numpy())


def ticking(jump_after: int | None = None):
    """A clock that goes on by a second each time it is read, and by a day once, where it is told so."""
    readings = itertools.count(1)
    return lambda: (now := next(readings)) + (86400 if jump_after is not None and now > jump_after else 0)


def test_minutes_choose_epochs_and_size_and_these_repeat_the_network(zoo, key, sides, tmp_path):
    timed = fine_tune(sides, zoo.uri, key, tmp_path / "timed", minutes=1.2, batch_size=8, clock=ticking())
    assert timed.minutes == 1.2 and timed.wall_s <= 72
    instant, trained = timed.tried
    assert (instant.image_size, instant.epochs, instant.best_epoch) == (64, 0, 0)
    assert trained.image_size == 64 and trained.epochs == trained.ended >= 5
    best = max(timed.tried, key=lambda each: (each.val_accuracy, each.epochs))
    assert (timed.image_size, timed.epochs, timed.best_epoch) == (best.image_size, best.epochs, best.best_epoch)
    again = fine_tune(sides, zoo.uri, key, tmp_path / "again", best.epochs, image_size=64, batch_size=8)
    assert (again.tried[0].val_accuracy, again.best_epoch) == (best.val_accuracy, best.best_epoch)
    one, other = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("timed", "again"))
    assert one == other


def test_minutes_that_are_up_end_the_training_and_what_was_best_is_kept(zoo, key, sides, tmp_path):
    """The clock jumps some epochs after the twenty readings that the first answer takes; an epoch is two."""
    cut = fine_tune(sides, zoo.uri, key, tmp_path / "cut", minutes=2, batch_size=8, clock=ticking(jump_after=24))
    instant, trained = cut.tried
    assert instant.epochs == 0 and trained.ended < trained.epochs
    assert len(cut.val_accuracy_by_epoch) == (trained.ended if cut.epochs else 1)


def test_minutes_too_few_for_an_epoch_give_a_classifier_in_closed_form(zoo, key, sides, tmp_path):
    said = fine_tune(sides, zoo.uri, key, tmp_path, minutes=1e-9)
    assert (said.epochs, said.best_epoch, said.image_size, len(said.tried)) == (0, 0, 64, 1)


def test_equal_arguments_give_equal_weights_and_another_seed_others(tuned, zoo, key, sides, tmp_path):
    fine_tune(sides, zoo.uri, key, tmp_path / "same", 3, batch_size=8, seed=5)
    fine_tune(sides, zoo.uri, key, tmp_path / "other", 3, batch_size=8, seed=6)
    weights = {folder: (folder / "weights.safetensors").read_bytes() for folder in (tuned[0], *tmp_path.iterdir())}
    assert weights[tuned[0]] == weights[tmp_path / "same"] != weights[tmp_path / "other"]


def test_a_key_brings_the_rows_weights_and_start_key_the_zoos_starting_weights(zoo, key, sides, tmp_path):
    """At a rate of nearly nothing, what comes out is what it began with."""
    space, row = make_search_space("ofa-lite"), zoo.snapshot().rows[0]
    begun = space.subnet(space.architecture(row.identity.topology), 2, torch.Generator()).state_dict()
    trained = zoo.load_weights(row)
    of_row = fine_tune(sides, zoo.uri, key, tmp_path / "row", 1, lr=1e-9)
    of_start = fine_tune(sides, zoo.uri, f"start:{key[:8]}", tmp_path / "start", 1, lr=1e-9)
    assert _same_body(_weights(tmp_path / "row"), trained) and not _same_body(trained, begun)
    assert _same_body(_weights(tmp_path / "start"), begun)
    assert (of_row.start, of_start.start) == ("retrieved", "start")
    assert of_start.from_dataset is None and of_start.row == of_row.row == key


def test_starting_weights_that_are_not_the_zoos_are_refused(world_zoo, sides, tmp_path):
    with pytest.raises(ConfigError, match=r"was begun from the starting weights abab.*give the --init"):
        fine_tune(sides, world_zoo.uri, f"start:{world_zoo.snapshot().rows[0].key}", tmp_path / "network", 1)
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_that_loses_its_classes_by_it_is_not_mirrored(tuned, zoo, key, lines, tmp_path):
    assert tuned[1].recipe["mirror"] is False
    assert fine_tune(lines, zoo.uri, key, tmp_path, 1).recipe["mirror"] is True


def test_image_size_reads_the_original_pictures_anew_whatever_the_zoos_size_is(zoo, key, lines, tmp_path):
    """At the zoo's 32 px the lines are gone, one grey and noise are left, and no enlarging brings them back."""
    seen: list[tuple[int, float]] = []  # side, contrast

    def look(module, arguments):
        (images,) = arguments
        if module.training and torch.is_grad_enabled() and images.shape[1] == 3:
            seen.append((images.shape[-1], images.std(dim=(1, 2, 3)).min().item()))

    hook = register_module_forward_pre_hook(look)
    try:
        said = fine_tune(lines, zoo.uri, key, tmp_path, 1, image_size=64)
    finally:
        hook.remove()
    assert {side for side, _ in seen} == {64} and min(contrast for _, contrast in seen) > 0.6  # of 200 / 128 / 2
    assert said.image_size == 64
    assert json.loads((tmp_path / "config.json").read_text())["preprocessing"]["image_size"] == 64


def test_each_epoch_is_said_with_loss_validation_and_what_is_left(zoo, key, sides, tmp_path, capfd):
    out, summary = tmp_path / "network", tmp_path / "summary.json"
    flags = ["--row", key, "--out", str(out), "--epochs", "2", "--seed", "1", "--threads", "1", "--json", str(summary)]
    assert run(["fine-tune", sides, "--zoo", zoo.uri, *flags]) == 0
    said = capfd.readouterr()
    assert "epoch 1 of 2: loss 0." in said.err and "s left" in said.err and "epoch 2 of 2: loss " in said.err
    found = json.loads(summary.read_text())
    assert f"after epoch {found['best_epoch']} of 2, the best in validation" in said.out
    assert f"of {found['test_total']} test images (95 %: " in said.out


def test_torch_has_one_thread_unless_more_are_asked_for(zoo, key, sides, tmp_path):
    seen: set[int] = set()
    hook = register_optimizer_step_pre_hook(lambda *_: seen.add(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        fine_tune(sides, zoo.uri, key, tmp_path / "one", 1)
        assert seen == {1} and torch.get_num_threads() == 3
        seen.clear()
        many = fine_tune(sides, zoo.uri, key, tmp_path / "many", 1, threads=usable_cpus())
        assert seen == {usable_cpus()} and many.threads == usable_cpus()
    finally:
        hook.remove()
        torch.set_num_threads(before)


def test_an_existing_network_is_refused_before_the_work_and_replaced_with_overwrite(
    tuned, zoo, key, sides, tmp_path, capsys
):
    fine_tune(sides, zoo.uri, key, tmp_path, 1)
    before = (tmp_path / "weights.safetensors").read_bytes()
    capsys.readouterr()
    with pytest.raises(ConfigError, match="holds a result already: name another folder, or give --overwrite"):
        fine_tune(sides, zoo.uri, key, tmp_path, 1)
    assert "fine-tuning" not in capsys.readouterr().err
    assert (tmp_path / "weights.safetensors").read_bytes() == before
    fine_tune(sides, zoo.uri, key, tmp_path, 1, seed=1, overwrite=True)
    assert (tmp_path / "weights.safetensors").read_bytes() != before


def test_weights_that_somebody_trained_further_are_not_overwritten(zoo, key, sides, tmp_path):
    fine_tune(sides, zoo.uri, key, tmp_path, 1)
    (tmp_path / "weights.safetensors").write_bytes(b"trained for three more days")
    with pytest.raises(ConfigError, match=r"holds weights\.safetensors, which tans did not write or which was changed"):
        fine_tune(sides, zoo.uri, key, tmp_path, 1, overwrite=True)
    assert (tmp_path / "weights.safetensors").read_bytes() == b"trained for three more days"


@pytest.mark.parametrize("row", ["ffff", "", "start:", "start:ffff", "random:KEY", "KEY:start", "KEYx"])
def test_a_row_that_is_unknown_or_malformed_creates_nothing(zoo, key, sides, tmp_path, row):
    with pytest.raises(ConfigError, match=r"no row|names no row"):
        fine_tune(sides, zoo.uri, row.replace("KEY", key), tmp_path / "a" / "network")
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_is_ambiguous_creates_nothing(world_zoo, sides, tmp_path):
    """Of 36 keys two begin with the same of 16 digits."""
    digits = [row.key[0] for row in world_zoo.snapshot().rows]
    several = next(digit for digit in digits if digits.count(digit) > 1)
    for row in (several, f"start:{several}"):
        with pytest.raises(ConfigError, match=f"rows whose keys begin with '{several}'"):
            fine_tune(sides, world_zoo.uri, row, tmp_path / "network")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": -1}, "epochs must be at least 0, got -1"),
        ({"minutes": 0.0}, "--minutes must be above 0, got 0"),
        ({"minutes": math.nan}, "--minutes must be above 0, got nan"),
        ({"minutes": 1.0, "epochs": 3}, "--minutes chooses epochs and image size: leave out"),
        ({"minutes": 1.0, "image_size": 64}, "--minutes chooses epochs and image size: leave out"),
        ({"lr": -1.0}, "learning rate must be above 0 and finite, got -1"),
        ({"batch_size": 1}, "batch size must be at least 2"),
        ({"image_size": 50}, "--image-size must be a multiple of 32, got 50"),
        ({"image_size": 0}, "--image-size must be a multiple of 32, got 0"),
        ({"seed": -1}, "--seed must be a whole number from 0 to 9223372036854775807, got -1"),
        ({"threads": 0}, "--threads must lie between 1 and"),
        ({"init": Path("supernet.pth")}, "--init goes with --row start:KEY alone"),
    ],
)
def test_numbers_out_of_their_range_are_refused_and_create_nothing(zoo, key, sides, tmp_path, wrong, message):
    with pytest.raises(ConfigError, match=message):
        fine_tune(sides, zoo.uri, key, tmp_path / "network", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_leaves_no_folder(zoo, key, tmp_path):
    with pytest.raises(DatasetError):
        fine_tune(f"folder:{tmp_path / 'gone'}", zoo.uri, key, tmp_path / "a" / "network")
    assert list(tmp_path.iterdir()) == []
