"""Features of a frozen backbone, and what they say of a dataset before anything is trained on it.

Axes: N images, D features, K classes.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tans_core.records import Features, ImageDataset

MOST = {"train": 160, "validation": 40, "test": 40}  # instances of each part

_BATCH_PIXELS = 1 << 18  # of one forward pass: the maps of many more do not stay in a processor's cache
_MIRROR_IMAGES = 160
_MIRROR_NOISE = 1.64  # standard deviations that a drop may have by chance, one-sided 5 %


def extract_features(dataset: ImageDataset, backbone: nn.Module, image_size: int = 96) -> Features:
    """Features of up to 160 training, 40 validation and 40 test images (`MOST`), every class in its share.

    Args:
        backbone: frozen, in eval mode; features (N, D) of images (N, 3, S, S) normalised by (x - 127) / 128.
        image_size: side in pixels to which images are enlarged, or made smaller, bilinearly.

    Returns:
        The same for the same dataset, whatever was drawn before.
    """
    train_ND, train_labels_N = training_features(dataset, backbone, image_size)
    validation_ND, validation_labels_N = _side(dataset, dataset.validation, "validation", backbone, image_size)
    test_ND, test_labels_N = _side(dataset, dataset.test, "test", backbone, image_size)
    return Features(
        train_ND=train_ND,
        train_labels_N=train_labels_N,
        validation_ND=validation_ND,
        validation_labels_N=validation_labels_N,
        test_ND=test_ND,
        test_labels_N=test_labels_N,
    )


def training_features(dataset: ImageDataset, backbone: nn.Module, image_size: int = 96) -> tuple[Tensor, Tensor]:
    """Features (N, D) and labels (N,) of the training images alone, as `extract_features` has them."""
    return _side(dataset, dataset.train, "train", backbone, image_size)


def _side(
    dataset: ImageDataset, index_N: Tensor, side: str, backbone: nn.Module, image_size: int
) -> tuple[Tensor, Tensor]:
    chosen = stratified(index_N, dataset.labels, MOST[side])
    return features_of(dataset.images[chosen], backbone, (image_size, image_size)), dataset.labels[chosen]


def features_of(images: Tensor, backbone: nn.Module, size: tuple[int, int]) -> Tensor:
    """Features float32 (N, D) of uint8 images (N, C, H, W), grey or colour, brought to `size` (height, width)."""
    batches = []
    with torch.no_grad():
        for batch in images.split(max(1, _BATCH_PIXELS // (size[0] * size[1]))):
            pixels = (batch.float() - 127) / 128
            if pixels.shape[-2:] != size:
                pixels = interpolate(pixels, size=size, mode="bilinear", antialias=True)
            colour = pixels.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
            batches.append(backbone(colour).float())
    return torch.cat(batches)


def stratified(index_N: Tensor, labels: Tensor, most: int) -> Tensor:
    """At most `most` of `index_N`, classes in their share, sorted by class: evenly spaced over all sorted by class.

    Within a class the order of `index_N` is kept, so that the choice depends on the split alone.
    """
    by_class = index_N[labels[index_N].argsort(stable=True)]
    if len(by_class) <= most:
        return by_class
    places = (torch.arange(most, dtype=torch.float64) + 0.5) * len(index_N) / most
    return by_class[places.long()]


def keeps_class_when_mirrored(dataset: ImageDataset, backbone: nn.Module) -> bool:
    """Whether mirrored pictures keep their class, decided on training images only, never by a name.

    Two classifiers are fitted to one half of the images, and judge the other half as it is and mirrored; then the
    other way round. One sees 16 x 16 pixels, the other the backbone's features of the left and of the right half of
    a picture: features of a whole one hardly change when it is mirrored, because the backbone learned from mirrored
    pictures. What they know as it is and lose when mirrored speaks against it, what they gain for it; it is allowed
    where the balance is no worse than chance (a sign test, one-sided 5 %). A `d` that becomes a `b` is lost, a
    flower is not. Pictures that all look the same way are lost too: mirrored ones would be unlike any that come.
    """
    index = stratified(dataset.train, dataset.labels, _MIRROR_IMAGES)
    images, labels = dataset.images[index], dataset.labels[index]
    lost = gained = 0
    for view in (_pixels, partial(_halves, backbone)):
        plain, mirrored = _hits(view(images), view(images.flip(-1)), labels, len(dataset.class_names))
        lost += int((plain & ~mirrored).sum())
        gained += int((mirrored & ~plain).sum())
    return lost - gained <= _MIRROR_NOISE * (lost + gained) ** 0.5


def _pixels(images: Tensor) -> Tensor:
    return interpolate(images.float(), size=(16, 16), mode="bilinear", antialias=True).flatten(1)


def _halves(backbone: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([features_of(half, backbone, (64, 32)) for half in images.chunk(2, dim=-1)], dim=1)


def _hits(plain_ND: Tensor, mirrored_ND: Tensor, labels_N: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Which images are known as they are, and which mirrored, by what was fitted to the others."""
    plain, mirrored = torch.zeros(len(labels_N), dtype=torch.bool), torch.zeros(len(labels_N), dtype=torch.bool)
    even = torch.arange(len(labels_N)) % 2 == 0  # the images are sorted by class: each class on both sides
    for fitted, judged in ((even, ~even), (~even, even)):
        judge = _Ridge(plain_ND[fitted], labels_N[fitted], classes)
        plain[judged] = judge.classes_of(plain_ND[judged]) == labels_N[judged]
        mirrored[judged] = judge.classes_of(mirrored_ND[judged]) == labels_N[judged]
    return plain, mirrored


class _Ridge:
    """Least squares on one-hot labels, with features standardised and a penalty as strong as their number."""

    def __init__(self, features_ND: Tensor, labels_N: Tensor, classes: int) -> None:
        self._mean, scale = features_ND.mean(dim=0), features_ND.std(dim=0)
        self._scale = scale + 1e-3 * scale.mean() + 1e-8
        x_ND = self._standardised(features_ND)
        target_NK = torch.nn.functional.one_hot(labels_N, classes).float() - 1 / classes
        gram_NN = x_ND @ x_ND.T + x_ND.shape[1] * torch.eye(len(x_ND))
        self._weights_DK = x_ND.T @ torch.linalg.solve(gram_NN, target_NK)

    def classes_of(self, features_ND: Tensor) -> Tensor:
        return (self._standardised(features_ND) @ self._weights_DK).argmax(dim=1)

    def _standardised(self, features_ND: Tensor) -> Tensor:
        return (features_ND - self._mean) / self._scale
