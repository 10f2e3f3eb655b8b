"""One driver at a time; a dead one's place is taken, a living one's never."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
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
        stderr=subprocess.PIPE,
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


def hours_from_now(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


ELSEWHERE = {"host": "far-away", "machine": "another boot", "pid": 1}
CLOCKS = pytest.mark.parametrize("clock", [-27_000.0, -0.001, 0.0, 27_000.0])  # hours that the other machine's is ahead


@contextmanager
def another_heart(zoo: Path, clock: float) -> Iterator[None]:
    """The lock of a driver on another machine, which lives."""
    write_holder(zoo, **ELSEWHERE, heartbeat=hours_from_now(clock))
    dead = threading.Event()

    def beat() -> None:
        while not dead.wait(0.05):
            with (zoo / "driver.lock").open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                kept = json.loads(file.read())
                file.seek(0)
                file.write(json.dumps({**kept, "heartbeat": hours_from_now(clock)}).ljust(1024).encode())

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        dead.set()
        thread.join()


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


@CLOCKS
def test_a_holder_elsewhere_is_dead_when_its_heart_stands_still_whatever_its_clock_says(tmp_path: Path, capsys, clock):
    write_holder(tmp_path, **ELSEWHERE, heartbeat=hours_from_now(clock))
    began = time.monotonic()
    with ZooLock(tmp_path, "run-b", silent_s=1.0):
        assert content(tmp_path)["run"] == "run-b" and time.monotonic() - began >= 1.0
    assert "waiting for a sign of life of run run-elsewhere (process 1 on far-away)" in capsys.readouterr().err


@CLOCKS
def test_a_holder_elsewhere_lives_while_its_heart_beats_whatever_its_clock_says(tmp_path: Path, clock):
    with another_heart(tmp_path, clock):
        with pytest.raises(ZooError, match=r"on far-away\) has held .* and is alive: .*end it there"):
            ZooLock(tmp_path, "run-b", silent_s=30.0).__enter__()
        assert content(tmp_path)["run"] == "run-elsewhere"


def test_who_waits_goes_on_after_the_holder(tmp_path: Path, capsys):
    new_zoo(tmp_path)
    taken = threading.Event()

    def wait() -> None:
        with ZooLock(tmp_path, "run-b", wait=True, silent_s=0.1):
            taken.set()

    with another_driver(tmp_path) as driver:
        thread = threading.Thread(target=wait)
        thread.start()
        assert not taken.wait(2.0), "a holder on this machine lives while its process does"
        driver.communicate("", timeout=500)
    thread.join(60)
    assert taken.is_set() and not (tmp_path / "driver.lock").exists()
    assert f"waiting for the end of run run-of-another (process {driver.pid} on " in capsys.readouterr().err


def test_e13_who_leaves_at_a_second_ctrl_c_leaves_no_lock(tmp_path: Path):
    new_zoo(tmp_path)
    with another_driver(tmp_path) as driver:
        driver.send_signal(signal.SIGINT)
        assert driver.stderr is not None and "press Ctrl-C to leave at once" in driver.stderr.readline()
        assert (tmp_path / "driver.lock").exists()
        driver.send_signal(signal.SIGINT)
        assert driver.wait(60) == 130
        assert not (tmp_path / "driver.lock").exists()


def test_a_signal_while_the_lock_is_taken_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(_thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ZooLock(tmp_path, "run-a").__enter__()
    assert not (tmp_path / "driver.lock").exists()


def test_the_heart_beats_while_the_lock_is_held(tmp_path: Path):
    with ZooLock(tmp_path, "run-a", heartbeat_s=0.05):
        before = content(tmp_path)["heartbeat"]
        ends = time.monotonic() + 300
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
    ends = time.monotonic() + 300
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


@pytest.mark.parametrize("room", [0, 1000], ids=["no byte", "half of it"])
def test_e9_a_full_disk_is_a_sentence_and_leaves_no_lock(tmp_path: Path, room: int):
    """A limit on the size of files is a full disk that needs no rights."""
    lines = f"""
        import resource
        from pipeline.zoo import ZooLock
        resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
        try:
            ZooLock({str(tmp_path)!r}, "run-a").__enter__()
        except Exception as error:
            print(type(error).__name__, error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(lines)], capture_output=True, text=True)
    assert re.fullmatch(r"ZooError .*driver\.lock cannot be written \(.+\): make room there and .*\n", done.stdout), (
        done
    )
    assert not (tmp_path / "driver.lock").exists()
