"""`tans completion` and `--version`: bash itself completes commands, flags, choices and files by the script."""

import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from pipeline.cli import run

ROOT = Path(__file__).parents[2]
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


def script_for(shell: str, capfd) -> str:
    assert run(["completion", shell]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    return said.out


@needs_bash
def test_bash_completes_commands_flags_choices_and_files(tmp_path, capfd):
    (tmp_path / "my zoo é").mkdir()
    (tmp_path / "my picture.png").touch()
    (tmp_path / "tans").write_text(script_for("bash", capfd))

    def completed(line: str) -> set[str]:
        """What bash offers for the last word of a line."""
        words = line.split(" ")
        lines = (
            "source ./tans",
            f"COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1}",
            "$(complete -p tans | sed 's/.* -F \\([^ ]*\\) tans$/\\1/')",  # the function that bash would call
            "printf '%s\\n' \"${COMPREPLY[@]}\"",
        )
        done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return set(done.stdout.splitlines())

    assert completed("tans pred") == {"predict"}
    assert completed("tans ") >= {"datasets", "build-zoo", "meta-train", "search", "fine-tune", "predict", "zoo"}
    assert completed("tans zoo ") >= {"show", "verify"}
    assert "--max-params" in completed("tans search --max")
    assert completed("tans build-zoo --search-space ofa") == {"ofa-lite", "ofa-mbv3"}
    assert completed("tans zoo show --zoo my") == {"my zoo é"}
    assert completed("tans predict network my") == {"my zoo é", "my picture.png"}


@needs_bash
def test_the_script_for_bash_is_sound(tmp_path, capfd):
    (tmp_path / "tans").write_text(script_for("bash", capfd))
    subprocess.run(["bash", "-n", str(tmp_path / "tans")], check=True)


def test_the_script_for_zsh_names_every_command(tmp_path, capfd):
    script = script_for("zsh", capfd)
    assert script.startswith("#compdef tans")
    for command in ("datasets", "build-zoo", "meta-train", "search", "fine-tune", "predict", "show", "verify"):
        assert f"\n    {command}:'" in script
    if shutil.which("zsh"):
        (tmp_path / "_tans").write_text(script)
        subprocess.run(["zsh", "-n", str(tmp_path / "_tans")], check=True)


def test_the_version_is_the_projects(capfd):
    assert run(["--version"]) == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert capfd.readouterr().out == f"tans {project['version']}\n"
