"""`tans search`: its flags, the call, its words."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.parsing import SPEC_HELP, command, number, threads_option, zoo_option
from pipeline.running.output import Output, latency_cell, percent, shown, table
from tans_core.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.network.side_by_side import SideBySide
    from pipeline.space.answers import SearchEntry
    from pipeline.space.search import SearchResult

_BEHIND = 100  # entries that are asked for behind those shown, so that there are rows and starting weights to tune


def add(commands) -> None:
    parser = command(commands, "search", run, "ask for the networks to start from on a new dataset", SPEC_HELP)
    parser.add_argument("spec", metavar="SPEC")
    zoo_option(parser)
    parser.add_argument("--space", type=Path, required=True, metavar="DIR", help="folder made by meta-train")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="how many networks (default: 10)")
    parser.add_argument(
        "--probe",
        type=int,
        metavar="K",
        help="ask K rows of the nearest datasets, and the starting weights in their shapes, what they know before "
        "training, and rank by it (default: 8, some seconds; 0: none)",
    )
    parser.add_argument("--max-params", type=number, metavar="N", help="parameters at most, as 3M or 5e6")
    parser.add_argument("--max-flops", type=number, metavar="N", help="multiply-accumulates of one image at most")
    parser.add_argument("--max-latency-ms", type=number, metavar="MS", help="latency on this machine at most")
    parser.add_argument(
        "--max-memory-mb", type=number, metavar="MB", help="peak of inference at most: weights and maps"
    )
    parser.add_argument(
        "--latency-table",
        type=Path,
        metavar="FILE",
        help="made by latency-table, also on another device (default: the zoo's own of this machine)",
    )
    parser.add_argument(
        "--fine-tune",
        type=int,
        metavar="N",
        help="fine-tune the N best rows, the starting weights in their shapes and EfficientNet-Lite0 side by side, "
        "and write the best to --out",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="with --fine-tune: folder for the network")
    parser.add_argument("--minutes", type=float, metavar="M", help="with --fine-tune: the time for all (default: 10)")
    parser.add_argument("--overwrite", action="store_true", help="with --fine-tune: replace the network that DIR holds")
    parser.add_argument("--seed", type=int, metavar="N", help="with --fine-tune (default: 0)")
    threads_option(parser)


@dataclass(frozen=True, kw_only=True)
class SearchedAndTuned:
    """What `tans search --fine-tune N --json` prints."""

    search: SearchResult
    side_by_side: SideBySide


def run(given: argparse.Namespace, output: Output) -> int:
    _check(given)
    from pipeline.space.search import PROBED, search

    found = search(
        given.spec,
        given.zoo,
        given.space,
        top=given.top if given.fine_tune is None else given.top + given.fine_tune + _BEHIND,
        probe=PROBED if given.probe is None else given.probe,
        max_params=given.max_params,
        max_flops=given.max_flops,
        max_latency_ms=given.max_latency_ms,
        max_memory_mb=given.max_memory_mb,
        latency_table=given.latency_table,
        threads=given.threads,
    )
    shown_alone = replace(found, entries=found.entries[: given.top])
    text = words(shown_alone, given.spec, given.zoo)
    if given.fine_tune is None:
        output.result(shown_alone, text)
        return 0
    tuned = _side_by_side(given, found)
    output.result(SearchedAndTuned(search=shown_alone, side_by_side=tuned), f"{text}\n\n{leaderboard(tuned)}")
    return 0


def _check(given: argparse.Namespace) -> None:
    """Raise a ConfigError before anything is read, for options that do not go together."""
    if given.fine_tune is None:
        for name in ("out", "minutes", "seed", "overwrite"):
            if getattr(given, name) not in (None, False):
                raise ConfigError(f"--{name} goes with --fine-tune N alone: give N, or leave it out")
    elif given.fine_tune < 1:
        raise ConfigError(f"--fine-tune must be at least 1, got {given.fine_tune}")
    elif given.out is None:
        raise ConfigError("--fine-tune writes a network: name a folder for it with --out DIR")


def _side_by_side(given: argparse.Namespace, found: SearchResult) -> SideBySide:
    from pipeline.network.side_by_side import MINUTES, side_by_side
    from tans_core.retrieval.constraints import Limits

    rows = [each.key for each in found.entries if each.dataset is not None][: given.fine_tune]
    starts = [each.key for each in found.entries if each.dataset is None][:1]
    return side_by_side(
        given.spec,
        given.zoo,
        [*rows, *starts],
        given.out,
        minutes=MINUTES if given.minutes is None else given.minutes,
        limits=Limits(
            max_params=given.max_params,
            max_flops=given.max_flops,
            max_latency_ms=given.max_latency_ms,
            max_memory_mb=given.max_memory_mb,
        ),
        seed=given.seed or 0,
        threads=given.threads,
        overwrite=given.overwrite,
    )


def leaderboard(tuned: SideBySide) -> str:
    """The answer of a fine-tuning side by side, for people."""
    best = tuned.best
    rows = [
        (
            each.name,
            each.from_dataset or ("ImageNet" if each.name == "lite0" else ""),
            f"{percent(each.val_accuracy)} ({100 * each.val_interval[0]:.0f} to {100 * each.val_interval[1]:.0f})",
            "closed form" if each.epochs == 0 else f"{each.epochs} epochs",
            each.image_size,
            each.params,
            each.wall_s,
        )
        for each in tuned.leaderboard
    ]
    low, high = best.test_interval
    return "\n".join(
        [
            table(("network", "trained on", "validation", "best by", "px", "params", "seconds"), rows),
            *(f"left out: {reason}" for reason in tuned.left_out),
            f"validation: of {best.val_total} images, 95 % interval; they chose, so the first looks better than it is",
            f"test, read once, for the first alone: {percent(best.test_accuracy)} of {best.test_total} images "
            f"(95 %: {100 * low:.1f} to {percent(high)}); written to {best.out}",
        ]
    )


def words(found: SearchResult, spec: str, zoo: str) -> str:
    """The answer for people."""
    error = "" if found.predicted_error is None else f" +- {100 * found.predicted_error:.0f}"
    columns: dict[str, list[Any]] = {
        "row": [each.key for each in found.entries],
        "trained on": [each.dataset or "" for each in found.entries],
        "similarity": [each.similarity for each in found.entries],
        "predicted here": [percent(each.predicted_accuracy) + error for each in found.entries],
        "before training": [_before(each) for each in found.entries],
        "measured there": [_there(each) for each in found.entries],
        "params": [each.params for each in found.entries],
        "flops": [each.flops for each in found.entries],
        "latency ms": [latency_cell(each.latency_ms, each.latency_predicted) for each in found.entries],
        "memory MB": [each.memory_mb for each in found.entries],
    }
    if not found.rows_probed:
        del columns["before training"]
    if found.entries[0].memory_mb is None:
        del columns["memory MB"]
    unseen = "not known" if found.predicted_error is None else f"{error.strip()} points"
    first = found.entries[0]
    fine_tune = ["tans", "fine-tune", spec, "--zoo", zoo, "--row", first.key, "--out", "network"]
    query = shown(found.query)
    text = [
        table(list(columns), list(zip(*columns.values(), strict=True))),
        *(f"{_short(each.key)}: {'; '.join(each.why)}" for each in found.entries),
        f"predicted here: accuracy on {query} after training from the starting weights, as each row of the zoo was "
        f"trained; what a source adds is not in it; on data it has not seen: {unseen}",
        "measured there: validation accuracy on the dataset it was trained on, beside what chance gives on it",
        f"{found.rows_feasible} of {found.rows_searched} rows are feasible; searched in {found.milliseconds:.1f} ms, "
        f"after {found.features_s:.1f} s for the features of {query}.",
    ]
    if found.rows_probed:
        text.append(
            f"before training: a classifier in closed form on the network's features, of training images held out by "
            f"turns, near copies together (95 % interval); {found.rows_probed} rows and the starting weights in their "
            f"shapes took {found.probe_s:.1f} s"
        )
    if found.unlike:
        text.append(_unlike(found, query))
    text.append(f"Next: {shlex.join(fine_tune)}")
    if first.dataset is not None:
        text.append(
            f"or the same architecture without a source, from the zoo's starting weights: --row start:{first.key}"
        )
    return "\n".join(text)


def _unlike(found: SearchResult, query: str) -> str:
    near = found.nearest[0]
    return (
        f"Nothing that is feasible is like {query}: the nearest dataset of the zoo is {shown(near.name)} "
        f"({near.similarity:.2f}); of datasets that a space never saw, half had one at {found.bar or 0:.2f} or more. "
        "A source may do harm: compare with the starting weights, or grow the zoo with something nearer"
    )


def _before(entry: SearchEntry) -> str:
    if entry.before_training is None:
        return ""
    low, high = entry.before_training.interval
    return f"{percent(entry.before_training.accuracy)} ({100 * low:.0f} to {100 * high:.0f})"


def _there(entry: SearchEntry) -> str:
    return "" if entry.zoo_accuracy is None else f"{percent(entry.zoo_accuracy)}, chance {percent(entry.zoo_chance)}"


def _short(key: str) -> str:
    """A key cut to what is enough to name it."""
    before, colon, row = key.rpartition(":")
    return before + colon + row[:8]
