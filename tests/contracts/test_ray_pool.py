"""What Ray would wait for without end: workers that cannot come, and workers that do not come back."""

import pytest

from pipeline.on_ray.pool import RayPool
from pipeline.on_ray.session import ray_session
from tans_core.errors import PoolError
from tans_core.search_space import make_search_space
from tests.jobs import pair_jobs
from tests.synthetic import patterns

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def space():
    return make_search_space("ofa-lite")


@pytest.fixture(scope="module", autouse=True)
def one_cpu():
    with ray_session(None, cpus=1):
        yield


def test_e1_workers_that_a_busy_cluster_cannot_give_end_the_wait_with_both_numbers(space):
    import ray  # after pipeline.on_ray, which says how to authenticate

    class Neighbour:
        def ready(self) -> bool:
            return True

    neighbour = ray.remote(num_cpus=1)(Neighbour).remote()
    ray.get(neighbour.ready.remote())
    with pytest.raises(PoolError, match=r"not all of 1 workers.*after \d+ s; of the cluster's 1 CPUs 0 are free"):
        RayPool({}, space, workers=1, gpus_per_worker=0.0, up_limit_s=2.0)
    ray.kill(neighbour)


def test_e26_workers_that_are_all_lost_for_good_end_the_build(space):
    import ray

    dataset = patterns(each=12)
    pool = RayPool({dataset.fingerprint: dataset}, space, workers=1, gpus_per_worker=0.0)
    pool._up_limit_s = 2.0
    pool.submit(pair_jobs([dataset], space)[0])
    ray.kill(pool._workers[0].actor)  # for good: Ray does not start it again
    lost = pool.next_outcome(30.0)
    assert lost is not None and lost.failure is not None and lost.failure.kind == "WorkerLost"
    with pytest.raises(
        PoolError, match=r"all 1 workers died and none came back within \d+ s.*the same command goes on"
    ):
        pool.next_outcome(60.0)
    pool.close()
