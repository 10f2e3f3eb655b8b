"""Making a search space: the imports stay light."""

import subprocess
import sys


def test_importing_the_room_imports_neither_ofa_nor_torchvision():
    code = "import sys, tans_core.search_space; print([n for n in ('ofa', 'torchvision') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
