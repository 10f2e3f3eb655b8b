"""The fast depthwise convolution is the plain one: outputs, gradients, names."""

import pickle

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from tans_core.search_space import make_search_space
from tans_core.search_space.depthwise import DepthwiseConv2d, use_fast_depthwise

CASES = [
    (height, width, kernel, stride, padding)
    for height, width in [(1, 1), (2, 2), (2, 5), (4, 4), (9, 8)]
    for kernel in (3, 5, 7)
    for stride, padding in [(1, kernel // 2), (2, 0), (2, kernel // 2)]
    if min(height, width) + 2 * padding >= kernel  # else there is no output
]


@pytest.mark.parametrize("height,width,kernel,stride,padding", CASES)
def test_outputs_and_gradients_equal_those_of_the_plain_convolution(height, width, kernel, stride, padding):
    plain = nn.Conv2d(6, 6, kernel, stride, padding, groups=6, bias=False).double()
    fast = use_fast_depthwise(nn.Sequential(plain))[0]  # type: ignore[index]
    images = torch.randn(3, 6, height, width, dtype=torch.float64, requires_grad=True)
    expected = conv2d(images, plain.weight, None, stride, padding, groups=6)
    upstream = torch.randn_like(expected)
    by_plain = torch.autograd.grad(expected, (images, plain.weight), upstream)
    got = fast(images)
    by_fast = torch.autograd.grad(got, (images, fast.weight), upstream)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(by_fast, by_plain)


@pytest.mark.parametrize("name", ["ofa-lite", "ofa-mbv3"])
def test_every_depthwise_convolution_of_a_subnet_is_the_fast_one_and_the_network_pickles(name):
    space = make_search_space(name, 1.0)
    architecture = space.architecture(space.sample(1, torch.Generator().manual_seed(0))[0].tolist())
    network = space.subnet(architecture, 3, torch.Generator().manual_seed(0))
    depthwise = [conv for conv in network.modules() if isinstance(conv, nn.Conv2d) and conv.groups > 1]
    assert depthwise and all(isinstance(conv, DepthwiseConv2d) for conv in depthwise)
    copied = pickle.loads(pickle.dumps(network.eval()))
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(copied(images), network(images))
