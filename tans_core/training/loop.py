"""The one training loop: every network that is trained anywhere is trained here.

Axes: N images of the training part, B batch, K classes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tans_core.errors import TrainingError
from tans_core.records import CurvePoint, ImageDataset
from tans_core.search_space.space import SearchSpace
from tans_core.training.augment import ImageBatches, epoch_plan
from tans_core.training.head import MOST_COPIES, Head, closed_form_head, near_copies, put_head
from tans_core.training.recipe import Recipe, SupernetRecipe

CPU = torch.device("cpu")
EVALUATION_BATCH = 128
REESTIMATION_BATCHES = 10  # ten do what two hundred did (openvinotoolkit/nncf#46)


def keep_going() -> None:
    """The check of a run that nothing ends early."""


def seeded(key: str, purpose: str) -> torch.Generator:
    """A generator that depends on the key and the purpose alone, whatever ran before."""
    digest = hashlib.blake2b(f"{key}/{purpose}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to where it trains, in the memory format that halves a step on the CPU."""
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


@dataclass(frozen=True)
class Fitted:
    """What `fit` saw: the curve, and the counts of each class after the last epoch."""

    curve: tuple[CurvePoint, ...]
    correct_by_class: tuple[int, ...]
    total_by_class: tuple[int, ...]


