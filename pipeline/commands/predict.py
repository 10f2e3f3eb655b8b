"""`tans predict`: its flags, the call, its words."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.commands.parsing import command
from pipeline.running.output import Output, percent, shown, table
from pipeline.running.progress import say


def add(commands) -> None:
    parser = command(
        commands,
        "predict",
        run,
        "ask an exported network what is on pictures",
        "A picture that cannot be read is named, and the exit status is 1; the others are answered.\n"
        "--json has the probabilities of all classes.",
    )
    parser.add_argument("network", type=Path, metavar="DIR", help="folder written by fine-tune")
    parser.add_argument("pictures", type=Path, nargs="+", metavar="PICTURE", help="picture files")


def run(given: argparse.Namespace, output: Output) -> int:
    from pipeline.network.predict import predict

    found = predict(given.network, given.pictures)
    rows = [
        (each.picture, each.class_name, percent(each.probability)) for each in found.predictions if not each.unreadable
    ]
    output.result(found, table(("picture", "class", "probability"), rows))
    for each in found.unreadable:
        say(f"tans: {shown(each.picture)} is not read: {shown(each.unreadable or '')}")
    return 1 if found.unreadable else 0
