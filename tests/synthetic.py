"""Datasets that tests make: coloured patterns that a network learns in a few steps."""

from __future__ import annotations

import torch

from tans_core.records import ImageDataset


def patterns(name: str = "patterns", classes: int = 3, each: int = 20, size: int = 32, seed: int = 0) -> ImageDataset:
    """Classes differ in the direction and width of stripes; noise makes every image another. Grey."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.arange(size)
    images, labels = [], []
    for label in range(classes):
        for _ in range(each):
            wave = (place[:, None] if label % 2 else place[None, :]).expand(size, size) // (2 + label)
            pixels = 200 * (wave % 2) + torch.randint(0, 55, (size, size), generator=generator)
            images.append(pixels.to(torch.uint8)[None])
            labels.append(label)
    order = torch.randperm(len(labels), generator=generator)
    train, validation, test = order.split([len(order) - 2 * (len(order) // 5), len(order) // 5, len(order) // 5])
    return ImageDataset(
        fingerprint=f"{name}-{seed}",
        name=name,
        source=name,
        spec=f"folder:{name}",
        licence="CC0-1.0",
        class_names=tuple(f"class {label}" for label in range(classes)),
        images=torch.stack(images),
        labels=torch.tensor(labels),
        train=train,
        validation=validation,
        test=test,
    )
