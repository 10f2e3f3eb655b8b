"""`tans sweep`: its flags, the call, its words."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.commands.parsing import SETTINGS_HELP, command, zoo_option
from pipeline.running.output import Output, percent


def add(commands) -> None:
    parser = command(
        commands,
        "sweep",
        run,
        "try settings of a space on sources left out, and train the best",
        "What --config names is the same in every trial; the first has the settings as they are given, the others\n"
        "draw the rest. Trials that others beat end early. The same command goes on where it was stopped or killed.\n\n"
        + SETTINGS_HELP,
        goes_on=True,
    )
    zoo_option(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the winner's space; resumed where it is"
    )
    parser.add_argument("--trials", type=int, required=True, metavar="N", help="settings to try")
    parser.add_argument("--hours", type=float, metavar="H", help="choose from what is known after H hours")
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        metavar="N",
        help="trials side by side, under Ray Tune (default: 2); 0: one after the other, without Ray",
    )
    parser.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster, as ray.init takes it; else a local Ray")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings that are not varied, see below")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--mlflow-uri", metavar="URI", help="tracking server (default: sqlite in the zoo's folder)")


def run(given: argparse.Namespace, output: Output) -> int:
    from pipeline.space.config_file import read_settings
    from pipeline.space.sweep import sweep

    summary = sweep(
        given.zoo,
        given.out,
        trials=given.trials,
        hours=given.hours,
        workers=given.workers,
        seed=given.seed,
        settings=None if given.config is None else read_settings(given.config),
        address=given.address,
        mlflow_uri=given.mlflow_uri,
    )
    ways = {"done": "to the end", "halved": "halved", "out_of_time": "out of time", "failed": "failed"}
    counted = ", ".join(f"{count} {words}" for name, words in ways.items() if (count := getattr(summary, name)))
    as_given = "" if summary.score_as_given is None else f" (the settings as given: {summary.score_as_given:.3f})"
    settings = ", ".join(f"{name} {value}" for name, value in summary.config.items())
    output.result(
        summary,
        f"{summary.trials} trials: {counted}\n"
        f"trial {summary.winner} is the best on sources left out, {summary.score:.3f}{as_given}: rank "
        f"{summary.mean_rank:.1f} in the mean (by chance {summary.mean_rank_random:.1f}), squared error of predicted "
        f"accuracy {summary.mse:.4f} (always the mean: {summary.mse_mean_baseline:.4f})\n"
        f"  {settings}\n"
        f"its space, of all sources: gallery of {summary.space.gallery}, R@1 {percent(summary.space.r_at_1)}, R@5 "
        f"{percent(summary.space.r_at_5)}",
    )
    return 0
