"""What comes out of meta-training: the chosen encoders, the index of the zoo's rows, and honest figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from tans_core.cross_modal.encoders import SpaceModel
from tans_core.cross_modal.left_out import FEWEST_SOURCES, folds
from tans_core.cross_modal.meta_training import (
    SpaceConfig,
    SpaceState,
    build_model,
    gallery_ranks,
    predict_rows,
    train,
)
from tans_core.cross_modal.metrics import PredictionMetrics, RetrievalMetrics, prediction_metrics, retrieval_metrics
from tans_core.cross_modal.space_data import Instances, SpaceData, space_data
from tans_core.records import ZooSnapshot

REPORT_DRAWS = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedSpace:
    """Encoders as chosen on validation instances; all figures but the curve are of test instances, and predictions are
    judged on test counts: they were learned from those of validation.

    `left_out` is of spaces trained in the same way without the datasets (all of their sources) that are predicted;
    None where fewer than three sources leave nothing to train on. `bar` comes from the same spaces: half of the
    datasets that they had not seen had one as near as that. It is what a query of a new source has to expect.
    """

    model: SpaceModel
    keys: tuple[str, ...]
    fingerprints: tuple[str, ...]  # of the K datasets with rows
    dataset_KE: Tensor  # float32, unit length: their places as queries
    embedding_RE: Tensor  # float32, unit length
    architecture_RA: Tensor  # float32: what the predictor sees of the rows
    chosen_step: int
    curve: Tensor  # columns of `meta_training.CURVE`
    retrieval: RetrievalMetrics
    unseen_instances: PredictionMetrics
    left_out: PredictionMetrics | None
    bar: float | None  # similarity of datasets


def train_space(
    snapshot: ZooSnapshot,
    config: SpaceConfig,
    seed: int,
    *,
    resume: SpaceState | None = None,
    on_checkpoint: Callable[[SpaceState], None] = lambda state: None,
) -> TrainedSpace:
    """Train a space over a zoo in this process, and measure it.

    Raises:
        SpaceError: the rows are of fewer than two sources.
    """
    data = space_data(snapshot)
    return finish_space(data, config, seed, train(data, config, seed, resume=resume, on_checkpoint=on_checkpoint))


def finish_space(
    data: SpaceData,
    config: SpaceConfig,
    seed: int,
    state: SpaceState,
    on_pause: Callable[[], None] = lambda: None,
) -> TrainedSpace:
    """Measure the chosen encoders of a finished training, and index the rows.

    Args:
        on_pause: called now and then, for it takes longer than the training; may raise to stop.
    """
    model = build_model(data, config, seed)
    model.load_state_dict(state.best)
    model.eval()
    test = Instances([model.query.project(each) for each in data.test])
    baseline_R = data.accuracy_R.mean().expand(len(data.keys))
    with torch.no_grad():
        embedding_RE, architecture_RA = model.embed_models(data.topology_RT, data.response_RF)
    left_out, bar = _left_out(data, config, seed, on_pause)
    return TrainedSpace(
        model=model,
        keys=data.keys,
        fingerprints=data.fingerprints,
        dataset_KE=places(model, data),
        embedding_RE=embedding_RE,
        architecture_RA=architecture_RA,
        chosen_step=state.best_step,
        curve=state.curve,
        retrieval=retrieval_metrics(gallery_ranks(model, data, test, REPORT_DRAWS, config.instances, seed)),
        unseen_instances=prediction_metrics(predict_rows(model, data, data.test), data.test_accuracy_R, baseline_R),
        left_out=left_out,
        bar=bar,
    )


def _left_out(
    data: SpaceData, config: SpaceConfig, seed: int, on_pause: Callable[[], None]
) -> tuple[PredictionMetrics | None, float | None]:
    """Leave sources out, train without them, predict their rows and look for near datasets."""
    if len(set(data.sources)) < FEWEST_SOURCES:
        return None, None
    predicted, accuracy, baseline, nearest = [], [], [], []
    for fold in folds(data, seed):
        kept, unseen = data.only(fold.kept), data.only(fold.out)
        model = build_model(kept, config, seed)
        model.load_state_dict(train(kept, config, seed, on_checkpoint=lambda state: on_pause()).best)
        predicted.append(predict_rows(model, unseen, unseen.train))
        accuracy.append(unseen.test_accuracy_R)
        baseline.append(kept.accuracy_R.mean().expand(len(unseen.keys)))
        nearest += (places(model, unseen) @ places(model, kept).T).amax(dim=1).tolist()
    errors = prediction_metrics(torch.cat(predicted), torch.cat(accuracy), torch.cat(baseline))
    return errors, median(nearest)


def places(model: SpaceModel, data: SpaceData) -> Tensor:
    """Where datasets lie as queries (K, E): a query is its training images."""
    with torch.no_grad():
        return torch.stack([model.embed_query(each) for each in data.train])
