"""What a network brings from one dataset to another: its body, under a new classifier."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from tans_core.errors import WeightsError
from tans_core.records import Architecture
from tans_core.search_space.space import SearchSpace
from tans_core.training.loop import seeded


def transfer(
    search_space: SearchSpace,
    architecture: Architecture,
    weights: Mapping[str, Tensor],
    classes: int,
    key: str,
) -> nn.Module:
    """The architecture with the body of trained `weights` and a new classifier drawn from `key`.

    Raises:
        WeightsError: the weights are of another network.
    """
    network = search_space.random_subnet(architecture, classes, seeded(key, "classifier"))
    own = network.state_dict()
    body = {name: tensor for name, tensor in weights.items() if not name.startswith("classifier.")}
    expected = {name for name in own if not name.startswith("classifier.")}
    if set(body) != expected or any(own[name].shape != tensor.shape for name, tensor in body.items()):
        raise WeightsError(f"these weights are of another network than {architecture.topology}")
    network.load_state_dict({**own, **body})
    return network
