"""The order of search, worked out by hand: queries and networks as angles, predictions as the logits one asks for."""

import math

import pytest
import torch

from tans_core.cross_modal.encoders import ARCHITECTURE, SpaceModel, SpaceShape
from tans_core.retrieval.index import Index
from tans_core.retrieval.rank import SHORTLIST, WEIGHT, Measured, rank

CHANCE = 0.2


class Rows:
    """Rows for one query. A row is (key, dataset, similarity, accuracy on its dataset, accuracy predicted here); a
    dataset lies where its nearest row does.

    Of `total` images, so many that any difference can be told unless a test says otherwise; equally large networks.
    """

    def __init__(
        self,
        *rows: tuple[str, str, float, float, float],
        chances: dict[str, float] | None = None,
        total: int = 10**9,
        params: dict[str, float] | None = None,
    ) -> None:
        self.model = SpaceModel(SpaceShape(feature_dim=4, topology_length=3, response_length=3, dim=2, hidden=4))
        torch.nn.init.zeros_(self.model.predictor.extra.weight)
        self.model.predictor.extra.weight.data[0, 0] = 1
        entries = torch.zeros(len(rows), ARCHITECTURE)
        # Chance is 0.2 here: 0.2 + 0.8 * sigmoid(entry) is what is predicted.
        shares = [(predicted - CHANCE) / (1 - CHANCE) for *_, predicted in rows]
        entries[:, 0] = torch.tensor([math.log(share / (1 - share)) for share in shares])
        angles = torch.tensor([math.acos(similarity) for _, _, similarity, _, _ in rows])
        self.index = Index([row[0] for row in rows], torch.stack([angles.cos(), angles.sin()], dim=1), entries)
        datasets = list(dict.fromkeys(row[1] for row in rows))
        self.measured = Measured(
            dataset_R=torch.tensor([datasets.index(row[1]) for row in rows]),
            correct_R=torch.tensor([round(total * row[3]) for row in rows]),
            total_R=torch.tensor([total] * len(rows)),
            params_R=torch.tensor([(params or {}).get(row[0], 1e6) for row in rows], dtype=torch.float64),
            chance_K=torch.tensor([(chances or {}).get(each, CHANCE) for each in datasets], dtype=torch.float64),
        )
        self.similarity_K = torch.tensor([max(row[2] for row in rows if row[1] == each) for each in datasets])

    def ranking(
        self,
        top: int = 1000,
        error: float | None = 0.16,
        allowed: list[bool] | None = None,
        bar: float | None = None,
    ):
        allowed_R = torch.ones(len(self.index.keys), dtype=torch.bool) if allowed is None else torch.tensor(allowed)
        query, facts = torch.tensor([1.0, 0.0]), torch.tensor([CHANCE, 1.0, 0.0])
        near = self.similarity_K
        return rank(self.model, self.index, self.measured, query, facts, near, allowed_R, top, error=error, bar=bar)

    def order(self, **asked) -> str:
        """Keys; those of starting weights, whose place without a bar is the last, only where there is one."""
        head = self.ranking(**asked).head
        shown = head if "bar" in asked else [each for each in head if not each.is_start]
        return " ".join(("start:" if each.is_start else "") + self.index.keys[each.place] for each in shown)


def test_the_nearest_source_is_first_however_easy_the_others_were():
    rows = Rows(("a", "far", 0.5, 1.0, 0.5), ("b", "near", 0.9, 0.3, 0.5), ("c", "opposite", -0.02, 1.0, 0.9))
    assert rows.order() == "b a c"


def test_of_two_rows_of_one_dataset_the_more_accurate_comes_first():
    rows = Rows(("a", "near", 0.95, 0.5, 0.6), ("b", "near", 0.6, 0.51, 0.6), ("c", "far", 0.7, 0.2, 0.6))
    assert rows.order() == "b a c"


