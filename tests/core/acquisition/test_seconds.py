"""Where pairs are cut out of supernets, a choice is of gain a second, and the first pair of a dataset is a dear one."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from acquisition_worlds import CostedSpace, dataset_record, trained

from tans_core.acquisition.choose import CHOOSERS, HypervolumeChooser, make_chooser
from tans_core.acquisition.hypervolume import CostScale
from tans_core.acquisition.seconds import SupernetSeconds
from tans_core.training.recipe import SupernetRecipe

SPACE = CostedSpace(4)
DATASETS = [dataset_record(index) for index in range(5)]
NAMES = [dataset.fingerprint for dataset in DATASETS]
RECIPE = SupernetRecipe(epochs=4, batch_size=32, largest_every=4)


class EqualSpace(CostedSpace):
    """All its networks take 1e9 multiply-accumulates."""

    layout: Any = SimpleNamespace(choices_TK=torch.tensor([[3, 7]] * 20))

    def costs(self, topology_CT, image_size, classes):
        flops = torch.full((len(topology_CT),), 10**9)
        return flops, flops


def counts_of(datasets):
    return {dataset.fingerprint: dataset.counts for dataset in datasets}


def of_datasets(datasets=DATASETS) -> SupernetSeconds:
    return SupernetSeconds(counts_of(datasets), EqualSpace(4), 64, RECIPE)


def test_before_anything_was_measured_seconds_are_as_the_counts_say():
    # 160 training images, 60 validation, 60 test. A supernet: 4 epochs x 160 images x 3 (there and back) x
    # 2.25 networks a step = 4320. A pair: 160 images for batch norm, 160 for the loss, 120 judged = 440.
    seconds = of_datasets()
    assert seconds.predicted("supernet", NAMES[0]) == pytest.approx(seconds.predicted("pair", NAMES[0]) * 4320 / 440)


def test_ten_batches_are_what_batch_norm_takes_at_most_and_a_classifier_takes_all():
    big = replace(DATASETS[0], counts={"train": [1000], "validation": [10], "test": [10]})
    pair = of_datasets([big]).predicted("pair", NAMES[0])  # 2 x 320 + 20 images
    closed = SupernetSeconds(counts_of([big]), EqualSpace(4), 64, replace(RECIPE, head="closed_form"))
    assert closed.predicted("pair", NAMES[0]) == pytest.approx(pair * 1660 / 660)


def test_the_first_pair_of_a_dataset_costs_its_supernet_too():
    seconds = of_datasets()
    pair, supernet = (seconds.predicted(what, NAMES[0]) for what in ("pair", "supernet"))
    assert seconds.next_pair(NAMES[0], True) == pair
    assert seconds.next_pair(NAMES[0], False) == pytest.approx(pair + supernet)


def test_what_was_measured_counts_and_one_slow_worker_does_not():
    seconds = of_datasets()
    for name, took in ((NAMES[0], 2.0), (NAMES[1], 2.1), (NAMES[2], 500.0)):  # the median of three
        seconds.took("pair", name, took)
    assert seconds.predicted("pair", NAMES[4]) == pytest.approx(2.1)
    assert seconds.predicted("supernet", NAMES[4]) == pytest.approx(2.1 * 4320 / 440)  # as pairs until one is measured
    seconds.took("supernet", NAMES[0], 60.0)
    seconds.took("supernet", "nobody's", 1e9)
    assert seconds.predicted("supernet", NAMES[4]) == pytest.approx(60.0)
    assert seconds.predicted("pair", NAMES[4]) == pytest.approx(2.1)


@pytest.mark.parametrize("name", CHOOSERS)
@pytest.mark.parametrize("decision", [0, 30])
def test_a_dataset_without_seconds_is_left_aside(name: str, decision: int):
    chooser = make_chooser(name, DATASETS, [], SPACE, CostScale(SPACE, 64), 0)
    for number in range(12):
        choice = chooser.propose(number, [])
        assert choice is not None
        chooser.observe(trained(choice.candidate, SPACE))
    for open_one in NAMES:
        choice = chooser.propose(decision, [], {open_one: 1.0})
        assert choice is not None and choice.candidate.fingerprint == open_one
    assert chooser.propose(decision, [], {}) is None
    chooser.close()


@pytest.fixture(scope="module")
def experienced():
    chooser = HypervolumeChooser(DATASETS, [], SPACE, CostScale(SPACE, 64), 0)
    for number in range(15):
        choice = chooser.propose(number, [])
        assert choice is not None
        chooser.observe(trained(choice.candidate, SPACE))
    yield chooser
    chooser.close()


def test_of_two_datasets_alike_the_one_whose_pairs_are_cheaper_is_chosen(experienced):
    alike = experienced.propose(20, [], dict.fromkeys(NAMES, 2.0))
    plain = experienced.propose(20, [])
    assert alike.candidate == plain.candidate and alike.expected_gain == plain.expected_gain
    assert "gain a second of" in alike.reason and " in about 2.0 s" in alike.reason and "a second" not in plain.reason
    best, runner_up = plain.candidate.fingerprint, plain.runners_up[0][0]
    dear = experienced.propose(20, [], {**dict.fromkeys(NAMES, 2.0), best: 2000.0})
    assert dear.candidate.fingerprint == runner_up
    assert dear.expected_gain == pytest.approx(plain.runners_up[0][1])  # what is said is the gain, whatever it costs


def test_a_great_gain_is_worth_its_seconds(experienced):
    plain = experienced.propose(20, [])
    best, second = plain.expected_gain, plain.runners_up[0][1]
    for factor, same in ((0.99 * best / second, True), (1.01 * best / second, False)):
        choice = experienced.propose(20, [], {**dict.fromkeys(NAMES, 1.0), plain.candidate.fingerprint: factor})
        assert (choice.candidate == plain.candidate) == same
