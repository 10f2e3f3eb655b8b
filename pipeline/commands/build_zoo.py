"""`tans build-zoo`: its flags, the call, its words."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.commands.parsing import SPECS_HELP, command, init_option, zoo_option
from pipeline.config import PAIR_MODES
from pipeline.running.output import Output, percent, shown
from pipeline.running.progress import say


def add(commands) -> None:
    parser = command(
        commands,
        "build-zoo",
        run,
        "train dataset-network pairs until the zoo has the rows asked for",
        "The same command goes on where it was stopped or killed. A zoo keeps its search space, image size and\n"
        "recipe; flags left out take its values, or the preset's for a new zoo.\n\n" + SPECS_HELP,
        goes_on=True,
    )
    zoo_option(parser)
    parser.add_argument("--datasets", nargs="+", required=True, metavar="SPEC")
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--pairs", type=int, metavar="N", help="rows of the zoo at the end, of whatever dataset")
    amount.add_argument("--more", type=int, metavar="N", help="rows beyond what is there")
    parser.add_argument("--hours", type=float, metavar="H", help="start no pair after H hours")
    parser.add_argument(
        "--acquisition",
        choices=("hypervolume", "random"),
        default="hypervolume",
        help="how the next pair is chosen (default: expected hypervolume gain)",
    )
    parser.add_argument(
        "--pair-mode",
        choices=PAIR_MODES,
        help="how the pairs of this build are made: each trained by itself, or cut out of its dataset's supernet, "
        "which is trained once (default: what the zoo was begun with; standalone for a new one)",
    )
    parser.add_argument(
        "--costs",
        type=lambda text: tuple(text.split(",")),
        default=("params", "flops"),
        metavar="A,B",
        help="what a network costs: two of params, flops, latency, memory (default: params,flops)",
    )
    parser.add_argument(
        "--latency-table",
        type=Path,
        metavar="FILE",
        help="made by latency-table, also on another device (default: the zoo's own of this machine)",
    )
    parser.add_argument("--search-space", choices=("ofa-lite", "ofa-mbv3"), help="family of networks")
    init_option(parser, "starting weights of a new zoo (default: starter; ofa-mbv3: random)")
    parser.add_argument("--image-size", type=int, metavar="PX", help="longest side, a multiple of 32")
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="Ray actors (default: 2); 0: in this process, without Ray"
    )
    parser.add_argument(
        "--gpus-per-worker",
        type=float,
        metavar="SHARE",
        help="share of a GPU, refused where there is none (default: 0.25 where there is one)",
    )
    parser.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster, as ray.init takes it; else a local Ray")
    parser.add_argument("--preset", choices=("smoke", "laptop", "paper"), help="default for a new zoo: laptop")
    parser.add_argument("--seed", type=int, metavar="N", help="default for a new zoo: 0")
    parser.add_argument("--mlflow-uri", metavar="URI", help="tracking server (default: sqlite in the zoo's folder)")
    parser.add_argument("--wait", action="store_true", help="wait for who grows the zoo now, and go on after it")
    parser.add_argument("--dry-run", action="store_true", help="say what it would cost, train nothing")


def run(given: argparse.Namespace, output: Output) -> int:
    from pipeline.growing.build_zoo import build_zoo
    from pipeline.growing.estimate import estimate
    from pipeline.growing.plan import plan_build

    shared = {
        "pairs": given.pairs,
        "more": given.more,
        "preset_name": given.preset,
        "search_space": given.search_space,
        "image_size": given.image_size,
        "init": given.init,
        "seed": given.seed,
        "pair_mode": given.pair_mode,
    }
    if given.dry_run:
        cost = estimate(plan_build(given.zoo, given.datasets, **shared), max(1, given.workers))
        text = (
            f"{cost.pairs} pairs, about {cost.pair_seconds:,.0f} pair-seconds ({cost.wall_s / 60:,.0f} min with "
            f"{cost.workers} workers) and {cost.storage_bytes / 1e9:.2f} GB; nothing was trained"
        )
        output.result(cost, text)
        return 0
    summary = build_zoo(
        given.zoo,
        given.datasets,
        **shared,
        hours=given.hours,
        acquisition=given.acquisition,
        costs=given.costs,
        latency_table=given.latency_table,
        workers=given.workers,
        gpus_per_worker=given.gpus_per_worker,
        address=given.address,
        mlflow_uri=given.mlflow_uri,
        wait=given.wait,
    )
    text = f"{summary.pairs} pairs, {summary.failures} failures, {summary.wall_s:.0f} s"
    if summary.exhausted:
        text = f"{summary.pairs} of {summary.pairs_asked} pairs: no candidate left; {summary.failures} failures"
    if summary.supernets:
        text += f", {summary.supernets} supernets trained"
    if summary.datasets_left:
        text += f", left out: {', '.join(map(shown, summary.datasets_left))}"
    if summary.utilisation is not None:
        text += f", workers busy {percent(summary.utilisation)}"
    text += f", hypervolume {summary.hypervolume_mean:.3f} ({summary.hypervolume_mean_test:.3f} on test)"
    output.result(summary, text)
    if summary.stopped_by:
        say("tans: stopped; the same command goes on from here")
    return 130 if summary.stopped_by == "SIGINT" else 0
