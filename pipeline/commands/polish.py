"""`tans polish`: its flags, the call, its words."""

from __future__ import annotations

import argparse

from pipeline.commands.parsing import command, zoo_option
from pipeline.running.output import Output, percent, shown


def add(commands) -> None:
    parser = command(
        commands,
        "polish",
        run,
        "train a row's network further alone, on its own dataset",
        "What it becomes is a new row of the zoo, which names its parent; the parent stays.",
    )
    zoo_option(parser)
    parser.add_argument("--row", required=True, metavar="KEY", help="of the zoo, or enough of its beginning")
    parser.add_argument("--epochs", type=int, metavar="N", help="default: those of the zoo's recipe")
    parser.add_argument("--wait", action="store_true", help="wait for who grows the zoo now")


def run(given: argparse.Namespace, output: Output) -> int:
    from pipeline.network.polish import polish

    made = polish(given.zoo, given.row, given.epochs, wait=given.wait)
    text = (
        f"{made.key}: {shown(made.dataset)}, validation {percent(made.val_accuracy_before)} -> "
        f"{percent(made.val_accuracy)} ({made.val_total} images), test {percent(made.test_accuracy_before)} -> "
        f"{percent(made.test_accuracy)} ({made.test_total} images); {made.epochs} epochs on from {made.parent}"
    )
    output.result(made, text)
    return 0
