"""Exact parameters and multiply-accumulates, added up from a table over blocks.

A block's cost depends on its kernel size, its expansion ratio and the side of its input, and the
side on its stage alone. So a table of blocks by choices prices any number of networks in one gather.
Axes: C candidates, T entries, B blocks, V values that a kernel size or expansion ratio may have (0: not there).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from ofa.imagenet_classification.elastic_nn.modules import DynamicMBConvLayer
from ofa.utils import MyNetwork, SEModule, make_divisible
from torch import Tensor, nn

from tans_core.search_space.topology import Layout


@dataclass(frozen=True, eq=False)
class CostTable:
    """Costs of a search space at one image size; int64, index 0 of both V axes is 'not there'."""

    params_BVV: Tensor
    macs_BVV: Tensor
    fixed_params: int
    fixed_macs: int
    feature_dim: int

    def costs(self, layout: Layout, topology_CT: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Parameters and multiply-accumulates, int64 (C,), of masked topologies."""
        kernel_CB, expand_CB, _ = layout.split(topology_CT)
        block_B = torch.arange(layout.blocks)
        kernel_CB = torch.searchsorted(torch.tensor((0, *layout.kernel_choices)), kernel_CB.contiguous())
        expand_CB = torch.searchsorted(torch.tensor((0, *layout.expand_choices)), expand_CB.contiguous())
        params_C = self.params_BVV[block_B, kernel_CB, expand_CB].sum(dim=1)
        macs_C = self.macs_BVV[block_B, kernel_CB, expand_CB].sum(dim=1)
        classifier_params = (self.feature_dim + 1) * classes
        return params_C + self.fixed_params + classifier_params, macs_C + self.fixed_macs + self.feature_dim * classes


def build_cost_table(
    layout: Layout,
    stem: Sequence[nn.Module],
    blocks: Sequence[DynamicMBConvLayer],
    head: Sequence[nn.Module],
    feature_dim: int,
    image_size: int,
) -> CostTable:
    """Price every choice of every block once.

    Args:
        stem: layers before the elastic blocks.
        blocks: the elastic blocks in the order of the topology.
        head: 1x1 layers after them, before the classifier; all but the first work on pooled features.
        feature_dim: width of the features that the classifier reads.
        image_size: side of the images in pixels.
    """
    values = len(layout.kernel_choices) + 1, len(layout.expand_choices) + 1
    params_BVV, macs_BVV = torch.zeros(2, len(blocks), *values, dtype=torch.int64)
    fixed_params, fixed_macs, side = _fixed_costs(stem, image_size)
    for number, block in enumerate(blocks):
        for kernel, kernel_size in enumerate(layout.kernel_choices, start=1):
            for expand, expand_ratio in enumerate(layout.expand_choices, start=1):
                params, macs = _block_costs(block, kernel_size, expand_ratio, side)
                params_BVV[number, kernel, expand] = params
                macs_BVV[number, kernel, expand] = macs
        side = _side_after(side, block.stride)
    for layer in head:
        params, macs, _ = _fixed_costs([layer], side)
        fixed_params, fixed_macs, side = fixed_params + params, fixed_macs + macs, 1
    return CostTable(params_BVV, macs_BVV, fixed_params, fixed_macs, feature_dim)


def _fixed_costs(layers: Sequence[nn.Module], side: int) -> tuple[int, int, int]:
    """Parameters, multiply-accumulates and the side after layers without a choice."""
    macs = 0
    for module in nn.ModuleList(layers).modules():
        if isinstance(module, nn.Conv2d):
            side = _side_after(side, module.stride[0])
            macs += module.weight.numel() * side**2
    return sum(parameter.numel() for layer in layers for parameter in layer.parameters()), macs, side


def _block_costs(block: DynamicMBConvLayer, kernel_size: int, expand_ratio: int, side: int) -> tuple[int, int]:
    """Parameters and multiply-accumulates of an inverted bottleneck, as `ofa` builds it."""
    inside, outside = block.in_channels, block.out_channels
    middle = make_divisible(round(inside * expand_ratio), MyNetwork.CHANNEL_DIVISIBLE)
    norms = 2 * (middle + middle + outside)
    expand, depthwise, project = inside * middle, middle * kernel_size**2, middle * outside
    area_after = _side_after(side, block.stride) ** 2
    params = expand + depthwise + project + norms
    macs = expand * side**2 + (depthwise + project) * area_after
    if block.use_se:
        squeezed = make_divisible(middle // SEModule.REDUCTION, MyNetwork.CHANNEL_DIVISIBLE)
        params += 2 * middle * squeezed + middle + squeezed
        macs += 2 * middle * squeezed
    return params, macs


def _side_after(side: int, stride: int) -> int:
    return -(-side // stride)
