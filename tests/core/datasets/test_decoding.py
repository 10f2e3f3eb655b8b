"""Decoding in processes gives what decoding here gives, in its order; a crash costs one picture."""

import os
from functools import partial

import numpy as np
import psutil
import pytest

from tans_core.datasets.decoding import PROCESSES_FROM, decoded
from tans_core.datasets.found import Found
from tans_core.datasets.pictures import Picture, Rejected
from tests.trees import encoded, picture

SOUND = [Found(f"{number}.png", "x", False, partial(bytes, encoded(picture(str(number))))) for number in range(300)]
GONE = Found("gone.png", "x", False, partial(open, "/no/such/file"))  # type: ignore[arg-type]
HTML = Found("page.png", "x", False, partial(bytes, b"<html>"))
CRASH = Found("crash.png", "x", False, partial(os._exit, 1))


def results(pictures, count):
    return [result for chunk in decoded(pictures, count, 8) for result in chunk]


def test_processes_and_threads_give_the_same_in_the_same_order():
    pictures = [*SOUND[:100], GONE, *SOUND[100:], HTML]
    here, there = results(pictures, 1), results(pictures, PROCESSES_FROM)
    assert [found for found, _ in here] == [found for found, _ in there] == pictures
    for (_, one), (_, other) in zip(here, there):
        if isinstance(one, Picture) and isinstance(other, Picture):
            assert one.image_hash == other.image_hash
            assert np.array_equal(one.scaled_CHW, other.scaled_CHW)
        else:
            assert one == other
    assert [one for _, one in here if isinstance(one, Rejected)] == [
        Rejected("cannot be read: No such file or directory"),
        Rejected("is HTML, not a picture"),
    ]


def test_a_decoder_that_crashes_costs_one_picture():
    pictures = [*SOUND[:40], CRASH, *SOUND[40:90], CRASH]
    bad = [found for found, result in results(pictures, PROCESSES_FROM) if isinstance(result, Rejected)]
    assert bad == [CRASH, CRASH]


@pytest.mark.parametrize("stop", [False, True])
def test_no_process_is_left(stop):
    before = {child.pid for child in psutil.Process().children()}
    stream = decoded(SOUND, PROCESSES_FROM, 8)
    next(stream)
    assert {child.pid for child in psutil.Process().children()} - before
    if stop:
        stream.close()
    else:
        list(stream)
    assert {child.pid for child in psutil.Process().children()} == before


def test_processes_are_as_many_as_the_cpus_that_may_be_used(monkeypatch):
    cpus = (os.cpu_count() or 1) + 1
    monkeypatch.setattr("tans_core.datasets.decoding.usable_cpus", lambda: cpus)
    before = {child.pid for child in psutil.Process().children()}
    stream = decoded(SOUND, PROCESSES_FROM, 8)
    next(stream)
    assert len({child.pid for child in psutil.Process().children()} - before) == cpus
    stream.close()


def test_nothing_is_imported_from_the_folder_one_stands_in(tmp_path, monkeypatch):
    for name in ("PIL", "numpy", "pickle", "tans_core"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the user')")
    monkeypatch.chdir(tmp_path)
    assert all(isinstance(result, Picture) for _, result in results(SOUND, PROCESSES_FROM))
