"""Which pictures of a query a zoo has seen: networks that were trained on them know their answers."""

from __future__ import annotations

from collections.abc import Mapping

_HASH_BYTES = 16


def known_pictures(query: bytes, datasets: Mapping[str, bytes]) -> dict[str, int]:
    """How many of the query's pictures stand in each dataset, most first; a dataset with none of them is left out.

    All pictures of the query are looked at, those of its test side too: what is counted are copies, and no choice
    depends on it.

    Args:
        query: hashes of pictures, as `ImageDataset.image_hashes`.
        datasets: the same by a dataset's name; empty where they were not kept.
    """
    asked = set(_each(query))
    counts = {name: len(asked.intersection(_each(hashes))) for name, hashes in datasets.items()}
    return {name: count for name, count in sorted(counts.items(), key=lambda item: -item[1]) if count}


def _each(hashes: bytes) -> list[bytes]:
    return [hashes[place : place + _HASH_BYTES] for place in range(0, len(hashes), _HASH_BYTES)]
