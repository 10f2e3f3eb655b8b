"""`tans completion`: a script that teaches a shell the commands, their flags, and which of them take files."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial

from pipeline.commands.parsing import command
from pipeline.running.output import Output

SHELLS = ("bash", "zsh")
_DETAILS = """\
bash: tans completion bash > ~/.local/share/bash-completion/completions/tans
zsh:  tans completion zsh > DIR/_tans, where DIR is a folder of your fpath
Open a new shell then."""


def add(commands, whole: argparse.ArgumentParser) -> None:
    """Add the command; `whole` is the parser that it describes."""
    parser = command(commands, "completion", partial(run, whole), "print a completion script for a shell", _DETAILS)
    parser.add_argument("shell", choices=SHELLS)


def run(whole: argparse.ArgumentParser, given: argparse.Namespace, output: Output) -> int:
    import shtab

    for action in _actions(whole):
        if action.metavar in ("FILE", "PICTURE"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar == "DIR" or action.dest == "zoo":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    script = shtab.complete(whole, given.shell)
    output.result({"shell": given.shell, "script": script}, script)
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _actions(each)
