"""Presets: values, not code. A flag that is given replaces the preset's value."""

from __future__ import annotations

from dataclasses import dataclass

from tans_core.errors import ConfigError
from tans_core.training.recipe import Recipe, SupernetRecipe


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How the pairs of a zoo are made."""

    search_space: str
    width: float
    image_size: int
    recipe: Recipe
    supernet_recipe: SupernetRecipe
    deadline_s: float  # of one pair


PAIR_MODES = ("standalone", "from_supernet")
SUPERNET_DEADLINES = 8  # of pairs: a supernet trains for more epochs, two or three networks in each step

LAST_SEED = 2**63 - 1  # the zoo keeps seeds in 64 bits

PRESETS = {
    "smoke": Preset(
        search_space="ofa-lite",
        width=1.0,
        image_size=32,
        recipe=Recipe(epochs=1, max_train_images=64),
        supernet_recipe=SupernetRecipe(epochs=1, max_train_images=64),
        deadline_s=120,
    ),
    "laptop": Preset(
        search_space="ofa-lite",
        width=1.0,
        image_size=64,
        recipe=Recipe(epochs=8),
        supernet_recipe=SupernetRecipe(epochs=16),
        deadline_s=1800,
    ),
    "paper": Preset(
        search_space="ofa-mbv3",
        width=1.2,
        image_size=224,
        recipe=Recipe(epochs=50, shift=8),
        supernet_recipe=SupernetRecipe(epochs=50, shift=8),
        deadline_s=6 * 3600,
    ),
}


def checked_seed(seed: int) -> int:
    """The seed of a zoo or a space.

    Raises:
        ConfigError: it is no whole number of the range.
    """
    if not isinstance(seed, int) or not 0 <= seed <= LAST_SEED:
        raise ConfigError(f"--seed must be a whole number from 0 to {LAST_SEED}, got {seed}")
    return seed


def preset(name: str) -> Preset:
    """Look a preset up.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
