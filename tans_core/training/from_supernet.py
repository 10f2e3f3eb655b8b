"""Pairs for a second or two each: a dataset's supernet is trained once, and its pairs are cut out of it.

The supernet's file has its elastic weights and a classifier, and a pair adds what is its own: the statistics of its
batch norms, re-estimated on training images, and its classifier. Both together are the network (`whole_weights`).
Axes: N images, B batch, K classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tans_core.errors import TrainingError, WeightsError
from tans_core.lineage import SupernetIdentity, TrainedSupernet
from tans_core.records import CurvePoint, ImageDataset, PairIdentity, Seconds, TrainedPair
from tans_core.search_space.space import SearchSpace
from tans_core.training.augment import ImageBatches
from tans_core.training.head import closed_form_head, near_copies, put_head
from tans_core.training.loop import (
    CPU,
    epoch_batches,
    features_of,
    keep_going,
    one_cycle,
    reestimate_batch_norm,
    sampled,
    seeded,
    sgd,
    steps_of,
    taken,
    to_device,
)
from tans_core.training.recipe import SupernetRecipe
from tans_core.training.sandwich import Sandwich
from tans_core.training.standalone import refuse_not_finite, stored, told
from tans_core.training.weights import STORED, decode_weights, encode_weights, load_into

_CLASSIFIER = "classifier."
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def train_supernet(
    identity: SupernetIdentity,
    dataset: ImageDataset,
    search_space: SearchSpace,
    *,
    check: Callable[[], None] = keep_going,
    device: torch.device = CPU,
) -> tuple[TrainedSupernet, Seconds]:
    """Train the search space's supernet on one dataset, all its networks at once; all that is random is the key's.

    Raises:
        TrainingError: the loss or a weight is not finite, or `check` gave up.
    """
    began = time.monotonic()
    key, recipe = identity.key, SupernetRecipe(**identity.recipe)
    batches, train_N = ImageBatches(dataset, search_space, device), dataset.train[: recipe.max_train_images]
    supernet = to_device(_supernet(search_space, len(dataset.class_names), seeded(key, "classifier")), device)
    sandwich = Sandwich(search_space, key, recipe.random_networks, recipe.largest_every)
    optimiser = sgd(supernet, recipe.peak_lr, recipe.momentum, recipe.weight_decay)
    steps = len(steps_of(len(train_N), recipe.batch_size))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, one_cycle(recipe.epochs * steps, recipe.warmup))
    curve = []
    supernet.train()
    for epoch in range(1, recipe.epochs + 1):
        loss_sum = 0.0
        for images, labels_B in epoch_batches(batches, train_N, recipe, key, epoch):
            check()
            optimiser.zero_grad(set_to_none=True)
            judged = partial(_judged, labels_B=labels_B, label_smoothing=recipe.label_smoothing)
            loss_sum += sandwich.backward(supernet, images, schedule.last_epoch, judged, recipe.in_place) / steps
            nn.utils.clip_grad_norm_(supernet.parameters(), recipe.clip)
            optimiser.step()
            schedule.step()
        if not math.isfinite(loss_sum):
            raise TrainingError(f"the loss of epoch {epoch} on {dataset.name} is {loss_sum}: lower peak_lr")
        curve.append(CurvePoint(epoch, loss_sum))
    trained = time.monotonic()
    refuse_not_finite(supernet)
    state = {name: tensor for name, tensor in supernet.state_dict().items() if not name.endswith(_STATISTICS)}
    weights = encode_weights(state, STORED)
    seconds = Seconds(train=trained - began, write=time.monotonic() - trained)
    return TrainedSupernet(weights=weights, curve=tuple(curve)), seconds


def cut_pair(
    identity: PairIdentity,
    dataset: ImageDataset,
    search_space: SearchSpace,
    supernet: bytes,
    *,
    check: Callable[[], None] = keep_going,
    device: torch.device = CPU,
) -> tuple[TrainedPair, Seconds]:
    """Cut one network out of a dataset's supernet, give it statistics and a classifier of its own, and judge it.

    Its weights hold these alone. What is told of it is told of what `whole_weights` makes of them; its curve has one
    point, of epoch 0, whose loss is that of the training images by which batch norm was re-estimated.

    Args:
        supernet: the weights of `supernet_of(identity)`.

    Raises:
        TrainingError: a weight or a feature is not finite, or `check` gave up.
        InvalidTopology: the identity's topology is no network of the search space.
        WeightsError: `supernet` is damaged, or of another search space, width or dataset.
    """
    began = time.monotonic()
    key, recipe = identity.key, SupernetRecipe(**identity.recipe)
    network = to_device(_cut(search_space, supernet, identity.topology), device)
    classes = len(dataset.class_names)
    _refuse_other_classes(network, classes)
    batches, train_N = ImageBatches(dataset, search_space, device), dataset.train[: recipe.max_train_images]
    check()
    reestimate_batch_norm(network, batches, train_N, recipe.batch_size, key)
    if recipe.head == "closed_form":
        check()
        labels_N = dataset.labels[train_N]
        features_ND = features_of(network, search_space, batches, train_N)
        put_head(
            network, closed_form_head(features_ND, labels_N, classes, near_copies(dataset.images[train_N], labels_N))
        )
    made = time.monotonic()
    check()
    refuse_not_finite(network)
    weights, dtype = stored(network, STORED, lambda: taken(network, batches, dataset.validation), _is_own)
    encoded = time.monotonic()
    check()
    point = CurvePoint(0, _loss(network, batches, sampled(train_N, recipe.batch_size, key), recipe))
    pair = told(network, identity, dataset, search_space, batches, (point,), weights, dtype)
    seconds = Seconds(train=made - began, evaluate=time.monotonic() - encoded, write=encoded - made)
    return pair, seconds


def whole_weights(
    search_space: SearchSpace, supernet: bytes, topology: Sequence[int], own: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The state dict of a network that `cut_pair` gave.

    Args:
        supernet: the weights that it was cut out of.
        own: its own weights, decoded.

    Raises:
        InvalidTopology: `topology` is no network of the search space.
        WeightsError: `supernet` is damaged or of another search space, or `own` is of another network.
    """
    network = _cut(search_space, supernet, topology)
    rest = {name: tensor for name, tensor in network.state_dict().items() if not _is_own(name)}
    load_into(network, {**rest, **own})
    return network.state_dict()


