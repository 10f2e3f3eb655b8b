"""`tans zoo merge`: its flags, the call, its words."""

from __future__ import annotations

import argparse

from pipeline.commands.parsing import command
from pipeline.running.output import Output

DETAILS = """\
Rows come with their datasets, weights and latencies. A pair that both have stays as it is in --into. Zoos of another
search space, width, image size, starting weights or noise are refused: their rows are not comparable.
The zoos that are read are not changed."""


def add(commands) -> None:
    parser = command(commands, "merge", run, "bring the rows of zoos that grew apart into one", DETAILS, goes_on=True)
    parser.add_argument("other", nargs="+", metavar="ZOO", help="a zoo to be read")
    parser.add_argument(
        "--into", required=True, metavar="ZOO", help="the zoo that rows come into; made, if there is none"
    )


def run(given: argparse.Namespace, output: Output) -> int:
    from pipeline.zoo.upkeep.merge import merge_zoos

    done = merge_zoos(given.other, given.into)
    lines = [
        f"{done.rows} rows came, {done.rows_there} were there already, {done.rows_now} are there now; "
        f"{done.datasets} new datasets, {done.latencies} latencies"
    ]
    if done.differing:
        lines.append(
            f"{len(done.differing)} of those there have another accuracy in the zoos that were read, and "
            f"stayed as they were: {', '.join(done.differing)}"
        )
    output.result(done, "\n".join(lines))
    return 0
