"""What the parsers of all commands share."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable

_SPEC_FORMS = """\
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

SPEC_HELP = f"""\
SPEC (quote what a shell would read):
  starter:NAME                         a small real dataset that comes with tans
{_SPEC_FORMS}"""

SPECS_HELP = f"""\
SPEC, one or more (quote what a shell would read):
  starter:NAME, starter:all            small real datasets that come with tans
{_SPEC_FORMS}"""

SETTINGS_HELP = """\
--config FILE is JSON or, with the ending .toml, TOML with settings of the training; those it leaves out stay as they
are. A space's own config.json is one, so that another zoo is learned in the same way.
  dim, hidden, instances, dropout    places' and layers' width, images of a dataset in a step, share of inputs dropped
  steps, evaluate_every, validation_draws
  loss                               infonce (temperature), hinges or printed (margin)
  attraction, keep, predictor        weights: networks to their dataset, queries where they were, predicted accuracy
  peak_lr, weight_decay"""

EXIT_HELP = """\
exit status: 0 done (build-zoo, meta-train, sweep: or stopped by SIGTERM or a closed terminal with everything kept),
1 failed, 2 wrong usage or a wrong setting: nothing was begun, 130 Ctrl-C, 143 SIGTERM or a closed terminal"""


def command(
    commands, name: str, do: Callable, summary: str, details: str | None = None, goes_on: bool = False
) -> argparse.ArgumentParser:
    """Add a command; `goes_on`: stopped, it is not undone but goes on when it is called again."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog="\n\n".join(part for part in (details, EXIT_HELP) if part),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(do=do, goes_on=goes_on)
    parser.add_argument("--json", metavar="FILE", help="write the summary as JSON over FILE, - for standard output")
    return parser


def threads_option(parser: argparse.ArgumentParser) -> None:
    """For what computes in this process."""
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="of torch (default: 1); another number, another result"
    )


def init_option(parser: argparse.ArgumentParser, use: str) -> None:
    """Starting weights."""
    parser.add_argument(
        "--init",
        metavar="START",
        help=f"{use}: starter, lite0, random, imagenet, a file, or its address (#sha256=HEX behind it checks it)",
    )


_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d*)?")
_SUFFIXES = {"k": 1e3, "M": 1e6, "G": 1e9}


def number(text: str) -> float:
    """A limit as people write it: 3000000, 3,000,000, 3e6, 3M, 1.5G."""
    digits, times = (text[:-1], _SUFFIXES[text[-1]]) if text[-1:] in _SUFFIXES else (text, 1.0)
    try:
        value = float(digits.replace(",", "") if _THOUSANDS.fullmatch(digits) else digits) * times
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is no number: write it as 3000000, 3,000,000, 3e6, 3M or 1.5G")
    return value


def zoo_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--zoo", required=True, metavar="URI", help="folder or URI of the zoo")
