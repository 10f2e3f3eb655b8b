"""What both search spaces share: a supernet of OFA's elastic layers, and networks cut out of it.

Importing this imports `ofa` and with it torchvision (seconds): `make_search_space` does so when a space is made.
Axes: C networks, T entries of the topology.
"""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ofa.utils.layers import LinearLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tans_core.errors import ConfigError
from tans_core.records import Architecture
from tans_core.search_space.costs import CostTable, build_cost_table
from tans_core.search_space.depthwise import use_fast_depthwise
from tans_core.search_space.topology import Layout


class ElasticSearchSpace:
    """The parts of the promise of a search space that do not depend on its family of networks.

    The supernet's classifier is the identity: as a network it gives its penultimate features.
    Its active setting is scratch paper of `_cut`; its weights never change.
    """

    name: str
    padding: str
    layout: Layout
    input_mean: tuple[float, float, float]
    input_std: tuple[float, float, float]

    def __init__(self, supernet: Any, width: float, feature_dim: int) -> None:
        self.supernet = supernet.train()
        self.width = width
        self.topology_length = self.layout.length
        self.feature_dim = feature_dim
        self.supernet_hash = state_hash(supernet.state_dict())
        self._cost_tables: dict[int, CostTable] = {}

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        return self.layout.sample(count, generator)

    def mutate(self, topology_CT: Tensor, generator: torch.Generator, rate: float = 0.1) -> Tensor:
        return self.layout.mutate(topology_CT, generator, rate)

    def architecture(self, topology: Sequence[int]) -> Architecture:
        return self.layout.architecture(topology)

    def costs(self, topology_CT: Tensor, image_size: int, classes: int) -> tuple[Tensor, Tensor]:
        return self._cost_table(image_size).costs(self.layout, self.layout.check(topology_CT), classes)

    def memory(self, topology_CT: Tensor, image_size: int, classes: int | Tensor, batch: int = 1) -> Tensor:
        return self._cost_table(image_size).memory(self.layout, self.layout.check(topology_CT), classes, batch)

    def _cost_table(self, image_size: int) -> CostTable:
        if image_size not in self._cost_tables:
            self.check_image_size(image_size)
            self._cost_tables[image_size] = build_cost_table(
                self.layout,
                stem=[self.supernet.first_conv, self.supernet.blocks[0]],
                blocks=[block.conv for block in self.supernet.blocks[1:]],
                head=self._head(),
                feature_dim=self.feature_dim,
                image_size=image_size,
            )
        return self._cost_tables[image_size]

    def subnet(self, architecture: Architecture, classes: int, generator: torch.Generator) -> nn.Module:
        network = self._cut(architecture, classes, preserve_weight=True)
        draw_weights(network.classifier, generator)
        return network

    def random_subnet(self, architecture: Architecture, classes: int, generator: torch.Generator) -> nn.Module:
        network = self._cut(architecture, classes, preserve_weight=False)
        draw_weights(network, generator)
        return network

    def export_config(self, network: nn.Module) -> dict[str, Any]:
        return {**network.config, "padding": self.padding}  # type: ignore[dict-item]

    def check_image_size(self, image_size: int) -> None:
        """Raise ConfigError for a size that the networks of this space cannot do."""
        raise NotImplementedError

    def _head(self) -> list[nn.Module]:
        """1x1 layers between the last block and the classifier; all but the first work on pooled features."""
        raise NotImplementedError

    def _cut(self, architecture: Architecture, classes: int, preserve_weight: bool) -> Any:
        """The subnet with a classifier still to be drawn; the global random state is left as it was."""
        checked = self.architecture(architecture.topology)
        fixed = [1] * self.layout.fixed_blocks
        largest = (
            self.layout.kernel_choices[-1],
            self.layout.expand_choices[-1],
        )  # what a block that is left out is set to
        with torch.random.fork_rng(devices=[]):
            self.supernet.set_active_subnet(
                [size or largest[0] for size in checked.kernel_sizes],
                [ratio or largest[1] for ratio in checked.expand_ratios],
                [*checked.depths, *fixed],
            )
            network = self.supernet.get_active_subnet(preserve_weight)
            network.classifier = LinearLayer(self.feature_dim, classes, dropout_rate=0)
        return use_fast_depthwise(network)


def draw_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Draw weights in place, with the variances of `ofa`'s `init_models` (He); norms and biases are reset.

    They are uniform and come from single multiplications of exact numbers, so that one seed gives
    the same bits on every processor: a zoo begun on one machine goes on on another.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels
            _draw_uniform(layer.weight, math.sqrt(6 / fan_out), generator)
        elif isinstance(layer, nn.Linear):
            _draw_uniform(layer.weight, 1 / math.sqrt(layer.in_features), generator)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            nn.init.ones_(layer.weight)
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _draw_uniform(weight: Tensor, bound: float, generator: torch.Generator) -> None:
    with torch.no_grad():
        weight.copy_((torch.rand(weight.shape, generator=generator) - 0.5) * (2 * bound))


def state_hash(state: dict[str, Tensor]) -> str:
    """BLAKE2b-128 over names, shapes and values in the order of the names."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        digest.update(f"{name} {tuple(state[name].shape)} ".encode())
        digest.update(state[name].detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def brief(error: Exception) -> str:
    """Kind and first words of an error of torch or safetensors, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a safetensors file (by its suffix) or from one that torch wrote; nothing is executed.

    Raises:
        ConfigError: no such file, or none that can be read so.
    """
    if not path.is_file():
        raise ConfigError(f"{path} is no file: give the path of a supernet's weights, or leave them out")
    try:
        state: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ConfigError(f"{path} cannot be read as weights: {brief(error)}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigError(f"{path} holds no tensors by name: it is not a state dict")
    return state
