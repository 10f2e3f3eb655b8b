"""The table of planted mistakes stays true while the code moves on; nothing but a finding notices one."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.mutants import ROOT, Mutation, judge, mutations

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


@pytest.mark.parametrize("mutation", TABLE, ids=lambda each: each.name)
def test_with_a_mistake_in_it_a_file_still_knows_every_name(mutation: Mutation):
    """Else the tests would fail by a program that is none, which notices nothing."""
    lint = [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--select", "F821,F823", "-"]
    planted = mutation.planted((ROOT / mutation.file).read_text())
    told = subprocess.run(lint, input=planted, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout


def test_every_mistake_has_a_name_of_its_own():
    names = [each.name for each in TABLE]
    assert len(set(names)) == len(names)


TESTED = "F\n=== short test summary info ===\n"


def test_a_test_that_fails_by_what_it_finds_notices():
    output = TESTED + "FAILED tests/test_a.py::test_b[zoo show] - assert 1 == 2\n1 failed in 1.00s\n"
    assert judge(1, output) == (True, "tests/test_a.py::test_b[zoo show] - assert 1 == 2")


@pytest.mark.parametrize(
    ("status", "output"),
    [
        (0, ".\n1 passed in 1.00s\n"),
        (0, "s\n1 skipped in 1.00s\n"),
        (1, "E\n1 error in 1.00s\n"),  # a fixture's
        (1, TESTED + "FAILED tests/test_a.py::test_b - NameError: name 'x' is not defined\n"),
        (1, TESTED + "FAILED tests/test_a.py::test_b - ModuleNotFoundError: No module named 'x'\n"),
        (1, TESTED + "FAILED tests/test_a.py::test_b - Failed: Timeout (>600.0s) from pytest-timeout.\n"),
        (2, "ERROR tests/test_a.py\n1 error in 1.00s\n"),  # it cannot be collected
        (4, "ERROR: not found: tests/test_a.py::test_c\n"),
        (5, "no tests ran in 0.01s\n"),
        (-9, ""),
        (-1, "not over after 900 s"),
    ],
)
def test_whatever_else_ends_a_run_notices_nothing(status: int, output: str):
    assert not judge(status, output)[0]
