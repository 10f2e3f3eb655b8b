"""What Ray Train does: meta-training and pretraining on several workers, on whatever nodes."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from torch import Tensor

from pipeline.on_ray.board import Reader
from pipeline.on_ray.messages import reason
from pipeline.on_ray.shared_tasks import SharedTask
from pipeline.on_ray.storage import check_storage
from pipeline.running.progress import say
from pipeline.running.waiting import Wait, machine_load
from tans_core.errors import PoolError
from tans_core.training.weights import decode_weights, encode_weights

UP_LIMIT_S = 180.0  # grows with the load
FAILURES = 3  # that a training gets over; nodes that were taken away (pre-empted) are not counted

_STATE, _STEP = "state.safetensors", "step"

Watch = Callable[[int, list[list[float]]], None]  # the step that was reported, and the curve until there


def train_on_workers(
    task: SharedTask,
    folder: Path,
    workers: int,
    name: str,
    way_out: str,
    gpus: bool = False,
    watch: Watch = lambda step, curve: None,
) -> dict[str, Tensor]:
    """Train on several workers of the Ray that this process is connected to, which talk over gloo.

    Args:
        folder: for Ray Train's checkpoints; all nodes must see it.
        name: of this training; one of the same name is resumed.
        way_out: what to do where a node does not see `folder`, to complete a sentence.
        gpus: one for each worker.
        watch: told of every report.

    Returns:
        The tensors of the last report.

    Raises:
        PoolError: a node does not see `folder`, the workers do not start in time, or they fail four times.
    """
    check_storage(folder, way_out)
    reader = Reader()
    trainer = TorchTrainer(
        _loop,
        train_loop_config={"task": ray.put(task), "board": reader.board},
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=gpus, resources_per_worker={"CPU": 1, **({"GPU": 1} if gpus else {})}
        ),
        torch_config=TorchConfig(backend="gloo"),
        run_config=RunConfig(
            name=name,
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=FAILURES, max_preemption_failures=-1),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    fitting = _Fitting(trainer, task.name)
    fitting.start()
    _pass_on(_first_news(fitting, reader, workers), watch)
    while fitting.is_alive():
        fitting.join(0.5)  # not longer, so that signals are seen
        _pass_on(reader.news(), watch)
    _pass_on(reader.news(), watch)
    return fitting.state(workers)


def _pass_on(news: list[Any], watch: Watch) -> None:
    for step, curve in news:
        if curve is None:
            say(f"a worker was lost: going on at step {step}")
        else:
            watch(step, curve)


def _first_news(fitting: _Fitting, reader: Reader, workers: int) -> list[Any]:
    """What came with or after the word that the workers are up. Ray Train itself would wait for ever."""

    def not_up() -> PoolError:
        return PoolError(
            f"{workers} workers of Ray Train were not up after {wait.limit_s:.0f} s; the cluster has "
            f"{ray.available_resources().get('CPU', 0):.0f} free CPUs: ask for fewer workers or wait for its jobs"
        )

    wait = Wait(f"{workers} workers of Ray Train to be up", UP_LIMIT_S, not_up, machine_load)
    while not (news := reader.news()):
        wait.check()
        fitting.join(0.5)
        if not fitting.is_alive():
            fitting.state(workers)  # raises what went wrong
    step, _ = news[0]
    say(f"going on at step {step}" if step else f"{workers} workers are up")
    return news[1:]


class _Fitting(threading.Thread):
    """`fit` beside the main thread, which signals reach, and which watches the clock."""

    def __init__(self, trainer: TorchTrainer, what: str) -> None:
        super().__init__(name="ray-train", daemon=True)
        self._what = what
        self._trainer = trainer
        self._result: ray.train.Result | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._result = self._trainer.fit()
        except Exception as error:  # handed to the main thread
            self._error = error

    def state(self, workers: int) -> dict[str, Tensor]:
        if self._error is not None:
            raise PoolError(
                f"{self._what} on {workers} workers failed ({reason(self._error)}); "
                "the same command resumes it, --workers 1 trains in this process"
            ) from self._error
        assert self._result is not None and self._result.checkpoint is not None
        return _read(self._result.checkpoint)[1]


def _loop(given: Mapping[str, Any]) -> None:
    """What each worker of Ray Train runs."""
    task: SharedTask = ray.get(given["task"])
    context, checkpoint = ray.train.get_context(), ray.train.get_checkpoint()
    step, before = (0, None) if checkpoint is None else _read(checkpoint)
    rank = context.get_world_rank()
    if rank == 0:
        given["board"].tell.remote((step, None))
    task.train(before, rank, context.get_world_size(), partial(_report, rank, given["board"]))


def _report(rank: int, board: Any, step: int, tensors: Mapping[str, Tensor]) -> None:
    """Every worker reports, the first with the state."""
    if rank != 0:
        ray.train.report({"step": step})
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / _STATE).write_bytes(encode_weights(tensors))
        (Path(folder) / _STEP).write_text(str(step))
        ray.train.report({"step": step}, checkpoint=Checkpoint.from_directory(folder))
    board.tell.remote((step, tensors["curve"].tolist()))


def _read(checkpoint: Checkpoint) -> tuple[int, dict[str, Tensor]]:
    with checkpoint.as_directory() as folder:
        return int((Path(folder) / _STEP).read_text()), decode_weights((Path(folder) / _STATE).read_bytes())
