"""The command `tans`: looks whether a file of the user's stands before our packages, then hands over to them.

Python takes the first `pipeline` on its path, and that is a name which users have too. This file needs nothing but
Python itself.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path


def main() -> None:
    for package in ("pipeline", "tans_core"):
        found = PathFinder.find_spec(package)
        place = Path(found.origin).resolve() if found and found.origin else None
        if place not in (None, Path(__file__).resolve().parent / package / "__init__.py"):
            assert place is not None
            file = f"{package}/" if place.name == "__init__.py" else place.name
            folder = place.parents[1] if place.name == "__init__.py" else place.parent
            sys.exit(
                f"tans: {file} in {folder} shadows ours: rename it, or start tans where it is neither in the folder "
                "nor in PYTHONPATH"
            )
    from pipeline.cli import main as run

    run()


if __name__ == "__main__":
    main()
