"""Peak memory of inference, worked by hand for a network of two small blocks."""

import pytest
import torch
from ofa.imagenet_classification.elastic_nn.modules import DynamicMBConvLayer
from ofa.utils.layers import ConvLayer

from tans_core.search_space.costs import build_cost_table
from tans_core.search_space.topology import Layout

LAYOUT = Layout(stage_blocks=(2,), kernel_choices=(3, 5), expand_choices=(2, 4), depth_choices=(1, 2))
# 8 pixels; the stem makes 8 maps of 4 x 4, the blocks 16 of 2 x 2 (the second adds its input), the head 10 of them.
TABLE = build_cost_table(
    LAYOUT,
    stem=[ConvLayer(3, 8, kernel_size=3, stride=2)],
    blocks=[
        DynamicMBConvLayer([8], [16], [3, 5], [2, 4], 2),  # type: ignore[arg-type]
        DynamicMBConvLayer([16], [16], [3, 5], [2, 4], 1),  # type: ignore[arg-type]
    ],
    head=[ConvLayer(16, 10, kernel_size=1)],
    feature_dim=10,
    image_size=8,
)
# Parameters and statistics of batch norm: each norm has 4 numbers a channel.
STEM, HEAD, CLASSIFIER = 3 * 8 * 9 + 4 * 8, 16 * 10 + 4 * 10, 10 * 2 + 2
FIRST = 8 * 16 + 4 * 16 + 16 * 9 + 4 * 16 + 16 * 16 + 4 * 16  # kernel 3, expansion 2: 16 channels inside
SECOND = 16 * 64 + 4 * 64 + 64 * 9 + 4 * 64 + 64 * 16 + 4 * 16  # kernel 3, expansion 4: 64 inside
WEIGHTS = STEM + FIRST + HEAD + CLASSIFIER


@pytest.mark.parametrize(
    ("topology", "weights", "maps"),
    [
        # The first block's expansion: 8 maps of 4 x 4 become 16. The stem needs 3 * 64 + 8 * 16 = 320.
        ((3, 0, 2, 0, 1), WEIGHTS, (8 + 16) * 16),
        # The second block's depthwise layer: 64 maps of 2 x 2 become 64, and its input of 16 is still needed.
        ((3, 3, 2, 4, 2), WEIGHTS + SECOND, (64 + 64 + 16) * 4),
        # The first block again, 32 channels inside: both (8 + 32) * 16 and 32 * (16 + 4) are 640.
        ((3, 3, 4, 4, 2), WEIGHTS + SECOND + (8 + 9 + 16 + 8) * 16, 640),
    ],
)
def test_memory_is_weights_and_the_largest_maps(topology: tuple[int, ...], weights: int, maps: int):
    topology_CT = torch.tensor([topology])
    assert TABLE.memory(LAYOUT, topology_CT, classes=2, batch=1).tolist() == [4 * (weights + maps)]
    assert TABLE.memory(LAYOUT, topology_CT, classes=2, batch=3).tolist() == [4 * (weights + 3 * maps)]
