"""`tans zoo drop`: its flags, the call, its words."""

from __future__ import annotations

import argparse

from pipeline.commands.parsing import command, zoo_option
from pipeline.running.output import Output

DETAILS = """\
A later build may choose a dropped pair again, as if it had never been trained; it then gives the same row. So drop a
row whose weights are damaged to have it made anew, and leave a dataset that you drop out of later builds. The journal
keeps what was dropped. Files of weights stay until `tans zoo gc --delete`, and the tables' old files for five minutes
and until a later commit or `tans zoo compact`. The zoo is held as by a build, so it is refused while one runs.
Spaces that were learned from dropped rows are to be learned anew."""


def add(commands) -> None:
    parser = command(commands, "drop", run, "take rows, or a dataset with its rows, out of a zoo", DETAILS)
    zoo_option(parser)
    parser.add_argument("row", nargs="*", metavar="ROW", help="its key, or a beginning that no other row has")
    parser.add_argument("--dataset", metavar="NAME", help="a dataset's name or fingerprint: it goes with all its rows")


def run(given: argparse.Namespace, output: Output) -> int:
    from pipeline.zoo.upkeep.drop import drop_rows

    done = drop_rows(given.zoo, rows=given.row, dataset=given.dataset)
    counts = ", ".join(f"{count} of {name}" for name, count in done.entries.items())
    output.result(done, f"dropped {counts}; {done.weights} files of weights are left for `tans zoo gc --delete`")
    return 0
