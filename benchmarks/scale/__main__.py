"""A zoo of 14,000 rows, the paper's size: does it stay as quick and as small as it began?

Each section adds its keys to one JSON; `--only` runs some of them again and leaves the others as they are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import write
from benchmarks.scale import builds, commits, decisions, simulator, surrogates

SECTIONS: dict[str, Callable[[Path], dict[str, Any]]] = {  # each has a folder to work in
    "commits": commits.measure,
    "decisions": decisions.measure,
    "simulator": simulator.measure,
    "surrogates": surrogates.measure,
    "builds": builds.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/scale.json"))
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section; may be given again")
    given = parser.parse_args()
    found = json.loads(given.out.read_text()) if given.out.exists() else {}
    for name in given.only or SECTIONS:
        found |= SECTIONS[name](given.out.with_suffix("") / name)
        write(given.out, found)


if __name__ == "__main__":
    main()
