"""`tans zoo compact`: its flags, the call, its words."""

from __future__ import annotations

import argparse

from pipeline.commands.parsing import command, zoo_option
from pipeline.running.output import Output, table

DETAILS = """\
Commits do this by themselves now and then: merge small files, delete those that no version needs which was the newest
in the last five minutes, and the log behind them. Rows and weights stay. It may be called beside a running build."""


def add(commands) -> None:
    parser = command(commands, "compact", run, "make the tables of a zoo smaller and quicker to read", DETAILS)
    zoo_option(parser)


def run(given: argparse.Namespace, output: Output) -> int:
    from pipeline.zoo.upkeep.compact import compact_zoo

    done = compact_zoo(given.zoo)
    saved = sum(each.bytes_before - each.bytes for each in done.tables)
    lines = [
        table(
            ("table", "files", "before", "bytes", "before"),
            [(each.table, each.files, each.files_before, each.bytes, each.bytes_before) for each in done.tables],
        ),
        f"{saved / 1e6:,.1f} MB saved; what was needed in the last {done.kept_s // 60} minutes goes with a later call",
    ]
    output.result(done, "\n".join(lines))
    return 0
