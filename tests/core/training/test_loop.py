"""The one training loop."""

import pytest
import torch
from torch import nn

from tans_core.errors import TrainingError
from tans_core.search_space import make_search_space
from tans_core.training.augment import ImageBatches, epoch_plan
from tans_core.training.loop import CPU, evaluate, fit, reestimate_batch_norm, seeded, to_device
from tans_core.training.recipe import Recipe
from tests.synthetic import patterns

RECIPE = Recipe(epochs=2, mirror=False, batch_size=16)


@pytest.fixture(scope="module")
def space():
    torch.set_num_threads(1)
    return make_search_space("ofa-lite")


def _network(space, classes=3):
    topology = space.sample(1, torch.Generator().manual_seed(0))[0].tolist()
    return to_device(space.subnet(space.architecture(topology), classes, seeded("key", "classifier")), CPU)


def test_a_network_learns_the_patterns(space):
    dataset = patterns(each=40)
    recipe = Recipe(epochs=8, mirror=False, batch_size=16, shift=0, peak_lr=0.01)
    fitted = fit(_network(space), dataset, space, recipe, key="key", evaluate_on=dataset.validation, evaluate_at=(2,))
    assert sum(fitted.correct_by_class) / sum(fitted.total_by_class) > 0.8  # chance is 1/3
    assert sum(fitted.total_by_class) == len(dataset.validation)
    assert [point.val_correct is None for point in fitted.curve] == [True, False, True, True, True, True, True, False]


def test_the_key_decides_every_random_number(space):
    dataset = patterns()

    def weights(key):
        network = _network(space)
        torch.manual_seed(int(torch.randint(1000, ())))  # whatever ran before does not matter
        fit(network, dataset, space, RECIPE, key=key, evaluate_on=dataset.validation, evaluate_at=())
        return network.state_dict()

    one, same, other = weights("a"), weights("a"), weights("b")
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_shift_and_mirror_move_each_image_by_its_own(space):
    dataset = patterns(classes=2, each=5, size=32)
    batches = ImageBatches(dataset, space, CPU)
    index = torch.tensor([0, 1])
    plain = batches.plain(index)
    moved = batches.augmented(index, torch.tensor([[0, 0], [2, -3]]), torch.tensor([True, False]))
    assert torch.equal(moved[0], plain[0].flip(-1))
    assert torch.equal(moved[1, :, :-2, 3:], plain[1, :, 2:, :-3])
    assert torch.equal(moved[1, :, -1, 3:], plain[1, :, -1, :-3])  # edges repeat
    assert plain.is_contiguous(memory_format=torch.channels_last) and plain.shape == (2, 3, 32, 32)


def test_an_epoch_visits_every_image_once_and_mirrors_only_where_allowed():
    order, shift, mirrored = epoch_plan(50, 3, False, seeded("key", "epoch 1"))
    assert sorted(order.tolist()) == list(range(50))
    assert shift.abs().max() == 3 and not mirrored.any()
    assert epoch_plan(50, 3, True, seeded("key", "epoch 1"))[2].float().mean() == pytest.approx(0.5, abs=0.25)


def test_batch_norm_statistics_are_those_of_the_training_images(space):
    dataset = patterns()
    network = nn.Sequential(nn.BatchNorm2d(3))
    batches = ImageBatches(dataset, space, CPU)
    train = dataset.train[:32]
    reestimate_batch_norm(network, batches, train, 32, "key")
    pixels = batches.plain(train)
    assert torch.allclose(network[0].running_mean, pixels.mean(dim=(0, 2, 3)), atol=1e-4)
    assert torch.allclose(network[0].running_var, pixels.var(dim=(0, 2, 3)), rtol=1e-3)
    assert network[0].momentum == 0.1


def test_evaluation_counts_by_class():
    dataset = patterns(classes=3, each=10)

    class AlwaysOne(nn.Module):
        def forward(self, images):
            return nn.functional.one_hot(torch.ones(len(images), dtype=torch.int64), 3).float()

    space = type("Constants", (), {"input_mean": 127.0, "input_std": 128.0})()
    correct, total = evaluate(AlwaysOne(), ImageBatches(dataset, space, CPU), torch.arange(30), 3)
    assert (correct, total) == ((0, 10, 0), (10, 10, 10))


def test_a_last_batch_of_one_is_left_out(space):
    dataset = patterns(each=20)
    recipe = Recipe(epochs=1, mirror=False, batch_size=len(dataset.train) - 1)
    fit(_network(space), dataset, space, recipe, key="key", evaluate_on=dataset.validation, evaluate_at=())


def test_a_loss_that_is_not_finite_ends_the_pair(space):
    dataset, network = patterns(), _network(space)
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match="epoch 1 on patterns is nan"):
        fit(network, dataset, space, RECIPE, key="key", evaluate_on=dataset.validation, evaluate_at=())


def test_the_check_is_asked_at_every_step(space):
    dataset = patterns()
    steps = []

    def check():
        steps.append(1)
        if len(steps) == 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        fit(_network(space), dataset, space, RECIPE, key="key", evaluate_on=dataset.train, evaluate_at=(), check=check)
