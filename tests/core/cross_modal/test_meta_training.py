from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from tans_core.cross_modal.encoders import facts_of
from tans_core.cross_modal.meta_training import SpaceConfig, SpaceState, build_model, train
from tans_core.cross_modal.space_data import space_data
from tans_core.cross_modal.trained_space import finish_space, places
from tans_core.errors import ConfigError, SpaceError
from tans_core.retrieval.index import Index
from tans_core.retrieval.rank import Measured, rank
from tans_core.training.weights import decode_weights, encode_weights
from tests.worlds import CLASSES, LATENT, World

WORLD = World(datasets=12, rows_each=3)
CONFIG = SpaceConfig(dim=40, hidden=32, steps=150, evaluate_every=50)


@pytest.fixture(scope="module")
def data():
    return space_data(WORLD.snapshot())


@pytest.fixture(scope="module")
def space(data):
    torch.set_num_threads(1)
    return finish_space(data, CONFIG, 0, train(data, CONFIG, 0))


def test_a_datasets_networks_are_found_from_images_that_were_not_trained_on(space):
    found = space.retrieval
    assert (found.gallery, found.draws) == (12, 200)
    assert found.r_at_1 > 0.9 > 2 * found.r_at_1_random and found.mean_rank < 1.5


def test_the_first_row_that_users_get_is_worth_at_least_as_much_as_the_nearest():
    """Of what the best row would be worth above an average one; by predictions among the ten nearest it was a half."""
    share = {"first": 0.0, "nearest": 0.0}
    for seed in range(3):
        world = World(datasets=12, rows_each=2, seed=seed)
        snapshot = world.snapshot()
        data = space_data(snapshot)
        model = build_model(data, CONFIG, 0)
        model.load_state_dict(train(data, CONFIG, 0).best)
        with torch.no_grad():
            index = Index(data.keys, *model.embed_models(data.topology_RT, data.response_RF))
        measured = Measured(
            dataset_R=data.dataset_R,
            correct_R=torch.tensor([row.val_correct for row in snapshot.rows]),
            total_R=torch.tensor([row.val_total for row in snapshot.rows]),
            params_R=torch.tensor([row.costs.params for row in snapshot.rows], dtype=torch.float64),
            chance_K=torch.full((len(data.names),), 1 / CLASSES, dtype=torch.float64),
        )
        every, generator = torch.ones(len(data.keys), dtype=torch.bool), world.random("queries")
        worths, first, nearest = [], [], []
        for _ in range(100):
            point = torch.randn(LATENT, generator=generator)
            features, labels = world.features(point, 0.0, 40, generator)
            query, facts = model.embed_query(features).detach(), facts_of(features, labels, 1 / CLASSES, CLASSES)
            worth = world.worth(point)
            near = places(model, data) @ query
            ranking = rank(model, index, measured, query, facts, near, every, 10, error=0.15, bar=None)
            first.append(worth[ranking.head[0].place])
            nearest.append(worth[index.top(query, 1, every)[0].place])
            worths.append(worth)
        best, average = torch.stack(worths).amax(dim=1).mean(), torch.stack(worths).mean()
        for name, got in (("first", first), ("nearest", nearest)):
            share[name] += (((torch.stack(got).mean() - average) / (best - average)) / 3).item()
    assert share["first"] > 0.85 and share["first"] >= share["nearest"], share


def test_new_datasets_are_sent_to_near_sources_as_well_as_by_nearest_features(space, data):
    means = torch.stack([each.mean(dim=0) for each in data.train])
    standard = normalize((means - means.mean(dim=0)) / means.std(dim=0), dim=1)
    generator, value = WORLD.random("queries"), {"space": 0.0, "features": 0.0, "oracle": 0.0, "average": 0.0}
    for _ in range(100):
        point = torch.randn(LATENT, generator=generator)
        features, _ = WORLD.features(point, 0.0, 40, generator)
        worth = -(WORLD.point - point).norm(dim=1)
        row = (space.embedding_RE @ space.model.embed_query(features)).argmax()
        value["space"] += worth[data.dataset_R[row]].item()
        value["features"] += worth[
            (standard @ ((features.mean(dim=0) - means.mean(dim=0)) / means.std(dim=0))).argmax()
        ].item()
        value["oracle"] += worth.max().item()
        value["average"] += worth.mean().item()
    share = {name: (each - value["average"]) / (value["oracle"] - value["average"]) for name, each in value.items()}
    assert share["space"] > 0.8 and share["space"] > share["features"] - 0.06, share


def test_predicted_accuracy_is_better_than_the_mean_on_unseen_images_and_on_left_out_sources(space):
    for error in (space.unseen_instances, space.left_out):
        assert error.pairs == 36
        assert error.mse < 0.8 * error.mse_mean_baseline


