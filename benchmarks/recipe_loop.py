"""Candidates for the recipe of fine-tuning, and one loop that can train by each of them.

What did not gain is no option of `tans`, so it lives here, where it can be measured again. Of `BASE` the loop is that
of `tans_core/training/loop.py` to the last bit, which a test holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from tans_core.records import ImageDataset
from tans_core.search_space.space import SearchSpace
from tans_core.training.augment import ImageBatches, epoch_plan
from tans_core.training.head import closed_form_head, near_copies, put_head
from tans_core.training.loop import CPU, fit_head, one_cycle, reestimate_batch_norm, seeded, steps_of
from tans_core.training.recipe import Recipe

MOST_TRAIN = 256  # images that are learned
WARM_UP = Recipe().warmup


@dataclass(frozen=True, kw_only=True, order=True)
class Candidate:
    """A recipe; what is not named is as in `tans_core/training/recipe.py`."""

    name: str
    epochs: int = 5
    image_size: int = 64
    rates: tuple[float, ...] = (0.03,)
    head: str = "drawn"  # "closed": fitted to features in eval mode; "batch": to those in training mode
    norm: str = "batch"  # statistics: of the "batch"; or frozen: "source", "query", "chosen" as `fit_head` does
    body: float = 1.0  # rate of the body, as a share of the head's
    norm_bias: float = 1.0  # rate of batch norms' biases, as a multiple of the body's
    average: float = 0.0  # weight averaging: share that is kept at a step
    mixup: float = 0.0  # Beta(a, a)
    alternate: bool = False  # each image is mirrored every other epoch instead of by chance
    small_first: bool = False  # the first half of the epochs at 64 px
    adam: bool = False
    refit: bool = False  # a head in closed form after the last step
    smoothing: float = 0.1


BASE = Candidate(name="as it was")


def train(
    network: nn.Module,
    dataset: ImageDataset,
    search_space: SearchSpace,
    candidate: Candidate,
    rate: float,
    *,
    key: str,
    mirror: bool,
    small: ImageDataset | None = None,
    most: int | None = MOST_TRAIN,
) -> None:
    """Train in place by a candidate; with `BASE` the same as `fit`, to the last bit.

    Args:
        small: the same pictures at 64 px, for `small_first`.
    """
    batches, train_N = ImageBatches(dataset, search_space, CPU), dataset.train[:most]
    starts = steps_of(len(train_N), 32)
    if candidate.norm == "chosen":
        fit_head(network, dataset, search_space, batches, train_N, 32, key)
    if candidate.norm == "query":
        reestimate_batch_norm(network, batches, train_N, 32, key)
    if candidate.head != "drawn" and candidate.norm != "chosen":
        _fit_head(network, dataset, search_space, batches, train_N, candidate.head == "batch")
    optimiser = _optimiser(network, candidate, rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, one_cycle(candidate.epochs * len(starts), WARM_UP))
    mean: dict[str, Tensor] = {}
    drawn = np.random.default_rng(seeded(key, "mixup").initial_seed())
    for epoch in range(1, candidate.epochs + 1):
        network.train()
        if candidate.norm != "batch":
            for norm in _norms(network):
                norm.eval()
        seen = batches
        if small is not None and candidate.small_first and epoch <= candidate.epochs // 2:
            seen = ImageBatches(small, search_space, CPU)
        order_N, shift_N2, mirror_N = epoch_plan(len(train_N), 3, mirror, seeded(key, f"epoch {epoch}"))
        if candidate.alternate and mirror:
            mirror_N = (torch.rand(len(train_N), generator=seeded(key, "first flip")) < 0.5) ^ (epoch % 2 == 0)
        for start in starts:
            chosen_B = order_N[start : start + 32]
            index_B = train_N[chosen_B]
            images = seen.augmented(index_B, shift_N2[chosen_B], mirror_N[chosen_B])
            target = batches.labels_N[index_B]
            if candidate.mixup:
                share = float(drawn.beta(candidate.mixup, candidate.mixup))
                target = one_hot(target, len(dataset.class_names)).float()
                images = share * images + (1 - share) * images.flip(0)
                target = share * target + (1 - share) * target.flip(0)
            loss = cross_entropy(network(images), target, label_smoothing=candidate.smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            if candidate.average:
                _average(mean, network, candidate.average)
    if mean:
        network.load_state_dict(mean, strict=False)
    if candidate.norm == "batch":
        reestimate_batch_norm(network, batches, train_N, 32, key)
    if candidate.refit:
        _fit_head(network, dataset, search_space, batches, train_N, False)


def _fit_head(network, dataset, search_space, batches, train_N, training: bool) -> None:
    network.train(training)
    with torch.no_grad():
        features = [search_space.features(network, batches.plain(index)) for index in train_N.split(32)]
    labels_N = dataset.labels[train_N]
    copies = near_copies(dataset.images[train_N], labels_N)
    put_head(network, closed_form_head(torch.cat(features), labels_N, len(dataset.class_names), copies))


def _optimiser(network: nn.Module, candidate: Candidate, rate: float) -> torch.optim.Optimizer:
    of_norms = {id(norm.bias) for norm in _norms(network)}
    groups = []
    for name, parameter in network.named_parameters():
        of_head = name.startswith("classifier.")
        groups.append(
            {
                "params": [parameter],
                "lr": rate
                * (1.0 if of_head else candidate.body)
                * (candidate.norm_bias if id(parameter) in of_norms else 1.0),
                "weight_decay": 5e-4 if parameter.ndim > 1 else 0.0,
            }
        )
    if candidate.adam:
        return torch.optim.AdamW([{**group, "weight_decay": 0.05 * (group["weight_decay"] > 0)} for group in groups])
    return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)


def _average(mean: dict[str, Tensor], network: nn.Module, keep: float) -> None:
    for name, parameter in network.named_parameters():
        if name in mean:
            mean[name].lerp_(parameter.detach(), 1 - keep)
        else:
            mean[name] = parameter.detach().clone()


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
