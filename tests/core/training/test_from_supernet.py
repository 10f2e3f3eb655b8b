"""Pairs cut out of a dataset's supernet: what they are told to be, whose their weights are, and what is refused."""

from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from tans_core.errors import TrainingError, WeightsError
from tans_core.lineage import SupernetIdentity, supernet_of
from tans_core.records import PairIdentity
from tans_core.search_space import make_search_space
from tans_core.training.augment import ImageBatches
from tans_core.training.from_supernet import cut_pair, train_supernet, whole_weights
from tans_core.training.loop import CPU, evaluate, reestimate_batch_norm
from tans_core.training.recipe import Recipe, SupernetRecipe
from tans_core.training.standalone import noise_batch, train_pair
from tans_core.training.weights import decode_weights, encode_weights, load_into
from tests.synthetic import patterns

SPACES = ("ofa-lite", "ofa-mbv3")
RECIPE = SupernetRecipe(epochs=1, batch_size=8, peak_lr=0.02, largest_every=2, shift=0, mirror=False)
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(scope="module")
def spaces():
    torch.set_num_threads(1)
    return {name: make_search_space(name) for name in SPACES}


@pytest.fixture(scope="module", params=SPACES)
def space(request, spaces):
    return spaces[request.param]


@pytest.fixture(scope="module")
def dataset():
    return patterns(each=12)


def _identity(space, dataset, number=0, recipe=RECIPE, **change) -> PairIdentity:
    return PairIdentity(
        fingerprint=dataset.fingerprint,
        search_space=space.name,
        topology=tuple(space.sample(4, torch.Generator().manual_seed(1))[number].tolist()),
        width=space.width,
        image_size=dataset.image_size,
        mode="from_supernet",
        recipe=asdict(recipe),
        supernet=space.supernet_hash,
        seed=0,
        **change,
    )


@pytest.fixture(scope="module")
def supernet(space, dataset) -> bytes:
    return train_supernet(supernet_of(_identity(space, dataset)), dataset, space)[0].weights


@pytest.fixture(scope="module")
def lite(spaces):
    return spaces["ofa-lite"]


@pytest.fixture(scope="module")
def lites(lite, dataset):
    """A supernet of ofa-lite."""
    return train_supernet(supernet_of(_identity(lite, dataset)), dataset, lite)[0]


def _whole(space, dataset, identity, supernet, weights) -> nn.Module:
    """The network as a reader has it: in a network of the same architecture that knows nothing else."""
    architecture = space.architecture(identity.topology)
    network = space.random_subnet(architecture, len(dataset.class_names), torch.Generator().manual_seed(9))
    load_into(network, whole_weights(space, supernet, identity.topology, decode_weights(weights)))
    return network.eval()


@pytest.mark.parametrize("head", ["trained", "closed_form"])
def test_what_is_told_of_a_pair_is_told_of_its_whole_weights(space, dataset, supernet, head):
    identity = _identity(space, dataset, recipe=replace(RECIPE, head=head))
    pair, seconds = cut_pair(identity, dataset, space, supernet)
    network = _whole(space, dataset, identity, supernet, pair.weights)
    batches = ImageBatches(dataset, space, CPU)
    for index, told in (
        (dataset.validation, (pair.val_correct_by_class, pair.val_total_by_class)),
        (dataset.test, (pair.test_correct_by_class, pair.test_total_by_class)),
    ):
        assert evaluate(network, batches, index, 3) == told
    images = noise_batch(32).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert torch.allclose(space.features(network, images).half(), pair.response, atol=2e-3)
    (point,) = pair.curve
    assert (point.epoch, point.val_correct, point.val_total) == (0, pair.val_correct, pair.val_total)
    assert seconds.train > 0 and seconds.evaluate > 0


def test_a_pair_keeps_its_statistics_and_its_classifier_and_nothing_of_the_supernet(space, dataset, supernet):
    pair, _ = cut_pair(_identity(space, dataset), dataset, space, supernet)
    own = decode_weights(pair.weights)
    assert all(name.endswith(STATISTICS) or name.startswith("classifier.") for name in own)
    assert not any(name.endswith(STATISTICS) for name in decode_weights(supernet))
    assert pair.weights_dtype == "float16" and len(pair.weights) < len(supernet) / 10


