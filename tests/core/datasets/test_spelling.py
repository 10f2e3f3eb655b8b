"""Which spellings of a class's name are one, and which are said."""

import pytest

from tans_core.datasets.opening import open_dataset
from tans_core.datasets.spelling import alike, difference, name_key
from tests.trees import plant, several, write_parquet

A, B, C = several("a", 6), several("b", 7), several("c", 5)


@pytest.mark.parametrize("other", ["elf  king", "elf king ", " Elf\u00a0King"])
def test_case_and_blanks_do_not_make_another_name(other):
    assert name_key(other) == name_key("elf king")


@pytest.mark.parametrize("other", ["elf_king", "elf-king", "elfking"])
def test_a_dash_an_underline_or_no_blank_makes_another_name(other):
    assert name_key(other) != name_key("elf king")


def test_what_spellings_differ_in():
    assert difference(["a", "A"]) == "case"
    assert difference(["a b", "a  b"]) == "blanks"
    assert difference(["a b", "A  b"]) == difference(["a", "A", "a "]) == "case and blanks"


def test_names_that_look_alike_are_found_and_numbers_are_told_apart():
    looking = ["tom-cat", "Tom cat", "tomcat", "tom_cat ", "fox_1", "fox1", "1-12", "11-2", "112", "-5", "5", "1--2"]
    assert alike(looking) == [["Tom cat", "tom-cat", "tom_cat ", "tomcat"], ["fox1", "fox_1"]]


@pytest.mark.parametrize("names", [("Orc", "orc"), ("orc", "orc "), ("wood elf", "wood-elf"), ("wood_elf", "woodelf")])
def test_classes_of_a_table_that_look_alike_are_two_and_said_with_the_way_out(names, tmp_path):
    one, other = names
    rows = [(name, each) for name, pictures in ((one, A), (other, B), ("human", C)) for each in pictures]
    spec = f"parquet:{write_parquet(tmp_path / 'p.parquet', rows)}"
    dataset = open_dataset(spec, 8)
    assert set(dataset.class_names) == {one, other, "human"}
    (said,) = [note for note in dataset.report.notes if "differ in case, blanks, _ or - alone" in note]
    assert repr(one) in said and repr(other) in said and f"?without={sorted(names)[1]}" in said
    assert set(open_dataset(f"{spec}?without={other}", 8).class_names) == {one, "human"}


def test_a_dataset_with_and_without_odd_blanks_in_its_splits_has_one_fingerprint(tmp_path):
    trees = [
        {"train/wood elf/": A, "val/wood elf/": C, "train/orc/": B, "test/wood elf/": ["x"], "test/orc/": ["y"]},
        {"train/wood  elf/": A, "val/wood elf /": C, "train/orc/": B, "test/Wood elf/": ["x"], "test/orc /": ["y"]},
    ]
    clean, odd = (open_dataset(f"folder:{plant(tmp_path / str(n), tree)}", 8) for n, tree in enumerate(trees))
    assert odd.fingerprint == clean.fingerprint
    assert len([note for note in odd.report.notes if "one class" in note]) == 2
