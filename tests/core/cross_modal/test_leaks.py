"""What a space learns from, is chosen on, and is judged on: three sides that contradict each other.

In `World(sides_contradict=True)` a query's instances of training lie at its dataset's row, those of validation a
quarter of a circle of eight further, those of test opposite. So the rank of the dataset's row among eight is 1 for
training, 4 or 5 for validation (three rows nearer, two as near), 8 for test.
"""

from dataclasses import replace

import pytest
import torch

from tans_core.cross_modal.meta_training import SpaceConfig, SpaceState, build_model, train
from tans_core.cross_modal.space_data import Rows, SpaceData, space_data
from tans_core.cross_modal.trained_space import finish_space
from tests.worlds import World

WORLD = World(datasets=8, rows_each=3, sources=2, sides_contradict=True)  # of two sources none is left out, for time
CONFIG = SpaceConfig(dim=24, hidden=32, steps=120, evaluate_every=40, peak_lr=0.03)


@pytest.fixture(scope="module")
def data() -> SpaceData:
    torch.set_num_threads(1)
    return space_data(WORLD.snapshot())


@pytest.fixture(scope="module")
def state(data) -> SpaceState:
    return train(data, CONFIG, 0)


@pytest.fixture(scope="module")
def space(data, state):
    """As trained to the end, whatever validation thinks of it."""
    return finish_space(data, CONFIG, 0, replace(state, best=state.model))


def test_labels_are_validation_accuracies():
    snapshot = World(datasets=2, rows_each=1, sources=2).snapshot()
    counts = dict(
        val_correct_by_class=(10, 20),
        val_total_by_class=(20, 20),
        test_correct_by_class=(9,),
        test_total_by_class=(10,),
    )
    data = space_data(replace(snapshot, rows=tuple(replace(row, **counts) for row in snapshot.rows)))
    assert data.accuracy_R.tolist() == [0.75, 0.75]
    assert data.test_accuracy_R.tolist() == pytest.approx([0.9, 0.9])


def test_predictions_follow_what_was_measured_in_validation_not_in_test(space, data):
    query = space.model.embed_query(data.train[0])
    with torch.no_grad():
        predicted = space.model.predict(query[None], data.facts_KX[:1], space.architecture_RA)
    assert torch.corrcoef(torch.stack([predicted, WORLD.size()]))[0, 1] > 0.6


def test_the_checkpoint_is_chosen_on_validation_instances(state):
    """The more is learned, the less a quarter of the circle further fits: the first is the best of three."""
    assert state.best_step == 40
    rank, r_at_1, mse = state.curve[-1, 2:].tolist()
    assert 3.5 < rank < 5.5 and r_at_1 == 0  # 1 and 1 on training, 8 and 0 on test
    assert 0.04 < mse < 0.1  # below 0.01 on training, above 0.12 on test: predicted as easy as it is hard


def test_ranks_are_reported_on_test_instances(space):
    assert space.retrieval.mean_rank > 7.5 and space.retrieval.r_at_5 == 0


def test_known_datasets_predictions_are_judged_on_test_instances_and_test_counts(space):
    """What lies opposite is as easy as the test counts say: any other pair of sides contradicts itself."""
    assert space.unseen_instances.mse < 0.025


def test_predictor_errors_are_of_test_counts_on_left_out_sources_too(data):
    counted = replace(
        data,
        sources=data.names,
        accuracy_R=torch.full_like(data.accuracy_R, 0.4),
        test_accuracy_R=torch.full_like(data.accuracy_R, 0.9),
    )
    config = replace(CONFIG, steps=5)
    space = finish_space(counted, config, 0, train(counted, config, 0))
    # The mean of the training labels is 0.4 in every fold: off by a half.
    assert space.left_out is not None
    assert space.left_out.mse_mean_baseline == pytest.approx(0.25)
    assert space.unseen_instances.mse_mean_baseline == pytest.approx(0.25)


def test_a_left_out_source_cannot_be_known():
    """How easy a dataset is follows from nothing here: whoever has seen it knows, and nobody else."""
    data = space_data(World(datasets=10, rows_each=2, sources=10).snapshot())
    easy = torch.tensor([1, 0, 0, 1, 1, 0, 1, 0, 0, 1])[data.dataset_R]
    accuracy_R = 0.35 + 0.6 * easy
    data = replace(
        data,
        accuracy_R=accuracy_R,
        test_accuracy_R=accuracy_R,
        facts_KX=data.facts_KX[:1].expand(10, -1),
        validation=data.train,
        test=data.train,
    )
    space = finish_space(data, CONFIG, 0, train(data, CONFIG, 0))
    assert space.left_out is not None
    assert space.unseen_instances.mse < 0.045 < 0.06 < space.left_out.mse  # 0.09 for whoever says the mean


def test_datasets_of_one_source_do_not_push_each_other_apart():
    """Twins of one source, alike in all: as negatives they could not lose less than log 2 each, 0.69."""
    world = World(datasets=4, rows_each=1, sources=2)  # datasets 0 and 2 are of one source, 1 and 3 of the other
    data = space_data(world.snapshot())
    twin = [0, 1, 0, 1]
    data = replace(
        data,
        topology_RT=data.topology_RT[twin],
        response_RF=data.response_RF[twin],
        train=tuple(data.train[place] for place in twin),
        validation=tuple(data.validation[place] for place in twin),
    )
    config = replace(CONFIG, steps=100, evaluate_every=10, predictor=0.0, attraction=0.0, dropout=0.0, peak_lr=3e-3)
    assert train(data, config, 0).curve[-1, 1] < 0.3


def test_a_row_a_tenth_more_accurate_is_drawn_e_times_as_often(data):
    # Two rows, 0.5 and 0.6: e / (1 + e) = 0.731 of the draws are of the second; of any draws a half.
    two = replace(data.only([0]), keys=("a", "b"), dataset_R=torch.tensor([0, 0]), accuracy_R=torch.tensor([0.5, 0.6]))
    rows, generator = Rows(two), torch.Generator().manual_seed(0)
    good = sum(rows.draw_good(generator).item() for _ in range(4000)) / 4000
    assert good == pytest.approx(0.731, abs=0.03)
    assert sum(rows.draw_any(generator).item() for _ in range(4000)) / 4000 == pytest.approx(0.5, abs=0.03)


def test_networks_lie_where_they_are_good():
    """Network k is the good row of dataset k and the bad row of dataset k + 1: it is drawn three times for one."""
    data = space_data(World(datasets=6, rows_each=2, sources=6).snapshot())
    good, bad = torch.arange(0, 12, 2), torch.arange(1, 12, 2)
    topology_RT, response_RF = data.topology_RT.clone(), data.response_RF.clone()
    topology_RT[bad], response_RF[bad] = data.topology_RT[good.roll(1)], data.response_RF[good.roll(1)]
    accuracy_R = torch.full((12,), 0.9)
    accuracy_R[bad] = 0.3
    data = replace(data, topology_RT=topology_RT, response_RF=response_RF, accuracy_R=accuracy_R)
    config = replace(CONFIG, dropout=0.0, peak_lr=3e-3)
    model = build_model(data, config, 0)
    model.load_state_dict(train(data, config, 0).model)
    with torch.no_grad():
        place_RE, _ = model.embed_models(topology_RT, response_RF)
        query_KE = torch.stack([model.embed_query(each) for each in data.train])
    assert (place_RE[good] @ query_KE.T).argmax(dim=1).tolist() == list(range(6))
