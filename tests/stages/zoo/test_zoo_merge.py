"""Zoos that grew apart become one: a key has one row, and what is not comparable stays apart."""

from dataclasses import replace
from pathlib import Path

import pytest
from zoo_examples import DATASETS, SETTINGS, dataset_record, new_zoo, outcome, weights_file

from pipeline.zoo import Zoo
from pipeline.zoo.latency import Latency
from pipeline.zoo.upkeep.merge import merge_zoos
from tans_core.errors import ConfigError, WeightsError

OTHER = dataset_record("f2" * 16, "digits")


def grown(folder: Path, run: str, numbers: range) -> Zoo:
    zoo = new_zoo(folder)
    zoo.commit([outcome(number, run=run) for number in numbers], DATASETS)
    return zoo


def runs(zoo: str | Path) -> dict[str, str]:
    """Who made each row, by key."""
    rows = Zoo.open(zoo).snapshot().rows
    assert len({row.key for row in rows}) == len(rows)
    return {row.key: row.attempt.run for row in rows}


def made_by(run: str, numbers: range) -> dict[str, str]:
    return {outcome(number).job.key: run for number in numbers}


def test_a_zoo_takes_the_rows_of_another_and_keeps_its_own(tmp_path: Path):
    a, b = grown(tmp_path / "a", "a", range(0, 3)), grown(tmp_path / "b", "b", range(2, 5))
    b.record_dataset(OTHER)
    b.write_latencies([Latency("k", "cpu", 1, 1.0, 2.0, 3.0, 11)])
    for came, there in ((2, 1), (0, 3)):  # the second time there is nothing to do
        done = merge_zoos([b.uri], a.uri)
        assert (done.rows, done.rows_there, done.rows_now, done.differing) == (came, there, 5, ())
        assert runs(a.uri) == made_by("b", range(2, 5)) | made_by("a", range(0, 3))
    assert runs(b.uri) == made_by("b", range(2, 5)), "what is read stays as it is"
    merged = Zoo.open(a.uri)
    assert list(merged.datasets()) == [*DATASETS, OTHER.fingerprint]
    assert len(merged.latencies()) == 1
    for row, its in zip(merged.snapshot(responses=True).rows[3:], b.snapshot(responses=True).rows[1:], strict=True):
        assert (row.key, row.weights, row.curve, row.choice) == (its.key, its.weights, its.curve, its.choice)
        assert row.response is not None and its.response is not None and row.response.equal(its.response)
        assert merged.load_weights(row)["w"].equal(b.load_weights(its)["w"])


def test_two_become_a_third_that_grows_on(tmp_path: Path):
    zoos = [grown(tmp_path / name, name, numbers) for name, numbers in (("a", range(0, 2)), ("b", range(1, 4)))]
    done = merge_zoos([zoo.uri for zoo in zoos], str(tmp_path / "c"))
    assert (done.rows, done.rows_there, done.rows_now) == (4, 1, 4)
    assert runs(tmp_path / "c") == made_by("b", range(2, 4)) | made_by("a", range(0, 2))
    third = Zoo.open(tmp_path / "c")
    assert third.settings == replace(SETTINGS, zoo_id=third.settings.zoo_id) != SETTINGS
    third.commit([outcome(number, run="c") for number in range(5)], DATASETS)
    assert runs(tmp_path / "c")[outcome(4).job.key] == "c"


@pytest.mark.parametrize(
    "change",
    [{"search_space": "ofa-mbv3"}, {"width": 1.2}, {"image_size": 64}, {"supernet": "00" * 16}, {"noise": "00" * 16}],
)
def test_zoos_whose_rows_are_not_comparable_stay_apart(tmp_path: Path, change: dict):
    a = grown(tmp_path / "a", "a", range(0, 2))
    Zoo.create(tmp_path / "b", replace(SETTINGS, **change))
    for zoos, into in ((["b"], "a"), (["a", "b"], "c")):
        with pytest.raises(ConfigError, match=f"another {next(iter(change))} .*keep them apart"):
            merge_zoos([str(tmp_path / zoo) for zoo in zoos], str(tmp_path / into))
    assert runs(a.uri) == made_by("a", range(0, 2)) and not (tmp_path / "c").exists()
    with pytest.raises(ConfigError, match="into itself"):
        merge_zoos([a.uri], a.uri)


def test_the_same_pair_with_another_accuracy_is_told_and_stays(tmp_path: Path):
    a = grown(tmp_path / "a", "a", range(0, 2))
    b = new_zoo(tmp_path / "b")
    other = outcome(1)
    assert other.trained is not None
    b.commit([replace(other, trained=replace(other.trained, val_correct_by_class=(0, 0, 1)))], DATASETS)
    assert merge_zoos([b.uri], a.uri).differing == (other.job.key,)
    assert [row.val_correct for row in Zoo.open(a.uri).snapshot().rows] == [3, 3]


def test_a_merge_that_meets_damaged_weights_names_them_and_is_finished_later(tmp_path: Path):
    a, b = grown(tmp_path / "a", "a", range(0, 1)), grown(tmp_path / "b", "b", range(1, 3))
    file = weights_file(b, 1)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(WeightsError, match=f"row {outcome(2).job.key} of {b.uri}: its weights .* bytes, not"):
        merge_zoos([b.uri], a.uri)
    file.write_bytes(whole)
    assert merge_zoos([b.uri], a.uri).rows_now == 3
