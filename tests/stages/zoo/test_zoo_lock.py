"""One driver at a time; a dead one's place is taken, a living one's never."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from zoo_examples import new_zoo

from pipeline.zoo import ZooLock
from tans_core.errors import ZooError

REPOSITORY = Path(__file__).parents[3]


@contextmanager
def another_driver(zoo: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the zoo."""
    script = str(Path(__file__).with_name("hold_zoo.py"))
    driver = subprocess.Popen(
        [sys.executable, script, str(zoo)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert driver.stdout is not None and driver.stdout.readline() == "held\n"
        yield driver
    finally:
        driver.kill()
        driver.communicate()


def content(zoo: Path) -> dict[str, str]:
    return json.loads((zoo / "driver.lock").read_text())


def write_holder(zoo: Path, **changes: object) -> None:
    """The lock of a process that is not there, changed."""
    (zoo / "driver.lock").unlink(missing_ok=True)
    with ZooLock(zoo, "run-elsewhere"):
        kept = content(zoo)
    (zoo / "driver.lock").write_text(json.dumps({**kept, **changes}))


def seconds_ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_a_second_driver_is_refused_with_the_holder_and_the_way_out_until_the_first_is_killed(tmp_path: Path):
    new_zoo(tmp_path)
    with another_driver(tmp_path) as driver:
        with pytest.raises(ZooError) as refusal, ZooLock(tmp_path, "run-b"):
            pass
        for said in ("run-of-another", f"process {driver.pid}", content(tmp_path)["since"], f"kill {driver.pid}"):
            assert said in str(refusal.value)
        assert content(tmp_path)["run"] == "run-of-another", "a refusal changes nothing"

        driver.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, driver.pid, os.WEXITED | os.WNOWAIT)  # dead, and not reaped by its parent
        with ZooLock(tmp_path, "run-b"):
            assert content(tmp_path)["run"] == "run-b"


def test_a_holder_that_leaves_makes_room(tmp_path: Path):
    with ZooLock(tmp_path, "run-a"):
        assert content(tmp_path)["run"] == "run-a"
    assert not (tmp_path / "driver.lock").exists()
    with pytest.raises(RuntimeError), ZooLock(tmp_path, "run-b"):
        raise RuntimeError
    with ZooLock(tmp_path, "run-c"):
        pass


def test_a_process_id_that_was_used_again_is_not_the_holder(tmp_path: Path):
    write_holder(tmp_path, started="1")
    with ZooLock(tmp_path, "run-b"):
        assert content(tmp_path)["run"] == "run-b"


def test_a_holder_elsewhere_is_dead_after_a_minute_without_a_heartbeat(tmp_path: Path):
    elsewhere = {"host": "far-away", "machine": "another boot", "pid": 1}
    write_holder(tmp_path, **elsewhere, heartbeat=seconds_ago(50))
    with pytest.raises(ZooError, match=r"on far-away.*last sign of life is 5\d s old.*60 s"), ZooLock(tmp_path, "b"):
        pass
    write_holder(tmp_path, **elsewhere, heartbeat=seconds_ago(61))
    with ZooLock(tmp_path, "run-b"):
        assert content(tmp_path)["run"] == "run-b"


def test_the_heart_beats_while_the_lock_is_held(tmp_path: Path):
    with ZooLock(tmp_path, "run-a", heartbeat_s=0.05):
        before = content(tmp_path)["heartbeat"]
        ends = time.monotonic() + 30
        while content(tmp_path)["heartbeat"] == before and time.monotonic() < ends:
            time.sleep(0.05)
        assert content(tmp_path)["heartbeat"] > before


def test_a_driver_whose_place_was_taken_leaves_the_new_holder_alone(tmp_path: Path):
    with ZooLock(tmp_path, "run-a", heartbeat_s=0.01):
        taken_over = json.dumps({**content(tmp_path), "token": "another", "run": "run-b"})
        (tmp_path / "driver.lock").write_text(taken_over)
        time.sleep(0.05)
        assert content(tmp_path)["run"] == "run-b"
    assert content(tmp_path)["run"] == "run-b"


def test_of_many_that_find_a_dead_holder_one_takes_its_place(tmp_path: Path):
    write_holder(tmp_path, started="1")
    gate, inside, refused = threading.Barrier(8), [], []
    leave = threading.Event()

    def drive(run: str) -> None:
        gate.wait()
        try:
            with ZooLock(tmp_path, run):
                inside.append(run)
                leave.wait(30)
        except ZooError:
            refused.append(run)

    threads = [threading.Thread(target=drive, args=(f"run-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    ends = time.monotonic() + 30
    while len(refused) < 7 and time.monotonic() < ends:
        time.sleep(0.01)
    leave.set()
    for thread in threads:
        thread.join()
    assert (len(inside), len(refused)) == (1, 7)


def test_a_lock_that_lost_power_half_written_is_taken(tmp_path: Path):
    (tmp_path / "driver.lock").write_text('{"token": "a", "ru')
    with ZooLock(tmp_path, "run-b"):
        assert content(tmp_path)["run"] == "run-b"


def test_a_place_that_is_not_there_has_no_lock(tmp_path: Path):
    with pytest.raises(ZooError, match="is there a zoo"), ZooLock(tmp_path / "none", "run-a"):
        pass
