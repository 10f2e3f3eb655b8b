"""`tans search`: its flags, the call, its words."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from pipeline.commands.parsing import SPEC_HELP, command, number, threads_option, zoo_option
from pipeline.running.output import Output, latency_cell, percent, shown, table


def add(commands) -> None:
    parser = command(commands, "search", run, "ask for the networks to start from on a new dataset", SPEC_HELP)
    parser.add_argument("spec", metavar="SPEC")
    zoo_option(parser)
    parser.add_argument("--space", type=Path, required=True, metavar="DIR", help="folder made by meta-train")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="how many networks (default: 10)")
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
    from pipeline.space.search import search

    found = search(
        given.spec,
        given.zoo,
        given.space,
        top=given.top,
        max_params=given.max_params,
        max_flops=given.max_flops,
        max_latency_ms=given.max_latency_ms,
        max_memory_mb=given.max_memory_mb,
        latency_table=given.latency_table,
        threads=given.threads,
    )
    error = "" if found.predicted_error is None else f" +- {100 * found.predicted_error:.0f}"
    rows = [
        (
            each.key,
            each.dataset,
            each.similarity,
            percent(each.predicted_accuracy) + error,
            f"{percent(each.zoo_accuracy)}, chance {percent(each.zoo_chance)}",
            each.params,
            each.flops,
            latency_cell(each.latency_ms, each.latency_predicted),
        )
        for each in found.entries
    ]
    header = ("row", "trained on", "similarity", "predicted here", "measured there", "params", "flops", "latency ms")
    if given.max_memory_mb is not None:
        header = (*header, "memory MB")
        rows = [(*row, each.memory_mb) for row, each in zip(rows, found.entries, strict=True)]
    unseen = "not known" if found.predicted_error is None else f"{error.strip()} points"
    fine_tune = ["tans", "fine-tune", given.spec, "--zoo", given.zoo, "--row", found.entries[0].key, "--out", "network"]
    text = [
        table(header, rows),
        f"predicted here: accuracy on {shown(found.query)} after fine-tuning; on data it has not seen: {unseen}",
        "measured there: validation accuracy on the dataset it was trained on, beside what chance gives on it",
        f"{found.rows_feasible} of {found.rows_searched} rows are feasible; searched in {found.milliseconds:.1f} ms, "
        f"after {found.features_s:.1f} s for the features of {shown(found.query)}.",
        f"Next: {shlex.join(fine_tune)}",
        "or the same architecture without a source, from the zoo's starting weights: "
        f"--row start:{found.starting_weights.architecture_of}",
    ]
    output.result(found, "\n".join(text))
    return 0
