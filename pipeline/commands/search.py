"""`tans search`: its flags, the call, its words."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.commands.parsing import SPEC_HELP, command, threads_option, zoo_option
from pipeline.running.output import Output, percent, shown, table


def add(commands) -> None:
    parser = command(commands, "search", run, "ask for the networks to start from on a new dataset", SPEC_HELP)
    parser.add_argument("spec", metavar="SPEC")
    zoo_option(parser)
    parser.add_argument("--space", type=Path, required=True, metavar="DIR", help="folder made by meta-train")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="how many networks (default: 10)")
    parser.add_argument("--max-params", type=float, metavar="N", help="parameters at most, as 5e6")
    parser.add_argument("--max-flops", type=float, metavar="N", help="multiply-accumulates of one image at most")
    parser.add_argument("--max-latency-ms", type=float, metavar="MS", help="median latency on this machine at most")
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
        threads=given.threads,
    )
    rows = [
        (
            each.key,
            each.dataset,
            each.similarity,
            percent(each.predicted_accuracy),
            percent(each.zoo_accuracy),
            each.params,
            each.flops,
            each.latency_ms,
        )
        for each in found.entries
    ]
    header = ("row", "from", "similarity", "predicted", "accuracy there", "params", "flops", "latency ms")
    start = found.starting_weights
    text = (
        f"{table(header, rows)}\n{found.rows_feasible} of {found.rows_searched} rows are feasible; searched "
        f"in {found.milliseconds:.1f} ms, after {found.features_s:.1f} s for the features of {shown(found.query)}.\n"
        f"Without a source: the architecture of {start.architecture_of} from the zoo's starting weights."
    )
    output.result(found, text)
    return 0
