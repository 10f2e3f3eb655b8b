"""Making a supernet worth starting from: all its networks learn on pooled datasets, and none forgets ImageNet.

A step trains the smallest network and random ones (OFA's sandwich), and every few steps the largest, of which the
others learn in place. All of them also learn to give, up to a linear map, the features of frozen EfficientNet-Lite0.
Every random number of a step is a function of (seed, worker, step), so that a resumed training is the unbroken one.
Axes: N images, B batch, S side, K classes of all datasets, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, log_softmax

from tans_core.errors import ConfigError, TrainingError
from tans_core.records import Architecture
from tans_core.search_space.elastic import ElasticSearchSpace
from tans_core.training.augment import ImageBatches, cropped, epoch_plan
from tans_core.training.loop import CPU, EVALUATION_BATCH, one_cycle, reestimate_batch_norm, seeded, sgd, to_device
from tans_core.training.pool import Pool
from tans_core.training.sandwich import Sandwich

CURVE = ("step", "seconds", "loss", "smallest", "random", "largest")  # columns of `PretrainState.curve`


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How a supernet is pretrained; stored with it. The reasons are in ARCHITECTURE.md."""

    steps: int = 2600  # shared by the workers
    batch_size: int = 64
    peak_lr: float = 0.03
    warmup: float = 0.25  # share of the steps in which the rate rises
    momentum: float = 0.9
    weight_decay: float = 5e-5
    clip: float = 5.0  # of the gradients' norm
    label_smoothing: float = 0.1
    random_networks: int = 1  # in each step, beside the smallest
    largest_every: int = 8  # steps
    labels: float = 1.0  # weight of the cross-entropy with the labels
    teacher: float = 2.0  # weight of 1 - cosine to the teacher's features
    in_place: float = 1.0  # weight of the cross-entropy with what the largest network says
    shift: int = 3  # pixels at most, either way
    smallest_crop: float = 1.0  # share of the side that a crop keeps at least
    evaluate_every: int = 200  # steps

    def __post_init__(self) -> None:
        for name in ("steps", "largest_every", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size < 2:
            raise ConfigError(f"the batch size must be at least 2, which batch norm needs, got {self.batch_size}")
        if not (self.peak_lr > 0 and math.isfinite(self.peak_lr)):
            raise ConfigError(f"the learning rate must be above 0 and finite, got {self.peak_lr}")


@dataclass(frozen=True, eq=False)
class PretrainState:
    """A pretraining under way, or at its end: tensors only, so that it can be kept as safetensors.

    `model` has the supernet, the head and the map to the teacher's features; `curve` a row for each evaluation.
    """

    step: int
    model: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    curve: Tensor
    losses: Tensor  # since the last evaluation

    def tensors(self) -> dict[str, Tensor]:
        """All of it under flat names."""
        parts = {"model": self.model, "optimiser": self.optimiser}
        flat = {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
        return {**flat, "curve": self.curve, "losses": self.losses, "step": torch.tensor(self.step)}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> PretrainState:
        """The inverse of `tensors`."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        step = int(tensors["step"])
        return cls(step, part("model/"), part("optimiser/"), tensors["curve"], tensors["losses"])


@dataclass(frozen=True)
class Worker:
    """Which of several workers this is, and how a list of tensors is averaged over them, in place."""

    rank: int = 0
    workers: int = 1
    average: Callable[[list[Tensor]], None] = lambda tensors: None


class _Student(nn.Module):
    def __init__(self, search_space: ElasticSearchSpace, classes: int, teacher_dim: int) -> None:
        super().__init__()
        self.supernet: Any = search_space.elastic_copy()
        self.head = nn.Linear(search_space.feature_dim, classes)
        self.to_teacher = nn.Linear(search_space.feature_dim, teacher_dim, bias=False)
        for weight in (self.head.weight, self.head.bias):
            nn.init.zeros_(weight)
        nn.init.eye_(self.to_teacher.weight)  # Lite0's own supernet gives the teacher's features at the start


class Pretraining:
    """A pretraining under way: `train_step` until `step` is `steps`; `state` can be taken and loaded between any two.

    Args:
        teacher: frozen, in eval mode; features (N, D) of images normalised by (x - 127) / 128.
        seed: every random number comes from it.

    Raises:
        ConfigError: the pool has too few images for one batch of every worker.
    """

    def __init__(
        self,
        search_space: ElasticSearchSpace,
        pool: Pool,
        teacher: nn.Module,
        config: PretrainConfig,
        seed: int,
        worker: Worker = Worker(),
        device: torch.device = CPU,
    ) -> None:
        self._space, self._pool, self._config = search_space, pool, config
        self._key, self._worker, self._device = f"pretrain/{seed}", worker, device
        self.sandwich = Sandwich(search_space, self._key, config.random_networks, config.largest_every)
        self.steps = math.ceil(config.steps / worker.workers)
        if len(pool.images.train) < config.batch_size * worker.workers:
            raise ConfigError(
                f"{len(pool.images.train)} training images are no batch of {config.batch_size} for each of "
                f"{worker.workers} workers: give a smaller --batch-size"
            )
        self._batches = ImageBatches(pool.images, search_space, device)
        self._own_NK = pool.own_classes.to(device)
        self._teacher = to_device(teacher, device)
        with torch.no_grad():
            teacher_dim = teacher(torch.zeros(1, 3, 32, 32, device=device)).shape[1]
        self._student = _Student(search_space, pool.own_classes.shape[1], teacher_dim)
        to_device(self._student, device)
        self._optimiser = sgd(self._student, config.peak_lr, config.momentum, config.weight_decay)
        self._rate = one_cycle(self.steps, config.warmup)
        self._plan: tuple[int, tuple[Tensor, Tensor, Tensor]] | None = None
        self.step, self._losses, self._curve = 0, [], []

    def train_step(self) -> None:
        """One batch through the networks of the sandwich, whose gradients are added up.

        Raises:
            TrainingError: a loss is not finite.
        """
        config = self._config
        for group in self._optimiser.param_groups:
            group["lr"] = config.peak_lr * self._rate(self.step)
        index_B, images = self._draw()
        with torch.no_grad():
            wanted_BD = self._teacher(self._as_teacher_sees(images))
        self._student.train()
        self._optimiser.zero_grad(set_to_none=True)

        def judged(features_BD: Tensor) -> tuple[Tensor, Tensor]:
            logp_BK = self._log_probabilities(features_BD, index_B)
            loss = config.labels * self._label_loss(logp_BK, index_B)
            cosine = cosine_similarity(self._student.to_teacher(features_BD), wanted_BD)
            return loss + config.teacher * (1 - cosine).mean(), logp_BK

        loss_sum = self.sandwich.backward(self._student.supernet, images, self.step, judged, config.in_place)
        if not math.isfinite(loss_sum):
            raise TrainingError(f"the loss of step {self.step + 1} is {loss_sum}: lower the learning rate")
        self._average()
        nn.utils.clip_grad_norm_(self._student.parameters(), config.clip)
        self._optimiser.step()
        self._losses.append(loss_sum)
        self.step += 1

    @property
    def middling(self) -> Architecture:
        """The random network of the curve, always the same one."""
        return self._space.architecture(self._space.sample(1, torch.Generator().manual_seed(1))[0].tolist())

    def _draw(self) -> tuple[Tensor, Tensor]:
        """Indices and augmented images of this step; the workers share the images of an epoch among them."""
        pool, config = self._pool.images, self._config
        size, workers = config.batch_size, self._worker.workers
        batches = len(pool.train) // (size * workers)
        epoch, place = divmod(self.step, batches)
        if self._plan is None or self._plan[0] != epoch:
            generator = seeded(self._key, f"epoch {epoch}")
            self._plan = epoch, epoch_plan(len(pool.train), config.shift, True, generator)
        order_N, shift_N2, mirror_N = self._plan[1]
        first = (place * workers + self._worker.rank) * size
        chosen_B = order_N[first : first + size]
        index_B = pool.train[chosen_B]
        mirror_B = mirror_N[chosen_B] & self._pool.mirror[index_B]
        index_B = index_B.to(self._device)
        images = self._batches.augmented(index_B, shift_N2[chosen_B].to(self._device), mirror_B.to(self._device))
        return index_B, self._crop(images)

    def _crop(self, images: Tensor) -> Tensor:
        if self._config.smallest_crop == 1:
            return images
        generator = seeded(self._key, f"crops {self.step}/{self._worker.rank}")
        share_B = 1 - (1 - self._config.smallest_crop) * torch.rand(len(images), generator=generator)
        corner_B2 = torch.rand(len(images), 2, generator=generator)
        return cropped(images, share_B.to(self._device), corner_B2.to(self._device))

    def _as_teacher_sees(self, images: Tensor) -> Tensor:
        """(x - 127) / 128, whatever the search space's own scale is."""
        mean, std = self._batches.mean, self._batches.std
        scale, offset = std / 128, (mean - 127) / 128
        return images * scale[:, None, None] + offset[:, None, None]

    def _log_probabilities(self, features_BD: Tensor, index_B: Tensor) -> Tensor:
        """Of each class of the image's own dataset; -inf for those of others."""
        return log_softmax(self._student.head(features_BD).masked_fill(~self._own_NK[index_B], -torch.inf), dim=1)

    def _label_loss(self, logp_BK: Tensor, index_B: Tensor) -> Tensor:
        """Cross-entropy with smoothed labels."""
        own_BK, smoothing = self._own_NK[index_B], self._config.label_smoothing
        of_label_B = logp_BK.gather(1, self._batches.labels_N[index_B][:, None])[:, 0]
        mean_B = logp_BK.masked_fill(~own_BK, 0).sum(dim=1) / own_BK.sum(dim=1)
        return -((1 - smoothing) * of_label_B + smoothing * mean_B).mean()

    def _average(self) -> None:
        """Over the workers; a parameter that no network of this step has gets no gradient anywhere."""
        self._worker.average([weight.grad for weight in self._student.parameters() if weight.grad is not None])

    def evaluate(self, seconds: float) -> None:
        """Add a row to the curve: accuracy on validation images by the network's own head, batch norm re-estimated."""
        loss = sum(self._losses) / max(1, len(self._losses))
        accuracies = [self._accuracy(each) for each in (self.sandwich.smallest, self.middling, self.sandwich.largest)]
        self._curve.append([self.step, seconds, loss, *accuracies])
        self._losses = []

    def _accuracy(self, architecture: Architecture) -> float:
        self._space.activate(self._student.supernet, architecture)
        network = to_device(self._space.cut_from(self._student.supernet), self._device)
        pool = self._pool.images
        reestimate_batch_norm(network, self._batches, pool.train, self._config.batch_size, self._key)
        network.eval()
        right = 0
        with torch.inference_mode():
            for index_B in pool.validation.to(self._device).split(EVALUATION_BATCH):
                logp_BK = self._log_probabilities(network(self._batches.plain(index_B)), index_B)
                right += int((logp_BK.argmax(dim=1) == self._batches.labels_N[index_B]).sum())
        return right / len(pool.validation)

    @property
    def curve(self) -> Tensor:
        return torch.tensor(self._curve, dtype=torch.float64).reshape(-1, len(CURVE))

    def supernet(self) -> dict[str, Tensor]:
        """The supernet's weights as they are now, on the CPU; its batch norm has the largest network's statistics."""
        supernet = deepcopy(self._student.supernet)
        self._space.activate(supernet, self.sandwich.largest)
        reestimate_batch_norm(supernet, self._batches, self._pool.images.train, self._config.batch_size, self._key)
        return {name: tensor.detach().cpu().contiguous() for name, tensor in supernet.state_dict().items()}

    def state(self) -> PretrainState:
        optimiser = {
            f"{place}/{name}": value.clone()
            for place, entry in self._optimiser.state_dict()["state"].items()
            for name, value in entry.items()
            if value is not None
        }
        model = {name: tensor.detach().clone() for name, tensor in self._student.state_dict().items()}
        losses = torch.tensor(self._losses, dtype=torch.float64)
        return PretrainState(self.step, model, optimiser, self.curve, losses)

    def load(self, state: PretrainState) -> None:
        self._student.load_state_dict(state.model)
        entries: dict[int, dict[str, Tensor]] = {}
        for path, value in state.optimiser.items():
            place, name = path.split("/")
            entries.setdefault(int(place), {})[name] = value.clone()
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": entries})
        self.step, self._curve, self._losses = state.step, state.curve.tolist(), state.losses.tolist()
