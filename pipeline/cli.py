"""The command `tans`: parse, call, leave. Nothing heavy is imported before a stage is called."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib.metadata import version

from pipeline.running.shadows import named_shadows, shadow_behind

with named_shadows():
    from pipeline.commands import (
        build_zoo,
        completion,
        datasets,
        fine_tune,
        latency_table,
        polish,
        predict,
        pretrain,
        submit,
    )
    from pipeline.commands.parsing import EXIT_HELP
    from pipeline.commands.space import meta_train, search, sweep
    from pipeline.commands.zoo import compact, drop, gc, merge, show, verify
    from pipeline.running.output import flush_streams, results, shown
    from pipeline.running.progress import say
    from pipeline.running.signals import Stopped, stop_on_signals
    from tans_core.errors import ConfigError, TansError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit status, whatever libraries do at the end of a process."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries' notes to their developers
    try:
        status = run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:  # before the first line of the work, or after its last
        status = 130
    except BaseException as error:  # a mistake of ours, or a file of the user's in place of a library
        said = shadow_behind(error)
        say(f"tans: {said}" if said else traceback.format_exc().rstrip())
        status = 1
    flush_streams()
    os._exit(status)


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit status."""
    try:
        given = _parser().parse_args(arguments)
    except SystemExit as leave:
        return int(leave.code or 0)
    try:
        with stop_on_signals(given.goes_on), results(given.json) as output:
            return given.do(given, output)
    except TansError as error:
        say(f"tans: {shown(str(error))}")
        return 2 if isinstance(error, ConfigError) else 1
    except OSError as error:  # those who write say it better; this is for all the others
        if error.errno not in _NO_ROOM:
            raise
        where = f" for {shown(str(error.filename))}" if error.filename else ""
        say(f"tans: no room{where} ({error.strerror}): make room and run the same command again")
        return 1
    except Stopped as stopped:
        say("tans: stopped" + ("; the same command goes on from here" if stopped.goes_on else ""))
        return stopped.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tans",
        description="Grow a zoo of networks, learn a space over it, ask it for a network for a new dataset.",
        epilog=EXIT_HELP,
    )
    parser.add_argument("--version", action="version", version=f"tans {version('tans')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for each in (datasets, pretrain, build_zoo, polish, meta_train, sweep, search, fine_tune, predict, latency_table):
        each.add(commands)
    what = "look at a zoo, verify it, tidy it, merge it with another"
    zoo = commands.add_parser("zoo", help=what, description=f"{what[0].upper()}{what[1:]}.")
    parts = zoo.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for each in (show, verify, compact, gc, drop, merge):
        each.add(parts)
    submit.add(commands, parser)
    completion.add(commands, parser)
    return parser


if __name__ == "__main__":
    main()
