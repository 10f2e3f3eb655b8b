"""Meta-training under Ray Train: in this process for one worker, on a Ray of our own for more."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, prepare_model

from pipeline.on_ray.messages import reason
from pipeline.running.files import write_whole
from pipeline.running.progress import say
from pipeline.running.waiting import Wait, machine_load
from tans_core.cross_modal.meta_training import SpaceConfig, SpaceState, Worker, train
from tans_core.cross_modal.space_data import SpaceData
from tans_core.errors import PoolError
from tans_core.training.weights import decode_weights, encode_weights

UP_LIMIT_S = 180.0  # grows with the load

_STATE = "state.safetensors"


@dataclass(frozen=True, eq=False)
class SpaceTask:
    """What is to be trained."""

    data: SpaceData
    config: SpaceConfig
    seed: int


def train_in_process(
    task: SpaceTask, folder: Path, resume: SpaceState | None, on_checkpoint: Callable[[SpaceState], None]
) -> SpaceState:
    """Ray Train's local mode: no Ray is started. It does not resume by itself, so `resume` does."""

    def loop(_: Mapping[str, Any]) -> SpaceState:
        worker = Worker(wrap=prepare_model)
        return train(task.data, task.config, task.seed, resume=resume, on_checkpoint=on_checkpoint, worker=worker)

    logging.getLogger("ray.train").setLevel(logging.WARNING)  # it greets and says on which device a module is
    trainer = TorchTrainer(
        loop,
        train_loop_config={},
        scaling_config=ScalingConfig(num_workers=0),
        run_config=RunConfig(name="meta-train", storage_path=str(folder)),
    )
    return trainer.fit().return_value  # type: ignore[return-value]


def train_on_workers(task: SpaceTask, folder: Path, workers: int, name: str) -> SpaceState:
    """Train on several workers of the Ray that this process is connected to; every one draws its own batches and the
    gradients are averaged (DDP over gloo).

    Args:
        folder: for Ray Train's checkpoints; all nodes must see it.
        name: of this training; one of the same name is resumed.

    Raises:
        PoolError: the workers do not start in time, or fail four times.
    """
    started = folder / name / "started"
    started.parent.mkdir(parents=True, exist_ok=True)
    started.unlink(missing_ok=True)
    trainer = TorchTrainer(
        _loop,
        train_loop_config={"task": ray.put(task), "started": str(started)},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=False, resources_per_worker={"CPU": 1}),
        torch_config=TorchConfig(backend="gloo"),
        run_config=RunConfig(
            name=name,
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=3),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    fitting = _Fitting(trainer)
    fitting.start()
    _wait_until_up(fitting, started, workers)
    say(f"going on at step {step}" if (step := int(started.read_text())) else f"{workers} workers are up")
    while fitting.is_alive():
        fitting.join(0.5)  # not longer, so that signals are seen
    return fitting.state(workers)


def _wait_until_up(fitting: _Fitting, started: Path, workers: int) -> None:
    """Ray Train itself would wait for ever."""

    def not_up() -> PoolError:
        return PoolError(
            f"{workers} workers of Ray Train were not up after {wait.limit_s:.0f} s; the cluster has "
            f"{ray.available_resources().get('CPU', 0):.0f} free CPUs: ask for fewer workers or wait for its jobs"
        )

    wait = Wait(f"{workers} workers of Ray Train to be up", UP_LIMIT_S, not_up, machine_load)
    while not started.exists():
        wait.check()
        fitting.join(0.5)
        if not fitting.is_alive():
            fitting.state(workers)  # raises what went wrong


class _Fitting(threading.Thread):
    """`fit` beside the main thread, which signals reach, and which watches the clock."""

    def __init__(self, trainer: TorchTrainer) -> None:
        super().__init__(name="ray-train", daemon=True)
        self._trainer = trainer
        self._result: ray.train.Result | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._result = self._trainer.fit()
        except Exception as error:  # handed to the main thread
            self._error = error

    def state(self, workers: int) -> SpaceState:
        if self._error is not None:
            raise PoolError(
                f"meta-training on {workers} workers failed ({reason(self._error)}); "
                "the same command resumes it, --workers 1 trains in this process"
            ) from self._error
        assert self._result is not None and self._result.checkpoint is not None
        return _read(self._result.checkpoint)


def _loop(given: Mapping[str, Any]) -> None:
    """What each worker of Ray Train runs."""
    task: SpaceTask = ray.get(given["task"])
    context, checkpoint = ray.train.get_context(), ray.train.get_checkpoint()
    before = None if checkpoint is None else _read(checkpoint)
    rank = context.get_world_rank()
    if rank == 0:
        write_whole(Path(given["started"]), str(before.step if before else 0).encode())
    wrap = partial(prepare_model, parallel_strategy_kwargs={"broadcast_buffers": False})
    train(
        task.data,
        task.config,
        task.seed,
        resume=before,
        on_checkpoint=partial(_report, rank),
        worker=Worker(rank, context.get_world_size(), wrap),
    )


def _report(rank: int, state: SpaceState) -> None:
    """Every worker reports, the first with the state."""
    if rank != 0:
        ray.train.report({"step": state.step})
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / _STATE).write_bytes(encode_weights(state.tensors()))
        ray.train.report({"step": state.step}, checkpoint=Checkpoint.from_directory(folder))


def _read(checkpoint: Checkpoint) -> SpaceState:
    with checkpoint.as_directory() as folder:
        return SpaceState.of_tensors(decode_weights((Path(folder) / _STATE).read_bytes()))