def test_of_sources_as_near_the_one_that_learned_more_above_its_chance_comes_first():
    # 55 % where chance gives 50 % is a tenth of the way; 40 % where it gives 4 % is three eighths.
    rows = Rows(("a", "coin", 0.8, 0.55, 0.6), ("b", "faces", 0.8, 0.40, 0.6), chances={"coin": 0.5, "faces": 0.04})
    assert rows.order() == "b a"
    # 0.005 of similarity lie between them; 0.05 * (0.375 - 0.1) = 0.014 are more, and 0.05 * (0.2 - 0.1) are not
    chances = {"coin": 0.5, "faces": 0.04}
    assert Rows(("a", "coin", 0.805, 0.55, 0.6), ("b", "faces", 0.8, 0.4, 0.6), chances=chances).order() == "b a"
    assert Rows(("a", "coin", 0.81, 0.55, 0.6), ("b", "faces", 0.8, 0.23, 0.6), chances=chances).order() == "a b"
    assert WEIGHT == 0.05


def test_predicted_differences_within_the_predictors_error_do_not_count():
    rows = Rows(("a", "near", 0.8, 0.6, 0.40), ("b", "near", 0.8, 0.59, 0.55))
    assert rows.order(error=0.16) == "a b"  # 0.15 apart
    # 0.15 - 0.10 = 0.05 count: more than the 0.01 / 0.8 that "b" was measured to be worse by.
    assert rows.order(error=0.10) == "b a"
    assert rows.order(error=None) == "a b"  # nothing is known of the error


def test_a_shorter_list_is_the_head_of_a_longer_one():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(3, 150, generator=generator).tolist()
    rows = Rows(
        *(
            (f"{number:03}", f"dataset {number % 30}", similarity, accuracy, 0.25 + 0.7 * predicted)
            for number, (similarity, accuracy, predicted) in enumerate(zip(*values))
        )
    )
    whole = rows.order(top=150).split()
    assert len(set(whole)) == 150
    for top in (1, 3, 10, 99, 100, 101, 149):
        assert rows.order(top=top).split() == whole[:top]


def test_behind_the_shortlist_rows_follow_by_nearness():
    # Row 0 is the nearest. All are of one dataset, so that in the shortlist accuracy decides: the later the better.
    count = SHORTLIST + 20
    rows = Rows(*((f"{row:03}", "one", 0.99 - 0.001 * row, 0.3 + 0.001 * row, 0.5) for row in range(count)))
    shortlist, behind = range(SHORTLIST - 1, -1, -1), range(SHORTLIST, count)
    assert [int(key) for key in rows.order().split()] == [*shortlist, *behind]


def test_a_limit_takes_rows_out_and_moves_none():
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(3, 150, generator=generator).tolist()
    rows = Rows(
        *(
            (f"{number:03}", f"dataset {number % 10}", similarity, accuracy, 0.25 + 0.7 * predicted)
            for number, (similarity, accuracy, predicted) in enumerate(zip(*values))
        )
    )
    allowed = [number % 3 == 0 for number in range(150)]
    limited = rows.order(allowed=allowed).split()
    assert limited == [key for key in rows.order().split() if int(key) % 3 == 0]
    assert rows.order(allowed=[False] * 150) == ""


def test_equal_rows_stand_by_key_wherever_they_are_in_the_index():
    rows = Rows(("c", "one", 0.8, 0.5, 0.6), ("a", "two", 0.8, 0.5, 0.6), ("b", "three", 0.8, 0.5, 0.6))
    assert rows.order() == "a b c"


