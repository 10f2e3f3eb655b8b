"""`tans meta-train`: learn the space in which datasets lie near the networks that do well on them."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from pipeline.config import checked_seed
from pipeline.running.files import write_whole
from pipeline.running.progress import Progress, say
from pipeline.running.signals import StopRequest, stop_on_signals
from pipeline.running.threads import one_thread
from pipeline.space.space_folder import SpaceIdentity, save_space, saved_metrics, whole_space
from pipeline.tracking.tracker import MlflowTracker, NoTracker, Tracker, sqlite_uri
from pipeline.zoo import Zoo
from pipeline.zoo.run_facts import run_facts
from tans_core.cross_modal.meta_training import CURVE, SpaceConfig, SpaceState
from tans_core.cross_modal.space_data import SpaceData, space_data
from tans_core.cross_modal.trained_space import TrainedSpace, finish_space
from tans_core.errors import ConfigError
from tans_core.records import canonical_json, content_hash
from tans_core.search_space.ofa_lite import LITE0_SHA256
from tans_core.training.weights import decode_weights, encode_weights


@dataclass(frozen=True, kw_only=True)
class MetaTrainSummary:
    """What `tans meta-train --json` prints. Ranks are over many draws of one row of each dataset, from test images.

    `predictor_mse` is the squared error of predicted accuracies (0 to 1) for datasets known, from images unknown;
    `predictor_mse_left_out` for datasets whose sources the predictor never saw (None below three sources); each beside
    the error of always predicting the mean.
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
    zoo_version: int
    wall_s: float


def meta_train(
    zoo: str,
    out: Path,
    *,
    workers: int = 1,
    seed: int = 0,
    config: SpaceConfig = SpaceConfig(),  # noqa: B008 (frozen)
    address: str | None = None,
    mlflow_uri: str | None = None,
) -> MetaTrainSummary:
    """Train a space over a zoo's newest version; the same call goes on where it was stopped or killed.

    Args:
        out: folder of the space; a space of an older version of the zoo is replaced when the new one is whole.
        workers: of Ray Train; 1 trains in this process, without Ray.
        address: of a Ray cluster for several workers; None: a local Ray is started and ended.
        mlflow_uri: None: a sqlite file in the zoo's folder.

    Raises:
        ZooError: there is no zoo.
        SpaceError: its rows are of fewer than two sources.
        PoolError: the workers cannot be had.
        ConfigError: a number out of its range, a URI that MLflow cannot use, or `out` cannot be a folder.
        Stopped: by SIGTERM or Ctrl-C; the same call goes on.
    """
    with stop_on_signals(goes_on=True) as stop:
        return _meta_train(zoo, out, workers, seed, config, address, mlflow_uri, stop)


def _meta_train(
    zoo: str,
    out: Path,
    workers: int,
    seed: int,
    config: SpaceConfig,
    address: str | None,
    mlflow_uri: str | None,
    stop: StopRequest,
) -> MetaTrainSummary:
    began = time.monotonic()
    checked_seed(seed)
    out = Path(out).expanduser().absolute()
    if workers != 1:
        from pipeline.on_ray.pool import check_wish

        check_wish(workers, address)
    store = Zoo.open(zoo)
    snapshot = store.snapshot()
    data = space_data(snapshot)
    identity = SpaceIdentity(
        zoo_id=snapshot.settings.zoo_id,
        zoo_version=snapshot.version,
        search_space=snapshot.settings.search_space,
        image_size=snapshot.settings.image_size,
        backbone=LITE0_SHA256,
        seed=seed,
        workers=workers,
        config=asdict(config),
    )
    if whole_space(out) == identity:
        say(f"the space in {out} is of this version of the zoo already, nothing to do")
        return MetaTrainSummary(**saved_metrics(out)["summary"])
    work = _Work(out / "training" / content_hash(canonical_json(asdict(identity))))
    tracker = _tracker(mlflow_uri, store.uri, identity, work)
    try:
        with one_thread():
            trained = _train(data, config, seed, workers, address, work, tracker, stop)
        summary = _summary(trained, identity, config, began)
        tracker.log({name: value for name, value in asdict(summary).items() if value is not None}, config.steps)
        save_space(out, identity, trained, store.uri, _metrics(summary, trained))
        tracker.finish("FINISHED")
        shutil.rmtree(work.folder.parent)
        return summary
    except BaseException:
        tracker.finish("KILLED" if stop else "FAILED")
        raise


