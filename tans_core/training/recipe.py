"""How one pair is trained, as values."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
        if self.batch_size < 2:
            raise ConfigError(f"the batch size must be at least 2, which batch norm needs, got {self.batch_size}")
        if not (self.peak_lr > 0 and math.isfinite(self.peak_lr)):
            raise ConfigError(f"the learning rate must be above 0 and finite, got {self.peak_lr}")
        if not 0 < self.warmup < 1:
            raise ConfigError(f"warmup must lie between 0 and 1, got {self.warmup}")
