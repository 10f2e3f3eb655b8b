"""What people read while they wait: how many an hour, when it will be done, and never half a minute without a word."""

from datetime import datetime

import pytest

from pipeline.growing.build_zoo import build_zoo
from pipeline.running.progress import Pace, Progress


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _pace(clock: Clock, done: int = 0) -> Pace:
    return Pace(done, clock, lambda: datetime(2026, 11, 22, 14, 30))


def test_the_pace_is_of_what_was_done_since_it_began_and_so_is_the_end(clock):
    pace = _pace(clock, done=8)
    clock.seconds += 30 * 60
    assert pace.words(12, 32) == "8 an hour, done at 17:00 at this pace"
    clock.seconds += 30 * 60
    assert pace.words(24, 32) == "16 an hour, done at 15:00 at this pace"


def test_an_end_on_another_day_names_the_day(clock):
    pace = _pace(clock)
    clock.seconds += 3600
    assert pace.words(2, 42) == "2 an hour, done at 10:30 on 23 Nov at this pace"


def test_with_nothing_finished_it_says_for_how_long(clock):
    pace = _pace(clock, done=5)
    assert pace.words(5, 32) == "none new yet"
    clock.seconds += 7 * 60
    assert pace.words(5, 32) == "none new in 7 min"


def test_at_the_end_there_is_no_end_to_tell(clock):
    pace = _pace(clock)
    clock.seconds += 1800
    assert pace.words(32, 32) == "64 an hour"


def test_without_a_terminal_a_line_comes_every_30_s_though_nothing_is_new(clock, capsys):
    progress = Progress(clock)
    progress.renew()
    progress.show("3 of 32 pairs")
    for _ in range(6):
        clock.seconds += 10
        progress.renew()
    assert capsys.readouterr().err == 3 * "3 of 32 pairs\n"


def test_a_build_says_how_many_an_hour_also_in_this_process_while_a_pair_is_trained(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pipeline.running.progress.PLAIN_INTERVAL_S", 0)  # every time it is asked for
    build_zoo(str(tmp_path / "zoo"), ["starter:lfw-faces"], pairs=1, preset_name="smoke", workers=0)
    lines = [line for line in capsys.readouterr().err.splitlines() if " of 1 pairs" in line]
    assert lines[0].startswith("0 of 1 pairs, 0 failures, none new yet")
    assert len([line for line in lines if line.startswith("0 of 1 pairs")]) > 2  # at each step of the training
    assert "1 of 1 pairs" in lines[-1] and " an hour" in lines[-1]
