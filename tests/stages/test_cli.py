"""The command itself: help at once, results alone on standard output, one stage a file."""

import importlib
import json
import os
import subprocess
import sys

import pytest

from tests.trees import plant, several

COMMANDS = ["datasets", "build-zoo", "meta-train", "search", "fine-tune", "zoo show", "zoo verify"]
HEAVY = {"torch", "ray", "mlflow", "botorch", "numpy", "pandas", "pyarrow", "deltalake", "PIL"}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_explains_itself_without_a_heavy_import(command):
    lines = (
        "import sys\nfrom pipeline.cli import run\n"
        f"assert run({[*command.split(), '--help']!r}) == 0\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.strip() == "[]", done.stderr
    assert "exit status" in done.stdout and "usage: tans" in done.stdout


@pytest.mark.parametrize(
    "name", ["datasets", "build_zoo", "meta_train", "search", "fine_tune", "show_zoo", "verify_zoo"]
)
def test_each_command_is_a_plain_function_of_its_own_file(name):
    stage = getattr(importlib.import_module(f"pipeline.{name}"), name)
    assert stage.__module__ == f"pipeline.{name}" and stage.__doc__


def test_what_libraries_print_does_not_reach_the_results(capfd):
    """Descriptor 1 is standard error while a command works, for children too."""
    from pipeline.output import results

    with results("-") as output:
        os.write(1, b"a library's greeting\n")
        subprocess.run([sys.executable, "-c", "print('a child')"], check=True)
        output.result({"value": float("nan"), "umlaut": "ü"}, "the table")
    captured = capfd.readouterr()
    assert captured.out == '{\n "value": null,\n "umlaut": "ü"\n}\n'
    assert "a library's greeting" in captured.err and "a child" in captured.err


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"'{sys.executable}' -m pipeline.cli datasets starter:lfw-faces | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("chance") and "Traceback" not in done.stderr


def test_b18_names_are_escaped_and_cut_for_people_and_exact_in_json(tmp_path, capfd):
    from pipeline.cli import run

    emoji, hostile = "🐈" * 30 + "x" * 40 + "🐕" * 20, "a b%'\n\x1b[31m\u202e"
    root = plant(tmp_path / ("long" * 60), {f"{emoji}/": several("c", 5), f"{hostile}/": several("d", 5)})
    assert run(["datasets", f"folder:{root}"]) == 0
    table = capfd.readouterr().out
    assert "\x1b" not in table and "a b%'\\n\\x1b[31m\\u202e" in table
    assert f"class {'🐈' * 30}…{'x' * 10}{'🐕' * 20}: " in table
    assert "longlo…nglong" in table and max(map(len, table.splitlines())) < 400
    assert run(["datasets", f"folder:{root}", "--json", "-"]) == 0
    (said,) = json.loads(capfd.readouterr().out)
    assert set(said["class_names"]) == {emoji, hostile} and said["name"] == "long" * 60
