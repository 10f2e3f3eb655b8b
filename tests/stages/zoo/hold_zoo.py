"""Hold a zoo's lock until the end of standard input or a second Ctrl-C: the other driver in the tests of the lock."""

import sys

from pipeline.running.signals import stop_on_signals
from pipeline.zoo import ZooLock

lock = ZooLock(sys.argv[1], "run-of-another")
with stop_on_signals(goes_on=True) as stop, stop.patiently():
    stop.before_leaving(lock.let_go_at_once)
    with lock:
        print("held", flush=True)
        sys.stdin.read()
