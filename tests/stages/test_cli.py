"""The command itself: help at once, results alone on standard output, one stage a file."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
from pipeline.cli import EXIT_HELP, run
from tests.trees import plant, several

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "datasets",
    "build-zoo",
    "meta-train",
    "sweep",
    "search",
    "fine-tune",
    "predict",
    "zoo show",
    "zoo verify",
    "zoo compact",
    "zoo gc",
    "zoo drop",
    "zoo merge",
    "submit",
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
    "name", ["datasets", "build_zoo", "meta_train", "sweep", "search", "fine_tune", "show_zoo", "verify_zoo"]
)
def test_each_command_is_a_plain_function_of_the_public_door(name):
    stage = getattr(pipeline, name)
    assert (stage.__name__, stage.__module__.partition(".")[0]) == (name, "pipeline") and stage.__doc__


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
    assert run([*build, "--json", str(tmp_path / "gone" / "summary.json")]) == 2
    assert "cannot be written (No such file or directory): name another file" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_e22_a_reader_that_has_seen_enough_is_no_error():
    command = f"'{sys.executable}' -m pipeline.cli datasets starter:lfw-faces | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("chance") and "Traceback" not in done.stderr


def test_b18_names_are_escaped_and_cut_for_people_and_exact_in_json(tmp_path, capfd):
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


SHADOWS = {
    "pipeline.py": ("raise RuntimeError('mine')", "tans", "pipeline.py in FOLDER shadows ours"),
    "tans_core/__init__.py": ("", "tans", "tans_core/ in FOLDER shadows ours"),
    "tans_core.py": (
        "raise RuntimeError('mine')",
        "pipeline.cli",
        "tans_core.py in FOLDER shadows the tans_core that tans needs (RuntimeError: mine): rename it",
    ),
    "torch.py": ("raise RuntimeError('mine')", "pipeline.cli", "torch.py in FOLDER shadows the torch"),
    "pyarrow/__init__.py": ("", "tans", "pyarrow/__init__.py in FOLDER shadows the pyarrow"),
    "uuid.py": ("1 / 0", "tans", "uuid.py in FOLDER shadows the uuid that tans needs (ZeroDivisionError: division"),
}


@pytest.mark.parametrize("file", SHADOWS)
def test_a_file_of_the_users_that_shadows_a_module_is_named_in_one_line(tmp_path, file):
    text, module, message = SHADOWS[file]
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    lines = f"import {module} as door\nimport sys\nsys.argv[1:] = ['zoo', 'show', '--zoo', 'none']\ndoor.main()"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", lines], capture_output=True, text=True, cwd=ROOT.parent, env=environment
    )
    assert done.returncode == 1 and done.stdout == ""
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"tans: {message.replace('FOLDER', str(tmp_path))}")


def test_another_error_is_no_shadows(tmp_path):
    (tmp_path / "mine.py").write_text("import torch\ntorch.nothing")
    lines = (
        "from pipeline.running.shadows import shadow_behind\n"
        "try:\n    import mine\nexcept AttributeError as error:\n    print(shadow_behind(error))\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, env=environment)
    assert done.stdout == "None\n", done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_e9_results_that_find_no_room_are_a_sentence():
    lines = "import pipeline.cli as cli\ncli.main(['datasets', 'starter:lfw-faces'])"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", lines], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "tans: no room (No space left on device): make room" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_before_the_first_line_of_the_work_has_its_status():
    lines = (
        "import os, signal\nimport pipeline.cli as cli\n"
        "cli._parser = lambda: os.kill(os.getpid(), signal.SIGINT)\ncli.main([])\n"
    )
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")