def test_for_one_query_predictions_follow_the_networks_size_not_the_ease_of_their_own_datasets(space, data):
    ease, size = WORLD.ease[data.dataset_R], WORLD.size()
    query, facts = space.model.embed_query(data.train[0]), data.facts_KX[0]
    with torch.no_grad():
        predicted = space.model.predict(query[None], facts[None], space.architecture_RA)
    by_size, by_ease = (torch.corrcoef(torch.stack([predicted, each]))[0, 1] for each in (size, ease))
    assert by_size > 0.6 and abs(by_ease) < 0.35


def test_stopped_anywhere_and_resumed_from_its_checkpoint_it_ends_as_the_unbroken_one(data):
    config = replace(CONFIG, steps=40, evaluate_every=10)
    kept = []
    unbroken = train(data, config, 3, on_checkpoint=lambda state: kept.append(encode_weights(state.tensors())))
    resumed = train(data, config, 3, resume=SpaceState.of_tensors(decode_weights(kept[1])))
    assert len(kept) == 4
    for name, tensor in unbroken.tensors().items():
        assert torch.equal(resumed.tensors()[name], tensor), name


def test_the_checkpoint_is_the_best_on_validation_not_the_last(data):
    state = train(data, replace(CONFIG, steps=40, evaluate_every=10), 0)
    scores = state.curve[:, 2] / len(data.names) + state.curve[:, 4]
    assert state.best_step == state.curve[scores.argmin(), 0]


def test_instances_of_a_step_are_of_the_training_part_alone(data):
    config = replace(CONFIG, steps=3, evaluate_every=3)
    nonsense = tuple(100 * torch.ones_like(each) for each in data.test)
    one, other = train(data, config, 0), train(replace(data, test=nonsense, validation=nonsense), config, 0)
    assert all(torch.equal(one.model[name], other.model[name]) for name in one.model)


def test_a_zoo_of_one_source_is_refused_with_the_way_out():
    with pytest.raises(SpaceError, match=r"6 rows, all of the source 'source 0'.*build-zoo --more"):
        space_data(World(datasets=2, rows_each=3, sources=1).snapshot())
    with pytest.raises(SpaceError, match="no rows"):
        space_data(replace(World(datasets=2).snapshot(), rows=()))


def test_features_and_responses_that_are_not_finite_are_refused_with_whose_they_are():
    snapshot = World(datasets=3, rows_each=1, sources=3).snapshot()
    record = snapshot.datasets[f"{1:032x}"]
    for side in ("train_ND", "validation_ND", "test_ND"):
        spoiled = torch.full_like(getattr(record.features, side), float("nan"))
        features = replace(record.features, **{side: spoiled})
        datasets = {**snapshot.datasets, record.fingerprint: replace(record, features=features)}
        with pytest.raises(SpaceError, match=r"features of dataset 1 \(0+1\) in a world are not all finite"):
            space_data(replace(snapshot, datasets=datasets))
    row = snapshot.rows[2]
    rows = (*snapshot.rows[:2], replace(row, response=row.response * float("inf")))
    with pytest.raises(SpaceError, match=f"response of the row {row.key} of dataset 2 in a world is not finite"):
        space_data(replace(snapshot, rows=rows))


def test_two_sources_train_and_say_that_none_could_be_left_out():
    data = space_data(World(datasets=2, rows_each=1, sources=2).snapshot())
    config = replace(CONFIG, steps=5)
    space = finish_space(data, config, 0, train(data, config, 0))
    assert space.left_out is None and space.bar is None


def test_the_bar_is_how_near_datasets_are_that_a_space_never_saw():
    """Each source left out alone: on a circle of five, of which the fifth pair stands apart.

    Two by two the sources share their pictures' features, but for the last, which is like none: half and more of the
    datasets have one as near as themselves.
    """
    data = space_data(World(datasets=5, rows_each=1, sources=5).snapshot())
    twins = (data.train[0], data.train[0], data.train[2], data.train[2], data.train[4])
    alike, strangers = replace(data, train=twins), data
    bars = [finish_space(each, CONFIG, 0, train(each, CONFIG, 0)).bar for each in (alike, strangers)]
    assert bars[0] == pytest.approx(1, abs=1e-5) and bars[1] < 0.9


def test_places_of_datasets_are_those_of_their_training_images(space, data):
    assert space.fingerprints == data.fingerprints == tuple(f"{number:032x}" for number in range(12))
    for place, training in zip(space.dataset_KE, data.train, strict=True):
        assert torch.equal(place, space.model.embed_query(training).detach())


def test_an_unknown_loss_is_refused():
    with pytest.raises(ConfigError, match="loss must be one of infonce, hinges, printed, got 'triplet'"):
        SpaceConfig(loss="triplet")


def test_the_untrained_space_depends_on_its_seed_alone(data):
    torch.manual_seed(1)
    one = build_model(data, CONFIG, 5).state_dict()
    torch.manual_seed(2)
    other = build_model(data, CONFIG, 5).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