def fit(
    network: nn.Module,
    dataset: ImageDataset,
    search_space: SearchSpace,
    recipe: Recipe,
    *,
    key: str,
    evaluate_on: Tensor,
    evaluate_at: Collection[int],
    check: Callable[[], None] = keep_going,
    on_epoch: Callable[[CurvePoint], None] | None = None,
    device: torch.device = CPU,
) -> Fitted:
    """Train `network` in place on the training part; batch norm is re-estimated before it returns.

    Of 0 epochs it gets a classifier in closed form. The curve then has one point, of epoch 0, and its loss is that of
    the images held out one by one.

    Args:
        recipe: its `mirror` decided.
        key: every random number comes from it.
        evaluate_on: indices of the images that the curve is taken on.
        evaluate_at: epochs after which it is taken, batch norm re-estimated; after the last one always.
        check: called at every step; raises to give up.
        on_epoch: told of each epoch when it is over, while `network` is as it was evaluated.

    Raises:
        TrainingError: the loss of an epoch is not finite.
    """
    batches = ImageBatches(dataset, search_space, device)
    train_N = dataset.train[: recipe.max_train_images]
    starts = steps_of(len(train_N), recipe.batch_size)
    optimiser = sgd(network, recipe.peak_lr, recipe.momentum, recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, one_cycle(recipe.epochs * len(starts), recipe.warmup))
    curve: list[CurvePoint] = []
    correct_K: tuple[int, ...] = ()
    total_K: tuple[int, ...] = ()
    if recipe.epochs == 0:
        head = fit_head(network, dataset, search_space, batches, train_N, recipe.batch_size, key)
        correct_K, total_K = evaluate(network, batches, evaluate_on, len(dataset.class_names))
        curve.append(CurvePoint(0, head.held_out_loss, sum(correct_K), sum(total_K)))
        if on_epoch is not None:
            on_epoch(curve[-1])
    for epoch in range(1, recipe.epochs + 1):
        network.train()
        loss_sum = torch.zeros((), device=device)
        for images, labels_B in epoch_batches(batches, train_N, recipe, key, epoch):
            check()
            loss = cross_entropy(network(images), labels_B, label_smoothing=recipe.label_smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            loss_sum += loss.detach()
        train_loss = loss_sum.item() / len(starts)
        if not math.isfinite(train_loss):
            raise TrainingError(f"the loss of epoch {epoch} on {dataset.name} is {train_loss}: lower peak_lr")
        if epoch in evaluate_at or epoch == recipe.epochs:
            reestimate_batch_norm(network, batches, train_N, recipe.batch_size, key)
            correct_K, total_K = evaluate(network, batches, evaluate_on, len(dataset.class_names))
            curve.append(CurvePoint(epoch, train_loss, sum(correct_K), sum(total_K)))
        else:
            curve.append(CurvePoint(epoch, train_loss))
        if on_epoch is not None:
            on_epoch(curve[-1])
    return Fitted(tuple(curve), correct_K, total_K)


def epoch_batches(
    batches: ImageBatches, train_N: Tensor, recipe: Recipe | SupernetRecipe, key: str, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The images `train_N` in the order of an epoch, shifted and mirrored, batch by batch with their labels."""
    order_N, shift_N2, mirror_N = epoch_plan(
        len(train_N), recipe.shift, bool(recipe.mirror), seeded(key, f"epoch {epoch}")
    )
    for start in steps_of(len(train_N), recipe.batch_size):
        chosen_B = order_N[start : start + recipe.batch_size]
        index_B, shift_B2, mirror_B = (
            each.to(batches.device) for each in (train_N[chosen_B], shift_N2[chosen_B], mirror_N[chosen_B])
        )
        yield batches.augmented(index_B, shift_B2, mirror_B), batches.labels_N[index_B]


def fit_head(
    network: nn.Module,
    dataset: ImageDataset,
    search_space: SearchSpace,
    batches: ImageBatches,
    train_N: Tensor,
    batch_size: int,
    key: str,
    most_copies: int = MOST_COPIES,
) -> Head:
    """Give `network` the classifier that suits its features of the images `train_N` best, in closed form; in place.

    Batch norm keeps its statistics, or takes those of the images where images held out are judged better by them.

    Args:
        most_copies: of an image are held out with it.

    Raises:
        TrainingError: a feature is not finite.
    """
    labels_N = dataset.labels[train_N]
    copies = near_copies(dataset.images[train_N], labels_N, most_copies)

    def fitted() -> Head:
        features_ND = features_of(network, search_space, batches, train_N)
        return closed_form_head(features_ND, labels_N, len(dataset.class_names), copies)

    as_it_was = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    head = fitted()
    reestimate_batch_norm(network, batches, train_N, batch_size, key)
    of_images = fitted()
    if of_images.held_out_loss < head.held_out_loss - 1e-6:  # rounding is no reason
        head = of_images
    else:
        network.load_state_dict(as_it_was)
    put_head(network, head)
    return head


def features_of(network: nn.Module, search_space: SearchSpace, batches: ImageBatches, index_N: Tensor) -> Tensor:
    """Penultimate features of the images `index_N`, float64 (N, feature_dim), on the CPU.

    Raises:
        TrainingError: one is not finite.
    """
    network.eval()
    with torch.inference_mode():
        features = [
            search_space.features(network, batches.plain(index_B.to(batches.device))).double().cpu()
            for index_B in index_N.split(EVALUATION_BATCH)
        ]
    features_ND = torch.cat(features)
    if not torch.isfinite(features_ND).all():
        raise TrainingError("features are not finite: the network's weights are of no use")
    return features_ND


def steps_of(images: int, batch_size: int) -> range:
    """Where the batches of an epoch start; a last one of one image is left out, which batch norm cannot take."""
    return range(0, images - 1, batch_size)


def reestimate_batch_norm(
    network: nn.Module, batches: ImageBatches, train_N: Tensor, batch_size: int, key: str
) -> None:
    """Set the running statistics to the mean over at most ten batches of training images.

    After 40 to 80 steps the running averages still remember their start, and a sound network scores like chance.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
    network.train()
    with torch.no_grad():
        for index_B in sampled(train_N, batch_size, key).split(batch_size):
            if len(index_B) > 1:
                network(batches.plain(index_B.to(batches.device)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def sampled(train_N: Tensor, batch_size: int, key: str) -> Tensor:
    """The training images by which batch norm is re-estimated: at most ten batches, drawn by the key."""
    order_N = torch.randperm(len(train_N), generator=seeded(key, "batch norm"))
    return train_N[order_N[: REESTIMATION_BATCHES * batch_size]]


def evaluate(
    network: nn.Module, batches: ImageBatches, index_N: Tensor, classes: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Correct and total counts of each class over the images `index_N`."""
    count_KK = confusion(network, batches, index_N, classes)
    return tuple(count_KK.diagonal().tolist()), tuple(count_KK.sum(dim=1).tolist())


def confusion(network: nn.Module, batches: ImageBatches, index_N: Tensor, classes: int) -> Tensor:
    """How many of the images `index_N` of each class (row) were taken for each class (column), int64 (K, K)."""
    labels_N = batches.labels_N[index_N.to(batches.device)].cpu()
    count = (labels_N * classes + taken(network, batches, index_N)).bincount(minlength=classes * classes)
    return count.reshape(classes, classes)


def taken(network: nn.Module, batches: ImageBatches, index_N: Tensor) -> Tensor:
    """The class that each of the images `index_N` is taken for, int64 (N,), on the CPU."""
    network.eval()
    with torch.inference_mode():
        parts = [network(batches.plain(index_B.to(batches.device))) for index_B in index_N.split(EVALUATION_BATCH)]
        return torch.cat([logits.argmax(dim=1) for logits in parts]).cpu()


def sgd(network: nn.Module, peak_lr: float, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """SGD with Nesterov momentum; norms and biases do not decay."""
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return torch.optim.SGD(
        [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=peak_lr,
        momentum=momentum,
        nesterov=True,
    )


def one_cycle(steps: int, warmup: float) -> Callable[[int], float]:
    """The rate's factor at a step: rises over the warm-up, then falls to zero along a cosine."""
    rising = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    return factor
