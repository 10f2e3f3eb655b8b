"""Nothing waits without a word, and nothing waits for ever."""

import time

import pytest

import pipeline.running.waiting
from pipeline.running.waiting import Wait, said_when_slow
from tans_core.errors import PoolError


def test_a_wait_says_what_for_and_ends_in_the_way_out(monkeypatch, capsys):
    monkeypatch.setattr(pipeline.running.waiting, "SAY_AFTER_S", 0.05)
    wait = Wait("two workers", 0.3, lambda: PoolError("ask for fewer"))
    with pytest.raises(PoolError, match="ask for fewer"):
        while True:
            assert 0 < wait.check() <= 0.3
            time.sleep(0.01)
    assert capsys.readouterr().err == "waiting for two workers: 0 s, at most 0\n"


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
