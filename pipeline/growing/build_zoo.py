"""`tans build-zoo`: grow a zoo of networks trained on many datasets."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from pipeline.config import preset
from pipeline.growing.costs import cost_scale
from pipeline.growing.growth import Growth
from pipeline.growing.plan import BuildPlan, plan_build
from pipeline.growing.profiles import record_datasets
from pipeline.growing.workers import Workers, workers_up
from pipeline.running.progress import say
from pipeline.running.signals import StopRequest, stop_on_signals
from pipeline.running.threads import one_thread
from pipeline.tracking.names import checked_uri
from pipeline.tracking.tracker import Status, Tracker, make_tracker
from pipeline.zoo import Zoo
from pipeline.zoo.history.run_facts import journalled, without_secrets
from pipeline.zoo.latency import device_name, measure_rows
from tans_core.acquisition.choose import check_chooser, make_chooser
from tans_core.acquisition.config import DEFAULT, AcquisitionConfig
from tans_core.acquisition.hypervolume import CostScale, GrowingHypervolume, check_costs, hypervolume_mean
from tans_core.errors import ConfigError
from tans_core.records import Row


@dataclass(frozen=True, kw_only=True)
class BuildSummary:
    """What `tans build-zoo --json` prints."""

    pairs: int  # rows of the zoo at the end
    pairs_asked: int
    failures: int = 0  # pairs left after three attempts, in this run
    workers: int = 0
    utilisation: float | None = None  # None where nothing was trained
    decision_ms_median: float | None = None
    decision_ms_p95: float | None = None
    refit_s: tuple[float, ...] = ()  # of the surrogate's hyperparameters, beside the training
    costs: tuple[str, ...]  # that hypervolume is of, beside accuracy
    hypervolume_mean: float  # over all datasets of the zoo
    hypervolume_mean_test: float  # the same fronts, chosen by validation, valued on test
    nodes: int = 0  # that the workers were on
    stopped_by: str | None = None  # a signal's name; None where the build came to its own end
    exhausted: bool = False  # no candidate was left
    pair_mode: str  # of this build: "standalone", or "from_supernet"
    supernets: int = 0  # trained in this run
    datasets_left: tuple[str, ...] = ()  # their supernets came to nothing in this run
    wall_s: float


def build_zoo(
    zoo: str,
    datasets: Sequence[str],
    *,
    pairs: int | None = None,
    more: int | None = None,
    hours: float | None = None,
    acquisition: str = "hypervolume",
    config: AcquisitionConfig = DEFAULT,
    costs: Sequence[str] = ("params", "flops"),
    latency_table: Path | None = None,
    preset_name: str | None = None,
    search_space: str | None = None,
    image_size: int | None = None,
    init: str | Path | None = None,
    workers: int = 2,
    gpus_per_worker: float | None = None,
    address: str | None = None,
    seed: int | None = None,
    mlflow_uri: str | None = None,
    wait: bool = False,
    pair_mode: str | None = None,
) -> BuildSummary:
    """Train dataset-network pairs until the zoo has the rows asked for; the same call goes on where it was stopped.

    Args:
        zoo: URI of the zoo; made where there is none.
        datasets: SPECs.
        pairs: rows of the zoo at the end. Give this or `more`.
        more: rows beyond what is there.
        hours: no pair is started after that time.
        acquisition: "hypervolume" or "random".
        config: how "hypervolume" chooses; a build that goes on with another one goes on by that.
        costs: two of "params", "flops", "latency" and "memory": what hypervolume is of, beside accuracy.
        latency_table: file with the latency of a device; None: the zoo's own of this processor, of one thread.
        preset_name: "smoke", "laptop" or "paper"; None: what the zoo keeps, laptop for a new one.
        search_space, image_size, seed: None: the zoo's, else the preset's, else 0.
        init: starting weights of a new zoo: a word ("starter", "lite0", "random", "imagenet"), a file, or an address;
            None: "starter" (ofa-lite) or "random" (ofa-mbv3). A zoo that is there keeps its own.
        workers: Ray actors; 0 trains in this process, without Ray.
        gpus_per_worker: share of a GPU, which must be there then; None: a quarter where there is one, else none.
        address: of a Ray cluster; None: a local Ray is started and ended.
        mlflow_uri: None: a sqlite file in the zoo's folder.
        wait: for a driver that grows the zoo now, and go on after it; else it is a `ZooError`.
        pair_mode: how the pairs of this build are made. "standalone": each trained by itself; "from_supernet": cut out
            of their dataset's supernet, which is trained once. None: what the zoo was begun with, standalone for a new
            one. A zoo may hold rows of both.

    Raises:
        ConfigError: the numbers make no sense, or disagree with what the zoo keeps.
        DatasetError: a SPEC cannot be read.
        ZooError: the zoo cannot be opened, or another driver holds it.
        PoolError: the workers cannot be had, or every pair fails.
    """
    began = time.monotonic()
    for name, value in (("hours", hours or 0.0), ("gpus-per-worker", gpus_per_worker or 0.0)):
        if not 0 <= value < float("inf"):
            raise ConfigError(f"--{name} must be a number of at least 0, got {value:g}")
    if workers == 0 and gpus_per_worker:
        raise ConfigError("--workers 0 trains in this process, on its CPU: --gpus-per-worker goes with workers of Ray")
    check_chooser(acquisition)
    check_costs(costs)
    if mlflow_uri is not None:
        checked_uri(mlflow_uri)
    if workers != 0:
        from pipeline.on_ray.pool import check_wish

        check_wish(workers, address)
    wish = _Wish(
        datasets=tuple(datasets),
        pairs=pairs,
        more=more,
        hours=hours,
        acquisition=acquisition,
        config=config,
        costs=tuple(costs),
        latency_table=None if latency_table is None else str(latency_table),
        preset=preset_name,
        init=None if init is None else without_secrets(str(init)),
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        address=address,
        mlflow_uri=None if mlflow_uri is None else without_secrets(mlflow_uri),
        pair_mode=pair_mode,
    )
    with stop_on_signals(goes_on=True) as stop, ExitStack() as started:
        planned = partial(
            plan_build,
            zoo,
            datasets,
            pairs=pairs,
            more=more,
            preset_name=preset_name,
            search_space=search_space,
            image_size=image_size,
            init=init,
            seed=seed,
            pair_mode=pair_mode,
        )
        plan = planned()
        scale = cost_scale(zoo, plan.settings, plan.search_space, costs, latency_table, config)
        run = uuid.uuid4().hex[:12]
        with Zoo.claimed(zoo, run, stop, wait):
            # A new zoo is made when its workers are up: a start that fails leaves none behind.
            up = None if Zoo.exists(zoo) else started.enter_context(_workers(plan, wish, stop))
            there = Zoo.exists(zoo)
            store = Zoo.open(zoo) if there else Zoo.create(zoo, plan.settings, plan.search_space.start_file())
            if (store.settings.zoo_id, store.row_count()) != (plan.settings.zoo_id, plan.rows_there):
                plan = planned()  # another driver made or grew it meanwhile
            if orphans := store.orphans():
                say(f"{orphans} weights files belong to no row: a run ended between writing and committing them")
            if plan.rows_there >= plan.rows_at_end:
                say(f"{plan.rows_there} of {plan.rows_at_end} pairs, nothing to do; ask for more to grow")
                return _nothing_to_do(store, plan, wish, scale, began)
            tracker = make_tracker(mlflow_uri, store.uri, plan.settings, store.journal, run)
            status: Status = "FAILED"
            try:
                store = Zoo.open_to_grow(zoo)
                start = {
                    "given": asdict(wish),
                    "pair_mode": plan.pair_mode,
                    "settings": asdict(store.settings),  # seed, recipe and starting weights among them
                    "rows_there": plan.rows_there,
                    "rows_at_end": plan.rows_at_end,
                }
                with journalled(store.journal, run, start) as ends:
                    up = up or started.enter_context(_workers(plan, wish, stop))
                    summary = _build(store, plan, wish, scale, tracker, run, stop, began, started, up)
                    ends.update(asdict(summary))
                status = "FINISHED"
                return summary
            finally:
                tracker.finish("KILLED" if stop else status)


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """What `build_zoo` was called with, but for the zoo and what it keeps."""

    datasets: tuple[str, ...]
    pairs: int | None
    more: int | None
    hours: float | None
    acquisition: str
    config: AcquisitionConfig
    costs: tuple[str, ...]
    latency_table: str | None
    preset: str | None
    init: str | None
    workers: int
    gpus_per_worker: float | None
    address: str | None
    mlflow_uri: str | None
    pair_mode: str | None


def _build(
    store: Zoo,
    plan: BuildPlan,
    wish: _Wish,
    scale: CostScale,
    tracker: Tracker,
    run: str,
    stop: StopRequest,
    began: float,
    started: ExitStack,
    up: Workers,
) -> BuildSummary:
    """Look at new datasets, grow, end what was started, measure latencies."""
    deadline_s = preset(plan.settings.preset).deadline_s
    with started:
        records = record_datasets(store, plan.datasets, up.pool, deadline_s, stop)
        known = tuple(store.snapshot().datasets.values())  # of other builds too: their rows teach, the curve is of all
        here = {record.fingerprint for record in records}
        beside = [record for record in known if record.fingerprint not in here]
        chooser = make_chooser(
            wish.acquisition, records, beside, plan.search_space, scale, plan.settings.seed, wish.config
        )
        with closing(chooser):
            growth = Growth(
                store,
                records,
                chooser,
                up.pool,
                tracker,
                plan.search_space,
                pair_mode=plan.pair_mode,
                run=run,
                deadline_s=deadline_s,
                stop=stop,
                progress=up.progress,
                hypervolume=GrowingHypervolume(known, scale).add,
            )
            with stop.patiently(), one_thread():
                grown = growth.grow(plan.rows_at_end, None if wish.hours is None else began + 3600 * wish.hours)
        if wish.hours is not None and grown.utilisation is None and not stop and not grown.exhausted:
            took_s = time.monotonic() - began
            say(f"nothing was trained: --hours {wish.hours:g} were over when all was read and up, after {took_s:.0f} s")
    if not stop:
        _measure_latencies(store, grown.rows, plan)
    return BuildSummary(
        pairs=len(grown.rows),
        pairs_asked=plan.rows_at_end,
        failures=grown.failures,
        workers=up.pool.workers,
        utilisation=grown.utilisation,
        decision_ms_median=quantile(grown.decision_ms, 0.5),
        decision_ms_p95=quantile(grown.decision_ms, 0.95),
        refit_s=tuple(chooser.refit_seconds),
        costs=wish.costs,
        hypervolume_mean=hypervolume_mean(known, grown.rows, scale),
        hypervolume_mean_test=hypervolume_mean(known, grown.rows, scale, "test"),
        nodes=up.nodes,
        stopped_by=stop.name,
        exhausted=grown.exhausted,
        pair_mode=plan.pair_mode,
        supernets=grown.supernets,
        datasets_left=grown.datasets_left,
        wall_s=time.monotonic() - began,
    )


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value below which `share` of them lie; None where there are none."""
    return torch.tensor(values, dtype=torch.float64).quantile(share).item() if values else None


