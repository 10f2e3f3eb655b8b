"""`tans meta-train`: its flags, the call, its words."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.commands.parsing import SETTINGS_HELP, command, threads_option, zoo_option
from pipeline.running.output import Output, percent


def add(commands) -> None:
    parser = command(
        commands,
        "meta-train",
        run,
        "learn the space in which datasets lie near their networks",
        SETTINGS_HELP,
        goes_on=True,
    )
    zoo_option(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the space; resumed where it is"
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="of Ray Train (default: 1, in this process)"
    )
    parser.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster, as ray.init takes it; else a local Ray")
    parser.add_argument(
        "--storage",
        type=Path,
        metavar="DIR",
        help="checkpoints of several workers, a folder that all nodes see (default: in --out)",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings of the training, see below")
    parser.add_argument("--steps", type=int, metavar="N", help="of the training, before what --config says")
    parser.add_argument("--mlflow-uri", metavar="URI", help="tracking server (default: sqlite in the zoo's folder)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    threads_option(parser)


def run(given: argparse.Namespace, output: Output) -> int:
    from pipeline.space.config_file import config_of
    from pipeline.space.meta_train import meta_train

    summary = meta_train(
        given.zoo,
        given.out,
        workers=given.workers,
        seed=given.seed,
        threads=given.threads,
        config=config_of(given.config, given.steps),
        address=given.address,
        storage=given.storage,
        mlflow_uri=given.mlflow_uri,
    )
    text = [
        f"gallery of {summary.gallery}: R@1 {percent(summary.r_at_1)}, R@5 {percent(summary.r_at_5)} "
        f"(random {percent(summary.r_at_5_random)}), R@10 {percent(summary.r_at_10)}, "
        f"rank {summary.mean_rank:.1f} in the mean, {summary.median_rank:.1f} in the median",
        f"predicted accuracy, squared error: {summary.predictor_mse:.4f} on datasets known (always the mean: "
        f"{summary.predictor_mse_mean_baseline:.4f})",
    ]
    if summary.predictor_mse_left_out is not None:
        text.append(
            f"  {summary.predictor_mse_left_out:.4f} on sources left out (always the mean: "
            f"{summary.predictor_mse_left_out_mean_baseline:.4f})"
        )
    output.result(summary, "\n".join(text))
    return 0
