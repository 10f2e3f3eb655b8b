"""Runs of a benchmark, each kept in a line of a file as it comes, and what summaries of such runs have in common."""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from pipeline.running.progress import say

T_95 = {1: 12.706, 2: 4.303, 5: 2.571, 7: 2.365}  # Student's t, two-sided 95 %, by degrees of freedom

Task = TypeVar("Task")  # a frozen dataclass
Result = dict[str, Any]  # of a run: the fields of its task, and what was measured


def kept(lines: Path, task: type[Task]) -> dict[Task, Result]:
    """The runs that a file has, by their tasks; none where it is not there."""
    results = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    names = [field.name for field in fields(task)]  # type: ignore[arg-type]
    return {task(**{name: result[name] for name in names}): result for result in results}


def run_missing(
    tasks: Sequence[Task],
    done: dict[Task, Result],
    lines: Path,
    workers: int,
    run: Callable[[Task], Result],
    words: Callable[[Result], str],
) -> None:
    """Run what is not done yet, in processes of their own; each result is kept in `lines` and added to `done`."""
    missing = [task for task in tasks if task not in done]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool, lines.open("a") as file:
        waiting = {pool.submit(run, task): task for task in missing}
        for number, future in enumerate(as_completed(waiting), start=1):
            result = future.result()
            file.write(json.dumps(result) + "\n")
            file.flush()
            done[waiting[future]] = result
            say(f"{number} of {len(missing)}: {words(result)}")


def best_in_validation(results: Sequence[Result], place: Sequence[str]) -> dict[tuple, Result]:
    """For each place, named by these fields, the run with the most validation images right; of equal ones the first."""
    chosen: dict[tuple, Result] = {}
    for result in results:
        here = tuple(result[name] for name in place)
        if here not in chosen or result["val_correct"] > chosen[here]["val_correct"]:
            chosen[here] = result
    return chosen


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean, by Student's t."""
    spread = torch.tensor(values, dtype=torch.float64).std().item()
    return T_95[len(values) - 1] * spread / math.sqrt(len(values))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean."""
    return mean(values) - half_width(values), mean(values) + half_width(values)
