"""`tans zoo gc`: its flags, the call, its words."""

from __future__ import annotations

import argparse

from pipeline.commands.parsing import command, zoo_option
from pipeline.running.output import Output, table

DETAILS = """\
Such files are left by a build that was killed between weights and row, and by `tans zoo drop`. Those younger than an
hour stay in any case. With --delete the zoo is held as by a build, so it is refused while one runs."""


def add(commands) -> None:
    parser = command(commands, "gc", run, "list the weights files that belong to no row, or delete them", DETAILS)
    zoo_option(parser)
    parser.add_argument("--delete", action="store_true", help="delete them; without it they are only listed")


def run(given: argparse.Namespace, output: Output) -> int:
    from pipeline.zoo.upkeep.gc import collect_garbage

    found = collect_garbage(given.zoo, delete=given.delete)
    size = sum(each.size_bytes for each in found.orphans) / 1e6
    lines = (
        [table(("file", "bytes"), [(each.path, each.size_bytes) for each in found.orphans])] if found.orphans else []
    )
    young = f"; {found.young} younger than an hour stay" if found.young else ""
    if found.deleted:
        lines.append(f"{len(found.orphans)} files deleted, {size:,.1f} MB{young}")
    else:
        how = "; --delete deletes them" if found.orphans else ""
        lines.append(f"{len(found.orphans)} files belong to no row, {size:,.1f} MB{how}{young}")
    output.result(found, "\n".join(lines))
    return 0
