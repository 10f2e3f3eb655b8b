"""A resumed training ends as the unbroken one (test_meta_training.py): not because nothing matters to it."""

from dataclasses import replace

import pytest
import torch

from tans_core.cross_modal.meta_training import SpaceConfig, SpaceState, train
from tans_core.cross_modal.space_data import SpaceData, space_data
from tests.worlds import World

CONFIG = SpaceConfig(dim=16, hidden=8, steps=6, evaluate_every=2, validation_draws=2)
WORLD = World(datasets=4, rows_each=2, sources=4)


@pytest.fixture(scope="module")
def data() -> SpaceData:
    torch.set_num_threads(1)
    return space_data(WORLD.snapshot())


@pytest.fixture(scope="module")
def states(data: SpaceData) -> list[SpaceState]:
    """What an unbroken training kept after 2, 4 and 6 steps."""
    kept: list[SpaceState] = []
    train(data, CONFIG, 0, on_checkpoint=kept.append)
    return kept


def differ(one: SpaceState, other: SpaceState) -> bool:
    return any(not torch.equal(tensor, other.model[name]) for name, tensor in one.model.items())


def test_a_training_changes_what_it_keeps_from_checkpoint_to_checkpoint(states: list[SpaceState]):
    assert [state.step for state in states] == [2, 4, 6]
    assert differ(states[0], states[1]) and differ(states[1], states[2])


def test_a_resumed_training_makes_the_steps_that_are_left_and_no_others(data: SpaceData, states: list[SpaceState]):
    kept: list[SpaceState] = []
    train(data, CONFIG, 0, resume=states[1], on_checkpoint=kept.append)
    assert [state.step for state in kept] == [6]
    assert kept[0].curve[:, 0].tolist() == [2, 4, 6]


def test_a_resumed_training_goes_on_from_what_its_checkpoint_holds(data: SpaceData, states: list[SpaceState]):
    for part in ("model", "optimiser"):
        moved = {
            name: value + 0.5 if value.is_floating_point() else value
            for name, value in getattr(states[1], part).items()
        }
        assert differ(train(data, CONFIG, 0, resume=replace(states[1], **{part: moved})), states[2]), part


def test_a_resumed_training_still_learns_from_its_rows(data: SpaceData, states: list[SpaceState]):
    other = space_data(replace(WORLD, seed=1).snapshot())
    assert differ(train(other, CONFIG, 0, resume=states[1]), states[2])
