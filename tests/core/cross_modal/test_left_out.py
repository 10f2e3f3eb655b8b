"""Judging on sources left out: nothing of them is known, and nothing of test is looked at."""

from dataclasses import replace

import pytest
import torch

from tans_core.cross_modal.left_out import Fold, Judgement, folds, judged
from tans_core.cross_modal.meta_training import SpaceConfig
from tans_core.cross_modal.space_data import SpaceData, space_data
from tans_core.errors import SpaceError
from tests.worlds import World

CONFIG = SpaceConfig(dim=16, hidden=8, steps=8, evaluate_every=4, validation_draws=2)


@pytest.fixture(scope="module")
def data() -> SpaceData:
    torch.set_num_threads(1)
    return space_data(World(datasets=8, rows_each=2, sources=7).snapshot())  # the first and the last are of one source


def test_each_dataset_is_left_out_once_and_a_source_is_never_on_both_sides(data):
    dealt = folds(data, 0)
    assert len(dealt) == 5
    assert sorted(place for fold in dealt for place in fold.out) == list(range(8))
    for fold in dealt:
        assert sorted(fold.kept + fold.out) == list(range(8))
        assert {data.sources[place] for place in fold.kept}.isdisjoint(data.sources[place] for place in fold.out)
    assert folds(data, 0) == dealt != folds(data, 1)


def test_with_few_sources_each_is_left_out_alone():
    data = space_data(World(datasets=6, rows_each=1, sources=3).snapshot())
    assert sorted(fold.out for fold in folds(data, 0)) == [(0, 3), (1, 4), (2, 5)]


def test_a_score_is_0_for_all_right_and_1_for_knowing_nothing():
    blank = Judgement(step=1, datasets=4, mean_rank=3.0, mean_rank_random=3.0, mse=0.04, mse_mean_baseline=0.04)
    assert blank.score == pytest.approx(1.0)
    # Rank 2 of 1 to 5 is a quarter of the way, half of chance's; a quarter of the error: (0.5 + 0.25) / 2.
    assert replace(blank, mean_rank=2.0, mse=0.01).score == pytest.approx(0.375)
    assert replace(blank, mean_rank=1.0, mse=0.0).score == 0
    alike = replace(blank, mean_rank=1.0, mse=1e-6, mse_mean_baseline=0.0)  # rows of one accuracy
    assert alike.score == pytest.approx(0.005)


def test_test_images_and_test_counts_have_no_say(data):
    dealt = folds(data, 0)
    nonsense = replace(
        data,
        test=tuple(100 * torch.ones_like(each) for each in data.test),
        test_accuracy_R=1 - data.test_accuracy_R,
    )
    one, other = list(judged(data, CONFIG, 0, dealt)), list(judged(nonsense, CONFIG, 0, dealt))
    assert one == other and [each.step for each in one] == [4, 8]
    assert one[0].datasets == 8 and one[0].mean_rank_random == 4.5


def test_of_what_is_left_out_validation_images_and_counts_judge_and_nothing_teaches(data):
    fold = Fold(kept=(1, 2, 3, 4, 5, 6), out=(0, 7))
    (*_, judgement) = judged(data, CONFIG, 0, [fold])
    of_out = torch.isin(data.dataset_R, torch.tensor(fold.out))

    def out(given: tuple, other) -> tuple:
        return tuple(other(each) if place in fold.out else each for place, each in enumerate(given))

    unseen = replace(data, train=out(data.train, lambda each: each + 5))
    assert list(judged(unseen, CONFIG, 0, [fold]))[-1] == judgement
    moved = replace(data, validation=out(data.validation, lambda each: -each))
    assert list(judged(moved, CONFIG, 0, [fold]))[-1].mean_rank != judgement.mean_rank
    harder = replace(data, accuracy_R=data.accuracy_R - 0.2 * of_out)
    assert list(judged(harder, CONFIG, 0, [fold]))[-1].mse != judgement.mse
    assert list(judged(harder, CONFIG, 0, [fold]))[-1].mean_rank == judgement.mean_rank


def test_a_space_that_learned_is_better_on_them_than_one_that_did_not():
    data = space_data(World(datasets=12, rows_each=3).snapshot())
    config = SpaceConfig(dim=40, hidden=32, steps=100, evaluate_every=10)
    first, *_, last = judged(data, config, 0, folds(data, 0)[:2])
    assert last.score < first.score and last.score < 0.8


@pytest.mark.parametrize("sources", [1, 2])
def test_too_few_sources_are_refused_with_the_way_out(sources):
    data = space_data(World(datasets=4, rows_each=1, sources=4).snapshot())
    few = replace(data, sources=tuple(f"s{place % sources}" for place in range(4)))
    with pytest.raises(SpaceError, match=rf"of {sources} sources? \(s0.*3 are needed.*build-zoo --more"):
        folds(few, 0)