def test_a_head_is_the_supernets_own_or_one_in_closed_form_as_the_recipe_says(lite, dataset, lites):
    name = "classifier.linear.weight"
    heads = {}
    for head in ("trained", "closed_form"):
        identity = _identity(lite, dataset, recipe=replace(RECIPE, head=head))
        heads[head] = decode_weights(cut_pair(identity, dataset, lite, lites.weights)[0].weights)[name]
    of_supernet = decode_weights(lites.weights)[name]
    assert torch.equal(heads["trained"], of_supernet) and not torch.equal(heads["closed_form"], of_supernet)


def test_batch_norm_has_the_statistics_of_the_pairs_own_sample(lite, dataset, lites):
    identity = _identity(lite, dataset)
    pair, _ = cut_pair(identity, dataset, lite, lites.weights)
    network = _whole(lite, dataset, identity, lites.weights, pair.weights)
    told = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    batches = ImageBatches(dataset, lite, CPU)
    reestimate_batch_norm(network, batches, dataset.train, RECIPE.batch_size, identity.key)
    for name, tensor in network.state_dict().items():
        assert torch.allclose(tensor.float(), told[name].float(), rtol=1e-3, atol=1e-3), name


def test_the_same_key_gives_the_same_bytes_and_another_seed_others(lite, dataset, lites):
    identity = _identity(lite, dataset)
    torch.manual_seed(3)  # whatever ran before does not matter
    again, _ = train_supernet(supernet_of(identity), dataset, lite)
    assert again.weights == lites.weights and again.curve == lites.curve
    other, _ = train_supernet(supernet_of(replace(identity, seed=1)), dataset, lite)
    assert other.weights != lites.weights
    one, same, second = (
        cut_pair(each, dataset, lite, lites.weights)[0].weights
        for each in (identity, identity, replace(identity, seed=1))
    )
    assert one == same != second


def test_cutting_changes_neither_supernet(lite, dataset, lites):
    def begun():
        return {name: tensor.clone() for name, tensor in lite.supernet.state_dict().items()}

    before, first = begun(), cut_pair(_identity(lite, dataset, 0), dataset, lite, lites.weights)[0]
    for number in (1, 2, 3):
        cut_pair(_identity(lite, dataset, number), dataset, lite, lites.weights)
    assert cut_pair(_identity(lite, dataset, 0), dataset, lite, lites.weights)[0].weights == first.weights
    assert all(torch.equal(tensor, before[name]) for name, tensor in begun().items())


def test_small_and_large_networks_that_are_cut_out_know_the_patterns(lite):
    dataset, recipe = patterns(each=30), replace(RECIPE, epochs=6, batch_size=16, peak_lr=0.03, largest_every=4)
    identity = _identity(lite, dataset, recipe=recipe)
    trained, _ = train_supernet(supernet_of(identity), dataset, lite)
    assert [point.epoch for point in trained.curve] == [1, 2, 3, 4, 5, 6]
    assert trained.curve[-1].train_loss < trained.curve[0].train_loss
    for place in (0, -1):
        topology = lite.architecture(lite.layout.choices_TK[:, place].tolist()).topology
        pair, _ = cut_pair(replace(identity, topology=topology), dataset, lite, trained.weights)
        assert pair.val_correct / pair.val_total > 0.7  # chance is 1/3


def test_of_the_dataset_only_training_images_are_learned_from(lite, dataset, lites):
    images, labels = dataset.images.clone(), dataset.labels.clone()
    for side in (dataset.validation, dataset.test):
        images[side], labels[side] = 255 - images[side], 0
    changed, identity = replace(dataset, images=images, labels=labels), _identity(lite, dataset)
    assert train_supernet(supernet_of(identity), changed, lite)[0].weights == lites.weights
    for head in ("trained", "closed_form"):
        each = replace(identity, recipe=asdict(replace(RECIPE, head=head)))
        one, other = (cut_pair(each, data, lite, lites.weights)[0] for data in (dataset, changed))
        assert one.weights == other.weights


def test_the_check_is_asked_at_every_step(lite, dataset):
    steps = []

    def check():
        steps.append(1)
        if len(steps) == 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        train_supernet(supernet_of(_identity(lite, dataset)), dataset, lite, check=check)


def test_a_loss_that_is_not_finite_ends_the_supernet(lite, dataset):
    identity = _identity(lite, dataset, recipe=replace(RECIPE, peak_lr=1e30, clip=1e30))
    with pytest.raises(TrainingError, match="lower peak_lr"):
        train_supernet(supernet_of(identity), dataset, lite)


