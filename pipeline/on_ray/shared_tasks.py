"""What several workers of Ray Train do together: meta-training and pretraining."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tans_core.cross_modal.meta_training import SpaceConfig, SpaceState, Worker, train
from tans_core.cross_modal.space_data import SpaceData
from tans_core.search_space.elastic import ElasticSearchSpace
from tans_core.search_space.ofa_lite import lite0_backbone
from tans_core.training.pool import Pool
from tans_core.training.pretrain import CURVE, PretrainConfig, Pretraining, PretrainState
from tans_core.training.pretrain import Worker as PretrainWorker

Report = Callable[[int, Mapping[str, Tensor]], None]  # of a step, by every worker, with the same state


class SharedTask(Protocol):
    """What several workers train together; it goes on from the tensors of its last report."""

    @property
    def name(self) -> str: ...  # for people

    def train(self, before: Mapping[str, Tensor] | None, rank: int, workers: int, report: Report) -> None: ...


@dataclass(frozen=True, eq=False)
class SpaceTask:
    """A space is to be trained; the workers share each batch's datasets, and its loss is of all of them."""

    data: SpaceData
    config: SpaceConfig
    seed: int
    name: str = "meta-training"

    def train(self, before: Mapping[str, Tensor] | None, rank: int, workers: int, report: Report) -> None:
        train(
            self.data,
            self.config,
            self.seed,
            resume=None if before is None else SpaceState.of_tensors(before),
            on_checkpoint=lambda state: report(state.step, state.tensors()),
            worker=Worker(rank, workers, torch.distributed.all_reduce),
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
