"""`make trials`: one line a scenario: what was seen, and how long it took; the same in runs/bench/trials.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

OUT = Path(__file__).parents[1] / "runs" / "bench" / "trials.json"
WIDTH = 92


class Report:
    """Collects what the slow tests say; a test tells more by `record_property("seen", ...)`."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.rows: list[dict[str, object]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        seen = next((str(value) for name, value in report.user_properties if name == "seen"), "")
        if report.failed:
            seen = str(report.longreprtext).strip().splitlines()[-1]
        scenario = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
        self.rows.append(
            {
                "scenario": scenario,
                "outcome": report.outcome,
                "seen": seen or "as it says",
                "seconds": round(report.duration, 1),
            }
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for row in self.rows:
            line = f"{row['scenario']}: {row['seen']}" if row["outcome"] == "passed" else f"{row['scenario']}: {row}"
            terminalreporter.write_line(f"{row['outcome']:7} {row['seconds']:7} s  {line}"[: WIDTH * 2])
        self.out.parent.mkdir(parents=True, exist_ok=True)
        before = json.loads(self.out.read_text()) if self.out.exists() else []
        again = {row["scenario"] for row in self.rows}
        kept = [row for row in before if row["scenario"] not in again]  # of trials that were not part of this run
        self.out.write_text(json.dumps(kept + self.rows, indent=1) + "\n")
        terminalreporter.write_line(f"written to {self.out}")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Report(OUT), "trials")
