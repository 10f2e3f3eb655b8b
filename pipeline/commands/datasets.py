"""`tans datasets`: its flags, the call, its words."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.commands.parsing import SPECS_HELP, command
from pipeline.running.output import Output, percent, shown, shown_name, table
from tans_core.errors import TansError


def add(commands) -> None:
    parser = command(commands, "datasets", run, "say what a SPEC gives, before anything is trained", SPECS_HELP)
    parser.add_argument("specs", nargs="+", metavar="SPEC")
    parser.add_argument("--image-size", type=int, default=64, metavar="PX", help="longest side (default: 64)")
    parser.add_argument(
        "--pictures", type=Path, metavar="OUT.png", help="draw some pictures of each class on each side, to look at"
    )
    parser.add_argument(
        "--manifest", type=Path, metavar="OUT.csv", help="write which picture is on which side, one line a picture"
    )


def run(given: argparse.Namespace, output: Output) -> int:
    from pipeline.reading.datasets import datasets

    missed: list[TansError] = []
    summaries = datasets(
        given.specs,
        given.image_size,
        pictures=given.pictures,
        manifest=given.manifest,
        unavailable=missed.append,
    )
    rows = [
        (
            shown_name(each.name),
            each.fingerprint[:12],
            shown_name(each.source),
            len(each.class_names),
            *(sum(each.counts[side]) for side in ("train", "validation", "test")),
            f"{each.image_size} px {'grey' if each.channels == 1 else 'RGB'}",
            percent(each.chance),
        )
        for each in summaries
    ]
    text = [table(("name", "fingerprint", "source", "classes", "train", "val", "test", "images", "chance"), rows)]
    for each in summaries:
        report = each.report
        for name, *counts in zip(each.class_names, *each.counts.values()) if len(summaries) == 1 else ():
            text.append(f"  class {shown_name(name)}: {' / '.join(map(str, counts))} (train / val / test)")
        for skipped in report.skipped:
            first = ", ".join(shown_name(path) for path in skipped.paths[:3])
            text.append(f"{shown_name(each.name)}: {len(skipped.paths)} skipped, {skipped.reason}: {first}")
        if report.ignored:
            text.append(
                f"{shown_name(each.name)}: ignored "
                + ", ".join(f"{n} {shown_name(kind)}" for kind, n in report.ignored.items())
            )
        for note in (*report.dropped_classes, *report.notes):
            text.append(f"{shown_name(each.name)}: {shown(note)}")
    output.result(summaries, "\n".join(text))
    for error in missed:
        print(f"tans: {shown(str(error))}", file=sys.stderr)
    return 1 if missed else 0
