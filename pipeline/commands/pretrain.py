"""`tans pretrain`: its flags, the call, its words."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.commands.parsing import SPECS_HELP, command, init_option, threads_option
from pipeline.running.output import Output, percent


def add(commands) -> None:
    parser = command(
        commands,
        "pretrain",
        run,
        "make a supernet worth starting from, out of many datasets",
        "The same command goes on where it was stopped or killed. `build-zoo --init FILE` begins a zoo from the file.\n"
        "Only training images are learned from, and test images are not looked at.\n\n" + SPECS_HELP,
        goes_on=True,
    )
    parser.add_argument("--datasets", nargs="+", required=True, metavar="SPEC")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="the supernet, .safetensors; its curve comes beside it as .json",
    )
    parser.add_argument(
        "--search-space", choices=("ofa-lite", "ofa-mbv3"), default="ofa-lite", help="default: ofa-lite"
    )
    parser.add_argument("--width", type=float, default=1.0, metavar="W", help="1.0 (default); ofa-mbv3 has 1.2 too")
    parser.add_argument("--image-size", type=int, default=64, metavar="PX", help="default: 64")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--steps", type=int, metavar="N", help="batches to learn from (default: 2600)")
    amount.add_argument("--epochs", type=float, metavar="N", help="passes over all training images, instead")
    amount.add_argument("--minutes", type=float, metavar="M", help="as many steps as these give, instead")
    parser.add_argument("--batch-size", type=int, metavar="N", help="images of a step (default: 64)")
    init_option(parser, "begin from (default: lite0; ofa-mbv3: random)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    threads_option(parser)
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="of Ray Train (default: 1, in this process)"
    )
    parser.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster, as ray.init takes it; else a local Ray")
    parser.add_argument("--mlflow-uri", metavar="URI", help="tracking store (default: none)")


def run(given: argparse.Namespace, output: Output) -> int:
    from pipeline.growing.pretrain import pretrain

    summary = pretrain(
        given.datasets,
        given.out,
        search_space=given.search_space,
        width=given.width,
        image_size=given.image_size,
        steps=given.steps,
        epochs=given.epochs,
        minutes=given.minutes,
        batch_size=given.batch_size,
        init=given.init,
        seed=given.seed,
        threads=given.threads,
        workers=given.workers,
        address=given.address,
        mlflow_uri=given.mlflow_uri,
    )
    output.result(
        summary,
        f"{summary.out}: supernet {summary.hash} of {summary.search_space}, {summary.size_bytes / 1e6:.1f} MB, "
        f"{summary.steps} steps over {summary.images:,} images of {summary.datasets} datasets\n"
        f"accuracy in validation: smallest {percent(summary.smallest)}, random {percent(summary.random)}, "
        f"largest {percent(summary.largest)}\nbegin a zoo from it: tans build-zoo --init {summary.out} ...",
    )
    return 0
