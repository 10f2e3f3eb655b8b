"""`ofa-mbv3`: OFA's MobileNetV3 as in the paper, from random weights or from an OFA checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3
from torch import Tensor, nn

from tans_core.errors import ConfigError
from tans_core.search_space.elastic import ElasticSearchSpace, draw_weights
from tans_core.search_space.supernet_file import SupernetCard, brief, read_supernet, refuse_other
from tans_core.search_space.topology import Layout

_WIDTHS = (1.0, 1.2)
_IMAGENET_CLASSES = 1000


class OfaMobileNetV3(ElasticSearchSpace):
    """The paper's search space: 20 blocks in 5 stages, width 1.0 or 1.2."""

    name = "ofa-mbv3"
    padding = "symmetric"
    layout = Layout(stage_blocks=(4, 4, 4, 4, 4))
    input_mean = (123.675, 116.28, 103.53)  # ImageNet's, as OFA's checkpoints want it
    input_std = (58.395, 57.12, 57.375)

    def __init__(self, width: float = 1.0, init: Path | str | None = None, seed: int = 0) -> None:
        """Start from random weights, or from a file.

        Args:
            init: None or "random"; or a file: OFA's own checkpoint, or a supernet that tans pretrained.
            seed: of random ones.

        Raises:
            ConfigError: a width that OFA does not have, or a file that is no supernet of this width.
        """
        if width not in _WIDTHS:
            raise ConfigError(f"ofa-mbv3 comes in width 1.0 or 1.2, got {width}")
        with torch.random.fork_rng(devices=[]):
            supernet = OFAMobileNetV3(
                n_classes=_IMAGENET_CLASSES,
                dropout_rate=0,
                width_mult=width,
                ks_list=list(self.layout.kernel_choices),  # type: ignore[arg-type]
                expand_ratio_list=list(self.layout.expand_choices),  # type: ignore[arg-type]
                depth_list=list(self.layout.depth_choices),  # type: ignore[arg-type]
            )
        feature_dim, card = supernet.classifier.in_features, None
        if init in (None, "random"):
            draw_weights(supernet, torch.Generator().manual_seed(seed))
        else:
            card = _load_checkpoint(supernet, Path(str(init)))
        supernet.classifier = nn.Identity()
        super().__init__(supernet, width, feature_dim, needs_file=init not in (None, "random"), card=card)

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        maps = network.first_conv(images)  # type: ignore[operator]
        for block in network.blocks:  # type: ignore[union-attr]
            maps = block(maps)
        pooled = network.global_avg_pool(network.final_expand_layer(maps))  # type: ignore[operator]
        return network.feature_mix_layer(pooled).flatten(1)  # type: ignore[operator]

    def check_image_size(self, image_size: int) -> None:
        if image_size < 32:
            raise ConfigError(f"ofa-mbv3 takes image sizes from 32, got {image_size}")

    def _head(self) -> list[nn.Module]:
        return [self.supernet.final_expand_layer, self.supernet.feature_mix_layer]


def _load_checkpoint(supernet: OFAMobileNetV3, path: Path) -> SupernetCard | None:
    """Load by `ofa`'s own loader, which knows the checkpoints' old names but accepts files with gaps."""
    state, card = read_supernet(path)
    refuse_other(path, card, OfaMobileNetV3.name, supernet.width_mult)
    if card is not None:
        supernet.classifier = nn.Identity()  # ours have none
    found, wanted = (
        sum("num_batches_tracked" not in name for name in names) for names in (state, supernet.state_dict())
    )
    if found != wanted:
        raise ConfigError(
            f"{path} has {found} tensors and an OFA MobileNetV3 checkpoint has {wanted}: "
            f"give the file that OFA publishes as ofa_mbv3_d234_e346_k357_w{supernet.width_mult}"
        )
    try:
        supernet.load_state_dict(state)
    except (AssertionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{path} is no OFA MobileNetV3 checkpoint of width {supernet.width_mult}: {brief(error)}"
        ) from error
    return card
