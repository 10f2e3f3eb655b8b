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
from benchmarks.training import engine, fidelity

SECTIONS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "engine": lambda given: engine.measure(given.data),
    "fidelity": lambda given: fidelity.measure(
        given.data, given.out.parent, given.datasets, given.subnets, given.workers
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the collection: meta-train/")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/training.json"))
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section; may be given again")
    parser.add_argument("--datasets", type=int, default=len(fidelity.DATASETS), help="fidelity: of the first so many")
    parser.add_argument("--subnets", type=int, default=fidelity.SUBNETS, help="fidelity: so many networks of each")
    parser.add_argument("--workers", type=int, default=2, help="fidelity: processes")
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    found = json.loads(given.out.read_text()) if given.out.exists() else {}
    for name in given.only or SECTIONS:
        found |= SECTIONS[name](given)
        write(given.out, found)


if __name__ == "__main__":
    main()
