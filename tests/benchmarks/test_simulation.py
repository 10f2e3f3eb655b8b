"""The simulator of the build loop, worked by hand."""

from contextlib import closing
from dataclasses import asdict

import pytest
import torch

from benchmarks.simulation.loop import MemoryZoo, SimulatedClock, SimulatedPool, simulate, simulated_settings
from benchmarks.simulation.worlds import World, make_world
from tans_core.acquisition.choose import make_chooser
from tans_core.acquisition.hypervolume import GrowingHypervolume, hypervolume_mean
from tans_core.jobs import Job, Outcome
from tans_core.records import Attempt, Candidate, Choice, Observation, PairIdentity
from tans_core.search_space import make_search_space

SPACE = make_search_space("ofa-lite")


@pytest.fixture(scope="module")
def world() -> World:
    return make_world("rough", 4, SPACE, 64, seed=0)


def job(world: World, number: int) -> Job:
    dataset, topology = world.datasets[0], tuple(SPACE.sample(9, torch.Generator().manual_seed(0))[number].tolist())
    identity = PairIdentity(
        fingerprint=dataset.fingerprint,
        search_space=SPACE.name,
        topology=topology,
        width=1.0,
        image_size=64,
        mode="standalone",
        recipe={},
        supernet=SPACE.supernet_hash,
        seed=0,
    )
    choice = Choice(Candidate(dataset.fingerprint, topology), number, "random", "test")
    return Job(
        key=identity.key, name=str(number), identity=identity, attempt=Attempt("a", 1), choice=choice, deadline_s=1e9
    )


def test_two_workers_and_a_queue_worked_by_hand(world: World):
    # The first two begin at 0 and take 5 and 3 s; the third begins at 3, the fourth at 5: they end at 10 and 6.
    clock, jobs = SimulatedClock(lambda: 0.0), [job(world, number) for number in range(4)]
    seconds = {each.choice.candidate: took for each, took in zip(jobs, (5.0, 3.0, 7.0, 1.0))}
    pool = SimulatedPool(2, clock, lambda candidate: Observation(candidate, 3, 4), seconds.__getitem__)
    assert (pool.free(), pool.idle()) == (4, 2)
    for each in jobs:
        pool.submit(each)
    assert (pool.free(), pool.idle()) == (0, 0)
    assert pool.next_outcome(1.0) is None and clock() == 1
    ended = []
    while outcome := pool.next_outcome(60.0):
        assert isinstance(outcome, Outcome) and outcome.trained is not None
        assert (outcome.trained.val_correct, outcome.trained.val_total) == (3, 4)
        ended.append((outcome.job.name, clock(), outcome.seconds.total))
    assert ended == [("1", 3, 3), ("0", 5, 5), ("3", 6, 1), ("2", 10, 7)]


def test_deciding_takes_time_where_the_clock_counts_it():
    worked = [0.0]
    clock = SimulatedClock(lambda: worked[0])
    clock.wait_until(10)
    worked[0] += 2
    assert clock() == 12
    clock.wait_until(11)  # is over
    assert clock() == 12


@pytest.mark.parametrize(("chooser", "workers"), [("random", 64), ("hypervolume", 2)])
def test_a_simulated_build_is_a_build(world: World, chooser: str, workers: int):
    zoo = MemoryZoo(simulated_settings(SPACE.name, SPACE.supernet_hash, 64, seed=0), world.datasets)
    scale = world.encoder.cost_scale
    with closing(make_chooser(chooser, world.datasets, [], SPACE, scale, 0)) as chosen:
        simulated = simulate(
            zoo,
            world.datasets,
            SPACE,
            chosen,
            GrowingHypervolume(world.datasets, scale),
            world.observe,
            pairs=14,
            workers=workers,
            train_s=lambda _: 60.0,
            clock=SimulatedClock(lambda: 0.0),
        )
    rows = simulated.grown.rows
    assert len({row.key for row in rows}) == len(rows) == simulated.rows_then[-1] == 14
    assert {row.choice.chosen_by for row in rows[-2:]} == {chooser}
    assert simulated.simulated_s == pytest.approx(60 * (14 / workers if workers == 2 else 1))
    assert simulated.grown.utilisation == pytest.approx(14 / (14 if workers == 2 else 64))
    assert simulated.hypervolume[-1] == pytest.approx(hypervolume_mean(world.datasets, rows, scale))
    for row in rows[:3]:  # again, as the first time
        again = world.observe(row.candidate)
        assert (row.val_correct, row.val_total) == (again.correct, again.total)


def test_a_decision_without_its_row_is_tried_again_first(world: World):
    zoo = MemoryZoo(simulated_settings(SPACE.name, SPACE.supernet_hash, 64, seed=0), world.datasets)

    def build(pairs: int, train_s: float):
        with closing(make_chooser("random", world.datasets, [], SPACE, world.encoder.cost_scale, 0)) as chosen:
            hypervolume = GrowingHypervolume(world.datasets, world.encoder.cost_scale)
            clock, seconds = SimulatedClock(lambda: 0.0), train_s
            return simulate(
                zoo,
                world.datasets,
                SPACE,
                chosen,
                hypervolume,
                world.observe,
                pairs=pairs,
                workers=1,
                train_s=lambda _: seconds,
                clock=clock,
            )

    whole = build(3, 1.0).grown.rows
    last = zoo.rows_there.pop(whole[-1].key)
    zoo.journal.append("killed", [("decision", _decision(last.key, last.choice))])
    assert build(3, 1.0).grown.rows[-1].key == last.key


def _decision(key: str, choice: Choice) -> dict:
    return {"key": key, "attempt": 1, "mode": "standalone", "choice": asdict(choice)}
