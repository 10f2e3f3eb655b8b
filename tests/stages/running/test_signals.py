"""What a signal does: on the spot where nothing is lost, patiently where work is finished first, then at once."""

import os
import pty
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from pipeline.running.signals import GivenUp, Stopped, handlers_kept, stop_on_signals

PATIENT = """
import time
from pipeline.running.signals import stop_on_signals
with stop_on_signals(goes_on=True) as stop, stop.patiently():
    print("at work", flush=True)
    time.sleep(300)
"""


@pytest.mark.parametrize(
    ("number", "goes_on", "status"),
    [
        (signal.SIGTERM, True, 0),
        (signal.SIGTERM, False, 143),
        (signal.SIGHUP, True, 0),
        (signal.SIGHUP, False, 143),
        (signal.SIGINT, True, 130),
        (signal.SIGINT, False, 130),
    ],
)
def test_e12_e13_e23_a_signal_ends_the_work_with_its_exit_status(number, goes_on, status):
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped, stop_on_signals(goes_on):
        os.kill(os.getpid(), number)
        time.sleep(60)
    assert stopped.value.exit_status == status
    assert signal.getsignal(number) is before


def test_e12_patient_work_is_asked_and_ends_by_itself(capsys):
    with stop_on_signals(goes_on=True) as stop, stop.patiently():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop and stop.name == "SIGTERM"
        with pytest.raises(GivenUp):
            stop.raise_if_asked()
    assert "what runs has 12 s to finish; press Ctrl-C to leave at once" in capsys.readouterr().err


def test_a_closed_terminal_ends_a_build_as_sigterm_does():
    lines = """
        import time
        from pipeline.running.signals import Stopped, stop_on_signals
        try:
            with stop_on_signals(goes_on=True):
                print("at work", flush=True)
                time.sleep(300)
        except Stopped as stopped:
            print(stopped, stopped.exit_status)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(lines)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=500)[0] == "SIGHUP 0\n"


IGNORING = """
import os, signal
number = getattr(signal, {name!r})
assert signal.getsignal(number) == signal.SIG_IGN, "as nohup, or a shell's background, hands it on"
from pipeline.running.signals import handlers_kept, stop_on_signals
with stop_on_signals(goes_on=True) as stop:
    with handlers_kept():
        os.kill(os.getpid(), number)
    os.kill(os.getpid(), number)
print("went on", bool(stop))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGTERM"])
def test_a_signal_that_the_caller_ignores_stays_ignored(name):
    ignoring = f'trap \'\' {name.removeprefix("SIG")}; exec "$0" -c "$1"'
    command = ["sh", "-c", ignoring, sys.executable, IGNORING.format(name=name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "went on False\n"), done.stderr


def test_a_build_in_the_background_of_a_shell_outlives_its_ctrl_c():
    """A shell without job control starts what stands before `&` with SIGINT ignored."""
    lines = IGNORING.format(name="SIGINT")
    done = subprocess.run(["sh", "-c", '"$0" -c "$1" & wait', sys.executable, lines], capture_output=True, text=True)
    assert done.stdout == "went on False\n", done.stderr


def test_rays_processes_do_not_hear_the_terminal_close_and_we_do():
    """Who is born within `handlers_kept` is what Ray starts; the signal itself waits until it is over."""
    with pytest.raises(Stopped) as stopped, stop_on_signals(goes_on=True):
        with handlers_kept():
            child = subprocess.Popen(
                [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(300)"], stdout=-1
            )
            assert child.stdout is not None and child.stdout.readline() == b"up\n"
            child.send_signal(signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(60)
    assert stopped.value.number == signal.SIGHUP
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.5)
    child.terminate()
    assert child.wait(60) == -signal.SIGTERM
    child.stdout.close()


def test_e12_whoever_takes_sigterms_handler_meanwhile_gives_it_back():
    def rays(_number, _frame):
        sys.exit(15)

    with pytest.raises(Stopped) as stopped, stop_on_signals(goes_on=True), handlers_kept():
        signal.signal(signal.SIGTERM, rays)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    assert stopped.value.exit_status == 0


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_e13_the_second_ctrl_c_leaves_at_once(first):
    process = subprocess.Popen(
        [sys.executable, "-c", PATIENT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "at work\n"
    process.send_signal(first)
    said = process.stderr.readline()
    assert "press Ctrl-C to leave at once" in said
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=500)[1]
    assert (process.returncode, errors) == (130, "")


def test_e13_after_the_second_ctrl_c_the_prompt_stands_on_a_line_of_its_own():
    ours, its = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", PATIENT], stdout=subprocess.PIPE, stderr=its, text=True)
    os.close(its)
    assert process.stdout is not None and process.stdout.readline() == "at work\n"
    seen = b""
    process.send_signal(signal.SIGINT)
    while b"leave at once\r\n" not in seen:
        seen += os.read(ours, 1000)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert os.read(ours, 1000) == b"\r\n"
    os.close(ours)
    process.stdout.close()


def test_other_threads_have_no_signals_and_work_all_the_same():
    done = []

    def work():
        with stop_on_signals(goes_on=True) as stop:
            done.append(bool(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [False]
