"""`tans zoo verify`: its flags, the call, its words."""

from __future__ import annotations

import argparse

from pipeline.commands.parsing import command, init_option, zoo_option
from pipeline.running.output import Output


def add(commands) -> None:
    parser = command(commands, "verify", run, "check that every row's weights exist, match, load and are finite")
    zoo_option(parser)
    parser.add_argument(
        "--retrain", type=int, default=0, metavar="N", help="train N rows again: they must give the stored accuracy"
    )
    init_option(parser, "of a zoo that does not keep its starting weights itself")


def run(given: argparse.Namespace, output: Output) -> int:
    from pipeline.zoo.upkeep.verify import verify_zoo

    verdict = verify_zoo(given.zoo, retrain=given.retrain, init=given.init)
    lines = [f"{verdict.rows} rows, {len(verdict.problems)} problems", *verdict.problems]
    if verdict.retrained:
        lines.append(f"{verdict.retrained} rows trained again")
    output.result(verdict, "\n".join(lines))
    return 1 if verdict.problems else 0
