"""How spaces do on sources that they never saw: what a sweep is judged by. Test images and test counts have no say.

Axes: K datasets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from tans_core.cross_modal.meta_training import (
    SpaceConfig,
    SpaceState,
    build_model,
    checkpoints,
    gallery_ranks,
    generator_of,
    predict_rows,
)
from tans_core.cross_modal.metrics import prediction_metrics
from tans_core.cross_modal.space_data import Instances, SpaceData
from tans_core.errors import SpaceError

FOLDS = 5
FEWEST_SOURCES = 3  # one left out, and two that can be told apart

_DRAWS = 20  # galleries that a judgement is of
_INSTANCES = 32  # of a dataset, whatever number a space is trained with
_SPREAD = 1e-4  # squared accuracy: rows this much alike are predicted well by their mean, and nothing is gained by more


@dataclass(frozen=True)
class Fold:
    """Places of datasets; none on one side is of a source of the other side."""

    kept: tuple[int, ...]
    out: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How spaces do on datasets whose sources they never saw, each dataset left out once, beside what knowing nothing
    gives. From validation images and counts."""

    step: int
    datasets: int
    mean_rank: float  # of a dataset's row, among one row of every dataset
    mean_rank_random: float
    mse: float  # of predicted accuracies, 0 to 1
    mse_mean_baseline: float

    @property
    def score(self) -> float:
        """0 where every rank is the first and every prediction right, 1 for chance's ranks and the mean's errors."""
        rank = (self.mean_rank - 1) / (self.mean_rank_random - 1)
        error = self.mse / max(self.mse_mean_baseline, _SPREAD)
        return (rank + error) / 2


def folds(data: SpaceData, seed: int) -> list[Fold]:
    """Leave out a fifth of the sources at a time, a single one where there are five or fewer.

    Raises:
        SpaceError: fewer than three sources leave nothing to train on.
    """
    sources = sorted(set(data.sources))
    if len(sources) < FEWEST_SOURCES:
        raise SpaceError(
            f"the rows are of {len(sources)} source{'s' * (len(sources) > 1)} ({', '.join(sources)}), and to judge on "
            f"one left out {FEWEST_SOURCES} are needed, two of them to be told apart: add datasets of others with "
            "`tans build-zoo --more`"
        )
    shuffled = torch.randperm(len(sources), generator=generator_of(seed, "folds", len(sources))).tolist()
    fold_of = {sources[place]: number % FOLDS for number, place in enumerate(shuffled)}
    out = [
        tuple(place for place, source in enumerate(data.sources) if fold_of[source] == fold)
        for fold in sorted(set(fold_of.values()))
    ]
    return [Fold(tuple(place for place in range(len(data.names)) if place not in each), each) for each in out]


def judged(data: SpaceData, config: SpaceConfig, seed: int, dealt: Sequence[Fold]) -> Iterator[Judgement]:
    """Train a space for each fold, all of them side by side, and judge them after every evaluation.

    Judged is what would be chosen until then: the best on validation instances of the datasets that were kept.
    """
    trainings = [checkpoints(data.only(fold.kept), config, seed) for fold in dealt]
    for states in zip(*trainings, strict=True):
        yield _judgement(data, config, seed, dealt, states)


def _judgement(
    data: SpaceData, config: SpaceConfig, seed: int, dealt: Sequence[Fold], states: Sequence[SpaceState]
) -> Judgement:
    rank, predicted, accuracy, baseline = [], [], [], []
    for fold, state in zip(dealt, states):
        kept, unseen = data.only(fold.kept), data.only(fold.out)
        model = build_model(kept, config, seed)
        model.load_state_dict(state.best)
        instances = Instances([model.query.project(each) for each in data.validation])
        rank_GK = gallery_ranks(model, data, instances, _DRAWS, _INSTANCES, seed)
        rank.append(rank_GK[:, list(fold.out)].flatten())
        predicted.append(predict_rows(model, unseen, unseen.validation))
        accuracy.append(unseen.accuracy_R)
        baseline.append(kept.accuracy_R.mean().expand(len(unseen.keys)))
    error = prediction_metrics(torch.cat(predicted), torch.cat(accuracy), torch.cat(baseline))
    count = len(data.names)
    mean_rank = torch.cat(rank).double().mean().item()
    assert math.isfinite(mean_rank) and math.isfinite(error.mse), "the untrained space is the worst that is chosen"
    return Judgement(
        step=states[0].step,
        datasets=sum(len(fold.out) for fold in dealt),
        mean_rank=mean_rank,
        mean_rank_random=(count + 1) / 2,
        mse=error.mse,
        mse_mean_baseline=error.mse_mean_baseline,
    )
