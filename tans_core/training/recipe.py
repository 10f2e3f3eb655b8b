"""How one pair is trained, as values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tans_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """SGD with Nesterov momentum, one cycle over the whole run; stored with its row."""

    epochs: int = 8  # 0: a classifier in closed form, nothing else is changed
    batch_size: int = 32
    peak_lr: float = 0.03
    warmup: float = 0.25  # share of the steps in which the rate rises
    momentum: float = 0.9
    weight_decay: float = 5e-4  # not on norms and biases
    label_smoothing: float = 0.1
    shift: int = 3  # pixels at most, either way
    mirror: bool | None = None  # None: decided for each dataset on its training images
    max_train_images: int | None = None  # smoke runs only: the first of the split's order

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ConfigError(f"epochs must be at least 0, got {self.epochs}")
        _check(self)


def recipe_alone(kept: Mapping[str, Any]) -> Recipe:
    """How a row's network is trained on by itself: by its recipe, or by what its supernet's has in common with one.

    Args:
        kept: the recipe of a row's identity, of either mode.
    """
    own = {each.name for each in fields(Recipe)}
    return Recipe(**{name: value for name, value in kept.items() if name in own})


HEADS = ("trained", "closed_form")


@dataclass(frozen=True, kw_only=True)
class SupernetRecipe:
    """How a dataset's supernet is trained, and what its networks are given when they are cut out; stored with rows."""

    epochs: int = 16
    batch_size: int = 32
    peak_lr: float = 0.03
    warmup: float = 0.25  # share of the steps in which the rate rises
    momentum: float = 0.9
    weight_decay: float = 5e-4  # not on norms and biases
    clip: float = 5.0  # of the gradients' norm
    label_smoothing: float = 0.1
    random_networks: int = 1  # in each step, beside the smallest
    largest_every: int = 8  # steps
    in_place: float = 1.0  # weight of the cross-entropy with what the largest network says
    shift: int = 3  # pixels at most, either way
    mirror: bool | None = None  # None: decided for each dataset on its training images
    max_train_images: int | None = None  # smoke runs only: the first of the split's order
    head: str = "trained"  # one of HEADS: the supernet's own, or one in closed form for each network

    def __post_init__(self) -> None:
        for name in ("epochs", "random_networks", "largest_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not (self.clip > 0 and math.isfinite(self.clip)):
            raise ConfigError(f"clip must be above 0 and finite, got {self.clip}")
        if self.head not in HEADS:
            raise ConfigError(f"head must be one of {', '.join(HEADS)}, got {self.head!r}")
        _check(self)


def _check(recipe: Recipe | SupernetRecipe) -> None:
    """Refuse what neither recipe can be."""
    if recipe.batch_size < 2:
        raise ConfigError(f"the batch size must be at least 2, which batch norm needs, got {recipe.batch_size}")
    if not (recipe.peak_lr > 0 and math.isfinite(recipe.peak_lr)):
        raise ConfigError(f"the learning rate must be above 0 and finite, got {recipe.peak_lr}")
    if not 0 < recipe.warmup < 1:
        raise ConfigError(f"warmup must lie between 0 and 1, got {recipe.warmup}")
