"""The makers' own environment: what draws, reads sound and packs files, by a lock that users do not pay for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.collection.packages import CollectionError

LOCK = Path(__file__).with_name("requirements.lock")


def makers_python(folder: Path, lock: Path = LOCK) -> Path:
    """Python of an environment with what the lock says, made in the folder unless it is there.

    Raises:
        CollectionError: it cannot be made.
    """
    python, made_of = folder / "bin" / "python", folder / "made-of.lock"
    if not (made_of.exists() and made_of.read_text() == lock.read_text()):
        shutil.rmtree(folder, ignore_errors=True)
        _run("-m", "venv", "--without-pip", str(folder))
        of_lock = ("--quiet", "--no-deps", "--require-hashes", "-r", str(lock))
        _run("-m", "pip", "--python", str(python), "install", *of_lock)
        made_of.write_text(lock.read_text())  # last: what was cut off is made anew
    return python


def _run(*module: str) -> None:
    done = subprocess.run((sys.executable, *module), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise CollectionError(
            f"the makers' environment could not be made; {module[1]} said: {said}. See that its registry is "
            f"within reach as pip is configured here, and call again"
        )
