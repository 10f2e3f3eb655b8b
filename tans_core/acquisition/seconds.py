"""What the next pair of each dataset takes, where pairs are cut out of supernets: busy seconds of a worker.

Predicted from what was measured in this zoo, as seconds for each multiply-accumulate: the median, so that a busy
machine now and then changes nothing. Before anything was measured only ratios matter, and those the counts give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal

import torch

from tans_core.search_space.space import SearchSpace
from tans_core.training.loop import REESTIMATION_BATCHES
from tans_core.training.recipe import SupernetRecipe

SECONDS_A_FLOP = 2e-10  # until one was measured: one core of 2025
BACKWARD = 3  # a training step takes as much as so many passes forward
SAMPLES = 200  # random networks, for the mean

What = Literal["pair", "supernet"]
Counts = Mapping[str, Sequence[int]]  # images of each class, by side


class SupernetSeconds:
    """Seconds of supernets, and of pairs that are cut out of them, which differ between datasets alone."""

    def __init__(
        self,
        counts: Mapping[str, Counts],
        search_space: SearchSpace,
        image_size: int,
        recipe: SupernetRecipe,
        seconds_a_flop: float = SECONDS_A_FLOP,
    ) -> None:
        """Begin with what is known before anything was measured.

        Args:
            counts: of each dataset by fingerprint, as `ImageDataset.counts()`.
            seconds_a_flop: of a pass forward.
        """
        choices_TK = search_space.layout.choices_TK
        sampled_CT = search_space.sample(SAMPLES, torch.Generator().manual_seed(0))
        topology_CT = torch.stack([*sampled_CT, choices_TK[:, 0], choices_TK[:, -1]])
        *drawn, smallest, largest = search_space.costs(topology_CT, image_size, 10)[1].tolist()
        a_network = sum(drawn) / len(drawn)
        a_step = smallest + recipe.random_networks * a_network + largest / recipe.largest_every
        self._flops = {
            (fingerprint, what): float(flops)
            for fingerprint, of_sides in counts.items()
            for what, flops in (
                ("pair", _images_of_pair(of_sides, recipe) * a_network),
                ("supernet", BACKWARD * recipe.epochs * _train_images(of_sides, recipe) * a_step),
            )
        }
        self._unmeasured = [seconds_a_flop]
        self._rates: dict[What, list[float]] = {"pair": [], "supernet": []}

    def took(self, what: What, fingerprint: str, seconds: float) -> None:
        """Take in what was measured; datasets that it was not told of say nothing."""
        if (fingerprint, what) in self._flops:
            self._rates[what].append(seconds / self._flops[fingerprint, what])

    def next_pair(self, fingerprint: str, supernet_is_there: bool) -> float:
        """Of the next pair of a dataset, with its supernet where that is to be trained first."""
        pair = self.predicted("pair", fingerprint)
        return pair if supernet_is_there else pair + self.predicted("supernet", fingerprint)

    def predicted(self, what: What, fingerprint: str) -> float:
        """Of one job."""
        measured = self._rates[what] or self._rates["pair"] or self._rates["supernet"] or self._unmeasured
        return self._flops[fingerprint, what] * median(measured)


def _train_images(counts: Counts, recipe: SupernetRecipe) -> int:
    count = sum(counts["train"])
    return count if recipe.max_train_images is None else min(count, recipe.max_train_images)


def _images_of_pair(counts: Counts, recipe: SupernetRecipe) -> int:
    """That pass through a pair's network: for batch norm and for the loss, for the classifier, and to be judged."""
    train = _train_images(counts, recipe)
    judged = sum(sum(counts[side]) for side in ("validation", "test"))
    head = train if recipe.head == "closed_form" else 0
    return 2 * min(train, REESTIMATION_BATCHES * recipe.batch_size) + head + judged
