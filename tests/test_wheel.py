"""What `pip install .` gives: the program with its dependencies and its data.

The slow test installs a wheel into a fresh environment, which needs a network or a filled cache of uv.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, because building writes beside the sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "requirements.in", "README.md", "LICENSE", "tans.py"):
        shutil.copy(ROOT / name, source)
    for name in ("tans_core", "pipeline"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-c", f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (made,) = out.glob("*.whl")
    return made


def test_the_wheel_asks_for_what_requirements_in_says(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        asked = HeaderParser().parsestr(archive.read(name).decode()).get_all("Requires-Dist")
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.in").read_text().splitlines())
    wanted = {Requirement(line) for line in lines if line}
    assert asked and {Requirement(each) for each in asked} == wanted and len(wanted) > 15


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {
        path.relative_to(ROOT).as_posix()
        for package in ("tans_core", "pipeline")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == files | {"tans.py"}  # the way in
    assert sum(name.endswith(".parquet") for name in held) >= 14


@pytest.mark.slow
@pytest.mark.timeout(3600)  # gigabytes, where no cache has them
def test_a_wheel_in_a_fresh_environment_is_the_whole_program(wheel: Path, tmp_path: Path):
    fresh, lock = tmp_path / "fresh", ROOT / "requirements.lock"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, fresh], check=True)
    install = [UV, "pip", "install", "--quiet", "--python", fresh / "bin" / "python", "--constraint", lock, wheel]
    subprocess.run(install, check=True, cwd=tmp_path)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def tans(*arguments: str) -> str:
        done = subprocess.run(
            [fresh / "bin" / "tans", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "usage: tans" in tans("--help") and tans("--version").startswith("tans ")
    assert "#" in tans("completion", "bash")
    assert "mnist-digits" in tans("datasets", "starter:all")
    datasets = ["starter:emoji-food", "starter:lfw-faces", "starter:mnist-digits"]
    tans("build-zoo", "--zoo", "zoo", "--datasets", *datasets, "--pairs", "4", "--preset", "smoke", "--workers", "0")
    tans("meta-train", "--zoo", "zoo", "--out", "space")
    search = ("search", "starter:optical-digits", "--zoo", "zoo", "--space", "space", "--json", "-")
    key = json.loads(tans(*search))["entries"][0]["key"]
    tans("fine-tune", "starter:optical-digits", "--zoo", "zoo", "--row", key, "--out", "network", "--epochs", "1")
    shutil.copy(ROOT / "docs" / "demo.png", tmp_path / "picture.png")
    assert "picture.png" in tans("predict", "network", "picture.png")
