"""`make bench-scale`: what makes its figures, worked by hand, and a small zoo from begin to end."""

from pathlib import Path

import pytest

from benchmarks.scale import commits
from benchmarks.scale.commits import Pace


def pace(first: int, rows: int, ms: float) -> Pace:
    return Pace(first=first, rows=rows, commit_ms=ms, journal_ms=2 * ms, commit_cpu_ms=3 * ms, journal_cpu_ms=ms + 1)


def test_growth_is_of_the_last_whole_thousand_over_the_second():
    paces = [pace(0, 1000, 50), pace(1000, 1000, 10), pace(2000, 400, 99), pace(2400, 600, 99), pace(3000, 1000, 12)]
    assert commits.growth(paces) == {
        "commit_growth": pytest.approx(1.2),
        "journal_growth": pytest.approx(1.2),
        "commit_cpu_growth": pytest.approx(1.2),
        "journal_cpu_growth": pytest.approx(13 / 11),
    }


def test_a_small_zoo_is_filled_measured_and_not_filled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"ROWS": 6, "THOUSAND": 2, "DATASETS": 2, "SNAPSHOTS": 1}.items():
        monkeypatch.setattr(commits, name, value)
    found = commits.measure(tmp_path)
    assert found["rows"] == 6 and [each["rows"] for each in found["paces"]] == [2, 2, 2]
    files = [path for name in ("rows", "journal") for path in (tmp_path / "zoo" / name).rglob("*") if path.is_file()]
    assert found["files_at_end"] == len(files) > 2 * 2 * 6
    assert found["snapshot_14k_s"] > 0
    assert commits.measure(tmp_path)["paces"] == found["paces"]
