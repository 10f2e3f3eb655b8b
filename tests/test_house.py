"""The rules of the house: which way imports point, where heavy libraries live, what no file may hold."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline

ROOT = Path(__file__).parents[1]
PACKAGES = ("tans_core", "pipeline")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Library -> its one home: a folder or a file (`ofa` is also in the file that leaves with a network).
# None: not in the packages at all, tests and notebooks only.
HOMES = {
    "ofa": ("tans_core/search_space/", "tans_core/exported.py"),
    "botorch": "tans_core/acquisition/",
    "gpytorch": "tans_core/acquisition/",
    "linear_operator": "tans_core/acquisition/",
    "pygmo": "tans_core/acquisition/",
    "kagglehub": "tans_core/datasets/sources/kaggle.py",
    "kagglesdk": "tans_core/datasets/sources/kaggle.py",
    "ray": "pipeline/on_ray/",
    "deltalake": "pipeline/zoo/",
    "mlflow": "pipeline/tracking/",
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


# Data walks downwards: a floor imports what stands below it, or beside it in its own room.
FLOORS = (
    ("cli", "demo"),
    ("commands",),
    ("growing", "space", "network"),
    ("tracking",),
    ("zoo",),
    ("on_ray", "reading"),
    ("pools", "config"),
    ("running",),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def test_imports_between_the_rooms_of_the_pipeline_never_climb():
    climbing = []
    for path in MODULES:
        file = path.relative_to(ROOT).as_posix()
        here = file.removeprefix("pipeline/").partition("/")[0].removesuffix(".py")
        if not file.startswith("pipeline/") or here == "__init__":
            continue
        for line, name in imports(path):
            parts = name.split(".")
            if parts[0] != "pipeline" or parts[1:2] == [here]:
                continue
            if len(parts) == 1 or FLOOR_OF[parts[1]] <= FLOOR_OF[here]:
                climbing.append(f"{file}:{line} imports {name}")
    assert not climbing, "\n".join(climbing)


def test_a_folder_holds_at_most_a_dozen_rooms():
    folders = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    assert not {str(folder.relative_to(ROOT)): count for folder, count in folders.items() if count > 12}


def test_readme_and_notebooks_come_in_by_the_public_door():
    pages = [ROOT / "README.md", *(ROOT / "notebooks").glob("*.ipynb")]
    assert not [found for found in holding(r"from pipeline[.]\w+|import pipeline[.]", pages) if found]
    lines = [line for page in pages for line in re.findall(r"from pipeline import ([\w, ]+)", page.read_text())]
    names = {name.strip() for line in lines for name in line.split(",")}
    assert names and names <= set(pipeline.__all__)
    assert all(callable(getattr(pipeline, name)) for name in pipeline.__all__)


def test_the_public_door_imports_nothing_heavy():
    light = "import sys, pipeline; assert not {'torch', 'ray', 'mlflow', 'deltalake', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", light], cwd=ROOT, check=True)


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


def test_files_of_tests_have_names_of_their_own():
    """Pytest imports them by their bare names: of two it can collect one."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert not [name for name, count in names.items() if count > 1]


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
