"""A row of the zoo as a network."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.zoo import Zoo
from tans_core.errors import ConfigError
from tans_core.records import Row
from tans_core.search_space import make_search_space
from tans_core.training.weights import load_into


def find_row(zoo: Zoo, key: str) -> Row:
    """The row of that key, or of the only key that begins so.

    Raises:
        ConfigError: there is none, or there are several.
    """
    rows = [row for row in zoo.snapshot().rows if row.key.startswith(key)] if key else []
    if len(rows) != 1:
        found = f"{len(rows)} rows whose keys begin with {key!r}" if rows else f"no row {key!r}"
        raise ConfigError(f"{found} in {zoo.uri}: `tans zoo show --zoo URI` lists the keys")
    return rows[0]


def find_start(zoo: Zoo, text: str) -> tuple[str, Row]:
    """What `--row` asks for: "retrieved" and the row of a key, or "start" and the row that `start:KEY` names.

    Raises:
        ConfigError: there is no such row, there are several, or the text is neither.
    """
    before, colon, key = text.rpartition(":")
    if colon and before != "start":
        raise ConfigError(
            f"{text!r} names no row: give KEY, or start:KEY for its architecture from the starting weights"
        )
    return "start" if colon else "retrieved", find_row(zoo, key)


def load_network(zoo: str, key: str) -> nn.Module:
    """The trained network of a row, with its classifier, in eval mode.

    Images (N, 3, S, S) are normalised by the search space's constants.

    Raises:
        ZooError: there is no zoo.
        ConfigError: no such row.
        WeightsError: its weights are gone, changed or not finite.
    """
    store = Zoo.open(zoo)
    row = find_row(store, key)
    search_space = make_search_space(row.identity.search_space, row.identity.width)
    network = search_space.random_subnet(
        search_space.architecture(row.identity.topology), len(row.class_names), torch.Generator().manual_seed(0)
    )
    load_into(network, store.load_weights(row))
    return network.eval()
