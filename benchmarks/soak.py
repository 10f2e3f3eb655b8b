"""Days in an hour: many small pairs under Ray, killed, terminated and interrupted, and looked at from outside.

Started again, it goes on: the zoo knows its rows, `soak.jsonl` the samples and the ends there were. Growth compares the
last tenth of the rows with the second: by then everything is imported, and nothing should become slower or larger.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import write
from pipeline.zoo import Zoo

SAMPLE_S = 2.0
LEFT_OVER_S = 120.0
ENDS = ((0.45, signal.SIGKILL), (0.50, signal.SIGTERM), (0.55, signal.SIGINT))  # at that share of the rows
STATUS = {"SIGKILL": -9, "SIGTERM": 0, "SIGINT": 130}  # in the order of ENDS
TENTHS = (1, 9)  # compared, counted from 0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Resident memory while the zoo had so many rows."""

    rows: int
    driver_rss: int
    actor_rss: float | None  # mean of the actors; None while there is none


@dataclass(frozen=True, kw_only=True)
class End:
    """How a run ended that was ended."""

    signal: str
    rows: int
    status: int
    took_s: float


class Notes:
    """What was seen so far, on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        noted = [json.loads(line) for line in lines]
        self.samples = [Sample(**each["sample"]) for each in noted if "sample" in each]
        self.ends = [End(**each["end"]) for each in noted if "end" in each]

    def sample(self, sample: Sample) -> None:
        self.samples.append(sample)
        self._note({"sample": asdict(sample)})

    def end(self, end: End) -> None:
        self.ends.append(end)
        self._note({"end": asdict(end)})

    def _note(self, entry: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def grow(zoo: Path, pairs: int, log: Path) -> subprocess.Popen[bytes]:
    """The command, as a user starts it."""
    build = ["build-zoo", "--zoo", str(zoo), "--datasets", "starter:all", "--pairs", str(pairs), "--preset", "smoke"]
    with log.open("ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", *build, "--workers", "2"],
            stdout=errors,
            stderr=errors,
            start_new_session=True,
        )


def row_count(zoo: Path) -> int:
    return Zoo.open(zoo).row_count() if Zoo.exists(zoo) else 0


def watch(process: subprocess.Popen[bytes], zoo: Path, pairs: int, notes: Notes, seen: set[psutil.Process]) -> None:
    """Sample a run to its end, and end it where its turn has come."""
    driver = psutil.Process(process.pid)
    seen.add(driver)
    began_with = row_count(zoo)
    while process.poll() is None:
        rows = row_count(zoo)
        try:
            family = driver.children(recursive=True)
            seen.update(family)
            actors = [rss for each in family if (rss := _actor_rss(each))]
            actor_rss = statistics.mean(actors) if actors else None
            notes.sample(Sample(rows=rows, driver_rss=driver.memory_info().rss, actor_rss=actor_rss))
        except psutil.Error:  # it ended meanwhile
            continue
        done = len(notes.ends)
        if done < len(ENDS) and rows >= max(ENDS[done][0] * pairs, began_with + 1):  # in the middle of its work
            _end(process, ENDS[done][1], rows, notes)
            return
        time.sleep(SAMPLE_S)


def _actor_rss(process: psutil.Process) -> int | None:
    try:
        command = " ".join(process.cmdline())
        return process.memory_info().rss if command.startswith("ray::") and "IDLE" not in command else None
    except psutil.Error:
        return None


def _end(process: subprocess.Popen[bytes], number: signal.Signals, rows: int, notes: Notes) -> None:
    began = time.monotonic()
    process.send_signal(number)
    try:
        status = process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait()
    notes.end(End(signal=number.name, rows=rows, status=status, took_s=time.monotonic() - began))


def left_over(seen: set[psutil.Process], wait_s: float = LEFT_OVER_S) -> int:
    """Processes of ours that are alive after so long."""
    _, alive = psutil.wait_procs(list(seen), timeout=wait_s)
    for each in alive:
        print(f"left over: {each}", file=sys.stderr)
    return len(alive)


def medians(of_rows: Iterable[tuple[int, float]], pairs: int) -> tuple[float, float] | None:
    """Of the second tenth and of the last; None where one of them has no value."""
    tenths: dict[int, list[float]] = {}
    for rows, value in of_rows:
        tenths.setdefault(min(9, 10 * rows // pairs), []).append(value)
    early, late = (tenths.get(tenth) for tenth in TENTHS)
    return (statistics.median(early), statistics.median(late)) if early and late else None


def journalled(zoo: Path, kind: str, value: Callable[[dict[str, Any]], float | None]) -> Iterator[tuple[int, float]]:
    """Values of the journal's events of a kind, each with the rows that were committed by then."""
    rows = 0
    for event in Zoo.open(zoo).journal.events():
        if event.kind == kind and (found := value(event.payload)) is not None:
            yield rows, found
        if event.kind == "commit":
            rows += event.payload["rows"]


def of_samples(samples: Sequence[Sample], value: Callable[[Sample], float | None]) -> Iterator[tuple[int, float]]:
    for sample in samples:
        if (found := value(sample)) is not None:
            yield sample.rows, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--pairs", type=int, default=500)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    zoo, notes, seen = given.out / "soak-zoo", Notes(given.out / "soak.jsonl"), set[psutil.Process]()
    os.environ["PYTHONUNBUFFERED"] = "1"
    began = time.monotonic()
    while row_count(zoo) < given.pairs:
        process = grow(zoo, given.pairs, given.out / "soak.log")
        try:
            watch(process, zoo, given.pairs, notes, seen)
        finally:
            if sys.exc_info()[0] is not None:  # we are ended ourselves: leave nothing that holds the zoo
                process.terminate()
        if process.wait() != 0 and (not notes.ends or process.returncode != notes.ends[-1].status):
            raise SystemExit(f"a run ended with {process.returncode}: see {given.out / 'soak.log'}")
    result = summary(
        given.pairs,
        [row.key for row in Zoo.open(zoo).snapshot().rows],
        notes.ends,
        {
            "commit_ms": journalled(zoo, "commit", lambda event: event["commit_ms"]),
            "decision_ms": journalled(zoo, "decision", lambda event: event["decision_ms"]),
            "driver_rss": of_samples(notes.samples, lambda sample: sample.driver_rss),
            "actor_rss": of_samples(notes.samples, lambda sample: sample.actor_rss),
        },
    )
    result |= {"left_over": left_over(seen), "samples": len(notes.samples), "wall_s": time.monotonic() - began}
    write(given.out / "soak.json", result)


def summary(
    pairs: int, keys: Sequence[str], ends: Sequence[End], compared: Mapping[str, Iterable[tuple[int, float]]]
) -> dict[str, Any]:
    """Whether every pair is there once, runs ended as promised, and what grew.

    Args:
        pairs: asked for.
        keys: of the rows.
        compared: by name, values with the rows that there were; each `NAME_growth` is the last tenth over the second.
    """
    tenths = {name: medians(values, pairs) for name, values in compared.items()}
    return {
        "pairs": pairs,
        "rows": len(keys),
        "keys": len(set(keys)),
        "ends": [asdict(end) for end in ends],
        "ends_as_promised": [(end.signal, end.status) for end in ends] == list(STATUS.items()),
        **{f"{name.removesuffix('_ms')}_growth": both and both[1] / both[0] for name, both in tenths.items()},
        "second_and_last_tenth": tenths,
    }


if __name__ == "__main__":
    main()
