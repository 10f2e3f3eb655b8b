"""Hold a zoo's lock until the end of standard input: the other driver in the tests of the lock."""

import sys

from pipeline.zoo import ZooLock

with ZooLock(sys.argv[1], "run-of-another"):
    print("held", flush=True)
    sys.stdin.read()
