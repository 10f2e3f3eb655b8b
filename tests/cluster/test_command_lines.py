"""Every `tans` command line in cluster/ is one that the program's own parsers take today."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import _parser

FOLDER = Path(__file__).parents[2] / "cluster"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".json")
_COMMAND = re.compile(r"(?<![\w./~=:-])(?:[^\s\"']*/bin/)?tans\s+(?=[a-z])(.*)")


def shell_texts(path: Path) -> Iterator[str]:
    """What a shell reads of a file: a page's blocks, a YAML's values, a script without its comments."""
    text = path.read_text()
    if path.suffix == ".md":
        yield from re.findall(r"^```(?:bash|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    elif path.suffix in (".yaml", ".yml"):
        for document in yaml.safe_load_all(text):
            yield from _strings(document)
    else:
        yield re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


def command_lines(text: str) -> Iterator[list[str]]:
    """The words behind each `tans`, up to the end of the shell's command; a shell's variable is a 1."""
    for line in text.replace("\\\n", " ").splitlines():
        if found := _COMMAND.search(line):
            around = [quote for quote in "'\"" if line[: found.start()].count(quote) % 2]  # as in ssh HEAD '...'
            rest = found[1].split(around[0])[0] if around else found[1]
            lexer = shlex.shlex(re.sub(r"\$\{[^}]*\}", "$_", rest), posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            lexer.commenters = "#"
            words: list[str] = []
            for word in lexer:
                if set(word) <= set("();<>|&"):
                    break
                words.append("1" if word.startswith("$") else word)
            yield words


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """What the parsers have against it."""
    try:
        _parser().parse_args(words)
        if words[0] == "submit":
            _parser().parse_args(words[words.index("--") + 1 :])
    except SystemExit as leave:
        return capsys.readouterr().err if leave.code else None
    return None


def _all() -> list[tuple[str, list[str]]]:
    return [
        (path.relative_to(FOLDER).as_posix(), words)
        for path in FILES
        for text in shell_texts(path)
        for words in command_lines(text)
    ]


def test_they_are_found():
    files = {file for file, _ in _all()}
    assert {"README.md", "slurm/build.sbatch"} | {f"kubernetes/{job}.yaml" for job in ("build", "meta-train")} <= files


@pytest.mark.parametrize(("file", "words"), _all(), ids=lambda each: each if isinstance(each, str) else each[0])
def test_the_parsers_take_it(file: str, words: list[str], capsys):
    assert refusal(words, capsys) is None, f"{file}: tans {shlex.join(words)}"


def test_a_flag_that_is_gone_a_command_that_never_was_and_a_word_for_a_number_are_caught(capsys):
    lines = """
        srun ray symmetric-run -- tans build-zoo --zoo "$zoo" --datasets starter:all --pairs 8 --gpus-each 1 &
        .venv/bin/tans build --zoo zoo
        cd here && tans build-zoo --zoo ${zoo} --datasets a b \\
            --pairs many; echo done
    """
    found = list(command_lines(lines))
    assert [words[0] for words in found] == ["build-zoo", "build", "build-zoo"]
    assert found[0][1:3] == ["--zoo", "1"] and found[2][-1] == "many"
    said = [refusal(words, capsys) for words in found]
    assert (
        "--gpus-each" in (said[0] or "")
        and "invalid choice: 'build'" in (said[1] or "")
        and "'many'" in (said[2] or "")
    )
