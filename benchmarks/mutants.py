"""Do the tests notice? Mistakes of a table are planted in a copy of the repository; the tests they name must fail.

The table stands in `benchmarks/mutations/ROOM.toml`, one `[[mutation]]` a mistake: `name` says what is wrong then,
`file`, `old` and `new` how it comes about (`old` stands in the file exactly once), `tests` which tests must notice.
Noticed is a mistake when one of them fails by what it finds: not by a test that cannot be collected, by a fixture, by
a program that is none any more, or by a time limit. The tests must pass in a copy that has no mistake.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from benchmarks.machine import write
from pipeline.running.progress import say

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "benchmarks" / "mutations"
LIMIT_S = 900.0
OURS = ("benchmarks", "pipeline", "tans_core", "tests")
SOME_FAILED = 1  # pytest's exit status; others mean that nothing was tested
NO_NOTICE = re.compile(r" - (NameError|UnboundLocalError|ImportError|ModuleNotFoundError|SyntaxError|Failed: Timeout)")

# Importing these takes longer than most tests: one process does it, and each run is a fork of that one.
_WARM = multiprocessing.get_context("forkserver")
_WARM.set_forkserver_preload(
    ["torch", "torchvision", "ofa.imagenet_classification.networks", "botorch", "pygmo", "pandas", "pyarrow.parquet"]
    + ["deltalake", "PIL.Image", "hypothesis", "matplotlib.pyplot", "pytest"]
)


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One mistake, and who must notice it."""

    room: str
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]  # as pytest names them

    def planted(self, text: str) -> str:
        """The file's text with the mistake in it.

        Raises:
            ValueError: the place is not there any more, or there are several.
        """
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: in {self.file} stands {text.count(self.old)} times: {self.old!r}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one mistake."""

    room: str
    name: str
    noticed: bool
    seen: str  # the tests that failed, or what came instead
    seconds: float


def mutations() -> list[Mutation]:
    """The whole table, room by room."""
    return [
        Mutation(room=path.stem, **{**entry, "tests": tuple(entry["tests"])})
        for path in sorted(TABLE.glob("*.toml"))
        for entry in tomllib.loads(path.read_text())["mutation"]
    ]


def plant(mutation: Mutation, files: Sequence[str], folder: Path) -> Verdict:
    """Copy the repository's files, plant the mistake, run its tests."""
    copy(files, folder)
    target = folder / mutation.file
    target.write_text(mutation.planted(target.read_text()))
    began = time.monotonic()
    status, output = _pytest(mutation.tests, folder)
    noticed, seen = judge(status, output)
    return Verdict(
        room=mutation.room,
        name=mutation.name,
        noticed=noticed,
        seen=seen,
        seconds=round(time.monotonic() - began, 1),
    )


def judge(status: int, output: str) -> tuple[bool, str]:
    """Whether a test failed by what it found, and what was seen, from pytest's exit status and summary."""
    failed = [line.removeprefix("FAILED ") for line in output.splitlines() if line.startswith("FAILED ")]
    found = [line for line in failed if not NO_NOTICE.search(line)]
    seen = "; ".join(found or failed) or f"pytest ended with {status}: {output.strip().splitlines()[-1:]}"
    return status == SOME_FAILED and bool(found), seen


def copy(files: Sequence[str], folder: Path) -> None:
    """The repository's files in another folder."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)


def _pytest(tests: Sequence[str], folder: Path) -> tuple[int, str]:
    """Exit status and output of pytest on the copy, in a process that has the large libraries already."""
    told = folder.with_suffix(f".{threading.get_ident()}.txt")
    process = _WARM.Process(target=_in_copy, args=(list(tests), folder, told))
    process.start()
    process.join(LIMIT_S)
    if process.exitcode is None:
        process.kill()
        process.join()
        return -1, f"not over after {LIMIT_S:.0f} s"
    return process.exitcode, told.read_text(errors="replace")


def _in_copy(tests: list[str], folder: Path, told: Path) -> None:
    """Run pytest as if this process had begun in the copy; processes that it starts see the copy too."""
    with told.open("w") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.chdir(folder)
    os.environ |= {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "400",  # the summary names the error behind the test, where there is room
    }
    sys.dont_write_bytecode = True
    sys.path[:] = [str(folder), *(place for place in sys.path if Path(place or ".").resolve() != ROOT)]
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]  # came with this file, from beside it
    status = pytest.main(["-p", "no:cacheprovider", "-m", "", "--tb=no", "-rf", *tests])
    sys.stdout.flush()
    os._exit(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/mutants.json"))
    parser.add_argument("--room", action="append", help="only this part of the table, as `search`")
    parser.add_argument("--name", help="only mistakes whose name holds this")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    table = [
        each
        for each in mutations()
        if (not given.room or each.room in given.room) and (not given.name or given.name in each.name)
    ]
    if not table:
        parser.error("no mistake of the table is meant")
    for each in table:
        each.planted((ROOT / each.file).read_text())  # before the first minutes are gone
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported
    with tempfile.TemporaryDirectory(prefix="mutants-") as place, ThreadPoolExecutor(given.workers) as pool:
        _refuse_unsound(table, files, Path(place) / "sound", pool)

        def judged(numbered: tuple[int, Mutation]) -> Verdict:
            folder = Path(place) / str(numbered[0])
            verdict = plant(numbered[1], files, folder)
            shutil.rmtree(folder)
            say(f"{'noticed' if verdict.noticed else 'SURVIVED':9}{verdict.seconds:6.1f} s  {verdict.name}")
            return verdict

        verdicts = list(pool.map(judged, enumerate(table)))
    write(
        given.out,
        {
            "planted": len(verdicts),
            "noticed": sum(each.noticed for each in verdicts),
            "mutants": [asdict(each) for each in verdicts],
        },
    )
    sys.exit(0 if all(each.noticed for each in verdicts) else 1)


def _refuse_unsound(table: Sequence[Mutation], files: Sequence[str], folder: Path, pool: ThreadPoolExecutor) -> None:
    """The tests must pass in a copy without a mistake; file by file, so that no worker waits for all of them."""
    copy(files, folder)
    by_file: dict[str, set[str]] = {}
    for test in {test for each in table for test in each.tests}:
        by_file.setdefault(test.partition("::")[0], set()).add(test)
    runs = pool.map(lambda tests: _pytest(sorted(tests), folder), by_file.values())
    unsound = [output for status, output in runs if status != 0]
    if unsound:
        raise SystemExit("\n".join(["the tests fail without any mistake planted:", *unsound]))


if __name__ == "__main__":
    main()
