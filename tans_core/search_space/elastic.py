"""What both search spaces share: a supernet of OFA's elastic layers, and networks cut out of it.

Importing this imports `ofa` and with it torchvision (seconds): `make_search_space` does so when a space is made.
Axes: C networks, T entries of the topology.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from ofa.imagenet_classification.elastic_nn.modules import DynamicMBConvLayer
from ofa.imagenet_classification.elastic_nn.modules.dynamic_op import DynamicSeparableConv2d
from ofa.utils.layers import LinearLayer
from torch import Tensor, nn

from tans_core.records import Architecture
from tans_core.search_space.costs import CostTable, build_cost_table
from tans_core.search_space.depthwise import depthwise_conv2d, use_fast_depthwise
from tans_core.search_space.supernet_file import SupernetCard, encode_supernet, state_hash
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

    def __init__(
        self, supernet: Any, width: float, feature_dim: int, needs_file: bool = False, card: SupernetCard | None = None
    ) -> None:
        """Begin with a supernet.

        Args:
            needs_file: neither a package nor a seed gives these weights again.
            card: of the file that they came from.
        """
        self._needs_file, self._card = needs_file, card
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
        network = self._cut(architecture, preserve_weight=True)
        network.classifier = self.classifier(classes, generator)
        return network

    def random_subnet(self, architecture: Architecture, classes: int, generator: torch.Generator) -> nn.Module:
        network = self._cut(architecture, preserve_weight=False)
        network.classifier = self.classifier(classes, torch.Generator())  # drawn with the rest
        draw_weights(network, generator)
        return network

    def classifier(self, classes: int, generator: torch.Generator) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            layer: nn.Module = LinearLayer(self.feature_dim, classes, dropout_rate=0)
        draw_weights(layer, generator)
        return layer

    def start_file(self) -> bytes | None:
        if not self._needs_file:
            return None
        own = self.supernet_hash
        card = SupernetCard(search_space=self.name, width=self.width, hash=own, begun_from=own)
        return encode_supernet(self.supernet.state_dict(), self._card or card)

    def elastic_copy(self) -> Any:
        """The supernet as a module of its own to be trained: `activate` says which of its networks it is.

        As a network it gives penultimate features; its parameters and their names are the supernet's.
        """
        copy = deepcopy(self.supernet)
        for layer in [module for module in copy.modules() if isinstance(module, DynamicMBConvLayer)]:
            slow = layer.depth_conv.conv
            if type(slow) is DynamicSeparableConv2d:
                layer.depth_conv.conv = _FastSeparableConv2d(slow.max_in_channels, slow.kernel_size_list, slow.stride)
                layer.depth_conv.conv.load_state_dict(slow.state_dict())
        return copy

    def activate(self, supernet: Any, architecture: Architecture) -> None:
        """Make a supernet of this space the network of that architecture, by `ofa`'s own mechanism."""
        checked = self.architecture(architecture.topology)
        fixed = [1] * self.layout.fixed_blocks
        largest = (
            self.layout.kernel_choices[-1],
            self.layout.expand_choices[-1],
        )  # what a block that is left out is set to
        supernet.set_active_subnet(
            [size or largest[0] for size in checked.kernel_sizes],
            [ratio or largest[1] for ratio in checked.expand_ratios],
            [*checked.depths, *fixed],
        )

    def cut_from(self, supernet: Any, preserve_weight: bool = True) -> nn.Module:
        """The network that a supernet of this space is set to, sharing no memory with it; it gives features.

        The global random state is left as it was.
        """
        with torch.random.fork_rng(devices=[]):
            return self._padded(use_fast_depthwise(supernet.get_active_subnet(preserve_weight)))

    def export_config(self, network: nn.Module) -> dict[str, Any]:
        return {**network.config, "padding": self.padding}  # type: ignore[dict-item]

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        raise NotImplementedError

    def check_image_size(self, image_size: int) -> None:
        """Raise ConfigError for a size that the networks of this space cannot do."""
        raise NotImplementedError

    def _head(self) -> list[nn.Module]:
        """1x1 layers between the last block and the classifier; all but the first work on pooled features."""
        raise NotImplementedError

    def _cut(self, architecture: Architecture, preserve_weight: bool) -> Any:
        """The subnet without a classifier."""
        self.activate(self.supernet, architecture)
        return self.cut_from(self.supernet, preserve_weight)

    def _padded(self, network: nn.Module) -> nn.Module:
        """A network that was cut out, padding as those of this space do."""
        return network


class _FastSeparableConv2d(DynamicSeparableConv2d):
    """`ofa`'s elastic depthwise convolution with our backward pass."""

    def forward(self, x: Tensor, kernel_size: int | None = None) -> Tensor:
        size = kernel_size or self.active_kernel_size
        filters = self.get_active_filter(x.size(1), size).contiguous()
        return depthwise_conv2d(x, filters, self.stride, size // 2)


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
