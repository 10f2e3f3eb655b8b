"""Delta's threads do not survive a fork: a forked child is told so, in words, instead of a panic of Rust."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from zoo_examples import new_zoo

FORK = """
    import os, sys
    from pipeline.zoo import Zoo
    there = Zoo.open(sys.argv[1]) if sys.argv[2] == "after" else None
    child = os.fork()
    if child == 0:
        try:
            print({use}, flush=True)
        except Exception as error:
            print(type(error).__name__, error, flush=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    sys.exit(status)
"""
USES = [
    "Zoo.open(sys.argv[1]).row_count()",
    "there.row_count()",
    "len(there.journal.events())",
    "there._rows.read().num_rows",
]


def _forked(zoo: Path, when: str, use: str) -> subprocess.CompletedProcess[str]:
    lines = textwrap.dedent(FORK.format(use=use))
    return subprocess.run([sys.executable, "-c", lines, str(zoo), when], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("use", USES)
def test_a_child_forked_from_a_process_that_used_a_zoo_is_told_what_to_do(tmp_path: Path, use: str):
    new_zoo(tmp_path, rows=1)
    done = _forked(tmp_path, "after", use)
    assert done.stdout.startswith("ZooError this process (") and "start processes by spawn" in done.stdout, done
    assert done.returncode == 0 and done.stderr == ""


def test_a_child_forked_before_that_may_use_it(tmp_path: Path):
    new_zoo(tmp_path, rows=1)
    done = _forked(tmp_path, "before", USES[0])
    assert (done.returncode, done.stdout) == (0, "1\n"), done
