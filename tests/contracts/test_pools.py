"""Every pool: a submitted job comes back exactly once, and a key gives the same accuracy wherever it is trained."""

import os
import signal
import time
from dataclasses import replace

import pytest
import torch

from pipeline.on_ray.pool import RayPool, fitting_workers
from pipeline.on_ray.session import ray_session
from pipeline.pools import InlinePool
from pipeline.running.signals import GivenUp
from tans_core.errors import ConfigError
from tans_core.jobs import Outcome
from tans_core.search_space import make_search_space
from tans_core.training.from_supernet import cut_pair, train_supernet
from tans_core.training.loop import keep_going
from tans_core.training.recipe import Recipe
from tans_core.training.standalone import train_pair
from tests.jobs import cut_job_of, pair_jobs, supernet_job_of
from tests.synthetic import patterns


@pytest.fixture(scope="module")
def space():
    return make_search_space("ofa-lite")


@pytest.fixture(scope="module")
def datasets():
    return {each.fingerprint: each for each in (patterns(seed=seed, each=12) for seed in range(4))}


@pytest.fixture(scope="module", params=["inline", pytest.param("ray", marks=pytest.mark.ray)])
def pool(request, space, datasets):
    if request.param == "inline":
        yield InlinePool(datasets, space, keep_going)
        return
    with ray_session(None, cpus=2):
        pool = RayPool(datasets, space, workers=2, gpus_per_worker=0.0)
        yield pool
        pool.close()


@pytest.fixture(scope="module")
def expected(space, datasets):
    """What training itself gives for each job on its own dataset, without any pool, in another order."""
    torch.set_num_threads(1)
    jobs = reversed(pair_jobs(list(datasets.values()), space))
    return {job.key: train_pair(job.identity, datasets[job.fingerprint], space)[0] for job in jobs}


def _drain(pool, jobs=()) -> list[Outcome]:
    """What comes back of these jobs and of those that are there already, until the pool has no work left."""
    waiting, outcomes, ends = list(jobs), [], time.monotonic() + 500
    while (waiting or pool.idle() < pool.workers) and time.monotonic() < ends:
        while waiting and pool.free():
            pool.submit(waiting.pop(0))
        outcome = pool.next_outcome(1.0)
        outcomes += [outcome] if outcome else []
    assert pool.next_outcome(0.0) is None, "one comes back twice"
    return outcomes


def test_e27_each_job_comes_back_once_with_the_same_accuracy_everywhere(pool, space, datasets, expected):
    jobs = pair_jobs(list(datasets.values()), space)
    outcomes = _drain(pool, jobs)
    assert sorted(outcome.job.key for outcome in outcomes) == sorted(job.key for job in jobs)
    for outcome in outcomes:
        there = expected[outcome.job.key]
        assert outcome.trained is not None and outcome.failure is None
        assert outcome.trained.val_correct_by_class == there.val_correct_by_class
        assert outcome.trained.weights == there.weights
        assert torch.equal(outcome.trained.response, there.response)
        assert outcome.seconds.total > 0


@pytest.fixture(scope="module")
def supernet_job(space, datasets):
    return supernet_job_of(next(iter(datasets.values())), space)


def test_a_supernet_comes_back_once_and_pairs_cut_out_of_it_are_the_same_everywhere(
    pool, space, datasets, supernet_job
):
    torch.set_num_threads(1)
    dataset = datasets[supernet_job.fingerprint]
    (outcome,) = _drain(pool, [supernet_job])
    there, _ = train_supernet(supernet_job.identity, dataset, space)
    assert outcome.job == supernet_job and outcome.failure is None and outcome.trained is not None
    assert outcome.trained.weights == there.weights and outcome.seconds.total > 0
    pool.share(supernet_job.key, there.weights)
    job = cut_job_of(supernet_job, space)
    (cut,) = _drain(pool, [job])
    pair, _ = cut_pair(job.identity, dataset, space, there.weights)
    assert cut.failure is None and cut.trained.weights == pair.weights
    assert cut.trained.val_correct_by_class == pair.val_correct_by_class
    assert cut.worker.device == "cpu" and cut.worker.node and cut.worker.name.startswith(("inline", "trainer-"))


