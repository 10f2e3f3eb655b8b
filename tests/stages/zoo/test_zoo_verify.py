"""`tans zoo verify --retrain`: a row is compared with what training gives as the row is stored."""

from dataclasses import replace

import pytest

from pipeline.zoo.upkeep.verify import trained_again
from tans_core.records import Row
from tests.core.training.test_starts_and_sides import NarrowSpace, one_bright
from tests.core.training.toy import STILL, identity
from tests.worlds import World


def row_of(dtype: str, right: tuple[int, ...]) -> Row:
    (row,) = World(datasets=1, rows_each=1).snapshot().rows
    pair = identity(STILL)
    weights = replace(row.weights, dtype=dtype)
    return replace(
        row, key=pair.key, identity=pair, weights=weights, val_correct_by_class=right, val_total_by_class=(1, 4)
    )


@pytest.mark.parametrize(("dtype", "right"), [("float32", (0, 0)), ("float16", (1, 0))])
def test_a_row_of_either_precision_is_found_as_it_was(dtype: str, right: tuple[int, ...]):
    """The two precisions of this network give different answers."""
    assert trained_again(row_of(dtype, right), one_bright(), NarrowSpace()) is None


def test_another_accuracy_is_said():
    row = row_of("float16", (0, 0))
    assert f"{row.key}: trained again it gets 1 of 5 right in validation, 0 are stored" in (
        trained_again(row, one_bright(), NarrowSpace()) or ""
    )
