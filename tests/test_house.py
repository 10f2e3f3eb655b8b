"""The rules of the house: which way imports point, where heavy libraries live, what no file may hold."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("tans_core", "pipeline")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Library -> its one home: a folder or a file. None: not in the packages at all, tests and notebooks only.
HOMES = {
    "ofa": "tans_core/search_space/",
    "botorch": "tans_core/acquisition/",
    "gpytorch": "tans_core/acquisition/",
    "linear_operator": "tans_core/acquisition/",
    "pygmo": "tans_core/acquisition/",
    "kagglehub": "tans_core/datasets/kaggle.py",
    "kagglesdk": "tans_core/datasets/kaggle.py",
    "ray": "pipeline/on_ray/",
    "deltalake": "pipeline/zoo/",
    "mlflow": "pipeline/tracking.py",
    "duckdb": None,
    "polars": None,
    "timm": None,
}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, at the top, in a function, or by `import_module`."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; name the module in full"
            yield node.lineno, node.module or ""
        elif isinstance(node, ast.Call) and re.search(r"(^|[.])(import_module|__import__)$", ast.unparse(node.func)):
            yield node.lineno, ast.unparse(node.args[0]).strip("'")


def house_imports() -> Iterator[tuple[str, int, str]]:
    """File (relative to the repository), line and top-level package of every import in the packages."""
    for path in MODULES:
        for line, name in imports(path):
            yield path.relative_to(ROOT).as_posix(), line, name.partition(".")[0]


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def holding(pattern: str, files: list[Path]) -> list[str]:
    """`file:line: what was found` for every match; binary files are searched too."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {found.group()}"
        for path in files
        for number, line in enumerate(path.read_bytes().decode("latin-1").split("\n"), start=1)
        if (found := re.search(pattern, line))
    ]


def test_imports_point_one_way():
    allowed = {"tans_core": {"tans_core"}, "pipeline": {"tans_core", "pipeline"}}
    ours = {"tans_core", "pipeline", "benchmarks", "tests"}
    wrong = [
        f"{file}:{line} imports {name}"
        for file, line, name in house_imports()
        if name in ours and name not in allowed[file.partition("/")[0]]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", HOMES)
def test_a_heavy_library_has_one_home(library: str):
    home = HOMES[library]
    strays = [
        f"{file}:{line} imports {library}, whose home is {home}"
        for file, line, name in house_imports()
        if name == library and not (home and file.startswith(home))
    ]
    assert not strays, "\n".join(strays)


def test_no_module_is_longer_than_400_lines():
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in MODULES}
    assert not {file: length for file, length in lengths.items() if length > 400}


def test_every_module_has_a_name_that_says_something():
    assert not [path for path in MODULES if path.stem in ("utils", "util", "helpers", "common", "misc")]


def test_no_star_imports():
    stars = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    ]
    assert not stars


def test_no_file_names_a_place_of_one_machine():
    # Written so that this file does not hold what it looks for.
    found = holding(r"(?<![\w.>}])/(?:work|root|home|Users)/\w|[.]library\b", tracked_files())
    assert not found, "\n".join(found)


def test_no_file_names_the_host_of_a_package_index():
    found = holding(r"(?:pypi|pythonhosted|npmjs|debian|anaconda)[.](?:org|com)", tracked_files())
    assert not found, "\n".join(found)


def test_the_tests_need_nothing_but_the_repository():
    beyond = r"[.][.]/shared"
    found = holding(beyond, [path for path in tracked_files() if "tests" in path.relative_to(ROOT).parts])
    assert not found, "\n".join(found)
