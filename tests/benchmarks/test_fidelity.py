"""Figures of cheap pairs, worked by hand from made-up runs whose sides contradict each other."""

import math

import pytest
from scipy.stats import spearmanr

from benchmarks.training import fidelity, paper_cost
from benchmarks.training.paper_cost import ImageSeconds
from tans_core.training.recipe import HEADS, SupernetRecipe

OWN = SupernetRecipe()
# Right of 100 images (validation 40, test 60), network by network. In "a" the second seed repeats the first; the head
# that is not the recipe's own says the opposite. In "b" the seeds contradict each other.
FIRST, SECOND = {"a": (50, 60, 70, 80), "b": (50, 60, 70, 80)}, {"a": (51, 62, 73, 84), "b": (80, 70, 60, 50)}
CUT = {"a": (40, 50, 60, 90), "b": (90, 60, 50, 40)}


def _right(correct: int) -> dict:
    """Validation has more of the right answers the fewer there are, so that it alone gives another order."""
    val = 39 - correct // 10
    return {"val_correct": val, "val_total": 40, "test_correct": correct - val, "test_total": 60}


def _alone() -> list[dict]:
    return [
        {"dataset": name, "subnet": subnet, "seed": seed, "cpu_s": 10.0 if name == "a" else 30.0, **_right(correct)}
        for seed, of_seed in enumerate((FIRST, SECOND))
        for name, rights in of_seed.items()
        for subnet, correct in reversed(list(enumerate(rights)))  # lines come in any order
    ]


def _cut(epochs: int) -> list[dict]:
    other = next(head for head in HEADS if head != OWN.head)
    return [
        {
            "dataset": name,
            "epochs": epochs,
            "supernet_s": 25.0,
            OWN.head: [{"cpu_s": 1.0, **_right(correct)} for correct in rights],
            other: [{"cpu_s": 2.0, **_right(100 - correct)} for correct in rights],
        }
        for name, rights in CUT.items()
    ]


@pytest.fixture
def found() -> dict:
    return fidelity.summary([*_cut(OWN.epochs), *_cut(OWN.epochs + 1)], _alone())


def test_fidelity_is_the_mean_over_datasets_and_both_seeds(found):
    # a: 1 with either seed. b: -1 with the first, 1 with the second.
    assert found["fidelity_spearman_mean"] == pytest.approx((1 + 0) / 2)
    assert found["fidelity_ceiling_mean"] == pytest.approx((1 - 1) / 2)
    own = found["fidelity_settings"][f"{OWN.epochs} epochs, {OWN.head}"]["datasets"]
    assert (own["a"]["spearman"], own["b"]["spearman"]) == (pytest.approx(1), pytest.approx(0))
    (other,) = {head for head in HEADS if head != OWN.head}
    assert found["fidelity_settings"][f"{OWN.epochs} epochs, {other}"]["datasets"]["a"]["spearman"] == pytest.approx(-1)


def test_a_pair_costs_its_own_seconds_and_a_fiftieth_of_its_supernet(found):
    # 25 / 50 + 1 = 1.5 s of 10 s and of 30 s
    assert found["pair_cost_ratio_laptop"] == pytest.approx((1.5 / 10 + 1.5 / 30) / 2)


def test_accuracies_are_over_validation_and_test_together(found):
    own = found["fidelity_settings"][f"{OWN.epochs} epochs, {OWN.head}"]
    assert own["datasets"]["a"]["cut_accuracy"] == pytest.approx(60)
    assert own["datasets"]["a"]["alone_accuracy"] == pytest.approx((65 + 67.5) / 2)
    assert own["below_alone_points"] == pytest.approx(((66.25 - 60) + (65 - 60)) / 2)
    assert found["fidelity_images"] == {"a": 100, "b": 100}


def test_a_rank_correlation_is_that_of_scipy_and_0_without_an_order():
    one, other = (3, 1, 1, 5, 2, 2, 9), (1, 1, 0, 5, 7, 2, 2)
    assert fidelity.spearman(one, other) == pytest.approx(spearmanr(one, other)[0])
    assert fidelity.spearman((1, 1, 1), (1, 2, 3)) == 0


def test_an_interval_is_fishers(found):
    low, high = fidelity._with_interval(0.5, 19)["interval"]
    # (1 + 0.125) / 16 = 0.0703, whose root is 0.2652; 0.5493 -+ 0.5197
    assert (low, high) == (pytest.approx(math.tanh(0.0296), abs=1e-3), pytest.approx(math.tanh(1.0690), abs=1e-3))


def test_the_cost_of_a_paper_pair_is_counted_in_images():
    """50 epochs of 640 images, five looks at 320 + 160; a supernet of 10 epochs among 50 pairs."""
    seconds = ImageSeconds(alone=1.0, sandwich=2.0, forward=0.25, cut=3.0)
    recipe = SupernetRecipe(epochs=10, batch_size=32, head="trained")
    alone = 50 * 640 * 1.0 + (5 * (320 + 160) + 3 * 160 + 200) * 0.25
    pair = 10 * 640 * 2.0 / 50 + 3.0 + (2 * 320 + 3 * 160 + 200) * 0.25
    assert paper_cost.ratio(seconds, 50, recipe, 50) == pytest.approx(pair / alone)
    closed = SupernetRecipe(epochs=10, batch_size=32, head="closed_form")
    assert paper_cost.ratio(seconds, 50, closed, 50) == pytest.approx((pair + 640 * 0.25) / alone)
