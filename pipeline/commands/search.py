"""`tans search`: its flags, the call, its words."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.parsing import SPEC_HELP, command, number, threads_option, zoo_option
from pipeline.running.output import Output, latency_cell, percent, shown, table

if TYPE_CHECKING:
    from pipeline.space.answers import SearchEntry
    from pipeline.space.search import SearchResult


def add(commands) -> None:
    parser = command(commands, "search", run, "ask for the networks to start from on a new dataset", SPEC_HELP)
    parser.add_argument("spec", metavar="SPEC")
    zoo_option(parser)
    parser.add_argument("--space", type=Path, required=True, metavar="DIR", help="folder made by meta-train")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="how many networks (default: 10)")
    parser.add_argument(
        "--probe",
        type=int,
        metavar="K",
        help="ask K rows of the nearest datasets, and the starting weights in their shapes, what they know before "
        "training, and rank by it (default: 8, some seconds; 0: none)",
    )
    parser.add_argument("--max-params", type=number, metavar="N", help="parameters at most, as 3M or 5e6")
    parser.add_argument("--max-flops", type=number, metavar="N", help="multiply-accumulates of one image at most")
    parser.add_argument("--max-latency-ms", type=number, metavar="MS", help="latency on this machine at most")
    parser.add_argument(
        "--max-memory-mb", type=number, metavar="MB", help="peak of inference at most: weights and maps"
    )
    parser.add_argument(
        "--latency-table",
        type=Path,
        metavar="FILE",
        help="made by latency-table, also on another device (default: the zoo's own of this machine)",
    )
    threads_option(parser)


def run(given: argparse.Namespace, output: Output) -> int:
    from pipeline.space.search import PROBED, search

    found = search(
        given.spec,
        given.zoo,
        given.space,
        top=given.top,
        probe=PROBED if given.probe is None else given.probe,
        max_params=given.max_params,
        max_flops=given.max_flops,
        max_latency_ms=given.max_latency_ms,
        max_memory_mb=given.max_memory_mb,
        latency_table=given.latency_table,
        threads=given.threads,
    )
    output.result(found, words(found, given.spec, given.zoo))
    return 0


def words(found: SearchResult, spec: str, zoo: str) -> str:
    """The answer for people."""
    error = "" if found.predicted_error is None else f" +- {100 * found.predicted_error:.0f}"
    columns: dict[str, list[Any]] = {
        "row": [each.key for each in found.entries],
        "trained on": [each.dataset or "" for each in found.entries],
        "similarity": [each.similarity for each in found.entries],
        "predicted here": [percent(each.predicted_accuracy) + error for each in found.entries],
        "before training": [_before(each) for each in found.entries],
        "measured there": [_there(each) for each in found.entries],
        "params": [each.params for each in found.entries],
        "flops": [each.flops for each in found.entries],
        "latency ms": [latency_cell(each.latency_ms, each.latency_predicted) for each in found.entries],
        "memory MB": [each.memory_mb for each in found.entries],
    }
    if not found.rows_probed:
        del columns["before training"]
    if found.entries[0].memory_mb is None:
        del columns["memory MB"]
    unseen = "not known" if found.predicted_error is None else f"{error.strip()} points"
    first = found.entries[0]
    fine_tune = ["tans", "fine-tune", spec, "--zoo", zoo, "--row", first.key, "--out", "network"]
    query = shown(found.query)
    text = [
        table(list(columns), list(zip(*columns.values(), strict=True))),
        *(f"{_short(each.key)}: {'; '.join(each.why)}" for each in found.entries),
        f"predicted here: accuracy on {query} after training from the starting weights, as each row of the zoo was "
        f"trained; what a source adds is not in it; on data it has not seen: {unseen}",
        "measured there: validation accuracy on the dataset it was trained on, beside what chance gives on it",
        f"{found.rows_feasible} of {found.rows_searched} rows are feasible; searched in {found.milliseconds:.1f} ms, "
        f"after {found.features_s:.1f} s for the features of {query}.",
    ]
    if found.rows_probed:
        text.append(
            f"before training: a classifier in closed form on the network's features, of training images held out by "
            f"turns, near copies together (95 % interval); {found.rows_probed} rows and the starting weights in their "
            f"shapes took {found.probe_s:.1f} s"
        )
    if found.unlike:
        text.append(_unlike(found, query))
    text.append(f"Next: {shlex.join(fine_tune)}")
    if first.dataset is not None:
        text.append(
            f"or the same architecture without a source, from the zoo's starting weights: --row start:{first.key}"
        )
    return "\n".join(text)


def _unlike(found: SearchResult, query: str) -> str:
    near = found.nearest[0]
    return (
        f"Nothing that is feasible is like {query}: the nearest dataset of the zoo is {shown(near.name)} "
        f"({near.similarity:.2f}); of datasets that a space never saw, half had one at {found.bar or 0:.2f} or more. "
        "A source may do harm: compare with the starting weights, or grow the zoo with something nearer"
    )


def _before(entry: SearchEntry) -> str:
    if entry.before_training is None:
        return ""
    low, high = entry.before_training.interval
    return f"{percent(entry.before_training.accuracy)} ({100 * low:.0f} to {100 * high:.0f})"


def _there(entry: SearchEntry) -> str:
    return "" if entry.zoo_accuracy is None else f"{percent(entry.zoo_accuracy)}, chance {percent(entry.zoo_chance)}"


def _short(key: str) -> str:
    """A key cut to what is enough to name it."""
    before, colon, row = key.rpartition(":")
    return before + colon + row[:8]
