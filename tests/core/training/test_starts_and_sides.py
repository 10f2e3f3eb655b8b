"""From which weights a training starts, and on which images it is judged: worked out by hand in the toy world."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tans_core.errors import WeightsError
from tans_core.evaluation.starts import run_from
from tans_core.records import ImageDataset
from tans_core.training.augment import ImageBatches
from tans_core.training.fine_tune import STARTS, OutOfTime, judge, transfer, tune
from tans_core.training.loop import CPU, confusion, evaluate, fit
from tans_core.training.recipe import Recipe
from tans_core.training.standalone import train_pair
from tans_core.training.weights import decode_weights, load_into
from tests.core.training.toy import (
    ARCHITECTURE,
    INVERTED,
    RANDOM,
    SPACE,
    START,
    STILL,
    TEST_TOTAL,
    VAL_TOTAL,
    ToyNetwork,
    ToySpace,
    identity,
    pictures,
)

ROW = {**ToyNetwork(-1.0).state_dict(), "classifier.weight": torch.zeros(7, 1), "classifier.bias": torch.zeros(7)}
TURNING = Recipe(epochs=8, batch_size=6, peak_lr=0.2, shift=0, mirror=False, warmup=0.5)  # from -1 to above 0


def test_a_pair_starts_from_the_starting_weights():
    trained, _ = train_pair(identity(STILL), pictures(), SPACE)
    assert trained.test_correct_by_class == START["test"] != RANDOM["test"]


def test_a_pairs_test_counts_are_those_of_the_test_images_and_its_validation_counts_of_validation():
    trained, _ = train_pair(identity(STILL), pictures(), SPACE)
    assert (trained.val_correct_by_class, trained.val_total_by_class) == (START["val"], VAL_TOTAL)
    assert (trained.test_correct_by_class, trained.test_total_by_class) == (START["test"], TEST_TOTAL)
    assert (trained.costs.params, trained.costs.flops) == (11, 22)


def test_a_pairs_curve_is_taken_on_validation_images():
    trained, _ = train_pair(identity(replace(STILL, epochs=2)), pictures(), SPACE)
    of_validation = (sum(START["val"]), sum(VAL_TOTAL))
    assert [(point.val_correct, point.val_total) for point in trained.curve] == [of_validation, of_validation]


class NarrowSpace(ToySpace):
    """Starting weights that 16 bits cannot hold: 1.0004 speaks for class 1 and 1.0002 for 0; rounded, both are 1."""

    def subnet(self, architecture, classes, generator) -> nn.Module:
        network = ToyNetwork(1.0)
        with torch.no_grad():
            network.classifier.weight.copy_(torch.tensor([[1.0002], [1.0004]]))
            network.classifier.bias.copy_(torch.tensor([1e-5, 0.0]))
        return network


def one_bright() -> ImageDataset:
    """Four dark pictures in validation and one bright one, the only one that the rounded network answers otherwise."""
    data = pictures()
    return replace(data, validation=data.validation[:5])


@pytest.mark.parametrize(("dtype", "val", "test"), [("float32", (0, 0), START["test"]), ("float16", (1, 0), (2, 0))])
def test_what_is_told_of_a_pair_is_told_of_its_weights_as_they_are_stored(dtype, val, test):
    data, space = one_bright(), NarrowSpace()
    trained, _ = train_pair(identity(STILL), data, space, weights_dtype=dtype)
    assert (trained.val_correct_by_class, trained.test_correct_by_class) == (val, test)
    assert trained.curve[-1].val_correct == sum(val) and trained.weights_dtype == dtype
    assert trained.response.ne(0).all()
    network = ToyNetwork(0.0)
    load_into(network, decode_weights(trained.weights))
    assert evaluate(network, ImageBatches(data, space, CPU), data.validation, 2)[0] == val


def test_pairs_are_stored_in_16_bits_unless_that_changes_more_than_one_answer():
    assert train_pair(identity(STILL), one_bright(), NarrowSpace())[0].weights_dtype == "float16"
    trained, _ = train_pair(identity(STILL), pictures(), NarrowSpace())  # three bright ones
    assert trained.weights_dtype == "float32"
    assert (trained.val_correct_by_class, trained.test_correct_by_class) == (START["val"], START["test"])
    assert torch.equal(decode_weights(trained.weights)["classifier.weight"], torch.tensor([[1.0002], [1.0004]]))


@pytest.mark.parametrize(("start", "right"), zip(STARTS, (INVERTED, START, RANDOM)))
def test_the_three_starts_are_the_rows_the_zoos_and_random_weights(start, right):
    data = pictures()
    run = run_from(start, SPACE, ARCHITECTURE, ROW, data, STILL, key="key", curve_on=data.test)
    assert (run.val_correct, run.val_total) == (sum(right["val"]), 7)
    assert (run.test_correct, run.test_total) == (sum(right["test"]), 7)
    assert run.correct_by_epoch == (sum(right["test"]),)


def test_the_curve_of_a_start_is_taken_where_and_when_it_was_asked_for():
    data, recipe = pictures(), TURNING
    run = run_from(
        "retrieved", SPACE, ARCHITECTURE, ROW, data, recipe, key="a", curve_on=data.validation, curve_at=(1, 2)
    )
    assert len(run.correct_by_epoch) == 3  # and the last
    assert run.correct_by_epoch[0] == 7 and run.correct_by_epoch[-1] == run.val_correct == 0 and run.test_correct == 7


def test_the_sides_of_a_comparison_see_the_same_images_in_the_same_order():
    """All that is random comes from the key: two sides whose weights are the same end the same, to the last bit."""
    data = pictures()
    row = {**ToyNetwork(1.0).state_dict(), "classifier.weight": torch.zeros(7, 1), "classifier.bias": torch.zeros(7)}
    one, other = (
        run_from(start, SPACE, ARCHITECTURE, row, data, TURNING, key="key", curve_on=data.test, curve_at=range(9))
        for start in ("retrieved", "start")
    )
    assert one == other


def test_a_transfer_brings_the_body_and_leaves_the_classifier():
    network = transfer(SPACE, ARCHITECTURE, ROW, 2, "key")
    assert network.body.item() == -1.0 and network.classifier.weight.tolist() == [[-1.0], [1.0]]
    with pytest.raises(WeightsError, match="of another network"):
        transfer(SPACE, ARCHITECTURE, {"neck": torch.zeros(1)}, 2, "key")


def test_batch_norm_is_re_estimated_before_an_evaluation():
    """After two steps the running mean is 25 where the images have 130: all pictures would be bright."""
    data, network = pictures(), ToyNetwork(1.0)
    fitted = fit(network, data, SPACE, STILL, key="key", evaluate_on=data.test, evaluate_at=())
    assert fitted.correct_by_class == START["test"]
    assert network.norm.running_mean.tolist() == pytest.approx([130.0] * 3)


class Rectified(ToyNetwork):
    """What is below 0 after the norm is lost; of all pictures, where the norm's mean is that of others."""

    def pooled(self, images):
        return super().pooled(images).relu()


