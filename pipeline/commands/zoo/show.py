"""`tans zoo show`: its flags, the call, its words."""

from __future__ import annotations

import argparse

from pipeline.commands.parsing import command, zoo_option
from pipeline.running.output import Output, latency_cell, percent, table


def add(commands) -> None:
    parser = command(commands, "show", run, "list the rows of a zoo")
    zoo_option(parser)
    parser.add_argument(
        "--journal", action="store_true", help="show what happened to it instead: runs, decisions, failures"
    )


def run(given: argparse.Namespace, output: Output) -> int:
    from pipeline.zoo.show import show_journal, show_zoo

    if given.journal:
        journal = show_journal(given.zoo)
        events = [(f"{each.time:%Y-%m-%d %H:%M:%S}", each.kind, each.run[:8], each.words) for each in journal.events]
        output.result(journal, table(("time (UTC)", "event", "run", "what"), events))
        return 0
    there = show_zoo(given.zoo)
    settings = there.settings
    lines = [
        f"zoo {settings.zoo_id[:12]}, version {there.version}: {len(there.rows)} rows over "
        f"{there.datasets_with_rows} of {there.datasets} datasets, {there.failures} failures; {settings.search_space} "
        f"x{settings.width:g}, {settings.image_size} px, preset {settings.preset}; "
        f"weights {there.weights_bytes / 1e6:,.1f} MB"
        + (f", {there.supernets} datasets' supernets among them" if there.supernets else ""),
        table(
            ("row", "dataset", "val", "test", "params", "flops", "mode", "bytes", "latency ms", "chosen by"),
            [
                (
                    each.key,
                    each.dataset,
                    percent(each.val_accuracy),
                    percent(each.test_accuracy),
                    each.params,
                    each.flops,
                    each.mode,
                    each.weights_bytes,
                    latency_cell(each.latency_ms, each.latency_predicted),
                    each.chosen_by,
                )
                for each in there.rows
            ],
        ),
    ]
    output.result(there, "\n".join(lines))
    return 0
