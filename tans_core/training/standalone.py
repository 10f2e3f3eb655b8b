"""One pair, trained by itself from the zoo's starting weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from tans_core.errors import TrainingError
from tans_core.records import Costs, CurvePoint, ImageDataset, PairIdentity, Seconds, TrainedPair, content_hash
from tans_core.search_space.space import SearchSpace
from tans_core.training.augment import ImageBatches
from tans_core.training.loop import CPU, evaluate, fit, keep_going, seeded, taken, to_device
from tans_core.training.recipe import Recipe
from tans_core.training.weights import STORED, decode_weights, encode_weights, load_into

CURVE_EPOCHS = (1, 2, 5, 10)
NOISE_IMAGES = 8
CHANGED_AT_MOST = 1  # validation answers that storing a network may change


def noise_batch(image_size: int) -> Tensor:
    """The fixed Gaussian batch (8, 3, S, S) whose penultimate features are the response, on the normalised scale."""
    generator = torch.Generator().manual_seed(20211206)
    return torch.randn(NOISE_IMAGES, 3, image_size, image_size, generator=generator)


def noise_hash(image_size: int) -> str:
    """Content hash of the noise: zoos of another noise have other responses."""
    return content_hash(noise_batch(image_size).numpy().tobytes())


def train_pair(
    identity: PairIdentity,
    dataset: ImageDataset,
    search_space: SearchSpace,
    *,
    start: Mapping[str, Tensor] | None = None,
    check: Callable[[], None] = keep_going,
    device: torch.device = CPU,
    weights_dtype: str = STORED,
) -> tuple[TrainedPair, Seconds]:
    """Train one network on one dataset; everything random comes from the identity's key.

    What is told of the pair is told of the weights as they are stored: they are encoded first, and read back.

    Args:
        start: what it begins with, classifier included, where the identity names a parent: the parent's weights.
        weights_dtype: of matrices. Where storing them so changes more than one validation answer it is "float32".

    Raises:
        TrainingError: the loss or a weight is not finite, or `check` gave up.
        InvalidTopology: the identity's topology is no network of the search space.
        WeightsError: `start` is of another network.
    """
    began = time.monotonic()
    key, recipe = identity.key, Recipe(**identity.recipe)
    architecture = search_space.architecture(identity.topology)
    classes = len(dataset.class_names)
    network = to_device(search_space.subnet(architecture, classes, seeded(key, "classifier")), device)
    if start is not None:
        load_into(network, start)
    fitted = fit(
        network,
        dataset,
        search_space,
        recipe,
        key=key,
        evaluate_on=dataset.validation,
        evaluate_at=CURVE_EPOCHS,
        check=check,
        device=device,
    )
    trained = time.monotonic()
    refuse_not_finite(network)
    batches = ImageBatches(dataset, search_space, device)
    weights, weights_dtype = stored(network, weights_dtype, lambda: taken(network, batches, dataset.validation))
    encoded = time.monotonic()
    pair = told(network, identity, dataset, search_space, batches, fitted.curve, weights, weights_dtype)
    seconds = Seconds(train=trained - began, evaluate=time.monotonic() - encoded, write=encoded - trained)
    return pair, seconds


def told(
    network: nn.Module,
    identity: PairIdentity,
    dataset: ImageDataset,
    search_space: SearchSpace,
    batches: ImageBatches,
    curve: tuple[CurvePoint, ...],
    weights: bytes,
    weights_dtype: str,
) -> TrainedPair:
    """All that is told of a pair, of `network` as it is read back from `weights`; the curve's end too."""
    classes = len(dataset.class_names)
    validation = evaluate(network, batches, dataset.validation, classes)
    test = evaluate(network, batches, dataset.test, classes)
    params, flops = search_space.costs(torch.tensor([identity.topology]), dataset.image_size, classes)
    return TrainedPair(
        costs=Costs(int(params), int(flops)),
        val_correct_by_class=validation[0],
        val_total_by_class=validation[1],
        test_correct_by_class=test[0],
        test_total_by_class=test[1],
        response=_response(network, search_space, dataset.image_size, batches.device),
        curve=(*curve[:-1], replace(curve[-1], val_correct=sum(validation[0]), val_total=sum(validation[1]))),
        weights=weights,
        weights_dtype=weights_dtype,
    )


def stored(
    network: nn.Module, dtype: str, answers: Callable[[], Tensor], own: Callable[[str], bool] = lambda name: True
) -> tuple[bytes, str]:
    """Weights as bytes, and their dtype; the network is left as it is read back from them.

    Args:
        dtype: see `encode_weights`.
        answers: of the network as it is then; where more than `CHANGED_AT_MOST` change, it is stored in "float32".
        own: which entries of the state dict are stored.
    """

    def encoded(dtype: str) -> bytes:
        return encode_weights({name: tensor for name, tensor in network.state_dict().items() if own(name)}, dtype)

    exact = encoded("float32")
    if dtype == "float32":
        return exact, dtype
    before = answers()
    narrow = encoded(dtype)
    load_into(network, {**network.state_dict(), **decode_weights(narrow)})
    if int((answers() != before).sum()) <= CHANGED_AT_MOST:
        return narrow, dtype
    load_into(network, {**network.state_dict(), **decode_weights(exact)})
    return exact, "float32"


def _response(network: nn.Module, search_space: SearchSpace, image_size: int, device: torch.device) -> Tensor:
    """Functional embedding: float16 (8, feature_dim), batch norm in eval mode."""
    network.eval()
    images = noise_batch(image_size).to(device).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        return search_space.features(network, images).cpu().to(torch.float16)


def refuse_not_finite(network: nn.Module) -> None:
    """Raise TrainingError with the first entry that training has made infinite or NaN."""
    for name, tensor in network.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise TrainingError(f"{name} is not finite after training: lower peak_lr")
