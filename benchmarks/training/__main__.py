"""Starting weights, cheap pairs and the loop that trains them, beside what people do without us.

Each section adds its keys to one JSON; `--only` runs some of them again and leaves the others as they are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import write
from benchmarks.training import engine

SECTIONS: dict[str, Callable[[Path], dict[str, Any]]] = {"engine": engine.measure}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the collection: meta-train/")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/training.json"))
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section; may be given again")
    given = parser.parse_args()
    found = json.loads(given.out.read_text()) if given.out.exists() else {}
    for name in given.only or SECTIONS:
        found |= SECTIONS[name](given.data)
        write(given.out, found)


if __name__ == "__main__":
    main()
