"""Batches of images as the network sees them: gathered, shifted, mirrored, normalised.

All of it is tensor work on the device where the images lie; there is no loader process.
Axes: N images, B batch, S side, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from tans_core.records import ImageDataset
from tans_core.search_space.space import SearchSpace


class ImageBatches:
    """The images of one dataset on one device, ready to be drawn in batches."""

    def __init__(self, dataset: ImageDataset, search_space: SearchSpace, device: torch.device) -> None:
        self.device = device
        self.labels_N = dataset.labels.to(device)
        self._images_NSSC = dataset.images.permute(0, 2, 3, 1).contiguous().to(device)
        self.mean = torch.as_tensor(search_space.input_mean, dtype=torch.float32, device=device)
        self.std = torch.as_tensor(search_space.input_std, dtype=torch.float32, device=device)

    def plain(self, index_B: Tensor) -> Tensor:
        """Normalised images (B, 3, S, S) in channels_last, as they are."""
        return self._normalise(self._images_NSSC[index_B])

    def augmented(self, index_B: Tensor, shift_B2: Tensor, mirror_B: Tensor) -> Tensor:
        """The same, each image moved by its own shift (edges repeated) and mirrored where `mirror_B` says so."""
        side = self._images_NSSC.shape[1]
        place_S = torch.arange(side, device=self.device)
        down_BS = (place_S + shift_B2[:, :1]).clamp(0, side - 1)
        across_BS = torch.where(mirror_B[:, None], side - 1 - place_S, place_S) + shift_B2[:, 1:]
        across_BS = across_BS.clamp(0, side - 1)
        return self._normalise(self._images_NSSC[index_B[:, None, None], down_BS[:, :, None], across_BS[:, None, :]])

    def _normalise(self, pixels_BSSC: Tensor) -> Tensor:
        images_BSSC = (pixels_BSSC.float() - self.mean) / self.std
        return images_BSSC.expand(-1, -1, -1, 3).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def cropped(images_B: Tensor, share_B: Tensor, corner_B2: Tensor) -> Tensor:
    """Each image's square crop of `share` of its side, enlarged to the whole; a corner of 0 or 1 is an edge's."""
    centre_B2 = (2 * corner_B2 - 1) * (1 - share_B[:, None])
    affine_B23 = torch.cat(
        [torch.eye(2, device=images_B.device) * share_B[:, None, None], centre_B2[:, :, None]], dim=2
    )
    grid = affine_grid(affine_B23, list(images_B.shape), align_corners=False)
    crops = grid_sample(images_B, grid, padding_mode="border", align_corners=False)
    return crops.contiguous(memory_format=torch.channels_last)


def epoch_plan(count: int, shift: int, mirror: bool, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Everything random in one epoch, drawn at once: order (N,), shifts (N, 2) in pixels, mirrored (N,)."""
    order_N = torch.randperm(count, generator=generator)
    shift_N2 = torch.randint(-shift, shift + 1, (count, 2), generator=generator)
    mirror_N = (torch.rand(count, generator=generator) < 0.5) & mirror
    return order_N, shift_N2, mirror_N