def test_each_row_is_shown_with_its_similarity_and_prediction():
    rows = Rows(("a", "near", 0.6, 0.9, 0.3), ("b", "near", 0.95, 0.5, 0.7), ("c", "far", 0.1, 0.5, 0.5))
    ranking = rows.ranking(bar=0.5)
    near, other, start, far = [each for each in ranking.head if not each.is_start or rows.index.keys[each.place] == "b"]
    assert [each.similarity for each in (near, other, far)] == pytest.approx([0.6, 0.95, 0.1], abs=1e-6)
    assert [each.predicted_accuracy for each in (near, other, far)] == pytest.approx([0.3, 0.7, 0.5], abs=1e-5)
    assert start.similarity is None and start.predicted_accuracy == pytest.approx(0.7, abs=1e-5)
    # "b" is predicted 0.4 above "a", the first without predictions, 0.16 of which the error explains
    assert [each.beyond for each in (near, other, far)] == pytest.approx([0, 0.24, 0.04], abs=1e-5)


NEAR_AND_FAR = (("a", "near", 0.7, 0.5, 0.5), ("b", "far", 0.3, 0.9, 0.5))


@pytest.mark.parametrize(
    ("bar", "order", "known"),
    [(0.2, "a b start:a", True), (0.5, "a start:a b", True), (0.8, "start:a a b", False), (None, "a b start:a", True)],
)
def test_the_starting_weights_stand_before_all_sources_that_are_no_nearer_than_strangers(bar, order, known):
    ranking = Rows(*NEAR_AND_FAR).ranking(bar=bar)
    assert Rows(*NEAR_AND_FAR).order(bar=bar) == order and ranking.is_known == known


def test_a_near_row_that_a_limit_takes_out_does_not_make_the_query_known():
    rows = Rows(*NEAR_AND_FAR)
    assert rows.order(bar=0.5, allowed=[False, True]) == "start:b b"
    assert not rows.ranking(bar=0.5, allowed=[False, True]).is_known


def test_rows_behind_the_shortlist_stand_before_the_starting_weights_where_they_are_near():
    count = SHORTLIST + 4
    similarities = [0.9] * SHORTLIST + [0.8, 0.8, 0.4, 0.4]
    rows = Rows(*((f"{row:03}", f"dataset {row}", similarities[row], 0.5, 0.5) for row in range(count)))
    order = rows.order(bar=0.6).split()
    assert order[SHORTLIST:] == ["100", "101", "start:000", "102", "103"]
    assert rows.order(bar=0.6, top=SHORTLIST + 3).split() == order[: SHORTLIST + 3]


def test_starting_weights_come_in_the_smallest_shape_and_in_larger_ones_that_are_predicted_above_it():
    rows = Rows(
        ("a", "far", 0.1, 0.5, 0.50),
        ("b", "far", 0.1, 0.5, 0.65),
        ("c", "far", 0.1, 0.5, 0.70),
        ("d", "far", 0.1, 0.5, 0.95),
        params={"a": 1e6, "b": 2e6, "c": 3e6, "d": 4e6},
    )
    starts = [each for each in rows.order(bar=0.5, error=0.16).split() if each.startswith("start")]
    assert starts == ["start:d", "start:c", "start:a"]  # b is 0.15 above a, c 0.20 above a, d 0.25 above c
    assert rows.order(bar=0.5, error=None).split()[0] == "start:a"  # nothing is known of the error
    assert rows.order(bar=0.5, allowed=[False, True, True, False]).split()[0] == "start:b"


def test_of_rows_of_one_dataset_that_counts_cannot_tell_apart_the_smaller_comes_first():
    rows = (("a", "near", 0.9, 0.80, 0.5), ("b", "near", 0.9, 0.76, 0.5), ("c", "near", 0.9, 0.70, 0.5))
    params = {"a": 3e6, "b": 2e6, "c": 1e6}
    # A standard error of the difference of two shares of 100 at 0.8 and 0.76 is 0.058, at 0.8 and 0.7 it is 0.061.
    assert Rows(*rows, params=params, total=100).order() == "b a c"
    assert Rows(*rows, params=params, total=10_000).order() == "a b c"  # 0.0058: everything is known
    assert Rows(*rows, params=params, total=20).order() == "c b a"  # 0.137
