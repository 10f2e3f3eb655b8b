"""What a build works with: actors of Ray, or this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.pools import InlinePool, WorkerPool
from pipeline.running.progress import Progress, say
from pipeline.running.signals import StopRequest
from tans_core.records import ImageDataset
from tans_core.search_space.space import SearchSpace


@dataclass(frozen=True)
class Workers:
    """Up and ready."""

    pool: WorkerPool
    nodes: int  # that they are on
    progress: Progress  # of what they do; a pool in this process renews it while it trains


@contextmanager
def workers_up(
    datasets: Mapping[str, ImageDataset],
    search_space: SearchSpace,
    workers: int,
    gpus_per_worker: float | None,
    address: str | None,
    stop: StopRequest,
) -> Iterator[Workers]:
    """Start them, and end them; 0 workers are this process, without Ray.

    Raises:
        PoolError: the workers cannot be had.
    """
    progress = Progress()
    if workers == 0:

        def between_steps() -> None:
            progress.renew()
            stop.raise_if_asked()

        yield Workers(InlinePool(datasets, search_space, between_steps), 1, progress)
        return
    from pipeline.on_ray.pool import RayPool, fitting_workers
    from pipeline.on_ray.session import ray_session

    with ray_session(address, cpus=workers) as session:
        workers, share = fitting_workers(workers, gpus_per_worker, address is not None, session.cpus, session.gpus)
        where = f"; dashboard {session.dashboard}" if session.dashboard else ""
        say(f"starting {workers} workers ({'no GPU' if share == 0 else f'{share:g} GPU each'}){where}")
        pool = RayPool(datasets, search_space, workers, share)
        try:
            yield Workers(pool, len(pool.nodes), progress)
        finally:
            pool.close()
