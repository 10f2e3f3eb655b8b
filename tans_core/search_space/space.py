"""What a search space promises: sample, topology <-> architecture, subnet with weights, costs.

Axes: C candidates, T entries of the topology.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tans_core.records import Architecture
from tans_core.search_space.topology import Layout


class SearchSpace(Protocol):
    """One family of networks over one set of starting weights."""

    name: str
    width: float
    topology_length: int
    layout: Layout  # where the entries of a topology stand
    feature_dim: int  # width of the penultimate features
    supernet_hash: str  # content hash of the starting weights
    input_mean: tuple[float, float, float]  # of red, green, blue; the same for every dataset:
    input_std: tuple[float, float, float]  # an image is (pixels - mean) / std, pixels 0..255

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw networks as OFA's sampler does: int64 (count, T), masked."""
        ...

    def mutate(self, topology_CT: Tensor, generator: torch.Generator, rate: float = 0.1) -> Tensor:
        """Change each choice with probability `rate` (at least one a network): int64 (C, T), masked."""
        ...

    def architecture(self, topology: Sequence[int]) -> Architecture:
        """Check a topology and mask it.

        Raises:
            InvalidTopology: wrong length, or a value that is no choice of its place.
        """
        ...

    def costs(self, topology_CT: Tensor, image_size: int, classes: int) -> tuple[Tensor, Tensor]:
        """Parameters and multiply-accumulates of each network, int64 (C,), exact, from a table over blocks.

        Raises:
            InvalidTopology: as `architecture`.
            ConfigError: an image size that the networks of this space cannot do.
        """
        ...

    def memory(self, topology_CT: Tensor, image_size: int, classes: int | Tensor, batch: int = 1) -> Tensor:
        """Peak bytes of inference over `batch` images, int64 (C,): weights and the largest maps, see `costs.py`.

        Args:
            classes: of all networks, or of each (C,).

        Raises:
            InvalidTopology, ConfigError: as `costs`.
        """
        ...

    def subnet(self, architecture: Architecture, classes: int, generator: torch.Generator) -> nn.Module:
        """A network with the starting weights and a new classifier drawn from `generator`; no shared memory."""
        ...

    def random_subnet(self, architecture: Architecture, classes: int, generator: torch.Generator) -> nn.Module:
        """The same network from random weights (He), for baselines and for loading weights into."""
        ...

    def classifier(self, classes: int, generator: torch.Generator) -> nn.Module:
        """A new classifier of penultimate features, drawn from `generator`."""
        ...

    def elastic_copy(self) -> Any:
        """The supernet as a module of its own to be trained: `activate` says which of its networks it is.

        As a network it gives penultimate features; its parameters and their names are the supernet's.
        """
        ...

    def activate(self, supernet: Any, architecture: Architecture) -> None:
        """Make a supernet of this space the network of that architecture."""
        ...

    def cut_from(self, supernet: Any) -> nn.Module:
        """The network that a supernet of this space is set to, sharing no memory with it; it gives what that gives."""
        ...

    def start_file(self) -> bytes | None:
        """The starting weights as a file that `init` takes; None where a package or the seed gives them again."""
        ...

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        """Penultimate features (N, feature_dim) of normalised images (N, 3, S, S)."""
        ...

    def export_config(self, network: nn.Module) -> dict[str, Any]:
        """JSON that rebuilds `network` by `ofa` alone (README shows the lines)."""
        ...
