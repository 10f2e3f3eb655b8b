"""`tans fine-tune`: its flags, the call, its words."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.commands.parsing import SPEC_HELP, command, init_option, threads_option, zoo_option
from pipeline.running.output import Output, percent


def add(commands) -> None:
    parser = command(commands, "fine-tune", run, "train a row's network on a new dataset and export it", SPEC_HELP)
    parser.add_argument("spec", metavar="SPEC")
    zoo_option(parser)
    parser.add_argument(
        "--row",
        required=True,
        metavar="KEY",
        help="key of a row, or enough of its beginning; start:KEY for its architecture from the zoo's starting weights",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the network")
    parser.add_argument("--overwrite", action="store_true", help="replace the network that DIR holds")
    parser.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="default: 10; the best one is kept. 0: the body as it is and a classifier in closed form, in seconds",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help="instead of --epochs and --image-size: chooses both for the time that there is",
    )
    parser.add_argument("--lr", type=float, metavar="RATE", help="peak learning rate (default: the row's)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: the row's")
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="PX",
        help="longest side, a multiple of 32, of the original pictures (default: the zoo's)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    threads_option(parser)
    init_option(parser, "with start:KEY, of a zoo that does not keep its starting weights itself")


def run(given: argparse.Namespace, output: Output) -> int:
    from pipeline.network.fine_tune import fine_tune

    summary = fine_tune(
        given.spec,
        given.zoo,
        given.row,
        given.out,
        given.epochs,
        minutes=given.minutes,
        lr=given.lr,
        batch_size=given.batch_size,
        image_size=given.image_size,
        seed=given.seed,
        threads=given.threads,
        init=given.init,
        overwrite=given.overwrite,
    )
    low, high = summary.test_interval
    made = (
        f"after epoch {summary.best_epoch} of {summary.epochs}, the best in validation"
        if summary.best_epoch
        else "by a classifier in closed form"
    )
    text = (
        f"{summary.dataset}: {percent(summary.test_accuracy)} of {summary.test_total} test images "
        f"(95 %: {100 * low:.1f} to {percent(high)}), {percent(summary.val_accuracy)} of {summary.val_total} in "
        f"validation, {made}, {summary.image_size} px; written to {summary.out}"
    )
    output.result(summary, text)
    return 0