def test_a_damaged_supernet_is_refused(lite, dataset, lites):
    with pytest.raises(WeightsError, match="no safetensors file"):
        cut_pair(_identity(lite, dataset), dataset, lite, lites.weights[:-7])
    with pytest.raises(WeightsError, match="there is no classifier"):
        cut_pair(_identity(lite, dataset), dataset, lite, encode_weights(lite.supernet.state_dict()))


def test_a_supernet_of_another_search_space_or_width_is_refused(spaces, dataset, lites):
    narrow, wide = spaces["ofa-mbv3"], make_search_space("ofa-mbv3", width=1.2)
    with pytest.raises(WeightsError, match="no supernet of ofa-mbv3 of width 1: "):
        cut_pair(_identity(narrow, dataset), dataset, narrow, lites.weights)
    head = {"classifier.linear.weight": torch.zeros(3, narrow.feature_dim), "classifier.linear.bias": torch.zeros(3)}
    of_narrow = {name: tensor for name, tensor in narrow.supernet.state_dict().items() if not name.endswith(STATISTICS)}
    with pytest.raises(WeightsError, match=r"no supernet of ofa-mbv3 of width 1.2: .* has shape"):
        whole_weights(wide, encode_weights({**of_narrow, **head}), _identity(wide, dataset).topology, {})


def test_a_supernet_of_other_classes_is_refused(lite, lites):
    with pytest.raises(WeightsError, match="of a dataset of 3 classes, and this one has 4"):
        other = patterns(classes=4)
        cut_pair(_identity(lite, other), other, lite, lites.weights)


def test_own_weights_of_another_network_are_refused(lite, dataset, lites):
    own = decode_weights(cut_pair(_identity(lite, dataset, 0), dataset, lite, lites.weights)[0].weights)
    with pytest.raises(WeightsError, match=r"another architecture|has shape"):
        whole_weights(lite, lites.weights, _identity(lite, dataset, 1).topology, own)


def test_a_pair_knows_its_supernet_before_it_is_trained(lite, dataset):
    one, other = _identity(lite, dataset, 0), _identity(lite, dataset, 1)
    assert one.key != other.key and supernet_of(one) == supernet_of(other)
    key = supernet_of(one).key
    for change in (
        {"fingerprint": "other"},
        {"recipe": asdict(replace(RECIPE, epochs=3))},
        {"seed": 1},
        {"image_size": 64},
        {"supernet": "ab" * 16},
    ):
        assert supernet_of(replace(one, **change)).key != key
    assert isinstance(supernet_of(one), SupernetIdentity)


def test_a_polished_pair_begins_with_its_parents_weights(lite, dataset, lites):
    """With a rate of next to nothing it stays what its parent was, classifier included."""
    identity = _identity(lite, dataset)
    parent, _ = cut_pair(identity, dataset, lite, lites.weights)
    start = whole_weights(lite, lites.weights, identity.topology, decode_weights(parent.weights))
    still = Recipe(epochs=1, batch_size=8, peak_lr=1e-12, shift=0, mirror=False)
    polished = replace(identity, mode="standalone", recipe=asdict(still), parent=identity.key)
    trained, _ = train_pair(polished, dataset, lite, start=start)
    found = decode_weights(trained.weights)
    name = "classifier.linear.weight"
    assert torch.allclose(found[name], start[name], atol=1e-3)
    assert not torch.allclose(
        found[name], decode_weights(train_pair(polished, dataset, lite)[0].weights)[name], atol=1e-3
    )
    with pytest.raises(WeightsError):
        train_pair(replace(polished, topology=_identity(lite, dataset, 1).topology), dataset, lite, start=start)


def test_keys_of_pairs_without_a_parent_are_what_they_were_before_there_were_parents():
    identity = PairIdentity(
        fingerprint="f" * 32,
        search_space="ofa-lite",
        topology=(3, 4, 2),
        width=1.0,
        image_size=64,
        mode="standalone",
        recipe={"epochs": 8, "mirror": None},
        supernet="ab" * 16,
        seed=0,
    )
    assert identity.key == "d098b18216c0ad5b27455dd9b9475890"
    assert replace(identity, parent="cd" * 16).key != identity.key
