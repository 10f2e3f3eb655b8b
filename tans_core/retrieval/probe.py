"""What a network knows of a query before anything is trained: a classifier in closed form on its features.

The query's training images alone are looked at, each judged by the fit to those that are no near copies of it. All
copies are left out, however many: frames of one film would vouch for each other.
"""

from __future__ import annotations

from torch import Tensor, nn

from tans_core.cross_modal.features import stratified
from tans_core.records import ImageDataset
from tans_core.search_space.space import SearchSpace
from tans_core.training.augment import ImageBatches
from tans_core.training.loop import CPU, fit_head, to_device

MOST_IMAGES = 200  # of a query; more of them say little more and cost as much again


def probe(network: nn.Module, dataset: ImageDataset, search_space: SearchSpace, *, batch_size: int, key: str) -> Tensor:
    """Which of the query's training images (at most `MOST_IMAGES`, classes in their share) are told right, bool (N,).

    Batch norm has the statistics by which held-out images are judged better, as in `--epochs 0`. All networks are
    asked about the same images in the same order. `network` is changed.

    Raises:
        TrainingError: a feature is not finite.
    """
    images_N = stratified(dataset.train, dataset.labels, MOST_IMAGES)
    batches = ImageBatches(dataset, search_space, CPU)
    network = to_device(network, CPU)
    head = fit_head(network, dataset, search_space, batches, images_N, batch_size, key, most_copies=MOST_IMAGES)
    return head.held_out_N
