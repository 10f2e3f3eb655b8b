"""A probe is honest where pictures come in many copies, and looks at nothing but training images."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tans_core.errors import TrainingError
from tans_core.records import ImageDataset
from tans_core.retrieval.probe import MOST_IMAGES, probe
from tans_core.training.augment import ImageBatches
from tans_core.training.loop import CPU, fit_head
from tests.core.training.toy import ToySpace
from tests.synthetic import patterns

SIDE, COPIES = 16, 25


class Pixels(nn.Module):
    """Features are the pixels themselves, times `factor`."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor
        self.classifier = nn.Linear(3 * SIDE * SIDE, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        return self.factor * images.flatten(1)


class Space(ToySpace):
    def features(self, network, images) -> Tensor:
        return network.features(images)


SPACE = Space()


def films(copies: int, films: int = 8) -> ImageDataset:
    """Pictures of noise, each many times with a little more of it; which of two classes a film is of says nothing."""
    generator = torch.Generator().manual_seed(0)
    film_F = torch.randint(40, 216, (films, 1, SIDE, SIDE), generator=generator)
    frames_N = film_F.repeat_interleave(copies, dim=0)
    frames_N = frames_N + torch.randint(-4, 5, frames_N.shape, generator=generator)
    count = len(frames_N)
    return replace(
        patterns(classes=2),
        images=torch.cat([frames_N, frames_N[:2]]).byte(),
        labels=torch.cat([(torch.arange(count) // copies) % 2, torch.tensor([0, 1])]),
        train=torch.arange(count),
        validation=torch.tensor([count]),
        test=torch.tensor([count + 1]),
    )


def test_copies_do_not_vouch_for_each_other_however_many_there_are():
    dataset = films(COPIES)
    right_N = probe(Pixels(), dataset, SPACE, batch_size=16, key="k")
    assert len(right_N) == MOST_IMAGES == 8 * COPIES
    assert right_N.double().mean() < 0.65  # of films that it has not seen; a coin gives 0.5
    batches, images_N = ImageBatches(dataset, SPACE, CPU), dataset.train
    fooled = fit_head(Pixels(), dataset, SPACE, batches, images_N, 16, "k")  # leaves 15 copies of each out
    assert fooled.held_out_right == len(images_N)


def test_all_networks_are_asked_about_the_same_images_and_validation_and_test_are_not_looked_at():
    dataset = films(1, films=30)
    first = probe(Pixels(), dataset, SPACE, batch_size=16, key="k")
    noise = dataset.images.clone()
    noise[torch.cat([dataset.validation, dataset.test])] = 0
    assert torch.equal(first, probe(Pixels(), replace(dataset, images=noise), SPACE, batch_size=16, key="other"))
    assert len(first) == 30


def test_features_that_are_not_finite_are_an_error():
    with pytest.raises(TrainingError, match="features are not finite"):
        probe(Pixels(float("nan")), films(1), SPACE, batch_size=16, key="k")