class _Work:
    """The folder of a training under way, one for each thing that can be trained, gone when the space is whole.

    Its `run.json` says what the last run was made with: of a training that failed it is what a report needs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / "run.json", json.dumps(run_facts(), indent=1).encode())
        except OSError as error:
            raise ConfigError(f"{folder} cannot be made ({error.strerror}): name another folder") from error
        self._state, self._run = folder / "state.safetensors", folder / "mlflow.json"
        self.resume = SpaceState.of_tensors(decode_weights(self._state.read_bytes())) if self._state.exists() else None
        self.logged = 0 if self.resume is None else len(self.resume.curve)  # evaluations that MLflow has

    @property
    def run_id(self) -> str | None:
        return json.loads(self._run.read_bytes())["run_id"] if self._run.exists() else None

    def note_run(self, run_id: str) -> None:
        write_whole(self._run, json.dumps({"run_id": run_id}).encode())

    def keep(self, state: SpaceState) -> None:
        write_whole(self._state, encode_weights(state.tensors()))


def _train(
    data: SpaceData,
    config: SpaceConfig,
    seed: int,
    workers: int,
    address: str | None,
    work: _Work,
    tracker: Tracker,
    stop: StopRequest,
) -> TrainedSpace:
    """Train to the end and measure, or leave as a signal asks."""
    from pipeline.on_ray.train import SpaceTask, train_in_process, train_on_workers

    task, progress = SpaceTask(data, config, seed), Progress()

    def on_checkpoint(state: SpaceState) -> None:
        work.keep(state)
        _log_curve(tracker, state.curve[work.logged :])
        work.logged = len(state.curve)
        progress.show(f"step {state.step} of {config.steps}, mean rank {state.curve[-1, 2]:.2f} in validation")
        stop.raise_if_asked()

    if workers == 1:
        if work.resume is not None:
            say(f"going on at step {work.resume.step} of {config.steps}")
        with stop.patiently():
            state = train_in_process(task, work.folder, work.resume, on_checkpoint)
    elif work.resume is not None:  # the workers had finished, the measuring had not
        state = work.resume
    else:
        from pipeline.on_ray.session import ray_session

        with ray_session(address, cpus=workers) as session:
            _check_cluster(workers, address, session.cpus)
            say(f"starting {workers} workers of Ray Train")
            state = train_on_workers(task, work.folder, workers, "ray")
        _log_curve(tracker, state.curve)
        work.keep(state)
    progress.show("measuring, and leaving sources out")
    with stop.patiently():
        return finish_space(data, config, seed, state, stop.raise_if_asked)


def _check_cluster(workers: int, address: str | None, cpus: float) -> None:
    from pipeline.on_ray.pool import fitting_workers

    if address is not None:
        fitting_workers(workers, 0.0, True, cpus, 0.0)


def _tracker(uri: str | None, zoo_uri: str, identity: SpaceIdentity, work: _Work) -> Tracker:
    """A run for this training, started; a training that was stopped goes on in its run."""
    if uri is None and ("?" in zoo_uri or "://" in zoo_uri):
        say(f"no MLflow: no SQLite file can lie at {zoo_uri}")
        return NoTracker()
    tracker = MlflowTracker(uri or sqlite_uri(Path(zoo_uri)), "tans", work.note_run)
    params = {name: value for name, value in asdict(identity).items() if name != "config"}
    tracker.start(f"meta-train {Path(zoo_uri).name}", {**params, **identity.config}, run_id=work.run_id)
    digest = content_hash(f"{identity.zoo_id}/{identity.zoo_version}".encode())
    tracker.dataset_input(zoo_uri, identity.zoo_version, digest)
    return tracker


def _log_curve(tracker: Tracker, curve: Tensor) -> None:
    for step, *values in curve.tolist():
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
        zoo_version=identity.zoo_version,
        wall_s=time.monotonic() - began,
    )


def _metrics(summary: MetaTrainSummary, trained: TrainedSpace) -> dict[str, object]:
    return {
        "summary": asdict(summary),
        "retrieval": asdict(trained.retrieval),
        "unseen_instances": asdict(trained.unseen_instances),
        "left_out": asdict(trained.left_out) if trained.left_out else None,
        "validation_curve": [dict(zip(CURVE, row)) for row in trained.curve.tolist()],
    }
