"""The command `tans`: parse, call, print. Nothing heavy is imported before a stage is called."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

from pipeline.output import Output, flush_streams, percent, results, shown, shown_name, table
from pipeline.progress import say
from pipeline.signals import Stopped, stop_on_signals
from tans_core.errors import TansError

SPEC_HELP = """\
SPEC, one or more (quote what a shell would read):
  starter:NAME, starter:all            small real datasets that come with tans
  folder:PATH                          a folder of class folders
  parquet:GLOB                         Parquet files with columns image, label, label_name
  kaggle:OWNER/NAME/versions/K[#DIR]   a dataset on Kaggle, version pinned
Options stand at the end of a folder: or kaggle: SPEC, as in a URL:
  ?labels=FILE.csv:IMAGE_COLUMN,LABEL_COLUMN   labels from a table
  ?labels=FILE.csv:IMAGE_COLUMN,*              labels from a table with one column of 0 and 1 a class
  ?labels=name:PATTERN                         labels from file names (first group of a regular expression)
  ?class=top, ?class=leaf                      which of two folder levels is the class
  ?without=NAME,NAME                           leave classes out (parquet: and starter: too)
  ?group=1of3                                  one of the groups of 2 to 20 that more than 20 classes are dealt into
Several options are joined by &, as in ?class=leaf&without=other."""

EXIT_HELP = """\
exit status: 0 done (build-zoo, meta-train: or stopped by SIGTERM with everything kept), 1 failed, 2 wrong usage,
130 Ctrl-C, 143 SIGTERM"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit status, whatever libraries do at the end of a process."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries' notes to their developers
    try:
        status = run(sys.argv[1:] if arguments is None else arguments)
    except BaseException:  # a mistake of ours
        say(traceback.format_exc().rstrip())
        status = 1
    flush_streams()
    os._exit(status)


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit status."""
    try:
        given = _parser().parse_args(arguments)
    except SystemExit as leave:
        return int(leave.code or 0)
    try:
        goes_on = given.do in (_build_zoo, _meta_train)
        with stop_on_signals(goes_on), results(given.json) as output:
            return given.do(given, output)
    except TansError as error:
        say(f"tans: {shown(str(error))}")
        return 1
    except Stopped as stopped:
        say("tans: stopped" + ("; the same command goes on from here" if stopped.goes_on else ""))
        return stopped.exit_status


# --- the commands -----------------------------------------------------------------------------------


def _datasets(given: argparse.Namespace, output: Output) -> int:
    from pipeline.datasets import datasets

    missed: list[TansError] = []
    summaries = datasets(given.specs, given.image_size, pictures=given.pictures, unavailable=missed.append)
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


def _build_zoo(given: argparse.Namespace, output: Output) -> int:
    from pipeline.build_zoo import build_zoo, plan_build
    from pipeline.estimate import estimate

    shared = {
        "pairs": given.pairs,
        "more": given.more,
        "preset_name": given.preset,
        "search_space": given.search_space,
        "image_size": given.image_size,
        "init": given.init,
        "seed": given.seed,
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
        workers=given.workers,
        gpus_per_worker=given.gpus_per_worker,
        address=given.address,
        mlflow_uri=given.mlflow_uri,
    )
    text = f"{summary.pairs} pairs, {summary.failures} failures, {summary.wall_s:.0f} s"
    if summary.exhausted:
        text = f"{summary.pairs} of {summary.pairs_asked} pairs: no candidate left; {summary.failures} failures"
    if summary.utilisation is not None:
        text += f", workers busy {percent(summary.utilisation)}"
    text += f", hypervolume {summary.hypervolume_mean:.3f} ({summary.hypervolume_mean_test:.3f} on test)"
    output.result(summary, text)
    if summary.stopped_by:
        say("tans: stopped; the same command goes on from here")
    return 130 if summary.stopped_by == "SIGINT" else 0


def _meta_train(given: argparse.Namespace, output: Output) -> int:
    from pipeline.meta_train import meta_train

    summary = meta_train(given.zoo, given.out, workers=given.workers, seed=given.seed)
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


def _search(given: argparse.Namespace, output: Output) -> int:
    from pipeline.search import search

    found = search(
        given.spec,
        given.zoo,
        given.space,
        top=given.top,
        max_params=given.max_params,
        max_flops=given.max_flops,
        max_latency_ms=given.max_latency_ms,
    )
    rows = [
        (
            each.key,
            each.dataset,
            each.similarity,
            percent(each.predicted_accuracy),
            percent(each.zoo_accuracy),
            each.params,
            each.flops,
            each.latency_ms,
        )
        for each in found.entries
    ]
    header = ("row", "from", "similarity", "predicted", "accuracy there", "params", "flops", "latency ms")
    start = found.starting_weights
    text = (
        f"{table(header, rows)}\n{found.rows_feasible} of {found.rows_searched} rows are feasible; searched "
        f"in {found.milliseconds:.1f} ms, after {found.features_s:.1f} s for the features of {shown(found.query)}.\n"
        f"Without a source: the architecture of {start.architecture_of} from the zoo's starting weights."
    )
    output.result(found, text)
    return 0


def _fine_tune(given: argparse.Namespace, output: Output) -> int:
    from pipeline.fine_tune import fine_tune

    summary = fine_tune(given.spec, given.zoo, given.row, given.out, given.epochs)
    text = (
        f"{summary.dataset}: {percent(summary.test_accuracy)} of {summary.test_total} test images "
        f"({percent(summary.val_accuracy)} of {summary.val_total} in validation) after {summary.epochs} epochs; "
        f"written to {summary.out}"
    )
    output.result(summary, text)
    return 0


def _zoo_show(given: argparse.Namespace, output: Output) -> int:
    from pipeline.show_zoo import show_journal, show_zoo

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
        f"x{settings.width:g}, {settings.image_size} px, preset {settings.preset}",
        table(
            ("row", "dataset", "val", "test", "params", "flops", "latency ms", "chosen by"),
            [
                (
                    each.key,
                    each.dataset,
                    percent(each.val_accuracy),
                    percent(each.test_accuracy),
                    each.params,
                    each.flops,
                    each.latency_ms,
                    each.chosen_by,
                )
                for each in there.rows
            ],
        ),
    ]
    output.result(there, "\n".join(lines))
    return 0


def _zoo_verify(given: argparse.Namespace, output: Output) -> int:
    from pipeline.verify_zoo import verify_zoo

    verdict = verify_zoo(given.zoo, retrain=given.retrain, init=given.init)
    lines = [f"{verdict.rows} rows, {len(verdict.problems)} problems", *verdict.problems]
    if verdict.retrained:
        lines.append(f"{verdict.retrained} rows trained again")
    output.result(verdict, "\n".join(lines))
    return 1 if verdict.problems else 0


# --- the parser -------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tans",
        description="Grow a zoo of networks, learn a space over it, ask it for a network for a new dataset.",
        epilog=EXIT_HELP,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    datasets = _command(commands, "datasets", _datasets, "say what a SPEC gives, before anything is trained", SPEC_HELP)
    datasets.add_argument("specs", nargs="+", metavar="SPEC")
    datasets.add_argument("--image-size", type=int, default=64, metavar="PX", help="longest side (default: 64)")
    datasets.add_argument(
        "--pictures", type=Path, metavar="OUT.png", help="draw some pictures of each class on each side, to look at"
    )

    build = _command(
        commands,
        "build-zoo",
        _build_zoo,
        "train dataset-network pairs until the zoo has the rows asked for",
        "The same command goes on where it was stopped or killed. A zoo keeps its search space, image size and\n"
        "recipe; flags left out take its values, or the preset's for a new zoo.\n\n" + SPEC_HELP,
    )
    _zoo_option(build)
    build.add_argument("--datasets", nargs="+", required=True, metavar="SPEC")
    amount = build.add_mutually_exclusive_group(required=True)
    amount.add_argument("--pairs", type=int, metavar="N", help="rows of the zoo at the end, of whatever dataset")
    amount.add_argument("--more", type=int, metavar="N", help="rows beyond what is there")
    build.add_argument("--hours", type=float, metavar="H", help="start no pair after H hours")
    build.add_argument(
        "--acquisition",
        choices=("hypervolume", "random"),
        default="hypervolume",
        help="how the next pair is chosen (default: expected hypervolume gain)",
    )
    build.add_argument("--search-space", choices=("ofa-lite", "ofa-mbv3"), help="family of networks")
    build.add_argument("--init", type=Path, metavar="PATH", help="checkpoint of the supernet")
    build.add_argument("--image-size", type=int, metavar="PX", help="longest side, a multiple of 32")
    build.add_argument(
        "--workers", type=int, default=2, metavar="N", help="Ray actors (default: 2); 0: in this process, without Ray"
    )
    build.add_argument(
        "--gpus-per-worker",
        type=float,
        default=0.25,
        metavar="SHARE",
        help="share of a GPU (default: 0.25; 0 where there is none)",
    )
    build.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster, as ray.init takes it; else a local Ray")
    build.add_argument("--preset", choices=("smoke", "laptop", "paper"), help="default for a new zoo: laptop")
    build.add_argument("--seed", type=int, metavar="N", help="default for a new zoo: 0")
    build.add_argument("--mlflow-uri", metavar="URI", help="tracking server (default: sqlite in the zoo's folder)")
    build.add_argument("--dry-run", action="store_true", help="say what it would cost, train nothing")

    meta = _command(commands, "meta-train", _meta_train, "learn the space in which datasets lie near their networks")
    _zoo_option(meta)
    meta.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the space; resumed where it is")
    meta.add_argument("--workers", type=int, default=1, metavar="N", help="of Ray Train (default: 1, in this process)")
    meta.add_argument("--seed", type=int, default=0, metavar="N")

    search = _command(commands, "search", _search, "ask for the networks to start from on a new dataset", SPEC_HELP)
    search.add_argument("spec", metavar="SPEC")
    _zoo_option(search)
    search.add_argument("--space", type=Path, required=True, metavar="DIR", help="folder made by meta-train")
    search.add_argument("--top", type=int, default=10, metavar="N", help="how many networks (default: 10)")
    search.add_argument("--max-params", type=float, metavar="N", help="parameters at most, as 5e6")
    search.add_argument("--max-flops", type=float, metavar="N", help="multiply-accumulates of one image at most")
    search.add_argument("--max-latency-ms", type=float, metavar="MS", help="median latency on this machine at most")

    tune = _command(
        commands, "fine-tune", _fine_tune, "train a row's network on a new dataset and export it", SPEC_HELP
    )
    tune.add_argument("spec", metavar="SPEC")
    _zoo_option(tune)
    tune.add_argument("--row", required=True, metavar="KEY", help="key of a row, or enough of its beginning")
    tune.add_argument("--out", type=Path, required=True, metavar="DIR", help="for weights.safetensors and config.json")
    tune.add_argument("--epochs", type=int, default=10, metavar="N", help="default: 10")

    zoo = commands.add_parser("zoo", help="look at a zoo, or verify it", description="Look at a zoo, or verify it.")
    parts = zoo.add_subparsers(title="commands", metavar="COMMAND", required=True)
    show = _command(parts, "show", _zoo_show, "list the rows of a zoo")
    _zoo_option(show)
    show.add_argument(
        "--journal", action="store_true", help="show what happened to it instead: runs, decisions, failures"
    )
    verify = _command(parts, "verify", _zoo_verify, "check that every row's weights exist, match, load and are finite")
    _zoo_option(verify)
    verify.add_argument(
        "--retrain", type=int, default=0, metavar="N", help="train N rows again: they must give the stored accuracy"
    )
    verify.add_argument(
        "--init", type=Path, metavar="PATH", help="checkpoint of the supernet that the zoo was begun with"
    )
    return parser


def _command(commands, name: str, do, summary: str, details: str | None = None) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog="\n\n".join(part for part in (details, EXIT_HELP) if part),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(do=do)
    parser.add_argument("--json", metavar="FILE", help="write the summary as JSON to FILE, - for standard output")
    return parser


def _zoo_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--zoo", required=True, metavar="URI", help="folder or URI of the zoo")


if __name__ == "__main__":
    main()
