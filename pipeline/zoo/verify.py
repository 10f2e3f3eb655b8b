"""Whether what a zoo says of its weights is so."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from pipeline.zoo.store import Zoo
from tans_core.errors import ConfigError, TansError
from tans_core.records import Row
from tans_core.search_space.space import SearchSpace
from tans_core.training.weights import load_into


def verify_weights(zoo: Zoo, search_space: SearchSpace) -> Iterator[str]:
    """What is wrong, a sentence each that names its row; nothing where all is well.

    For every row: it stands once under the key that its identity hashes to; its weights exist, have size and
    hash as the row says, are finite, and have the shapes of its architecture.

    Args:
        search_space: the zoo's; its starting weights do not matter.
    """
    seen: set[str] = set()
    for row in zoo.snapshot().rows:
        if row.key in seen:
            yield f"row {row.key} stands more than once"
        seen.add(row.key)
        if row.identity.key != row.key:
            yield f"row {row.key}: its identity hashes to {row.identity.key}; the table was changed by hand"
        problem = _weights_problem(zoo, row, search_space)
        if problem:
            yield problem


def refuse_other_start(zoo: Zoo, search_space: SearchSpace) -> None:
    """Rows are comparable, and can be trained again, only from the weights that the zoo was begun from.

    Raises:
        ConfigError: these are others.
    """
    begun_from = zoo.settings.supernet
    if search_space.supernet_hash != begun_from:
        raise ConfigError(
            f"{zoo.uri} was begun from the starting weights {begun_from} and these are {search_space.supernet_hash}: "
            f"give the --init it was begun with, or another --zoo"
        )


def _weights_problem(zoo: Zoo, row: Row, search_space: SearchSpace) -> str | None:
    try:
        weights = zoo.load_weights(row)
    except TansError as error:
        return str(error)
    try:
        architecture = search_space.architecture(row.identity.topology)
        network = search_space.random_subnet(architecture, len(row.class_names), torch.Generator().manual_seed(0))
        load_into(network, weights)
    except TansError as error:
        return f"row {row.key}: its weights {row.weights.path} are of another network: {error}"
    return None
