"""The nouns of pairs that come from others: a dataset's supernet, out of which its pairs are cut."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tans_core.records import CurvePoint, PairIdentity, canonical_json, content_hash


@dataclass(frozen=True, kw_only=True)
class SupernetIdentity:
    """All that decides what fine-tuning a supernet on a dataset gives. Its hash is the supernet's key."""

    fingerprint: str
    search_space: str
    width: float
    image_size: int
    recipe: dict[str, Any]  # asdict(SupernetRecipe), mirror decided
    supernet: str  # hash of the starting weights
    seed: int

    @property
    def key(self) -> str:
        return content_hash(canonical_json(asdict(self)))


def supernet_of(pair: PairIdentity) -> SupernetIdentity:
    """The supernet that a pair of mode "from_supernet" is cut out of."""
    assert pair.mode == "from_supernet", pair.mode
    return SupernetIdentity(
        fingerprint=pair.fingerprint,
        search_space=pair.search_space,
        width=pair.width,
        image_size=pair.image_size,
        recipe=pair.recipe,
        supernet=pair.supernet,
        seed=pair.seed,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedSupernet:
    """What fine-tuning a supernet gives: elastic weights with the classifier, without statistics of batch norm."""

    weights: bytes  # safetensors, matrices in 16 bits
    curve: tuple[CurvePoint, ...]  # mean loss of each epoch; validation counts belong to pairs


def parent_of(pair: PairIdentity) -> str | None:
    """Key of what a pair comes from: its dataset's supernet, or the row that it goes on from."""
    return supernet_of(pair).key if pair.mode == "from_supernet" else pair.parent
