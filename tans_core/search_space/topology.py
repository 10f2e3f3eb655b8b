"""Topologies as integer vectors: drawing, masking, checking and changing many at once.

A topology is the kernel size of each block, the expansion ratio of each block, then the depth of
each elastic stage. Blocks beyond their stage's depth are 0, so equal networks have equal vectors.
Axes: C networks, T entries, B blocks, D elastic stages, K choices of an entry, V those and "not there".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tans_core.errors import InvalidTopology
from tans_core.records import Architecture


@dataclass(frozen=True)
class Layout:
    """Where the entries of a topology stand, and what each may be; every entry has as many choices."""

    stage_blocks: tuple[int, ...]  # most blocks of each elastic stage
    fixed_blocks: int = 0  # after them: always there, so without a depth
    kernel_choices: tuple[int, ...] = (3, 5, 7)
    expand_choices: tuple[int, ...] = (3, 4, 6)
    depth_choices: tuple[int, ...] = (2, 3, 4)

    @property
    def blocks(self) -> int:
        return sum(self.stage_blocks) + self.fixed_blocks

    @property
    def stages(self) -> int:
        return len(self.stage_blocks)

    @property
    def length(self) -> int:
        return 2 * self.blocks + self.stages

    @cached_property
    def choices_TK(self) -> Tensor:
        """What each entry may be where its block is there."""
        rows = [self.kernel_choices] * self.blocks + [self.expand_choices] * self.blocks
        return torch.tensor(rows + [self.depth_choices] * self.stages)

    @cached_property
    def _stage_and_place_B(self) -> tuple[Tensor, Tensor]:
        """Stage of each block and its place in it, from 0; fixed blocks lie in a stage of their own."""
        blocks = (*self.stage_blocks, self.fixed_blocks)
        stage_B = torch.arange(len(blocks)).repeat_interleave(torch.tensor(blocks))
        return stage_B, torch.cat([torch.arange(count) for count in blocks])

    def split(self, topology_CT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Kernel sizes (C, B), expansion ratios (C, B) and depths (C, D)."""
        kernel_CB, expand_CB, depth_CD = topology_CT.split([self.blocks, self.blocks, self.stages], dim=1)
        return kernel_CB, expand_CB, depth_CD

    def active(self, topology_CT: Tensor) -> Tensor:
        """Boolean (C, T): which entries belong to the network."""
        depth_CD = self.split(topology_CT)[2]
        always_C1 = torch.full((len(depth_CD), 1), max(self.fixed_blocks, 1), dtype=depth_CD.dtype)
        stage_B, place_B = self._stage_and_place_B
        there_CB = place_B < torch.cat([depth_CD, always_C1], dim=1)[:, stage_B]
        return torch.cat([there_CB, there_CB, torch.ones_like(depth_CD, dtype=torch.bool)], dim=1)

    def gather(self, table_BVV: Tensor, topology_CT: Tensor) -> Tensor:
        """What a table over blocks says of each block of masked topologies, (C, B).

        Args:
            table_BVV: by block, place of its kernel size and place of its expansion ratio, both from 1; 0: not there.
        """
        kernel_CB, expand_CB, _ = self.split(topology_CT)
        kernel_CB = torch.searchsorted(torch.tensor((0, *self.kernel_choices)), kernel_CB.contiguous())
        expand_CB = torch.searchsorted(torch.tensor((0, *self.expand_choices)), expand_CB.contiguous())
        return table_BVV[torch.arange(self.blocks), kernel_CB, expand_CB]

    def mask(self, topology_CT: Tensor) -> Tensor:
        """The same networks, entries of blocks that are not there set to 0."""
        return topology_CT.where(self.active(topology_CT), 0)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw int64 (count, T) as OFA's sampler does: each entry uniform, then masked."""
        place_CT = torch.randint(self.choices_TK.shape[1], (count, self.length), generator=generator)
        return self.mask(self._take(place_CT))

    def mutate(self, topology_CT: Tensor, generator: torch.Generator, rate: float) -> Tensor:
        """Set each entry of the network to another choice with probability `rate`, at least one of them.

        Blocks that a greater depth brings in are drawn uniformly.

        Raises:
            InvalidTopology: as `check`.
        """
        topology_CT = self.check(topology_CT)
        count, choices = len(topology_CT), self.choices_TK.shape[1]
        active_CT = self.active(topology_CT)
        drawn_CT = self._take(torch.randint(choices, topology_CT.shape, generator=generator))
        filled_CT = topology_CT.where(active_CT, drawn_CT)
        chance_CT = torch.rand(count, self.length, generator=generator).where(active_CT, 2.0)
        change_CT = (chance_CT < rate).scatter(1, chance_CT.argmin(dim=1, keepdim=True), True)
        step_CT = torch.randint(1, choices, topology_CT.shape, generator=generator) * change_CT
        place_CT = (filled_CT[:, :, None] == self.choices_TK).int().argmax(dim=2)
        return self.mask(self._take((place_CT + step_CT) % choices))

    def check(self, topology_CT: Tensor) -> Tensor:
        """The topologies as int64, masked.

        Raises:
            InvalidTopology: wrong length, or an entry that is no choice of its place.
        """
        if topology_CT.ndim != 2 or topology_CT.shape[1] != self.length:
            raise InvalidTopology(
                f"a topology has {self.length} numbers ({self.blocks} kernel sizes, {self.blocks} expansion ratios, "
                f"{self.stages} depths), got {tuple(topology_CT.shape)[-1:]}"
            )
        known_CT = (topology_CT[:, :, None] == self.choices_TK).any(dim=2)
        known_CT |= (topology_CT == 0) & ~self.active(topology_CT)
        if not known_CT.all():
            row, entry = (~known_CT).nonzero()[-1].tolist()  # depths first: they decide which blocks count
            raise InvalidTopology(
                f"{self.entry_name(entry)} is {topology_CT[row, entry].item():g}, "
                f"which is none of {', '.join(map(str, self.choices_TK[entry].tolist()))}"
            )
        return self.mask(topology_CT.long())

    def architecture(self, topology: Sequence[int]) -> Architecture:
        """Check one topology and mask it; InvalidTopology as `check`."""
        kernel_1B, expand_1B, depth_1D = self.split(self.check(torch.as_tensor(topology)[None]))
        return Architecture(tuple(kernel_1B[0].tolist()), tuple(expand_1B[0].tolist()), tuple(depth_1D[0].tolist()))

    def entry_name(self, entry: int) -> str:
        """What an entry is, for people; blocks and stages count from 1."""
        if entry < self.blocks:
            return f"kernel size of block {entry + 1}"
        if entry < 2 * self.blocks:
            return f"expansion ratio of block {entry - self.blocks + 1}"
        return f"depth of stage {entry - 2 * self.blocks + 1}"

    def _take(self, place_CT: Tensor) -> Tensor:
        """The choices at these places."""
        return self.choices_TK.gather(1, place_CT.T).T.contiguous()