def _judged(logits_BK: Tensor, labels_B: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
    loss = cross_entropy(logits_BK, labels_B, label_smoothing=label_smoothing)
    return loss, logits_BK.log_softmax(dim=1)


def _supernet(search_space: SearchSpace, classes: int, generator: torch.Generator) -> Any:
    """The starting supernet with a classifier, which all its networks share."""
    supernet = search_space.elastic_copy()
    supernet.classifier = search_space.classifier(classes, generator)
    return supernet


def _cut(search_space: SearchSpace, supernet: bytes, topology: Sequence[int]) -> nn.Module:
    """The network with the supernet's weights and classifier; its batch norms are not of this dataset."""
    architecture = search_space.architecture(topology)
    state = decode_weights(supernet)
    classes = next((len(tensor) for name, tensor in state.items() if name.startswith(_CLASSIFIER)), None)
    if classes is None:
        raise WeightsError("these are no weights of a dataset's supernet: there is no classifier among them")
    elastic = _supernet(search_space, classes, torch.Generator().manual_seed(0))
    statistics = {name: tensor for name, tensor in elastic.state_dict().items() if name.endswith(_STATISTICS)}
    try:
        load_into(elastic, {**statistics, **state})
    except WeightsError as error:
        raise WeightsError(f"no supernet of {search_space.name} of width {search_space.width:g}: {error}") from error
    search_space.activate(elastic, architecture)
    return search_space.cut_from(elastic)


def _refuse_other_classes(network: nn.Module, classes: int) -> None:
    found = next(len(tensor) for name, tensor in network.state_dict().items() if name.startswith(_CLASSIFIER))
    if found != classes:
        raise WeightsError(f"the supernet is of a dataset of {found} classes, and this one has {classes}")


def _is_own(name: str) -> bool:
    return name.startswith(_CLASSIFIER) or name.endswith(_STATISTICS)


def _loss(network: nn.Module, batches: ImageBatches, index_N: Tensor, recipe: SupernetRecipe) -> float:
    """Mean loss of these images as they are."""
    network.eval()
    loss = 0.0
    with torch.inference_mode():
        for index_B in index_N.to(batches.device).split(recipe.batch_size):
            of_batch, _ = _judged(network(batches.plain(index_B)), batches.labels_N[index_B], recipe.label_smoothing)
            loss += of_batch.item() * len(index_B) / len(index_N)
    return loss
