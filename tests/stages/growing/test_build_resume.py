"""A resumed build chooses as the unbroken one (test_build_zoo.py): by what validation says of the zoo's rows."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from pipeline.growing.build_zoo import build_zoo
from pipeline.zoo import Zoo
from tans_core.records import Row

SPEC = "starter:lfw-faces"
AT_FIRST = 9  # the random start is over: the next pair is the surrogate's choice


def grow(zoo: Path, pairs: int) -> Row:
    """The newest row of the zoo that was grown to so many."""
    build_zoo(str(zoo), [SPEC], pairs=pairs, preset_name="smoke", workers=0)
    return Zoo.open(str(zoo)).snapshot().rows[-1]


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build that was stopped. Its name is one that SQLite cannot spell: no MLflow."""
    zoo = tmp_path_factory.mktemp("zoos") / "cut?"
    grow(zoo, AT_FIRST)
    return zoo


def retold(cut: Path, place: Path, side: str, tell: Callable[[int], list[int]]) -> Path:
    """A copy whose rows say another count on one side, by their number."""
    shutil.copytree(cut, place)
    rows = pa.table(DeltaTable(place / "rows").scan()).to_pylist()
    schema = pa.schema(pa.table(DeltaTable(place / "rows").scan()).schema)
    for record in rows:
        record[f"{side}_correct_by_class"] = tell(record["sequence"])
        record[f"{side}_total_by_class"] = [20]
        record[f"{side}_correct"], record[f"{side}_total"] = sum(tell(record["sequence"])), 20
    shutil.rmtree(place / "rows")
    write_deltalake(place / "rows", pa.Table.from_pylist(rows, schema=schema))
    return place


def falling(number: int) -> list[int]:
    return [20 - 2 * number]


def rising(number: int) -> list[int]:
    return [4 + 2 * number]


def test_the_next_choice_of_a_resumed_build_follows_the_validation_counts_of_its_rows(cut: Path, tmp_path: Path):
    up, down = (
        grow(retold(cut, tmp_path / f"{tell.__name__}?", "val", tell), AT_FIRST + 1).choice
        for tell in (rising, falling)
    )
    assert up.chosen_by == down.chosen_by == "hypervolume"
    assert up.predicted_mean != down.predicted_mean and up.expected_gain != down.expected_gain


def test_the_next_choice_of_a_resumed_build_knows_nothing_of_test(cut: Path, tmp_path: Path):
    up, down = (
        grow(retold(cut, tmp_path / f"{tell.__name__}?", "test", tell), AT_FIRST + 1).choice
        for tell in (rising, falling)
    )
    assert up.chosen_by == "hypervolume" and up == down
