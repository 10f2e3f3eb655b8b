"""A traceback from a worker tells whether a file there stands before a module of ours."""

from pipeline.running.shadows import shadow_on_worker

TRACEBACK = """Traceback (most recent call last):
  File "/opt/tans/pipeline/pools.py", line 13, in <module>
    from tans_core.cross_modal.describe import describe
  File "{file}", line 11, in <module>
{error}"""


def test_a_file_that_raises_while_it_is_imported_is_named():
    said = shadow_on_worker(TRACEBACK.format(file="/mnt/her/lib/torch/__init__.py", error="KeyError: 'mine'"))
    assert said is not None
    assert said.startswith("/mnt/her/lib/torch/__init__.py on a worker shadows the torch that tans needs (KeyError")


def test_a_file_that_has_not_what_we_import_is_named():
    error = "ImportError: cannot import name 'Tensor' from 'torch' (/mnt/her/lib/torch.py)"
    said = shadow_on_worker(TRACEBACK.format(file="/opt/tans/tans_core/cross_modal/features.py", error=error))
    assert said is not None and said.startswith("/mnt/her/lib/torch.py on a worker shadows the torch")


def test_an_installed_library_that_fails_on_a_worker_is_no_shadow():
    installed = "/usr/lib/python3.11/site-packages/torch/__init__.py"
    assert shadow_on_worker(TRACEBACK.format(file=installed, error="OSError: libcudart.so: no such file")) is None
    assert shadow_on_worker("The actor died: out of memory") is None
