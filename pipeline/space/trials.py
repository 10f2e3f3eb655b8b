"""The trials of a sweep as they go: kept in a file, written to MLflow a run each, told to people."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.running.files import write_whole
from pipeline.running.progress import Progress, say
from pipeline.tracking.tracker import Status, Tracker
from tans_core.cross_modal.left_out import Judgement
from tans_core.cross_modal.meta_training import SpaceConfig

DONE, HALVED, OUT_OF_TIME = "done", "halved", "out of time"


@dataclass
class Trial:
    """One config of a sweep, and how it did so far."""

    number: int
    config: SpaceConfig
    judgements: list[Judgement] = field(default_factory=list)
    ended: str | None = None  # how: one of the words above, or why it failed; None: it has not
    run_id: str | None = None  # of MLflow
    tracker: Tracker | None = field(default=None, compare=False)

    @property
    def step(self) -> int:
        return self.judgements[-1].step if self.judgements else 0

    @property
    def score(self) -> float:
        return self.judgements[-1].score

    def words(self) -> str:
        last = self.judgements[-1]
        return (
            f"trial {self.number} with {last.score:.3f} (rank {last.mean_rank:.1f}, by chance "
            f"{last.mean_rank_random:.1f}; squared error {last.mse:.4f}, of the mean {last.mse_mean_baseline:.4f})"
        )


class Trials:
    """All of a sweep's trials, in the file `trials.json` of its folder, from where it goes on.

    Args:
        facts: what the file is of; it is begun anew where it is of something else.
    """

    def __init__(
        self, path: Path, facts: Mapping[str, Any], configs: Sequence[SpaceConfig], tracker: Tracker, progress: Progress
    ) -> None:
        self._path, self._facts, self._tracker, self._progress = path, dict(facts), tracker, progress
        self.all = [Trial(number, config) for number, config in enumerate(configs)]
        for kept in (read_trials(path) or {}).get("trials", []):
            trial = self.all[kept["number"]]
            trial.ended, trial.run_id = kept["ended"], kept["run_id"]
            if trial.ended is not None:
                trial.judgements = [Judgement(**each) for each in kept["judgements"]]

    def left(self) -> list[Trial]:
        """Those that have not ended; trained in part, they begin again."""
        return [trial for trial in self.all if trial.ended is None]

    def report(self, number: int, judgement: Judgement) -> None:
        """A trial was judged; at its last step it is over. One that began again is as it was, so far as it has come."""
        trial = self.all[number]
        if trial.ended is not None:
            return
        if trial.tracker is None:
            trial.tracker = self._tracker.child(f"trial {number}", asdict(trial.config), trial.run_id)
        trial.judgements = [each for each in trial.judgements if each.step < judgement.step] + [judgement]
        said = {name: value for name, value in asdict(judgement).items() if name != "step"}
        trial.tracker.log({**said, "score": judgement.score}, judgement.step)
        if judgement.step == trial.config.steps:
            self.end(number, DONE)
        self.show()

    def end(self, number: int, how: str) -> None:
        """Nothing more comes from a trial."""
        trial = self.all[number]
        trial.ended = how
        if how not in (DONE, HALVED, OUT_OF_TIME):
            say(f"trial {number} failed: {how}")
        if trial.tracker is not None:
            trial.tracker.finish("FINISHED" if how in (DONE, HALVED, OUT_OF_TIME) else "FAILED")
        self.keep()

    def end_all(self, how: Callable[[Trial], str]) -> None:
        """Nothing more comes from any."""
        for trial in self.left():
            self.end(trial.number, how(trial))

    def keep(self) -> None:
        """Write down what is known."""
        for trial in self.all:
            if trial.tracker is not None and trial.tracker.run_id is not None:
                trial.run_id = trial.tracker.run_id
        trials = [
            {
                "number": trial.number,
                "ended": trial.ended,
                "run_id": trial.run_id,
                "config": asdict(trial.config),
                "judgements": [asdict(judgement) for judgement in trial.judgements],
            }
            for trial in self.all
        ]
        write_whole(self._path, json.dumps({**self._facts, "trials": trials}, indent=1).encode())

    def leave(self, status: Status) -> None:
        """The sweep ends without its end: the runs under way say so, and go on with it."""
        for trial in self.left():
            if trial.tracker is not None:
                trial.tracker.finish(status)
        self.keep()

    def best(self) -> Trial | None:
        """Of those that came furthest the one with the lowest score; of equals the first. None: none was judged."""
        judged = [trial for trial in self.all if trial.judgements]
        return min(judged, key=lambda trial: (-trial.step, trial.score, trial.number), default=None)

    def show(self) -> None:
        best, ended = self.best(), len(self.all) - len(self.left())
        self._progress.show(
            f"{ended} of {len(self.all)} trials over" + ("" if best is None else f", the best so far {best.words()}")
        )


def read_trials(path: Path) -> dict[str, Any] | None:
    """What a sweep kept; None where there is nothing that can be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
