"""The table of planted mistakes stays true while the code moves on."""

from pathlib import Path

import pytest

from benchmarks.mutants import ROOT, Mutation, mutations

TABLE = mutations()


@pytest.mark.parametrize("mutation", TABLE, ids=lambda each: each.name)
def test_a_mistake_can_be_planted_and_its_tests_are_there(mutation: Mutation):
    text = (ROOT / mutation.file).read_text()
    assert mutation.planted(text) != text
    assert mutation.file.endswith(".py") and compile(mutation.planted(text), mutation.file, "exec")
    assert mutation.tests
    for test in mutation.tests:
        file, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in Path(ROOT / file).read_text() if name else (ROOT / file).is_file()


def test_every_mistake_has_a_name_of_its_own():
    names = [each.name for each in TABLE]
    assert len(set(names)) == len(names)
