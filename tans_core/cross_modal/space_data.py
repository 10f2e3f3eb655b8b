"""A zoo's snapshot as the tensors a space is trained on.

Axes: K datasets with rows, R rows, N instances, E the space, T topology, F response, X facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tans_core.cross_modal.encoders import facts_of, flat_response
from tans_core.errors import SpaceError
from tans_core.records import DatasetRecord, Row, ZooSnapshot

_TASTE = 0.1  # a row this much more accurate is drawn e times as often


@dataclass(frozen=True, kw_only=True, eq=False)
class SpaceData:
    """Datasets that have rows, in the order of their first row, and all rows."""

    keys: tuple[str, ...]  # of the R rows
    dataset_R: Tensor  # int64, place of each row's dataset
    accuracy_R: Tensor  # validation accuracy, 0 to 1: the labels
    test_accuracy_R: Tensor  # what a finished predictor is judged on, and read by nothing else
    topology_RT: Tensor
    response_RF: Tensor
    fingerprints: tuple[str, ...]  # of the K datasets
    names: tuple[str, ...]
    sources: tuple[str, ...]
    facts_KX: Tensor
    train: tuple[Tensor, ...]  # K times (N, D): features, of different N
    validation: tuple[Tensor, ...]
    test: tuple[Tensor, ...]

    def only(self, kept: Sequence[int]) -> SpaceData:
        """These datasets and their rows."""
        place = torch.full((len(self.names),), -1)
        place[list(kept)] = torch.arange(len(kept))
        rows = (place[self.dataset_R] >= 0).nonzero().squeeze(1)
        return SpaceData(
            keys=tuple(self.keys[row] for row in rows.tolist()),
            dataset_R=place[self.dataset_R[rows]],
            accuracy_R=self.accuracy_R[rows],
            test_accuracy_R=self.test_accuracy_R[rows],
            topology_RT=self.topology_RT[rows],
            response_RF=self.response_RF[rows],
            fingerprints=tuple(self.fingerprints[each] for each in kept),
            names=tuple(self.names[each] for each in kept),
            sources=tuple(self.sources[each] for each in kept),
            facts_KX=self.facts_KX[list(kept)],
            train=tuple(self.train[each] for each in kept),
            validation=tuple(self.validation[each] for each in kept),
            test=tuple(self.test[each] for each in kept),
        )


def space_data(snapshot: ZooSnapshot) -> SpaceData:
    """Tensors of a snapshot.

    Raises:
        SpaceError: the rows are of fewer than two sources, so that nothing can be told apart, or a feature is not
            finite.
    """
    rows = snapshot.rows
    sources = sorted({row.source for row in rows})
    if len(sources) < 2:
        found = f"{len(rows)} rows, all of the source {sources[0]!r}" if rows else "no rows"
        raise SpaceError(
            f"{snapshot.uri} has {found}: a space needs rows of datasets of at least two sources; "
            "add some with `tans build-zoo --more`"
        )
    order = {fingerprint: place for place, fingerprint in enumerate(dict.fromkeys(_fingerprints(snapshot)))}
    datasets = [snapshot.datasets[fingerprint] for fingerprint in order]
    _check_finite(snapshot, datasets)
    return SpaceData(
        keys=tuple(row.key for row in rows),
        dataset_R=torch.tensor([order[fingerprint] for fingerprint in _fingerprints(snapshot)]),
        accuracy_R=torch.tensor([row.val_accuracy for row in rows]),
        test_accuracy_R=torch.tensor([row.test_accuracy for row in rows]),
        topology_RT=torch.tensor([row.identity.topology for row in rows], dtype=torch.float32),
        response_RF=torch.stack([flat_response(_response(row)) for row in rows]),
        fingerprints=tuple(order),
        names=tuple(each.name for each in datasets),
        sources=tuple(each.source for each in datasets),
        facts_KX=torch.stack(
            [
                facts_of(each.features.train_ND, each.features.train_labels_N, each.chance, len(each.class_names))
                for each in datasets
            ]
        ),
        train=tuple(each.features.train_ND for each in datasets),
        validation=tuple(each.features.validation_ND for each in datasets),
        test=tuple(each.features.test_ND for each in datasets),
    )


def _response(row: Row) -> Tensor:
    assert row.response is not None, "the snapshot was read without responses"
    return row.response


def _check_finite(snapshot: ZooSnapshot, datasets: Sequence[DatasetRecord]) -> None:
    for each in datasets:
        sides = (each.features.train_ND, each.features.validation_ND, each.features.test_ND)
        if not all(torch.isfinite(side_ND).all() for side_ND in sides):
            raise SpaceError(
                f"the features of {each.name} ({each.fingerprint}) in {snapshot.uri} are not all finite: its table "
                "`datasets` was damaged; put it back from a copy of the zoo"
            )
    for row in snapshot.rows:
        if not torch.isfinite(_response(row)).all():
            raise SpaceError(
                f"the response of the row {row.key} of {row.dataset_name} in {snapshot.uri} is not finite: its network "
                f"is of no use; `tans zoo verify` says more"
            )


def _fingerprints(snapshot: ZooSnapshot) -> list[str]:
    return [row.identity.fingerprint for row in snapshot.rows]


class Instances:
    """Projected instances of all datasets, to be drawn from in one gather."""

    def __init__(self, projected: Sequence[Tensor]) -> None:
        self._all_NE = torch.cat(list(projected))
        self._count_K1 = torch.tensor([len(each) for each in projected])[:, None]
        self._start_K1 = self._count_K1.cumsum(dim=0) - self._count_K1

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` instances of each dataset, with replacement (K, count, E)."""
        share = torch.rand(len(self._count_K1), count, generator=generator)
        return self._all_NE[self._start_K1 + (share * self._count_K1).long()]


class Rows:
    """One row of each dataset: a good one rather than a bad one in training, any one in a gallery."""

    def __init__(self, data: SpaceData) -> None:
        member_KR = torch.arange(len(data.names))[:, None] == data.dataset_R[None, :]
        self._any_KR = member_KR.float()
        taste_KR = (data.accuracy_R / _TASTE)[None, :].masked_fill(~member_KR, -torch.inf)
        self._good_KR = taste_KR.softmax(dim=1)

    def draw_good(self, generator: torch.Generator) -> Tensor:
        """int64 (K,)."""
        return torch.multinomial(self._good_KR, 1, generator=generator).squeeze(1)

    def draw_any(self, generator: torch.Generator) -> Tensor:
        """int64 (K,)."""
        return torch.multinomial(self._any_KR, 1, generator=generator).squeeze(1)
