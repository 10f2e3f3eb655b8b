"""What a signal does: on the spot where nothing is lost, patiently where work is finished first, then at once."""

import os
import signal
import subprocess
import sys
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
    [(signal.SIGTERM, True, 0), (signal.SIGTERM, False, 143), (signal.SIGINT, True, 130), (signal.SIGINT, False, 130)],
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
    errors = process.communicate(timeout=60)[1]
    assert (process.returncode, errors) == (130, "")


def test_other_threads_have_no_signals_and_work_all_the_same():
    done = []

    def work():
        with stop_on_signals(goes_on=True) as stop:
            done.append(bool(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [False]
