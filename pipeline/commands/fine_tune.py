"""`tans fine-tune`: its flags, the call, its words."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.commands.parsing import SPEC_HELP, command, zoo_option
from pipeline.running.output import Output, percent


def add(commands) -> None:
    parser = command(commands, "fine-tune", run, "train a row's network on a new dataset and export it", SPEC_HELP)
    parser.add_argument("spec", metavar="SPEC")
    zoo_option(parser)
    parser.add_argument("--row", required=True, metavar="KEY", help="key of a row, or enough of its beginning")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="for weights.safetensors and config.json"
    )
    parser.add_argument("--epochs", type=int, default=10, metavar="N", help="default: 10")


def run(given: argparse.Namespace, output: Output) -> int:
    from pipeline.network.fine_tune import fine_tune

    summary = fine_tune(given.spec, given.zoo, given.row, given.out, given.epochs)
    text = (
        f"{summary.dataset}: {percent(summary.test_accuracy)} of {summary.test_total} test images "
        f"({percent(summary.val_accuracy)} of {summary.val_total} in validation) after {summary.epochs} epochs; "
        f"written to {summary.out}"
    )
    output.result(summary, text)
    return 0
