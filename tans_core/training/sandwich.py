"""The networks of a supernet that share a training step: OFA's sandwich.

Axes: B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from tans_core.records import Architecture
from tans_core.search_space.space import SearchSpace
from tans_core.training.loop import seeded


class Sandwich:
    """The smallest network and random ones in every step, and every few steps the largest, of which they learn.

    Args:
        key: random networks come from it and the step's number.
    """

    def __init__(self, search_space: SearchSpace, key: str, random_networks: int, largest_every: int) -> None:
        self._space, self._key = search_space, key
        self._random_networks, self._largest_every = random_networks, largest_every
        choices_TK = search_space.layout.choices_TK
        self.smallest = search_space.architecture(choices_TK[:, 0].tolist())
        self.largest = search_space.architecture(choices_TK[:, -1].tolist())

    def networks(self, step: int) -> Iterator[Architecture]:
        """The largest comes first, so that the others can learn of it."""
        if step % self._largest_every == 0:
            yield self.largest
        yield self.smallest
        drawn = self._space.sample(self._random_networks, seeded(self._key, f"networks {step}"))
        yield from (self._space.architecture(row) for row in drawn.tolist())

    def backward(
        self,
        supernet: Any,
        images: Tensor,
        step: int,
        judged: Callable[[Tensor], tuple[Tensor, Tensor]],
        in_place: float,
    ) -> float:
        """Send one batch through the networks of a step, whose gradients are added up; the mean of their losses.

        Args:
            supernet: an `elastic_copy` of the search space.
            judged: loss of what a network says of the batch, and its log-probabilities (B, K).
            in_place: weight of the cross-entropy with what the largest network of this step says.
        """
        loss_sum, said_BK = 0.0, None
        networks = list(self.networks(step))
        for architecture in networks:
            self._space.activate(supernet, architecture)
            loss, logp_BK = judged(supernet(images))
            if said_BK is not None:
                loss = loss - in_place * (said_BK * logp_BK.masked_fill(said_BK == 0, 0)).sum(dim=1).mean()
            loss.backward()
            loss_sum += loss.item() / len(networks)
            if architecture == self.largest:
                said_BK = logp_BK.detach().exp()
        return loss_sum
