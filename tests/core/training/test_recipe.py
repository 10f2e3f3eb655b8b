"""What a recipe says is what is done: each promise by numbers worked out by hand."""

import math
from dataclasses import asdict

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tans_core.errors import ConfigError
from tans_core.training.loop import fit
from tans_core.training.recipe import Recipe, SupernetRecipe, recipe_alone
from tests.core.training.toy import SPACE, STILL, ToyNetwork, pictures


class Constant(nn.Module):
    """Says 2 for class 0 and 0 for class 1 of every picture; two more parameters take part in nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([2.0, 0.0]))
        self.matrix = nn.Parameter(torch.ones(1, 1))
        self.vector = nn.Parameter(torch.ones(1))
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        nothing = 0.0 * (self.matrix.sum() + self.vector.sum() + self.norm(images).sum())
        return self.logits.expand(len(images), 2) + nothing


class Watching(nn.Module):
    """Keeps the pictures that it is shown in training; class by their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        if self.training and torch.is_grad_enabled():
            self.seen.extend(images[:, 0].detach())
        return images.mean(dim=(1, 2, 3))[:, None] * self.scale / 255


def _fit(network: nn.Module, recipe: Recipe, dataset=None):
    data = dataset or pictures()
    return fit(network, data, SPACE, recipe, key="key", evaluate_on=data.validation, evaluate_at=())


def test_labels_are_smoothed_by_a_tenth():
    """Of a picture of class 0, log(1 + e^-2) = 0.1269 is lost without smoothing; with it a twentieth of the label
    is on class 1, which costs 2 more: 0.1269 + 0.05 * 2. Of a picture of class 1: 2.1269 - 0.05 * 2."""
    data = pictures()
    of_class = {label: data.train[data.labels[data.train] == label] for label in (0, 1)}
    for label, loss in ((0, 0.2269), (1, 2.0269)):
        one_class = type(data)(**{**vars(data), "train": of_class[label]})
        (point,) = _fit(Constant(), STILL, one_class).curve
        assert point.train_loss == pytest.approx(loss, abs=1e-4)


def test_norms_and_biases_do_not_decay_and_weights_do():
    """One step at a rate of 0.1, a decay of 0.5 and a momentum of 0.9: a matrix of 1 loses 0.1 * (1 + 0.9) * 0.5."""
    network = Constant()
    recipe = Recipe(epochs=1, batch_size=12, peak_lr=0.1, weight_decay=0.5, shift=0, mirror=False)
    _fit(network, recipe)
    assert network.matrix.item() == pytest.approx(1 - 0.1 * 1.9 * 0.5)
    assert network.vector.item() == 1.0
    assert network.norm.weight.tolist() == [1.0] * 3


def test_the_rate_rises_over_the_warm_up_and_falls_to_nothing_along_a_cosine():
    """8 steps, a quarter of them warm-up: 1/2, 1, then (1 + cos x) / 2 at x = 0, 30, 60, 90, 120 and 150 degrees."""
    rates: list[float] = []
    hook = register_optimizer_step_pre_hook(lambda optimiser, *_: rates.append(optimiser.param_groups[0]["lr"]))
    try:
        _fit(ToyNetwork(1.0), Recipe(epochs=4, batch_size=6, peak_lr=0.02, warmup=0.25, shift=0, mirror=False))
    finally:
        hook.remove()
    falling = [1, (1 + math.sqrt(3) / 2) / 2, 0.75, 0.5, 0.25, (1 - math.sqrt(3) / 2) / 2]
    assert rates == pytest.approx([0.02 * factor for factor in (0.5, 1, *falling)])


@pytest.mark.parametrize("mirror", [True, False])
def test_pictures_are_mirrored_where_the_recipe_says_so_and_nowhere_else(mirror):
    """Pictures are bright on the left alone; a mirrored one is bright on the right."""
    data = pictures()
    data.images[..., :2], data.images[..., 2:] = 200, 0
    network = Watching()
    _fit(network, Recipe(epochs=4, batch_size=6, peak_lr=1e-9, shift=0, mirror=mirror), data)
    on_the_right = [bool(picture[0, 3] > 100) for picture in network.seen]
    assert len(on_the_right) == 4 * 12
    assert any(on_the_right) == mirror and not all(on_the_right)


def test_every_epoch_has_an_order_of_its_own():
    data = pictures()
    data.images[:, 0, 0, 0] = torch.arange(len(data.images), dtype=torch.uint8)  # a name for each picture
    network = Watching()
    _fit(network, Recipe(epochs=3, batch_size=6, peak_lr=1e-9, shift=0, mirror=False), data)
    names = [int(picture[0, 0]) for picture in network.seen]
    epochs = [tuple(names[start : start + 12]) for start in (0, 12, 24)]
    assert len(set(epochs)) == 3 and all(sorted(epoch) == data.train.tolist() for epoch in epochs)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": -1}, "epochs must be at least 0, got -1"),
        ({"batch_size": 1}, "the batch size must be at least 2, which batch norm needs, got 1"),
        ({"peak_lr": 0.0}, "the learning rate must be above 0 and finite, got 0.0"),
        ({"peak_lr": math.nan}, "the learning rate must be above 0 and finite, got nan"),
        ({"peak_lr": math.inf}, "the learning rate must be above 0 and finite, got inf"),
        ({"warmup": 1.0}, "warmup must lie between 0 and 1"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        Recipe(**wrong)


def test_a_network_that_was_cut_out_of_a_supernet_is_trained_on_by_what_the_recipes_have_in_common():
    kept = SupernetRecipe(epochs=3, batch_size=7, peak_lr=0.5, mirror=True, clip=1.0)
    assert recipe_alone(asdict(kept)) == Recipe(epochs=3, batch_size=7, peak_lr=0.5, mirror=True)
    alone = Recipe(epochs=2, shift=1)
    assert recipe_alone(asdict(alone)) == alone
