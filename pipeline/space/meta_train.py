"""`tans meta-train`: learn the space in which datasets lie near the networks that do well on them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.config import checked_seed
from pipeline.running.progress import Progress, say
from pipeline.running.result_folder import refuse_foreign
from pipeline.running.signals import StopRequest, stop_on_signals
from pipeline.running.threads import check_threads, torch_threads
from pipeline.space.space_folder import SpaceIdentity, is_of_space, save_space, saved_metrics, whole_space
from pipeline.space.training_folder import TRAINING, Work, is_training, remove_trainings
from pipeline.tracking.tracker import MlflowTracker, NoTracker, Tracker, sqlite_uri
from pipeline.zoo import Zoo
from tans_core.cross_modal.meta_training import CURVE, SpaceConfig, SpaceState, train
from tans_core.cross_modal.space_data import SpaceData, space_data
from tans_core.cross_modal.trained_space import TrainedSpace, finish_space
from tans_core.errors import ConfigError
from tans_core.records import ZooSnapshot, canonical_json, content_hash
from tans_core.search_space.ofa_lite import LITE0_SHA256


@dataclass(frozen=True, kw_only=True)
class MetaTrainSummary:
    """What `tans meta-train --json` prints. Ranks are over many draws of one row of each dataset, from test images.

    `predictor_mse` is the squared error of predicted accuracies (0 to 1), judged on test counts, for datasets known,
    from images unknown; `predictor_mse_left_out` for datasets whose sources the predictor never saw (None below three
    sources); each beside the error of always predicting the mean of the labels.
    """

    rows: int
    gallery: int  # datasets, of which each query belongs to one
    r_at_1: float
    r_at_5: float
    r_at_10: float
    r_at_1_random: float
    r_at_5_random: float
    r_at_10_random: float
    mean_rank: float
    median_rank: float
    mean_rank_random: float
    predictor_mse: float
    predictor_mse_mean_baseline: float
    predictor_mse_left_out: float | None
    predictor_mse_left_out_mean_baseline: float | None
    chosen_step: int
    steps: int
    workers: int
    threads: int
    zoo_version: int
    wall_s: float


def meta_train(
    zoo: str,
    out: Path,
    *,
    workers: int = 1,
    seed: int = 0,
    threads: int = 1,
    config: SpaceConfig = SpaceConfig(),  # noqa: B008 (frozen)
    address: str | None = None,
    storage: Path | None = None,
    mlflow_uri: str | None = None,
) -> MetaTrainSummary:
    """Train a space over a zoo's newest version; the same call goes on where it was stopped or killed.

    Args:
        out: folder of the space; a space of an older version of the zoo is replaced when the new one is whole.
        workers: of Ray Train, which share each batch: any number gives the same space, to rounding. 1 trains in this
            process, without Ray.
        threads: of torch, where one worker trains; several have one each. Another number, another space.
        address: of a Ray cluster for several workers; None: a local Ray is started and ended.
        storage: folder for the checkpoints of several workers, which all of their nodes must see; None: in `out`.
        mlflow_uri: None: a sqlite file in the zoo's folder.

    Raises:
        ZooError: there is no zoo.
        SpaceError: its rows are of fewer than two sources.
        PoolError: the workers cannot be had, or a node does not see where checkpoints go.
        ConfigError: a number out of its range, a URI that MLflow cannot use, or `out` cannot be a folder or holds what
            tans did not write.
        Stopped: by SIGTERM or Ctrl-C; the same call goes on.
    """
    with stop_on_signals(goes_on=True) as stop:
        return _meta_train(zoo, out, workers, seed, threads, config, address, storage, mlflow_uri, stop)


def _meta_train(
    zoo: str,
    out: Path,
    workers: int,
    seed: int,
    threads: int,
    config: SpaceConfig,
    address: str | None,
    storage: Path | None,
    mlflow_uri: str | None,
    stop: StopRequest,
) -> MetaTrainSummary:
    checked_seed(seed)
    out = Path(out).expanduser().absolute()
    refuse_foreign(out, lambda path: is_of_space(path) or is_training(path))
    check_threads(threads)
    storage = _checked_storage(storage, workers)
    if workers != 1:
        if threads != 1:
            raise ConfigError(f"--threads {threads} goes with --workers 1 alone: several workers have one thread each")
        from pipeline.on_ray.pool import check_wish

        check_wish(workers, address)
    store = Zoo.open(zoo)
    snapshot = store.snapshot(responses=True)
    data = space_data(snapshot)
    identity = space_identity(snapshot, config, seed, workers, threads)
    if whole_space(out) == identity:
        say(f"the space in {out} is of this version of the zoo already, nothing to do")
        return MetaTrainSummary(**saved_metrics(out)["summary"])
    work = Work(out / TRAINING / content_hash(canonical_json(asdict(identity))), storage)
    params = {name: value for name, value in asdict(identity).items() if name != "config"}
    tracker = start_tracker(mlflow_uri, store.uri, "meta-train", {**params, **identity.config}, snapshot, work)
    try:
        trained, summary = learn(data, identity, address, work, tracker, stop)
        save_space(out, identity, trained, store.uri, metrics_of(summary, trained))
        tracker.finish("FINISHED")
        work.remove_checkpoints()
        remove_trainings(work.folder.parent)
        return summary
    except BaseException:
        tracker.finish("KILLED" if stop else "FAILED")
        raise


def space_identity(
    snapshot: ZooSnapshot, config: SpaceConfig, seed: int, workers: int = 1, threads: int = 1
) -> SpaceIdentity:
    """What a space over this snapshot is made of."""
    return SpaceIdentity(
        zoo_id=snapshot.settings.zoo_id,
        zoo_version=snapshot.version,
        search_space=snapshot.settings.search_space,
        image_size=snapshot.settings.image_size,
        backbone=LITE0_SHA256,
        seed=seed,
        workers=workers,
        config=asdict(config),
        threads=threads,
    )


def learn(
    data: SpaceData, identity: SpaceIdentity, address: str | None, work: Work, tracker: Tracker, stop: StopRequest
) -> tuple[TrainedSpace, MetaTrainSummary]:
    """Train to the end and measure, or leave as a signal asks; reported to the tracker."""
    began, config = time.monotonic(), SpaceConfig(**identity.config)
    with torch_threads(identity.threads):
        trained = _train(data, config, identity.seed, identity.workers, address, work, tracker, stop)
    summary = _summary(trained, identity, config, began)
    tracker.log({name: value for name, value in asdict(summary).items() if value is not None}, config.steps)
    return trained, summary


def _train(
    data: SpaceData,
    config: SpaceConfig,
    seed: int,
    workers: int,
    address: str | None,
    work: Work,
    tracker: Tracker,
    stop: StopRequest,
) -> TrainedSpace:
    progress = Progress()

    def show(step: int, curve: Sequence[Sequence[float]]) -> None:
        _log_curve(tracker, curve[work.logged :])
        work.logged = max(work.logged, len(curve))
        if curve:
            progress.show(f"step {step} of {config.steps}, mean rank {curve[-1][2]:.2f} in validation")

    def on_checkpoint(state: SpaceState) -> None:
        work.keep(state)
        show(state.step, state.curve.tolist())
        stop.raise_if_asked()

    if workers == 1:
        if work.resume is not None:
            say(f"going on at step {work.resume.step} of {config.steps}")
        with stop.patiently():
            state = train(data, config, seed, resume=work.resume, on_checkpoint=on_checkpoint)
    elif work.resume is not None:  # the workers had finished, the measuring had not
        state = work.resume
    else:
        from pipeline.on_ray.session import ray_session
        from pipeline.on_ray.shared_tasks import SpaceTask
        from pipeline.on_ray.train import train_on_workers

        with ray_session(address, cpus=workers) as session:
            _check_cluster(workers, address, session.cpus)
            say(f"starting {workers} workers of Ray Train")
            where = work.checkpoints
            tensors = train_on_workers(
                SpaceTask(data, config, seed), where.parent, workers, where.name, _SHARED, watch=show
            )
        state = SpaceState.of_tensors(tensors)
        show(state.step, state.curve.tolist())
        work.keep(state)
    progress.show("measuring, and leaving sources out")
    with stop.patiently():
        return finish_space(data, config, seed, state, stop.raise_if_asked)


_SHARED = "name one that they share with --storage FOLDER"


def _checked_storage(storage: Path | None, workers: int) -> Path | None:
    if storage is None:
        return None
    if workers == 1:
        raise ConfigError("--storage is for the checkpoints of several workers: give --workers N, or leave it out")
    if "://" in str(storage) or ":/" in str(storage):
        raise ConfigError(f"--storage {storage} is no folder: name one that all nodes of the cluster see")
    return storage.expanduser().absolute()


def _check_cluster(workers: int, address: str | None, cpus: float) -> None:
    from pipeline.on_ray.pool import fitting_workers

    if address is not None:
        fitting_workers(workers, 0.0, True, cpus, 0.0)


def start_tracker(
    uri: str | None, zoo_uri: str, what: str, params: Mapping[str, object], snapshot: ZooSnapshot, work: Work
) -> Tracker:
    """A run for this training, started; a training that was stopped goes on in its run."""
    if uri is None and ("?" in zoo_uri or "://" in zoo_uri):
        say(f"no MLflow: no SQLite file can lie at {zoo_uri}")
        return NoTracker()
    tracker = MlflowTracker(uri or sqlite_uri(Path(zoo_uri)), "tans", work.note_run)
    tracker.start(f"{what} {Path(zoo_uri).name}", params, run_id=work.run_id)
    digest = content_hash(f"{snapshot.settings.zoo_id}/{snapshot.version}".encode())
    tracker.dataset_input(zoo_uri, snapshot.version, digest)
    return tracker


def _log_curve(tracker: Tracker, curve: Sequence[Sequence[float]]) -> None:
    for step, *values in curve:
        tracker.log({f"validation/{name}": value for name, value in zip(CURVE[1:], values)}, int(step))


def _summary(trained: TrainedSpace, identity: SpaceIdentity, config: SpaceConfig, began: float) -> MetaTrainSummary:
    found, unseen, left_out = trained.retrieval, trained.unseen_instances, trained.left_out
    return MetaTrainSummary(
        rows=len(trained.keys),
        gallery=found.gallery,
        r_at_1=found.r_at_1,
        r_at_5=found.r_at_5,
        r_at_10=found.r_at_10,
        r_at_1_random=found.r_at_1_random,
        r_at_5_random=found.r_at_5_random,
        r_at_10_random=found.r_at_10_random,
        mean_rank=found.mean_rank,
        median_rank=found.median_rank,
        mean_rank_random=found.mean_rank_random,
        predictor_mse=unseen.mse,
        predictor_mse_mean_baseline=unseen.mse_mean_baseline,
        predictor_mse_left_out=left_out.mse if left_out else None,
        predictor_mse_left_out_mean_baseline=left_out.mse_mean_baseline if left_out else None,
        chosen_step=trained.chosen_step,
        steps=config.steps,
        workers=identity.workers,
        threads=identity.threads,
        zoo_version=identity.zoo_version,
        wall_s=time.monotonic() - began,
    )


def metrics_of(summary: MetaTrainSummary, trained: TrainedSpace) -> dict[str, object]:
    """metrics.json of a space."""
    return {
        "summary": asdict(summary),
        "retrieval": asdict(trained.retrieval),
        "unseen_instances": asdict(trained.unseen_instances),
        "left_out": asdict(trained.left_out) if trained.left_out else None,
        "bar": trained.bar,
        "validation_curve": [dict(zip(CURVE, row)) for row in trained.curve.tolist()],
    }