def test_a_supernet_that_is_too_slow_is_a_failure(pool, supernet_job):
    (outcome,) = _drain(pool, [replace(supernet_job, deadline_s=0.0)])
    assert outcome.trained is None and outcome.failure is not None
    assert outcome.failure.kind == "TrainingError" and "deadline of 0 s" in outcome.failure.message


def test_idle_counts_workers_without_a_job(pool, space, datasets):
    (job,) = pair_jobs(list(datasets.values())[:1], space)[:1]
    assert pool.idle() == pool.workers
    pool.submit(job)
    assert pool.idle() == pool.workers - 1
    assert pool.next_outcome(120) is not None
    assert pool.idle() == pool.workers


def test_a_loss_that_is_not_finite_is_a_failure_with_its_cause(pool, space, datasets):
    job = pair_jobs(list(datasets.values())[:1], space, Recipe(epochs=2, mirror=False, peak_lr=1e12))[0]
    (outcome,) = _drain(pool, [job])
    assert outcome.trained is None and outcome.failure is not None
    assert outcome.failure.kind == "TrainingError" and "lower peak_lr" in outcome.failure.message


def test_a_pair_that_is_too_slow_is_a_failure(pool, space, datasets):
    job = pair_jobs(list(datasets.values())[:1], space, deadline_s=0.0)[0]
    (outcome,) = _drain(pool, [job])
    assert outcome.failure is not None and "deadline of 0 s" in outcome.failure.message


def test_an_error_that_nobody_expected_is_a_failure_with_its_cause(pool, space, datasets):
    job = pair_jobs(list(datasets.values())[:1], space)[0]
    job = replace(job, identity=replace(job.identity, recipe={"no such setting": 1}))
    (outcome,) = _drain(pool, [job])
    assert outcome.trained is None and outcome.failure is not None
    assert outcome.failure.kind == "TypeError" and "no such setting" in outcome.failure.message


def test_a_worker_that_dies_gives_a_failure_and_the_others_go_on(pool, space, datasets):
    if isinstance(pool, InlinePool):
        pytest.skip("an inline pool dies with its driver")
    import ray

    pid = ray.get(pool._workers[0].actor.__ray_call__.remote(lambda _self: os.getpid()))
    jobs = pair_jobs(list(datasets.values()), space, Recipe(epochs=30, mirror=False, batch_size=8))
    for job in jobs:
        pool.submit(job)
    os.kill(pid, signal.SIGKILL)
    outcomes = _drain(pool)
    assert sorted(outcome.job.key for outcome in outcomes) == sorted(job.key for job in jobs)
    lost = [outcome for outcome in outcomes if outcome.failure]
    assert len(lost) == 1 and lost[0].failure.kind == "WorkerLost"


def test_an_inline_job_can_be_given_up(space, datasets):
    def stop():
        raise GivenUp

    pool = InlinePool(datasets, space, stop)
    pool.submit(pair_jobs(list(datasets.values())[:1], space)[0])
    with pytest.raises(GivenUp):
        pool.next_outcome(1.0)


@pytest.mark.parametrize(
    ("wish", "there", "message"),
    [
        ((8, 0.25), (2, 0), "8 workers want one CPU each and this process has 2: use --workers 2"),
        ((0, 0.25), (2, 0), "at least 1"),
        ((4, 0.5), (8, 1), "use --gpus-per-worker 0.25"),
        ((2, 0.5), (2, 0), "--gpus-per-worker 0.5 and this process has no GPU that Ray sees: leave it out"),
    ],
)
def test_e1_a_wish_beyond_the_machine_is_refused_before_any_actor_is_made(wish, there, message):
    with pytest.raises(ConfigError, match=message):
        fitting_workers(*wish, False, *there)


def test_e1_a_share_that_nobody_asked_for_is_a_quarter_where_there_is_a_gpu():
    assert fitting_workers(2, None, False, 2, 0) == fitting_workers(2, 0.0, False, 2, 0) == (2, 0.0)
    assert fitting_workers(4, None, True, 8, 1) == fitting_workers(4, 0.25, True, 8, 1) == (4, 0.25)
    assert fitting_workers(4, 0.0, True, 8, 1) == (4, 0.0)
