"""What Ray Tune does: the trials of a sweep, side by side, on whatever nodes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from pipeline.on_ray.board import Reader
from pipeline.on_ray.messages import reason
from tans_core.cross_modal.left_out import Fold, Judgement, judged
from tans_core.cross_modal.meta_training import SpaceConfig
from tans_core.cross_modal.space_data import SpaceData
from tans_core.cross_modal.sweeping import FACTOR, first_rung
from tans_core.errors import PoolError

FAILURES = 3  # of a trial: workers that were lost

_NAME = "trials"  # of Ray Tune's own folder


def sweep_on_workers(
    data: SpaceData,
    configs: Sequence[SpaceConfig],
    seed: int,
    dealt: Sequence[Fold],
    folder: Path,
    workers: int,
    report: Callable[[int, Judgement], None],
    over: Callable[[], bool],
) -> dict[int, str]:
    """Train and judge all configs under ASHA, on the Ray that this process is connected to.

    Args:
        folder: for what Ray Tune keeps, from which an interrupted sweep goes on; this process alone writes there.
        workers: trials side by side, one CPU each.
        report: told of each judgement.
        over: asked every half second; once it is True, trials end at their next judgement.

    Returns:
        By number, why a trial failed. Those that neither failed nor were judged at their last step were halved.

    Raises:
        PoolError: Ray Tune failed.
    """
    reader = Reader()
    trainable = tune.with_resources(_trial(ray.put(data), reader.board, list(configs), seed, list(dealt)), {"cpu": 1})
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    fitting = _Fitting(_tuner(trainable, configs, folder, workers))
    fitting.start()
    told = False
    while fitting.is_alive():
        fitting.join(0.5)  # not longer, so that signals are seen
        _pass_on(reader, report)
        if not told and over():
            told = True
            reader.end()
    _pass_on(reader, report)
    return fitting.failures()


def _pass_on(reader: Reader, report: Callable[[int, Judgement], None]) -> None:
    for number, judgement in reader.news():
        report(number, Judgement(**judgement))


def _tuner(trainable: Any, configs: Sequence[SpaceConfig], folder: Path, workers: int) -> tune.Tuner:
    """A new one, or the one that was interrupted: trials that ended are not trained again."""
    kept = folder / _NAME
    if tune.Tuner.can_restore(str(kept)):
        return tune.Tuner.restore(str(kept), trainable, resume_unfinished=True, restart_errored=True)
    steps = configs[0].steps
    return tune.Tuner(
        trainable,
        param_space={"number": tune.grid_search(list(range(len(configs))))},
        tune_config=tune.TuneConfig(
            metric="score",
            mode="min",
            scheduler=ASHAScheduler(
                time_attr="step", max_t=steps, grace_period=first_rung(configs[0]), reduction_factor=FACTOR
            ),
            max_concurrent_trials=workers,
        ),
        run_config=tune.RunConfig(
            name=_NAME,
            storage_path=str(folder),
            failure_config=tune.FailureConfig(max_failures=FAILURES),
            verbose=0,
        ),
    )


def _trial(data: Any, board: Any, configs: list[SpaceConfig], seed: int, dealt: list[Fold]) -> Callable:
    def trial(given: Mapping[str, Any]) -> None:
        torch.set_num_threads(1)
        for judgement in judged(ray.get(data), configs[given["number"]], seed, dealt):
            if ray.get(board.tell.remote((given["number"], asdict(judgement)))):
                return
            tune.report({"step": judgement.step, "score": judgement.score})

    return trial


class _Fitting(threading.Thread):
    """`fit` beside the main thread, which signals reach, and which watches the clock."""

    def __init__(self, tuner: tune.Tuner) -> None:
        super().__init__(name="ray-tune", daemon=True)
        self._tuner = tuner
        self._results: tune.ResultGrid | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._results = self._tuner.fit()
        except Exception as error:  # handed to the main thread
            self._error = error

    def failures(self) -> dict[int, str]:
        if self._error is not None:
            raise PoolError(
                f"the sweep failed ({reason(self._error)}); the same command resumes it, --workers 0 trains in this "
                "process"
            ) from self._error
        assert self._results is not None
        return {
            result.config["number"]: reason(result.error)
            for result in self._results
            if result.error is not None and result.config is not None
        }
