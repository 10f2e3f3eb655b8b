"""`tans latency-table`: its flags, the call, its words."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.commands.parsing import command
from pipeline.running.output import Output, percent, shown

_DETAILS = """\
Every block of the search space is timed on this device, and whole networks beside them. The table then predicts the
latency of any network, for `search --max-latency-ms` and `build-zoo --costs`. It holds for this device, number of
threads, batch and image size alone. For another device run this there, with --search-space and --out, and give the
file to --latency-table here. Close other programs before: a busy machine gives a worse table."""


def add(commands) -> None:
    parser = command(commands, "latency-table", run, "time a search space on this device", _DETAILS)
    of = parser.add_mutually_exclusive_group(required=True)
    of.add_argument("--zoo", metavar="URI", help="folder or URI of the zoo; the table goes there")
    of.add_argument("--search-space", choices=("ofa-lite", "ofa-mbv3"), help="where there is no zoo; with --out")
    parser.add_argument("--width", type=float, default=1.0, metavar="W", help="of --search-space (default: 1.0)")
    parser.add_argument("--image-size", type=int, metavar="PX", help="default: the zoo's; 64 without one")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images at once (default: 1)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the processor (default: 1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there, not into the zoo")


def run(given: argparse.Namespace, output: Output) -> int:
    from pipeline.network.latency_table import latency_table

    made = latency_table(
        given.zoo,
        search_space=given.search_space,
        width=given.width,
        image_size=given.image_size,
        batch=given.batch,
        threads=given.threads,
        device=given.device,
        out=given.out,
    )
    text = (
        f"{made.search_space} x{made.width:g} at {made.image_size} px, batch {made.batch}, on {shown(made.device)}: "
        f"{shown(made.out)}\n{made.unseen} random networks that it had not seen were predicted to within "
        f"{percent(made.error_median)} (median), {percent(made.error_p95)} (95 of 100)"
    )
    output.result(made, text)
    return 0
