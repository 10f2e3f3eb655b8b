"""Exact parameters, multiply-accumulates and memory of inference, added up from a table over blocks.

A block's cost depends on its kernel size, its expansion ratio and the side of its input, and the
side on its stage alone. So a table of blocks by choices prices any number of networks in one gather.
Memory is that of an engine which frees a map as soon as nothing needs it and lets norms, activations and sums work in
place: weights and statistics of batch norm, and beside them the layer whose input and output are the largest together,
within a shortcut with the block's input that it still needs. All in float32.
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

_FLOAT_BYTES = 4


@dataclass(frozen=True, eq=False)
class CostTable:
    """Costs of a search space at one image size; int64, index 0 of both V axes is 'not there'."""

    params_BVV: Tensor
    macs_BVV: Tensor
    stored_BVV: Tensor  # numbers of the weights: parameters, and mean and variance of batch norms
    working_BVV: Tensor  # most numbers in maps at once, for one image
    fixed_params: int
    fixed_macs: int
    fixed_stored: int
    fixed_working: int
    feature_dim: int

    def costs(self, layout: Layout, topology_CT: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Parameters and multiply-accumulates, int64 (C,), of masked topologies."""
        params_C = layout.gather(self.params_BVV, topology_CT).sum(dim=1)
        macs_C = layout.gather(self.macs_BVV, topology_CT).sum(dim=1)
        classifier_params = (self.feature_dim + 1) * classes
        return params_C + self.fixed_params + classifier_params, macs_C + self.fixed_macs + self.feature_dim * classes

    def memory(self, layout: Layout, topology_CT: Tensor, classes: int | Tensor, batch: int) -> Tensor:
        """Bytes of weights and, for `batch` images at once, of maps: int64 (C,), of masked topologies."""
        stored_C = layout.gather(self.stored_BVV, topology_CT).sum(dim=1)
        stored_C = stored_C + self.fixed_stored + (self.feature_dim + 1) * classes
        working_C = layout.gather(self.working_BVV, topology_CT).amax(dim=1)
        working_C = working_C.clamp_min(self.fixed_working).maximum(torch.as_tensor(self.feature_dim + classes))
        return _FLOAT_BYTES * (stored_C + batch * working_C)


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
    table_4BVV = torch.zeros(4, len(blocks), *values, dtype=torch.int64)
    fixed, side = _fixed_costs(stem, image_size)
    for number, block in enumerate(blocks):
        for kernel, kernel_size in enumerate(layout.kernel_choices, start=1):
            for expand, expand_ratio in enumerate(layout.expand_choices, start=1):
                table_4BVV[:, number, kernel, expand] = torch.tensor(
                    _block_costs(block, kernel_size, expand_ratio, side)
                )
        side = _side_after(side, block.stride)
    for layer in head:
        costs, _ = _fixed_costs([layer], side)
        fixed, side = (*(one + other for one, other in zip(fixed[:3], costs)), max(fixed[3], costs[3])), 1
    params_BVV, macs_BVV, stored_BVV, working_BVV = table_4BVV
    return CostTable(
        params_BVV=params_BVV,
        macs_BVV=macs_BVV,
        stored_BVV=stored_BVV,
        working_BVV=working_BVV,
        fixed_params=fixed[0],
        fixed_macs=fixed[1],
        fixed_stored=fixed[2],
        fixed_working=fixed[3],
        feature_dim=feature_dim,
    )


def _fixed_costs(layers: Sequence[nn.Module], side: int) -> tuple[tuple[int, ...], int]:
    """Parameters, multiply-accumulates, stored and working numbers, and the side after layers without a choice."""
    macs = working = 0
    for layer in layers:
        kept, held = 0, getattr(layer, "shortcut", None) is not None  # the first convolution's input is the block's
        for conv in layer.modules():
            if isinstance(conv, nn.Conv2d):
                before = conv.in_channels * side**2
                side = _side_after(side, conv.stride[0])
                macs += conv.weight.numel() * side**2
                working = max(working, before + conv.out_channels * side**2 + kept)
                kept = kept or (before if held else 0)
    modules = nn.ModuleList(layers)
    params = sum(parameter.numel() for parameter in modules.parameters())
    statistics = sum(buffer.numel() for buffer in modules.buffers() if buffer.is_floating_point())
    return (params, macs, params + statistics, working), side


def _block_costs(
    block: DynamicMBConvLayer, kernel_size: int, expand_ratio: int, side: int
) -> tuple[int, int, int, int]:
    """Parameters, multiply-accumulates, stored and working numbers of an inverted bottleneck, as `ofa` builds it."""
    inside, outside = block.in_channels, block.out_channels
    middle = make_divisible(round(inside * expand_ratio), MyNetwork.CHANNEL_DIVISIBLE)
    norms = 2 * (middle + middle + outside)
    expand, depthwise, project = inside * middle, middle * kernel_size**2, middle * outside
    area, area_after = side**2, _side_after(side, block.stride) ** 2
    params = expand + depthwise + project + norms
    macs = expand * area + (depthwise + project) * area_after
    kept = inside * area if block.stride == 1 and inside == outside else 0  # what the shortcut adds at the end
    working = [(inside + middle) * area, middle * (area + area_after) + kept, (middle + outside) * area_after + kept]
    if block.use_se:
        squeezed = make_divisible(middle // SEModule.REDUCTION, MyNetwork.CHANNEL_DIVISIBLE)
        params += 2 * middle * squeezed + middle + squeezed
        macs += 2 * middle * squeezed
        working.append(middle * area_after + middle + squeezed + kept)
    return params, macs, params + norms, max(working)  # a batch norm has as many statistics as parameters


def _side_after(side: int, stride: int) -> int:
    return -(-side // stride)
