"""Nothing waits without a word, and nothing waits for ever."""

import time

import pytest

import pipeline.running.waiting
from pipeline.running.waiting import Wait, machine_load, said_when_slow
from tans_core.errors import PoolError


def test_a_wait_says_what_for_and_ends_in_the_way_out(monkeypatch, capsys):
    monkeypatch.setattr(pipeline.running.waiting, "SAY_AFTER_S", 0.05)
    wait = Wait("two workers", 0.3, lambda: PoolError("ask for fewer"))
    with pytest.raises(PoolError, match="ask for fewer"):
        while True:
            assert 0 < wait.check() <= 0.3
            time.sleep(0.01)
    assert capsys.readouterr().err == "waiting for two workers: 0 s, at most 0 s\n"


def test_a_limit_grows_with_the_load_of_the_machine_and_says_why(monkeypatch, capsys):
    monkeypatch.setattr(pipeline.running.waiting, "SAY_AFTER_S", 0)
    loads = iter([1.0, 4.0, 2.0])
    wait = Wait("two workers", 60, lambda: PoolError("ask for fewer"), lambda: next(loads))
    assert wait.check() == pytest.approx(60, abs=1)
    assert wait.check() == pytest.approx(240, abs=1)
    monkeypatch.setattr(wait, "_say_at_s", 0)
    assert wait.check() == pytest.approx(240, abs=1)  # a limit that was promised is not taken back
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "waiting for two workers: 0 s, at most 60 s"
    assert lines[1].endswith("at most 240 s, because this machine has 4.0 times the work that it has CPUs for")


@pytest.mark.parametrize(("jobs", "cpus", "times"), [(0.3, 2, 1), (2, 2, 1), (9, 2, 4.5), (400, 2, 10)])
def test_the_load_is_jobs_for_each_cpu_never_less_than_one_nor_more_than_ten(jobs, cpus, times):
    assert machine_load(jobs, cpus) == times


def test_it_says_so_within_ten_seconds():
    assert pipeline.running.waiting.SAY_AFTER_S < 10


def test_a_call_that_blocks_is_said_when_it_is_slow_and_only_then(monkeypatch, capsys):
    monkeypatch.setattr(pipeline.running.waiting, "SAY_AFTER_S", 0.1)
    with said_when_slow("Ray to start", 90):
        time.sleep(0.5)
    assert capsys.readouterr().err == "waiting for Ray to start, at most 90 s\n"
    with said_when_slow("nothing", 90):
        pass
    time.sleep(0.3)
    assert capsys.readouterr().err == ""