@pytest.mark.parametrize(("mean", "kept"), [(100.0, True), (200.0, False)])
def test_a_closed_form_keeps_the_statistics_of_batch_norm_unless_those_of_the_images_tell_more(mean, kept):
    """Pictures are 100 and 160: with a mean of 200 all are 0 after the norm, with 100 they are 0 and above."""
    data, network = pictures(), Rectified(1.0)
    network.norm.running_mean.fill_(mean)
    tuned = tune(network, data, SPACE, replace(STILL, epochs=0), key="key")
    assert network.norm.running_mean.tolist() == pytest.approx([mean if kept else 130.0] * 3)
    assert network.body.item() == 1.0 and tuned.best_epoch == 0 and len(tuned.curve) == 1
    tables = judge(network, data, SPACE)
    assert tables.test_KK.diagonal().tolist() == list(TEST_TOTAL)  # training and test say that bright is 1
    assert (tuned.val_correct, tuned.curve[0].val_correct) == (0, 0)  # validation says the opposite


def test_fine_tuning_keeps_the_epoch_that_is_best_in_validation_and_reads_test_for_it_alone():
    """The row says what validation says; training unlearns it: test is best at the end, validation before."""
    data, network = pictures(), ToyNetwork(-1.0)
    tuned = tune(network, data, SPACE, TURNING, key="key")
    right = [point.val_correct for point in tuned.curve]
    assert right[0] == 7 and right[-1] == 0
    assert 1 <= tuned.best_epoch < 8 and tuned.val_correct == 7
    tables = judge(network, data, SPACE)
    assert tables.val_KK.tolist() == [[3, 0], [0, 4]] and tables.test_KK.tolist() == [[0, 2], [5, 0]]
    correct, _ = evaluate(network, ImageBatches(data, SPACE, CPU), data.validation, 2)
    assert correct == (3, 4)  # the network is that of the best epoch


def test_of_epochs_equally_good_in_validation_the_latest_is_kept():
    data = pictures()
    tuned = tune(ToyNetwork(-1.0), data, SPACE, TURNING, key="key")
    best = [point.epoch for point in tuned.curve if point.val_correct == 7]
    assert len(best) > 1 and tuned.best_epoch == best[-1]


def test_a_fine_tuning_that_is_out_of_time_keeps_what_was_best_so_far():
    data, network, steps = pictures(), ToyNetwork(-1.0), []

    def check() -> None:
        steps.append(1)
        if len(steps) > 2 * 3:  # three epochs of two steps
            raise OutOfTime

    whole = tune(ToyNetwork(-1.0), data, SPACE, TURNING, key="key")
    cut = tune(network, data, SPACE, TURNING, key="key", check=check)
    assert cut.curve == whole.curve[:3] and cut.val_correct == 7
    assert cut.best_epoch == max(point.epoch for point in cut.curve if point.val_correct == 7)
    correct, _ = evaluate(network, ImageBatches(data, SPACE, CPU), data.validation, 2)
    assert correct == (3, 4)
    with pytest.raises(OutOfTime):
        tune(ToyNetwork(-1.0), data, SPACE, TURNING, key="key", check=check)  # before an epoch has ended


def test_each_epoch_is_told_as_it_ends():
    data, told = pictures(), []
    tuned = tune(ToyNetwork(-1.0), data, SPACE, TURNING, key="key", on_epoch=told.append)
    assert tuple(told) == tuned.curve and [point.epoch for point in told] == list(range(1, 9))


def test_a_confusion_table_has_a_row_a_class_and_a_column_for_what_it_was_taken_for():
    class AlwaysTwo(nn.Module):
        def forward(self, images):
            return torch.tensor([0.0, 0.0, 1.0]).expand(len(images), 3)

    data = pictures()
    table = confusion(AlwaysTwo(), ImageBatches(data, SPACE, CPU), data.test, 3)
    assert table.tolist() == [[0, 0, 2], [0, 0, 5], [0, 0, 0]]
