"""The command itself: help at once, results alone on standard output, one stage a file."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import EXIT_HELP, run
from tests.trees import plant, several

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "datasets",
    "build-zoo",
    "meta-train",
    "search",
    "fine-tune",
    "predict",
    "zoo show",
    "zoo verify",
    "completion",
]
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
    ("command", "said"), [("search", "SPEC ("), ("fine-tune", "SPEC ("), ("datasets", "SPEC, one or more (")]
)
def test_help_of_a_command_says_how_many_specs_it_takes(command, said, capfd):
    assert run([command, "--help"]) == 0
    text = capfd.readouterr().out
    assert f"\n{said}quote what a shell would read)" in text
    assert ("starter:all" in text) == ("more" in said)


@pytest.mark.parametrize(
    "name", ["datasets", "build_zoo", "meta_train", "search", "fine_tune", "show_zoo", "verify_zoo"]
)
def test_each_command_is_a_plain_function_of_its_own_file(name):
    stage = getattr(importlib.import_module(f"pipeline.{name}"), name)
    assert stage.__module__ == f"pipeline.{name}" and stage.__doc__


def test_e20_e21_what_libraries_print_does_not_reach_the_results(capfd):
    """Descriptor 1 is standard error while a command works, for children too."""
    from pipeline.running.output import results

    with results("-") as output:
        os.write(1, b"a library's greeting\n")
        subprocess.run([sys.executable, "-c", "print('a child')"], check=True)
        output.result({"value": float("nan"), "umlaut": "ü"}, "the table")
    captured = capfd.readouterr()
    assert captured.out == '{\n "value": null,\n "umlaut": "ü"\n}\n'
    assert "a library's greeting" in captured.err and "a child" in captured.err


def test_e22_without_a_terminal_progress_is_plain_and_rare(capsys):
    from pipeline.running.progress import Progress

    progress = Progress()
    for step in range(50):
        progress.show(f"step {step}")
    progress.show("the end", last=True)
    assert capsys.readouterr().err == "step 0\nthe end\n"


def test_e23_a_mistake_of_ours_ends_with_1_and_its_traceback():
    lines = "import pipeline.cli as cli\ncli._parser = lambda: 1 / 0\ncli.main([])\n"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr and done.stdout == ""


def test_e23_the_readmes_table_has_the_exit_codes_of_the_help():
    table = re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert [code for code, _ in table] == ["0", "1", "2", "130", "143"]
    assert [code for code, _ in table] == re.findall(r"\d+", EXIT_HELP)


def test_e21_a_json_file_that_cannot_be_written_is_refused_before_any_work(tmp_path, capfd):
    build = ["build-zoo", "--zoo", str(tmp_path / "zoo"), "--datasets", "starter:lfw-faces", "--pairs", "1"]
    assert run([*build, "--json", str(tmp_path / "gone" / "summary.json")]) == 1
    assert "cannot be written (No such file or directory): name another file" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_e22_a_reader_that_has_seen_enough_is_no_error():
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
