"""`tans sweep`: which settings learn the best space of a zoo, judged on sources left out; the best one is trained."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.config import checked_seed
from pipeline.running.progress import Progress, say
from pipeline.running.result_folder import refuse_foreign
from pipeline.running.signals import StopRequest, stop_on_signals
from pipeline.running.threads import one_thread
from pipeline.space.meta_train import MetaTrainSummary, learn, metrics_of, space_identity, start_tracker
from pipeline.space.space_folder import FILES, is_of_space, save_space, saved_metrics, whole_space
from pipeline.space.training_folder import TRAINING, TRIALS, Work, is_training, remove_trainings
from pipeline.space.trials import DONE, HALVED, OUT_OF_TIME, Trials, read_trials
from pipeline.zoo import Zoo
from tans_core.cross_modal.left_out import Fold, folds, judged
from tans_core.cross_modal.meta_training import SpaceConfig
from tans_core.cross_modal.space_data import SpaceData, space_data
from tans_core.cross_modal.sweeping import Halving, drawn, first_rung
from tans_core.errors import ConfigError, SpaceError
from tans_core.records import canonical_json, content_hash

ALIAS = "champion"  # of the newest winner in MLflow's registry


@dataclass(frozen=True, kw_only=True)
class SweepSummary:
    """What `tans sweep --json` prints. Scores are on sources left out: 0 is perfect, 1 what knowing nothing gives."""

    trials: int
    done: int  # trained to their last step
    halved: int  # ended early, because others did better
    out_of_time: int
    failed: int
    winner: int
    config: dict[str, Any]  # the winner's
    score: float
    score_as_given: float | None  # of trial 0, the settings as they were given; None: it failed
    mean_rank: float
    mean_rank_random: float
    mse: float
    mse_mean_baseline: float
    zoo_version: int
    wall_s: float
    space: MetaTrainSummary


def sweep(
    zoo: str,
    out: Path,
    *,
    trials: int,
    hours: float | None = None,
    workers: int = 2,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    address: str | None = None,
    mlflow_uri: str | None = None,
) -> SweepSummary:
    """Try settings of a space, and train the best to its end; the same call goes on where it was stopped or killed.

    A trial is trained without some sources and judged on them, by validation images and counts. Trial 0 has the
    settings as they are given, the others draw all that is in `sweeping.RANGES`. Those that others beat end early.

    Args:
        out: folder of the space, which is one like any other; it tells of the sweep in its metrics.json.
        hours: trials end at their next judgement after that long; what was judged until then is chosen from.
        workers: trials side by side, under Ray Tune; 0: one after the other in this process, without Ray.
        settings: fields of `SpaceConfig` that are the same in all trials.
        address: of a Ray cluster; None: a local Ray is started and ended.
        mlflow_uri: None: a sqlite file in the zoo's folder.

    Raises:
        ZooError: there is no zoo.
        SpaceError: its rows are of fewer than three sources, or no trial could be judged.
        PoolError: the workers cannot be had.
        ConfigError: a number out of its range, a URI that MLflow cannot use, or `out` cannot be a folder or holds what
            tans did not write.
        Stopped: by SIGTERM or Ctrl-C; the same call goes on.
    """
    with stop_on_signals(goes_on=True) as stop:
        return _sweep(zoo, out, trials, hours, workers, seed, settings or {}, address, mlflow_uri, stop)


def _sweep(
    zoo: str,
    out: Path,
    count: int,
    hours: float | None,
    workers: int,
    seed: int,
    settings: Mapping[str, Any],
    address: str | None,
    mlflow_uri: str | None,
    stop: StopRequest,
) -> SweepSummary:
    began = time.monotonic()
    ends = math.inf if hours is None else began + 3600 * hours
    checked_seed(seed)
    _check(count, hours, workers, address)
    base = SpaceConfig(**settings)
    out = Path(out).expanduser().absolute()
    refuse_foreign(out, lambda path: is_of_space(path) or is_training(path))
    store = Zoo.open(zoo)
    asked = {
        "trials": count,
        "zoo_id": store.settings.zoo_id,
        "seed": seed,
        "config": asdict(base),
        "kept": sorted(settings),
    }
    if (summary := _done(out, asked, store.version)) is not None:
        say(f"the space in {out} is of this sweep and this version of the zoo already, nothing to do")
        return summary
    folder = out / TRAINING / content_hash(canonical_json(asked))
    before = read_trials(folder / TRIALS)
    snapshot = store.snapshot(None if before is None else before["zoo_version"], responses=True)
    data = space_data(snapshot)
    dealt = folds(data, seed)
    newest = "" if snapshot.version == store.version else f", with which it was begun (the newest is {store.version})"
    say(f"version {snapshot.version} of the zoo{newest}: {len(data.keys)} rows of {len(data.names)} datasets")
    work = Work(folder)
    tracker = start_tracker(mlflow_uri, store.uri, "sweep", {**asked, "workers": workers}, snapshot, work)
    configs = [drawn(base, frozenset(settings), seed, number) for number in range(count)]
    trials = Trials(folder / TRIALS, {"zoo_version": snapshot.version}, configs, tracker, Progress())
    try:
        trials.keep()
        if trials.left():
            _try(data, dealt, seed, trials, folder, workers, address, ends, stop)
        best = trials.best()
        if best is None:
            raise SpaceError(_none_judged(trials))
        say(f"the best of {count} is {best.words()}: it is trained on all sources now")
        identity = space_identity(snapshot, best.config, seed, workers=1, threads=1)
        own = Work(out / TRAINING / content_hash(canonical_json(asdict(identity))))
        trained, space = learn(data, identity, None, own, tracker, stop)
        summary = _summary(trials, space, time.monotonic() - began)
        said = {"asked": asked, "summary": asdict(summary), "trials": read_trials(folder / TRIALS)}
        save_space(out, identity, trained, store.uri, {**metrics_of(space, trained), "sweep": said})
        tracker.model([out / name for name in FILES], f"tans-space-{snapshot.settings.zoo_id[:8]}", ALIAS)
        tracker.finish("FINISHED")
        remove_trainings(out / TRAINING)
        return summary
    except BaseException:
        trials.leave("KILLED" if stop else "FAILED")
        tracker.finish("KILLED" if stop else "FAILED")
        raise


def _check(count: int, hours: float | None, workers: int, address: str | None) -> None:
    if count < 1:
        raise ConfigError(f"--trials must be at least 1, got {count}")
    if hours is not None and not 0 < hours < math.inf:
        raise ConfigError(f"--hours must be a number above 0, got {hours:g}")
    if workers == 0:
        if address is not None:
            raise ConfigError("--workers 0 trains in this process, and --address names a cluster: give one of them")
        return
    from pipeline.on_ray.pool import check_wish

    check_wish(workers, address)


def _done(out: Path, asked: Mapping[str, Any], zoo_version: int) -> SweepSummary | None:
    """The summary of the same sweep over the same zoo, where `out` is its space."""
    there = whole_space(out)
    if there is None or there.zoo_version != zoo_version:
        return None
    done = saved_metrics(out).get("sweep")
    if done is None or done["asked"] != asked:
        return None
    return SweepSummary(**{**done["summary"], "space": MetaTrainSummary(**done["summary"]["space"])})


def _try(
    data: SpaceData,
    dealt: Sequence[Fold],
    seed: int,
    trials: Trials,
    folder: Path,
    workers: int,
    address: str | None,
    ends: float,
    stop: StopRequest,
) -> None:
    """Have every trial end, or leave as a signal asks."""
    if workers == 0:
        with one_thread(), stop.patiently():
            _try_here(data, dealt, seed, trials, ends, stop)
        return
    from pipeline.on_ray.pool import fitting_workers
    from pipeline.on_ray.session import ray_session
    from pipeline.on_ray.sweep import sweep_on_workers

    configs = [trial.config for trial in trials.all]
    with ray_session(address, cpus=workers) as session:
        if address is not None:
            fitting_workers(workers, 0.0, True, session.cpus, 0.0)
        say(f"{workers} trials side by side" + (f"; dashboard {session.dashboard}" if session.dashboard else ""))
        failures = sweep_on_workers(
            data, configs, seed, dealt, folder, workers, trials.report, lambda: time.monotonic() > ends
        )
    out_of_time = time.monotonic() > ends
    trials.end_all(lambda trial: failures.get(trial.number) or (OUT_OF_TIME if out_of_time else HALVED))


def _try_here(
    data: SpaceData, dealt: Sequence[Fold], seed: int, trials: Trials, ends: float, stop: StopRequest
) -> None:
    """One after the other, under the rule by which Ray Tune halves them."""
    halving = Halving(trials.all[0].config.steps, first_rung(trials.all[0].config))
    for trial in trials.all:
        if trial.ended is not None:
            for judgement in trial.judgements:
                halving.goes_on(trial.number, judgement.step, judgement.score)
            continue
        for judgement in judged(data, trial.config, seed, dealt):
            trials.report(trial.number, judgement)
            stop.raise_if_asked()
            if time.monotonic() > ends:
                trials.end_all(lambda trial: OUT_OF_TIME)
                return
            if trial.ended is None and not halving.goes_on(trial.number, judgement.step, judgement.score):
                trials.end(trial.number, HALVED)
                break


def _none_judged(trials: Trials) -> str:
    failed = [trial for trial in trials.all if trial.ended not in (HALVED, OUT_OF_TIME)]
    if failed:
        return f"no trial gave anything: {len(failed)} of {len(trials.all)} failed ({failed[0].ended})"
    return (
        "no trial came to its first judgement in time: give more --hours, or fewer steps (evaluate_every) by --config"
    )


def _summary(trials: Trials, space: MetaTrainSummary, wall_s: float) -> SweepSummary:
    best, ways = trials.best(), [trial.ended for trial in trials.all]
    assert best is not None
    last, given = best.judgements[-1], trials.all[0]
    return SweepSummary(
        trials=len(ways),
        done=ways.count(DONE),
        halved=ways.count(HALVED),
        out_of_time=ways.count(OUT_OF_TIME),
        failed=len([way for way in ways if way not in (DONE, HALVED, OUT_OF_TIME)]),
        winner=best.number,
        config=asdict(best.config),
        score=last.score,
        score_as_given=given.score if given.judgements else None,
        mean_rank=last.mean_rank,
        mean_rank_random=last.mean_rank_random,
        mse=last.mse,
        mse_mean_baseline=last.mse_mean_baseline,
        zoo_version=space.zoo_version,
        wall_s=wall_s,
        space=space,
    )
