"""What Ray's start needs is looked for before anything is read or made; what fails is said in a line with its cure."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from pipeline.growing.build_zoo import build_zoo
from pipeline.on_ray.machine import LONGEST_SOCKET, check_ports, our_folder, places
from pipeline.on_ray.messages import last_words, one_line, reason
from pipeline.on_ray.pool import RayPool, check_wish
from pipeline.on_ray.session import ray_session
from tans_core.errors import PoolError

GB = 10**9


@pytest.fixture
def usual(monkeypatch):
    """Sets the folder that Ray would take."""

    def set_to(folder: str) -> None:
        monkeypatch.delenv("RAY_TMPDIR", raising=False)
        monkeypatch.setenv("TMPDIR", folder)

    return set_to


@pytest.fixture
def long_folder(tmp_path) -> str:
    folder = tmp_path / ("a" * 30) / ("b" * 30)
    folder.mkdir(parents=True)
    return str(folder)


# --- folders --------------------------------------------------------------------------------------


def test_a_short_folder_that_can_be_written_is_left_to_ray(usual):
    usual("/tmp")
    found = places(shared_bytes=8 * GB)
    assert (found.parent, found.ray_inside, found.store_bytes, found.said) == (Path("/tmp"), False, None, ())


@pytest.mark.parametrize("fault", ["is 44 bytes too long for the names of sockets", "cannot be written"])
def test_a_folder_that_is_too_long_or_not_ours_gives_way_to_a_short_one(usual, tmp_path, fault):
    folder = "/tmp/" + "x" * (76 - len("/tmp/")) if "long" in fault else "/proc"
    usual(folder)
    found = places(others=("/tmp",), shared_bytes=8 * GB)
    assert found.parent == Path("/tmp") and found.ray_inside
    (said,) = found.said
    assert said.startswith(f"Ray's files go to /tmp: {folder} {fault}")


def test_without_any_folder_each_is_named_with_its_fault(usual, long_folder):
    usual("/proc")
    with pytest.raises(
        PoolError, match=r"\(/proc cannot be written.*; .* too long for the names of sockets\): set TMPDIR"
    ):
        places(others=(long_folder,), shared_bytes=8 * GB)


def test_the_folder_of_ours_leaves_room_for_rays_longest_socket():
    longest = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/dash_TaskEventsHead"
    with our_folder(Path("/var/tmp")) as folder:
        assert len(f"{folder}{longest}") <= LONGEST_SOCKET
        (folder / "ray").mkdir()
    assert not folder.exists()


# --- shared memory --------------------------------------------------------------------------------


@pytest.mark.parametrize(("free", "state"), [(64_000_000, "has 64 MB free"), (0, "has 0 MB free"), (None, "cannot be")])
def test_shared_memory_that_is_tiny_full_or_missing_gives_way_to_the_folder(usual, free, state):
    usual("/tmp")
    found = places(shared_bytes=free)
    assert found.store_bytes and found.store_bytes >= 10**9
    (said,) = found.said
    assert said.startswith(f"/dev/shm {state}") and "Ray's objects lie in /tmp, which is slower" in said


def test_no_room_for_rays_objects_anywhere_is_refused_with_the_cure(usual, monkeypatch):
    usual("/tmp")
    monkeypatch.setattr("pipeline.on_ray.machine.STORE_BYTES", 10**18)
    with pytest.raises(PoolError, match=r"/dev/shm has 64 MB free and /tmp .* too little.*--shm-size"):
        places(shared_bytes=64_000_000)


# --- ports ----------------------------------------------------------------------------------------


def test_a_port_that_is_named_and_taken_is_said_before_datasets_are_read_and_a_zoo_is_made(tmp_path, monkeypatch):
    check_ports()
    import ray.util

    with socket.socket() as other:
        other.bind((ray.util.get_node_ip_address(), 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setenv("RAY_GCS_SERVER_PORT", str(port))
        with pytest.raises(PoolError, match=f"port {port}, which RAY_GCS_SERVER_PORT names, is taken: unset it"):
            build_zoo(str(tmp_path / "zoo"), ["folder:/no/such/folder"], pairs=1, workers=1)
    assert not (tmp_path / "zoo").exists()


# --- CPUs -----------------------------------------------------------------------------------------


@pytest.mark.skipif(os.cpu_count() == 1, reason="a machine of one CPU has none to keep back")
def test_workers_are_as_many_as_this_process_has_cpus_and_fewer_than_the_machine_has_is_said():
    lines = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from pipeline.on_ray.pool import check_wish\n"
        "check_wish(1, None)\n"
        "check_wish(2, None)\n"
    )
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert f"1 of this machine's {os.cpu_count()} CPUs are this process's to use" in done.stderr
    assert "2 workers want one CPU each and this process has 1: use --workers 1" in done.stderr.splitlines()[-1]


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\x1b[36mray::Trainer()\x1b[39m died\\n\\tclass_name: Trainer\\n", "ray::Trainer() died"),
        ("\n\n  \nThe actor died.\n\tactor_id: 9ae6", "The actor died."),
        ('ray::f()\n  File "a.py", line 1, in f\nRuntimeError: no room', "RuntimeError: no room"),
        ("x" * 400, "x" * 300 + "…"),
        (" \n\x1b[0m\n", ""),
    ],
)
def test_rays_messages_are_one_line_without_colours_or_breaks_in_letters(text, line):
    assert one_line(text) == line


def test_a_reason_is_never_empty(tmp_path):
    assert reason(RuntimeError("")) == "RuntimeError"
    assert reason(OSError(28, "No space left on device")) == "[Errno 28] No space left on device"
    assert last_words(tmp_path) is None
    lines = [
        "[2026-11-26 15:13:11,230 I 11643 11643] (raylet) main.cc:283: RAY_ERROR_INFO_CHANNEL is open",
        "[2026-11-26 15:13:28,285 C 11643 11643] (raylet) node_manager.cc:3576:  An unexpected system state has "
        "occurred. You have found a bug. Check failed: statussetor.has_value() Timed out waiting for a port \x1b[0m",
        "*** StackTrace Information ***",
    ]
    (tmp_path / "raylet.out").write_text("\n".join(lines))
    assert last_words(tmp_path) == "raylet.out: statussetor.has_value() Timed out waiting for a port"


# --- the real thing -------------------------------------------------------------------------------


@pytest.mark.ray
def test_a_start_that_fails_in_the_end_leaves_no_zoo_and_no_process_and_has_a_reason(tmp_path, monkeypatch):
    """What no look beforehand can find: here the user allows Ray no time for its own beginning."""
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "0")
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(PoolError) as failed:
        build_zoo(str(tmp_path / "zoo"), ["starter:lfw-faces"], pairs=1, preset_name="smoke", workers=1)
    words = str(failed.value)
    assert "Ray cannot be started on this machine (" in words and "machine ()" not in words and "\n" not in words
    assert not (tmp_path / "zoo").exists()
    _, alive = psutil.wait_procs(set(psutil.Process().children(recursive=True)) - before, timeout=30)
    assert not alive


@pytest.mark.ray
def test_ray_starts_with_a_long_temporary_folder_and_leaves_nothing_of_its_files(usual, long_folder, capsys):
    usual(long_folder)
    tempfile.tempdir = None  # it remembers
    check_wish(1, None)
    with ray_session(None, cpus=1):
        import ray

        ours = Path(ray.get_runtime_context().get_temp_dir()).parent
        assert ours.parent == Path("/tmp") and (ours / "ray" / "session_latest").exists()
        RayPool({}, None, workers=1, gpus_per_worker=0.0).close()  # type: ignore[arg-type]
    assert not ours.exists() and not any(Path(long_folder).iterdir())
    assert f"Ray's files go to /tmp: {long_folder}" in capsys.readouterr().err
    tempfile.tempdir = None


@pytest.mark.ray
def test_ray_starts_without_shared_memory_and_without_its_dashboard(monkeypatch, capsys):
    """The store then lies in a folder, and a dashboard that takes longer than it may costs a line."""
    monkeypatch.setattr("pipeline.on_ray.machine._shared_bytes", lambda: None)
    monkeypatch.setattr("ray._private.ray_constants.RAY_DASHBOARD_STARTUP_TIMEOUT_S", 0)
    with ray_session(None, cpus=1) as session:
        import numpy as np
        import ray

        assert session.dashboard is None
        assert ray.get(ray.put(np.ones(10**7))).sum() == 10**7
        RayPool({}, None, workers=1, gpus_per_worker=0.0).close()  # type: ignore[arg-type]
    assert "Ray's dashboard did not come up" in capsys.readouterr().err


@pytest.mark.ray
def test_a_file_of_the_users_that_shadows_ours_on_a_worker_is_named_in_one_line(tmp_path, monkeypatch):
    """The driver is past its imports when the workers begin theirs."""
    (tmp_path / "pipeline.py").write_text("raise RuntimeError('mine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(PoolError) as refused, ray_session(None, cpus=1):
        RayPool({}, None, workers=1, gpus_per_worker=0.0)  # type: ignore[arg-type]
    assert str(refused.value).startswith(
        f"{tmp_path / 'pipeline.py'} on a worker shadows the pipeline that tans needs (RuntimeError: mine): rename it"
    )
    assert "\n" not in str(refused.value)