def _nothing_to_do(store: Zoo, plan: BuildPlan, wish: _Wish, scale: CostScale, began: float) -> BuildSummary:
    there = store.snapshot()
    rows, known = there.rows, list(there.datasets.values())
    return BuildSummary(
        pairs=len(rows),
        pairs_asked=plan.rows_at_end,
        costs=wish.costs,
        hypervolume_mean=hypervolume_mean(known, rows, scale),
        hypervolume_mean_test=hypervolume_mean(known, rows, scale, "test"),
        pair_mode=plan.pair_mode,
        wall_s=time.monotonic() - began,
    )


def _workers(plan: BuildPlan, wish: _Wish, stop: StopRequest) -> AbstractContextManager[Workers]:
    datasets = {dataset.fingerprint: dataset for dataset in plan.datasets}
    return workers_up(datasets, plan.search_space, wish.workers, wish.gpus_per_worker, wish.address, stop)


def _measure_latencies(store: Zoo, rows: Sequence[Row], plan: BuildPlan) -> None:
    """The machine is quiet now: measure the networks that this device has not timed yet."""
    timed = {latency.key for latency in store.latencies() if latency.device == device_name()}
    missing = [row for row in rows if row.key not in timed]
    store.write_latencies(measure_rows(missing, plan.search_space, plan.settings.image_size))
