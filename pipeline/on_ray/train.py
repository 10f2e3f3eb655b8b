"""What Ray Train does: meta-training in this process for one worker; on several, meta-training and pretraining."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import ray
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, prepare_model
from torch import Tensor

from pipeline.on_ray.messages import reason
from pipeline.running.files import write_whole
from pipeline.running.progress import say
from pipeline.running.waiting import Wait, machine_load
from tans_core.cross_modal.meta_training import SpaceConfig, SpaceState, Worker, train
from tans_core.cross_modal.space_data import SpaceData
from tans_core.errors import PoolError
from tans_core.search_space.elastic import ElasticSearchSpace
from tans_core.search_space.ofa_lite import lite0_backbone
from tans_core.training.pool import Pool
from tans_core.training.pretrain import CURVE, PretrainConfig, Pretraining, PretrainState
from tans_core.training.pretrain import Worker as PretrainWorker
from tans_core.training.weights import decode_weights, encode_weights

UP_LIMIT_S = 180.0  # grows with the load

_STATE, _STEP = "state.safetensors", "step"


Report = Callable[[int, Mapping[str, Tensor]], None]  # of a step, by every worker, with the same state


class SharedTask(Protocol):
    """What several workers train together; it goes on from the tensors of its last report."""

    @property
    def name(self) -> str: ...  # for people

    def train(self, before: Mapping[str, Tensor] | None, rank: int, workers: int, report: Report) -> None: ...


@dataclass(frozen=True, eq=False)
class SpaceTask:
    """A space is to be trained; every worker draws its own batches and the gradients are averaged (DDP)."""

    data: SpaceData
    config: SpaceConfig
    seed: int
    name: str = "meta-training"

    def train(self, before: Mapping[str, Tensor] | None, rank: int, workers: int, report: Report) -> None:
        wrap = partial(prepare_model, parallel_strategy_kwargs={"broadcast_buffers": False})
        train(
            self.data,
            self.config,
            self.seed,
            resume=None if before is None else SpaceState.of_tensors(before),
            on_checkpoint=lambda state: report(state.step, state.tensors()),
            worker=Worker(rank, workers, wrap),
        )


@dataclass(frozen=True, eq=False)
class PretrainTask:
    """A supernet is to be pretrained; the workers share each batch's images and the gradients are averaged."""

    search_space: ElasticSearchSpace
    pool: Pool
    config: PretrainConfig
    seed: int
    name: str = "pretraining"

    def train(self, before: Mapping[str, Tensor] | None, rank: int, workers: int, report: Report) -> None:
        began, spent_s = time.monotonic(), 0.0
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        worker = PretrainWorker(rank, workers, _averaged)
        teacher = lite0_backbone()
        training = Pretraining(self.search_space, self.pool, teacher, self.config, self.seed, worker, device)
        if before is not None:
            training.load(PretrainState.of_tensors(before))
            spent_s = training.curve[-1, CURVE.index("seconds")].item()
        while training.step < training.steps:
            training.train_step()
            if training.step % self.config.evaluate_every == 0 or training.step == training.steps:
                if rank == 0:
                    training.evaluate(spent_s + time.monotonic() - began)
                report(training.step, training.state().tensors() if rank == 0 else {})


def _averaged(tensors: list[Tensor]) -> None:
    """Mean over the workers, in place, in one exchange."""
    flat = torch.cat([tensor.detach().flatten() for tensor in tensors]).cpu()
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
        tensor.copy_(mean.reshape(tensor.shape))


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


def train_on_workers(
    task: SharedTask,
    folder: Path,
    workers: int,
    name: str,
    gpus: bool = False,
    watch: Callable[[int], None] = lambda step: None,
) -> dict[str, Tensor]:
    """Train on several workers of the Ray that this process is connected to, which talk over gloo.

    Args:
        folder: for Ray Train's checkpoints; all nodes must see it.
        name: of this training; one of the same name is resumed.
        gpus: one for each worker.
        watch: told every half second of the last step that was reported.

    Returns:
        The tensors of the last report.

    Raises:
        PoolError: the workers do not start in time, or fail four times.
    """
    started = folder / name / "started"
    started.parent.mkdir(parents=True, exist_ok=True)
    started.unlink(missing_ok=True)
    trainer = TorchTrainer(
        _loop,
        train_loop_config={"task": ray.put(task), "started": str(started)},
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=gpus, resources_per_worker={"CPU": 1, **({"GPU": 1} if gpus else {})}
        ),
        torch_config=TorchConfig(backend="gloo"),
        run_config=RunConfig(
            name=name,
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=3),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    fitting = _Fitting(trainer, task.name)
    fitting.start()
    _wait_until_up(fitting, started, workers)
    say(f"going on at step {step}" if (step := int(started.read_text())) else f"{workers} workers are up")
    while fitting.is_alive():
        fitting.join(0.5)  # not longer, so that signals are seen
        watch(int(started.read_text()))
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
        write_whole(Path(given["started"]), str(step).encode())
    task.train(before, rank, context.get_world_size(), partial(_report, rank, Path(given["started"])))


def _report(rank: int, started: Path, step: int, tensors: Mapping[str, Tensor]) -> None:
    """Every worker reports, the first with the state."""
    if rank != 0:
        ray.train.report({"step": step})
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / _STATE).write_bytes(encode_weights(tensors))
        (Path(folder) / _STEP).write_text(str(step))
        ray.train.report({"step": step}, checkpoint=Checkpoint.from_directory(folder))
    write_whole(started, str(step).encode())


def _read(checkpoint: Checkpoint) -> tuple[int, dict[str, Tensor]]:
    with checkpoint.as_directory() as folder:
        return int((Path(folder) / _STEP).read_text()), decode_weights((Path(folder) / _STATE).read_bytes())
