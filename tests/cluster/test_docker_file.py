"""The Dockerfile, without a Docker: it copies what is there, is not kept out, and is what a wheel is made of."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "cluster" / "Dockerfile"
INSTRUCTIONS = {"FROM", "ARG", "RUN", "WORKDIR", "COPY", "USER", "ENV", "CMD"}


def instructions(text: str) -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in joined.splitlines() if line.strip()]


def copied(text: str) -> list[str]:
    return [source for name, rest in instructions(text) if name == "COPY" for source in rest.split()[:-1]]


def let_in() -> set[str]:
    lines = FILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    return {line.removeprefix("!") for line in lines if line.startswith("!")}


def faults(text: str) -> list[str]:
    found = [f"unknown instruction {name}" for name, _ in instructions(text) if name not in INSTRUCTIONS]
    found += [f"{source} is not there" for source in copied(text) if not (ROOT / source).exists()]
    found += [f"{source} is kept out" for source in copied(text) if source not in let_in()]
    names = [name for name, _ in instructions(text)]
    if names[0] != "FROM" or names[-1] != "CMD" or names.index("USER") < names.index("RUN"):
        found.append("not in order")
    return found


def test_it_copies_what_is_there_and_let_in():
    assert not faults(FILE.read_text())
    assert set(copied(FILE.read_text())) == let_in()


@pytest.mark.parametrize(
    ("was", "becomes"), [("COPY tans_core ", "COPY tans_cores "), ("RUN useradd", "RUM useradd"), ("USER tans\n", "")]
)
def test_a_mistake_in_it_is_caught(was: str, becomes: str):
    text = FILE.read_text()
    assert was in text
    with pytest.raises((AssertionError, ValueError)):
        assert not faults(text.replace(was, becomes))


def test_the_image_has_this_python_and_all_that_the_package_is_built_from():
    text = FILE.read_text()
    assert f"FROM python:{sys.version_info[0]}.{sys.version_info[1]}-" in text
    assert {"pyproject.toml", "requirements.in", "README.md", "LICENSE", "tans.py", "tans_core", "pipeline"} <= set(
        copied(text)
    )
    assert re.search(r"^ARG DEVICE=cuda$", text, re.MULTILINE) and 'install.sh "$DEVICE"' in text
