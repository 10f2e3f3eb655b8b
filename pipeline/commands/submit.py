"""`tans submit`: its flags, the call, its words."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.commands.parsing import command
from pipeline.running.output import Output
from pipeline.running.progress import say
from tans_core.errors import ConfigError

_DETAILS = """\
The cluster's nodes have tans; nothing of this folder is sent, and what the command names is on the head. A command
that joins a cluster joins that one. While a job of the same words is at work no second one is begun. A stop by
`ray job stop` leaves the command 40 s to finish and commit.
Example: tans submit --follow -- build-zoo --zoo /data/zoo --datasets starter:all --pairs 80 --workers 8"""
_HERE = "http://127.0.0.1:8265"
_PATHS = ("folder:", "parquet:")


@dataclass(frozen=True, kw_only=True)
class SubmitSummary:
    """What `tans submit --json` prints."""

    job: str  # Ray's submission id
    begun: bool  # False: a job of the same words was at work
    status: str | None = None  # SUCCEEDED, FAILED or STOPPED; None where it was not followed
    exit_status: int | None = None  # of the command


def add(commands, whole: argparse.ArgumentParser) -> None:
    """Add the command; `whole` is the parser of what it hands in."""
    parser = command(
        commands, "submit", partial(run, whole), "hand a command to a Ray cluster as a job", _DETAILS, goes_on=True
    )
    parser.add_argument("--follow", action="store_true", help="show its log until it ends, and end as it does")
    parser.add_argument(
        "--address",
        metavar="URL",
        help=f"of the cluster's dashboard (default: RAY_API_SERVER_ADDRESS, as for ray job submit; else {_HERE})",
    )
    parser.add_argument("words", nargs="+", metavar="COMMAND", help="as tans takes it, with -- in front")
    parser.usage = "tans submit [-h] [--json FILE] [--follow] [--address URL] -- COMMAND [FLAGS]"


def run(whole: argparse.ArgumentParser, given: argparse.Namespace, output: Output) -> int:
    try:
        words = _checked(given.words, whole.parse_args(given.words))
    except SystemExit as leave:  # the parser has said why
        return int(leave.code or 0)
    url = given.address or os.environ.get("RAY_API_SERVER_ADDRESS") or _HERE
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"the cluster's dashboard is at http://HEAD:8265 or the like, and {url!r} is no such address")
    from pipeline.on_ray.submit import Jobs

    jobs = Jobs(url)
    handed = jobs.hand_in(["tans", *words])
    begun = f"job {handed.job} is handed in" if handed.begun else f"job {handed.job} works on this already"
    if not given.follow:
        output.result(SubmitSummary(job=handed.job, begun=handed.begun), begun)
        return 0
    say(f"{begun}; Ctrl-C leaves it at work, ray job stop {handed.job} stops it")
    ended = jobs.follow(handed.job, _show)
    summary = SubmitSummary(job=handed.job, begun=handed.begun, status=ended.status, exit_status=ended.exit_status)
    text = f"job {handed.job}: {ended.status}"
    output.result(summary, text if ended.status == "SUCCEEDED" or not ended.message else f"{text}, {ended.message}")
    return 0 if ended.status == "SUCCEEDED" else ended.exit_status or 1


def _checked(words: list[str], inner: argparse.Namespace) -> list[str]:
    """The words as they are to be run on the head.

    Raises:
        ConfigError: they would not mean there what they mean here.
    """
    if words[0] == "submit":
        raise ConfigError("what is submitted is the command itself: leave the second submit out")
    for name, value in vars(inner).items():
        for each in value if isinstance(value, list) else [value]:
            place = each if name in ("zoo", "json") or str(each).startswith(_PATHS) or isinstance(each, Path) else None
            if place is not None and _relative(str(place)):
                raise ConfigError(
                    f"{str(place)!r} is looked for in a folder of Ray's when the job starts on the head: write the "
                    "whole path, as the head sees it"
                )
    joins = "address" in inner and inner.address is None
    return [*words, "--address", "auto"] if joins else words


def _relative(place: str) -> bool:
    for kind in _PATHS:
        place = place.removeprefix(kind)
    return place != "-" and "://" not in place and not place.startswith(("/", "~"))


def _show(text: str) -> None:
    """The job's log is progress: it goes to standard error."""
    with contextlib.suppress(BrokenPipeError, ValueError, OSError):
        sys.stderr.write(text)
        sys.stderr.flush()
