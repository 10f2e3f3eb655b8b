"""A search space of one network with one weight, and pictures that say which of its starts it has.

Pictures are dark (100) or bright (160), all of one brightness each. A batch norm with the statistics of the training
images makes -1 and 1 of them; the body multiplies by its weight, the classifier takes what is above 0 for class 1:

    body 1 (the starting weights): bright is 1     body 0 (random weights): all are 0     body -1: dark is 1

Training and test say that bright is 1, validation that dark is 1, and each side has its own number of each.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tans_core.records import Architecture, ImageDataset, PairIdentity
from tans_core.training.recipe import Recipe

# Right of each class, worked out by hand from the counts below.
VAL_TOTAL, TEST_TOTAL = (3, 4), (2, 5)
START = {"val": (0, 0), "test": (2, 5)}
RANDOM = {"val": (3, 0), "test": (2, 0)}
INVERTED = {"val": (3, 4), "test": (0, 0)}

STILL = Recipe(epochs=1, batch_size=6, peak_lr=1e-9, shift=0, mirror=False)  # trained, no weight moves


class ToyNetwork(nn.Module):
    def __init__(self, body: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.body = nn.Parameter(torch.tensor([body]))
        self.classifier = nn.Linear(1, 2)
        with torch.no_grad():
            self.classifier.weight.copy_(torch.tensor([[-1.0], [1.0]]))
            self.classifier.bias.copy_(torch.tensor([0.01, -0.01]))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.pooled(images))

    def pooled(self, images: Tensor) -> Tensor:
        return self.body * self.norm(images).mean(dim=(1, 2, 3))[:, None]


class ToySpace:
    name = "toy"
    width = 1.0
    topology_length = 3
    feature_dim = 1
    supernet_hash = "70" * 16
    input_mean = (0.0, 0.0, 0.0)
    input_std = (1.0, 1.0, 1.0)

    def architecture(self, topology) -> Architecture:
        return Architecture(*((each,) for each in topology))

    def costs(self, topology_CT, image_size, classes) -> tuple[Tensor, Tensor]:
        return torch.tensor([11]), torch.tensor([22])

    def subnet(self, architecture, classes, generator) -> nn.Module:
        return ToyNetwork(1.0)

    def random_subnet(self, architecture, classes, generator) -> nn.Module:
        return ToyNetwork(0.0)

    def features(self, network, images) -> Tensor:
        return network.pooled(images)

    def sample(self, count, generator):
        raise NotImplementedError

    def mutate(self, topology_CT, generator, rate=0.1):
        raise NotImplementedError

    def export_config(self, network):
        raise NotImplementedError


SPACE = ToySpace()
ARCHITECTURE = SPACE.architecture((3, 4, 2))


def pictures() -> ImageDataset:
    """6 dark and 6 bright in training; 4 and 3 in validation, whose labels say the opposite; 2 and 5 in test."""
    bright = torch.tensor([0, 1] * 6 + [0] * 4 + [1] * 3 + [0] * 2 + [1] * 5)
    train, validation, test = torch.arange(len(bright)).split([12, 7, 7])
    labels = bright.clone()
    labels[validation] = 1 - bright[validation]
    return ImageDataset(
        fingerprint="toy",
        name="toy",
        source="toy",
        spec="folder:toy",
        licence="CC0-1.0",
        class_names=("dark", "bright"),
        images=(100 + 60 * bright).to(torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4).contiguous(),
        labels=labels,
        train=train,
        validation=validation,
        test=test,
    )


def identity(recipe: Recipe) -> PairIdentity:
    from dataclasses import asdict

    return PairIdentity(
        fingerprint="toy",
        search_space="toy",
        topology=(3, 4, 2),
        width=1.0,
        image_size=4,
        mode="standalone",
        recipe=asdict(recipe),
        supernet=SPACE.supernet_hash,
        seed=0,
    )
