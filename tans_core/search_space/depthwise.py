"""Depthwise convolutions that train fast on a CPU.

oneDNN has a fast kernel for the weights' gradient of a depthwise convolution up to three columns wide and without
padding; for wider ones its general one takes twenty times the forward pass, and a third of a training step went there.
So the input is padded once and the gradient is put together from strips of three columns. On maps smaller than
the kernel's reach the outer taps see padding alone and are left out: the network is the same.
Axes: N images, C channels, H x W a map, K x K a kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, pad

_STRIP = 3


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` of one filter a channel with a faster backward pass on the CPU; parameters and names are the same."""

    def forward(self, input: Tensor) -> Tensor:
        return depthwise_conv2d(input, self.weight, self.stride[0], int(self.padding[0]))


def depthwise_conv2d(input: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """`conv2d` of one square filter (C, 1, K, K) a channel, with that backward pass."""
    size = weight.shape[-1]
    fast_anyway = size <= _STRIP <= min(input.shape[-2:])
    if fast_anyway or input.device.type != "cpu" or not torch.is_grad_enabled():
        return conv2d(input, weight, stride=stride, padding=padding, groups=len(weight))
    margin = max(0, padding - max(input.shape[-2:]) + 1) if stride == 1 else 0
    inner = weight[:, :, margin : size - margin, margin : size - margin]
    return _Depthwise.apply(input, inner, stride, padding - margin)  # type: ignore[return-value]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.stride, ctx.padding = stride, padding
        return conv2d(input, weight, stride=stride, padding=padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        input, weight = ctx.saved_tensors
        output_gradient, stride, padding = gradients[0], ctx.stride, ctx.padding
        input_gradient = None
        if ctx.needs_input_grad[0]:
            input_gradient, _ = _gradients(output_gradient, input, weight, stride, padding, of_input=True)
        padded = pad(input, (padding, padding, padding, padding)) if padding else input
        rows = (output_gradient.shape[2] - 1) * stride + weight.shape[2]
        strips = []
        for first, strip in zip(range(0, weight.shape[3], _STRIP), weight.split(_STRIP, dim=3)):
            columns = (output_gradient.shape[3] - 1) * stride + strip.shape[3]
            part = padded[:, :, :rows, first : first + columns].contiguous(memory_format=torch.channels_last)
            strips.append(_gradients(output_gradient, part, strip, stride, 0, of_input=False)[1])
        return input_gradient, torch.cat(strips, dim=3), None, None


def _gradients(
    output_gradient: Tensor, input: Tensor, weight: Tensor, stride: int, padding: int, of_input: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of input and weight, of which the one that was asked for is computed."""
    wanted = [of_input, not of_input, False]
    both = ([stride, stride], [padding, padding], [1, 1], False, [0, 0], len(weight))
    return torch.ops.aten.convolution_backward(output_gradient, input, weight, None, *both, wanted)[:2]


def use_fast_depthwise(network: nn.Module) -> nn.Module:
    """Exchange the network's depthwise convolutions for `DepthwiseConv2d`; in place, and returned."""
    for parent in list(network.modules()):
        for name, conv in list(parent.named_children()):
            if type(conv) is nn.Conv2d and conv.groups == conv.in_channels == conv.out_channels and conv.bias is None:
                setattr(parent, name, _exchanged(conv))
    return network


def _exchanged(conv: nn.Conv2d) -> DepthwiseConv2d:
    fast = DepthwiseConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        groups=conv.groups,
        bias=False,
        device="meta",
    )
    fast.weight = conv.weight
    return fast
