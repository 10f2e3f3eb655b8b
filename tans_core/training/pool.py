"""Datasets put together, so that one network learns from all of them; their test images stay outside.

Axes: N images, K classes of all datasets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tans_core.errors import ConfigError
from tans_core.records import ImageDataset, content_hash


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """`images` as one dataset whose classes are those of all datasets, one after another; it has no test images."""

    images: ImageDataset
    own_classes: Tensor  # bool (N, K): classes of the dataset that the image is of
    mirror: Tensor  # bool (N,): whether the image may be mirrored


def pooled(datasets: Sequence[ImageDataset], mirrors: Sequence[bool]) -> Pool:
    """Put training and validation images of datasets together.

    Args:
        datasets: of one image size.
        mirrors: of each dataset, whether its pictures keep their class when they are mirrored.

    Raises:
        ConfigError: fewer than two datasets.
    """
    if len(datasets) < 2:
        raise ConfigError(
            f"a pool needs at least 2 datasets, got {len(datasets)}: pretraining on one is fine-tuning on it, "
            "and its networks would be worse starts for others"
        )
    images, labels, train, validation, own, mirror = [], [], [], [], [], []
    classes = sum(len(dataset.class_names) for dataset in datasets)
    count = first = 0
    for dataset, may_mirror in zip(datasets, mirrors, strict=True):
        kept_N = torch.cat([dataset.train, dataset.validation])
        images.append(dataset.images[kept_N].expand(-1, 3, -1, -1))
        labels.append(dataset.labels[kept_N] + first)
        train.append(torch.arange(len(dataset.train)) + count)
        validation.append(torch.arange(len(dataset.train), len(kept_N)) + count)
        own_K = torch.zeros(classes, dtype=torch.bool)
        own_K[first : first + len(dataset.class_names)] = True
        own.append(own_K.expand(len(kept_N), -1))
        mirror.append(torch.full((len(kept_N),), may_mirror))
        count, first = count + len(kept_N), first + len(dataset.class_names)
    together = ImageDataset(
        fingerprint=content_hash("/".join(dataset.fingerprint for dataset in datasets).encode()),
        name=f"{len(datasets)} datasets",
        source="pool",
        spec="",
        licence="",
        class_names=tuple(f"{dataset.name}: {name}" for dataset in datasets for name in dataset.class_names),
        images=torch.cat(images),
        labels=torch.cat(labels),
        train=torch.cat(train),
        validation=torch.cat(validation),
        test=torch.empty(0, dtype=torch.int64),
    )
    return Pool(images=together, own_classes=torch.cat(own), mirror=torch.cat(mirror))
