"""A build that finds no room ends with a sentence, wherever its first bytes fail. A limit on files is the full disk."""

import subprocess
import sys
import textwrap
from pathlib import Path

from pipeline import Zoo, build_zoo

SMOKE = {"preset_name": "smoke", "workers": 0}
LINES = """
    import resource, sys
    from pipeline.cli import run
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    build = ["build-zoo", "--datasets", "starter:lfw-faces", "--preset", "smoke", "--workers", "0", "--pairs", "2"]
    for zoo, room in zip(sys.argv[1::2], map(int, sys.argv[2::2])):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        status = run([*build, "--zoo", zoo])
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        print(status, flush=True)
"""
ROOMS = {  # bytes that a file may have, and what is said then
    ("old?", 0): "driver.lock cannot be written (File too large): make room there",
    ("old?", 600): "driver.lock cannot be written (No space left on device): make room there",
    ("old?", 1100): "rows cannot be added to",  # the journal
    ("old?", 60_000): "weights",
    ("new?", 0): "driver.lock cannot be written",
    ("new?", 1100): "rows cannot be made: Generic LocalFileSystem error Unable to copy data to file",
}


def test_e9_a_build_on_a_full_disk_ends_with_a_sentence_and_goes_on_when_there_is_room(tmp_path: Path):
    build_zoo(str(tmp_path / "old?"), ["starter:lfw-faces"], pairs=1, **SMOKE)
    given = [text for name, room in ROOMS for text in (str(tmp_path / name), str(room))]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LINES), *given], capture_output=True, text=True, timeout=500
    )
    assert done.stdout.split() == ["1"] * len(ROOMS) and "Traceback" not in done.stderr, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("tans: ")]
    for line, message in zip(said, ROOMS.values(), strict=True):
        assert message in line and "make room" in line and "\x1b" not in line
    assert not list(tmp_path.rglob("driver.lock"))
    assert Zoo.open(tmp_path / "old?").row_count() == 1
    assert build_zoo(str(tmp_path / "new?"), ["starter:lfw-faces"], pairs=1, **SMOKE).pairs == 1
