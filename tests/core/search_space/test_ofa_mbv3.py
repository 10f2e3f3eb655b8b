"""`ofa-mbv3`: random weights from a seed, or an OFA checkpoint as it is published."""

from pathlib import Path
from typing import Any

import pytest
import torch
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3

from tans_core.errors import ConfigError
from tans_core.search_space import make_search_space


@pytest.fixture(scope="module")
def ofa_supernet() -> OFAMobileNetV3:
    torch.set_num_threads(1)
    choices: dict[str, Any] = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return OFAMobileNetV3(n_classes=1000, dropout_rate=0, width_mult=1.0, **choices)


@pytest.fixture
def checkpoint(ofa_supernet, tmp_path) -> Path:
    """As OFA publishes it: the old name of the blocks' convolutions, inside a dict."""
    state = {_old_name(name): value for name, value in ofa_supernet.state_dict().items()}
    assert "blocks.3.mobile_inverted_conv.depth_conv.conv.conv.weight" in state
    torch.save({"state_dict": state}, tmp_path / "ofa_mbv3_d234_e346_k357_w1.0")
    return tmp_path / "ofa_mbv3_d234_e346_k357_w1.0"


def _old_name(name: str) -> str:
    parts = name.split(".")
    return ".".join(["mobile_inverted_conv" if (at, part) == (2, "conv") else part for at, part in enumerate(parts)])


def test_a_checkpoints_subnets_compute_what_ofa_does(checkpoint, ofa_supernet):
    space = make_search_space("ofa-mbv3", init=checkpoint)
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    ofa_supernet.eval()
    for row in space.sample(3, torch.Generator().manual_seed(2)).tolist():
        architecture = space.architecture(row)
        kernels = [size or 7 for size in architecture.kernel_sizes]
        ratios = [ratio or 6 for ratio in architecture.expand_ratios]
        ofa_supernet.set_active_subnet(kernels, ratios, list(architecture.depths))
        network = space.subnet(architecture, 5, torch.Generator()).eval()
        network.classifier = ofa_supernet.classifier
        with torch.inference_mode():
            assert (network(images) - ofa_supernet(images)).abs().max() < 1e-5


def test_the_hash_follows_the_weights(checkpoint):
    hashes = [
        make_search_space("ofa-mbv3", init=checkpoint).supernet_hash,
        make_search_space("ofa-mbv3", seed=1).supernet_hash,
        make_search_space("ofa-mbv3", width=1.2).supernet_hash,
    ]
    assert len({*hashes, make_search_space("ofa-mbv3").supernet_hash}) == 4


def test_random_weights_are_the_same_on_every_processor():
    assert make_search_space("ofa-mbv3").supernet_hash == "a423a9ac291ad917bba23bc6438ef2a2"


def test_files_that_are_no_checkpoint_are_refused(checkpoint, ofa_supernet, tmp_path):
    (tmp_path / "text").write_text("ceci n'est pas un réseau")
    (tmp_path / "empty").touch()
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 40)
    torch.save({"epoch": 3}, tmp_path / "numbers")
    torch.save(ofa_supernet, tmp_path / "whole_module")  # loading it would execute what it names
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    torch.save({name: value for name, value in state.items() if "blocks.7" not in name}, tmp_path / "gap")
    torch.save({name.replace("blocks", "layers"): value for name, value in state.items()}, tmp_path / "renamed")
    reasons = {
        "nowhere": "is no file",
        "text": "cannot be read as weights",
        "empty": "cannot be read as weights",
        "broken.safetensors": "cannot be read as weights",
        "numbers": "holds no tensors",
        "whole_module": "cannot be read as weights",
        "gap": "an OFA MobileNetV3 checkpoint has",
        "renamed": "is no OFA MobileNetV3 checkpoint",
    }
    for name, reason in reasons.items():
        with pytest.raises(ConfigError, match=reason):
            make_search_space("ofa-mbv3", init=tmp_path / name)


def test_a_checkpoint_of_another_width_is_refused(checkpoint):
    with pytest.raises(ConfigError, match=r"no OFA MobileNetV3 checkpoint of width 1\.2"):
        make_search_space("ofa-mbv3", width=1.2, init=checkpoint)


def test_a_width_that_ofa_does_not_have_is_refused():
    with pytest.raises(ConfigError, match=r"width 1\.0 or 1\.2, got 0\.9"):
        make_search_space("ofa-mbv3", width=0.9)
