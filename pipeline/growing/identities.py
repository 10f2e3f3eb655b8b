"""What the zoo's settings and a dataset's record make of a choice."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from tans_core.lineage import SupernetIdentity, supernet_of
from tans_core.records import DatasetRecord, PairIdentity, ZooSettings
from tans_core.training.recipe import Recipe, SupernetRecipe


def pair_identity(settings: ZooSettings, dataset: DatasetRecord, topology: tuple[int, ...], mode: str) -> PairIdentity:
    """A pair of the zoo, made in that mode."""
    cut = mode == "from_supernet"
    recipe = SupernetRecipe(**settings.supernet_recipe) if cut else Recipe(**settings.recipe)
    return PairIdentity(
        fingerprint=dataset.fingerprint,
        search_space=settings.search_space,
        topology=topology,
        width=settings.width,
        image_size=settings.image_size,
        mode=mode,
        recipe=decided(recipe, dataset),
        supernet=settings.supernet,
        seed=settings.seed,
    )


def supernet_identity(settings: ZooSettings, dataset: DatasetRecord) -> SupernetIdentity:
    """The supernet that the dataset's pairs are cut out of."""
    return supernet_of(pair_identity(settings, dataset, (), "from_supernet"))


def decided(recipe: Recipe | SupernetRecipe, dataset: DatasetRecord) -> dict[str, Any]:
    """A recipe as identities hold it: whether pictures are mirrored is decided for the dataset."""
    return asdict(replace(recipe, mirror=dataset.mirror) if recipe.mirror is None else recipe)
