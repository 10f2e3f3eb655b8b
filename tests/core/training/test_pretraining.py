"""Pretraining: what is learned from, what each loss does, and that a resumed one is the unbroken one."""

from dataclasses import replace
from threading import Barrier, Thread

import pytest
import torch
from torch.nn.functional import cosine_similarity

from tans_core.errors import ConfigError
from tans_core.search_space import make_search_space
from tans_core.search_space.ofa_lite import lite0_backbone
from tans_core.training.augment import cropped
from tans_core.training.pool import pooled
from tans_core.training.pretrain import PretrainConfig, Pretraining, PretrainState, Worker
from tests.synthetic import patterns

CONFIG = PretrainConfig(steps=4, batch_size=8, peak_lr=0.02, largest_every=2, smallest_crop=0.7)


@pytest.fixture(scope="module")
def space():
    return make_search_space("ofa-lite")


@pytest.fixture(scope="module")
def teacher():
    return lite0_backbone()


@pytest.fixture(scope="module")
def datasets():
    return [patterns("two", classes=2, each=10, seed=1), patterns("three", classes=3, each=10, seed=2)]


@pytest.fixture(scope="module")
def pool(datasets):
    return pooled(datasets, [False, True])


@pytest.fixture(scope="module")
def unbroken(space, pool, teacher):
    training = Pretraining(space, pool, teacher, CONFIG, seed=5)
    for _ in range(4):
        training.train_step()
    return training


def test_a_pool_has_training_and_validation_images_under_classes_of_their_own_and_no_test_images(datasets, pool):
    two, three = datasets
    together = pool.images
    assert together.images.shape == (len(two.images) + len(three.images) - len(two.test) - len(three.test), 3, 32, 32)
    assert len(together.train) == len(two.train) + len(three.train) and len(together.test) == 0
    assert together.class_names == ("two: class 0", "two: class 1", *(f"three: class {n}" for n in range(3)))
    first = len(two.train) + len(two.validation)
    assert torch.equal(together.images[first, 0], three.images[three.train[0], 0])
    assert together.labels[first] == 2 + three.labels[three.train[0]]
    assert pool.own_classes[0].tolist() == [True, True, False, False, False]
    assert pool.own_classes[first].tolist() == [False, False, True, True, True]
    assert not pool.mirror[:first].any() and pool.mirror[first:].all()
    assert set(together.train.tolist()).isdisjoint(together.validation.tolist())


def test_a_pool_of_one_dataset_is_refused(datasets):
    with pytest.raises(ConfigError, match="a pool needs at least 2 datasets, got 1: pretraining on one is fine-tuning"):
        pooled(datasets[:1], [True])


def test_only_the_classes_of_an_images_own_dataset_compete(unbroken, pool):
    index = torch.tensor([0, len(pool.images.images) - 1])
    probability = unbroken._log_probabilities(torch.randn(2, 1280), index).exp()
    assert probability.sum(dim=1).tolist() == pytest.approx([1, 1])
    assert (probability > 0).tolist() == pool.own_classes[index].tolist()


def test_validation_images_are_not_learned_from(space, pool, teacher, unbroken):
    images = pool.images.images.clone()
    images[pool.images.validation] = 255 - images[pool.images.validation]
    labels = pool.images.labels.clone()
    labels[pool.images.validation] = 0
    changed = replace(pool, images=replace(pool.images, images=images, labels=labels))
    training = Pretraining(space, changed, teacher, CONFIG, seed=5)
    for _ in range(4):
        training.train_step()
    _same(training.state().model, unbroken.state().model)


def test_a_resumed_pretraining_is_the_unbroken_one(space, pool, teacher, unbroken):
    first = Pretraining(space, pool, teacher, CONFIG, seed=5)
    first.train_step()
    first.train_step()
    kept = {name: tensor.clone() for name, tensor in first.state().tensors().items()}
    second = Pretraining(space, pool, teacher, CONFIG, seed=5)
    second.load(PretrainState.of_tensors(kept))
    second.train_step()
    second.train_step()
    ours, theirs = second.state(), unbroken.state()
    assert ours.step == theirs.step == 4 and torch.equal(ours.losses, theirs.losses)
    _same(ours.model, theirs.model)
    _same(ours.optimiser, theirs.optimiser)


def test_another_seed_gives_another_supernet(space, pool, teacher, unbroken):
    other = Pretraining(space, pool, teacher, CONFIG, seed=6)
    for _ in range(4):
        other.train_step()
    name = "supernet.first_conv.conv.weight"
    assert not torch.equal(other.state().model[name], unbroken.state().model[name])


def test_an_evaluation_changes_nothing_and_is_of_the_networks_that_are_cut_out(unbroken):
    before = {name: tensor.clone() for name, tensor in unbroken.state().model.items()}
    unbroken.evaluate(seconds=12.0)
    _same(unbroken.state().model, before)
    step, seconds, loss, *accuracies = unbroken.curve[-1].tolist()
    assert (step, seconds) == (4, 12) and loss > 0 and all(0 <= accuracy <= 1 for accuracy in accuracies)


def test_networks_cut_out_of_what_was_trained_compute_what_the_elastic_one_does(space, pool, teacher, unbroken):
    """Batch norm by running statistics on both sides: those of the largest network."""
    elastic = unbroken._student.supernet.eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for architecture in (unbroken.sandwich.smallest, unbroken.middling, unbroken.sandwich.largest):
        space.activate(elastic, architecture)
        with torch.inference_mode():
            assert (space.cut_from(elastic).eval()(images) - elastic(images)).abs().max() < 1e-3
    elastic.train()


def test_the_loss_is_the_mean_over_the_networks_of_three_parts_worked_by_hand(space, pool, teacher):
    """At the start the head knows nothing: each of the K classes of an image's dataset has 1 / K."""
    training = Pretraining(space, pool, teacher, replace(CONFIG, labels=0.0, in_place=0.0, teacher=4.0), seed=5)
    index, images = training._draw()
    with torch.no_grad():
        wanted = teacher(images)
        training._student.train()
        cosines = []
        for architecture in training.sandwich.networks(training.step):
            space.activate(training._student.supernet, architecture)
            cosines.append(cosine_similarity(training._student.supernet(images), wanted).mean().item())
    training.train_step()
    assert len(cosines) == 3 and training.state().losses.item() == pytest.approx(4 * (1 - sum(cosines) / 3), abs=1e-4)
    ignorance = pool.own_classes[index].sum(dim=1).log().mean().item()
    for change, expected in (
        ({"teacher": 0.0, "in_place": 0.0}, ignorance),
        ({"teacher": 0.0, "labels": 0.0}, 2 / 3 * ignorance),  # the largest says it, the two others hear it
        ({"teacher": 0.0, "labels": 0.0, "in_place": 0.0}, 0),
    ):
        training = Pretraining(space, pool, teacher, replace(CONFIG, **change), seed=5)
        training.train_step()
        assert training.state().losses.item() == pytest.approx(expected, abs=1e-5)


def test_the_largest_comes_first_every_few_steps_and_the_smallest_always(unbroken, space, pool, teacher):
    training = Pretraining(space, pool, teacher, replace(CONFIG, random_networks=2), seed=5)
    networks = []
    for step in range(4):
        training.step = step
        networks.append(list(training.sandwich.networks(training.step)))
    assert [len(each) for each in networks] == [4, 3, 4, 3]
    assert networks[0][0] == networks[2][0] == training.sandwich.largest
    assert [each[-3] for each in networks] == [training.sandwich.smallest] * 4
    assert len({each.topology for step in networks for each in step[-2:]}) == 8


def test_workers_share_an_epochs_images_and_train_one_supernet(space, pool, teacher):
    """Two workers in two threads, whose gradients meet at a barrier."""
    config = replace(CONFIG, steps=4, largest_every=100)
    met, meeting = [[], []], Barrier(2, timeout=300)

    def averaging(rank):
        def average(tensors):
            met[rank] = [tensor.clone() for tensor in tensors]
            meeting.wait()
            for place, tensor in enumerate(tensors):
                tensor.copy_((met[0][place] + met[1][place]) / 2)
            meeting.wait()

        return average

    pair = [Pretraining(space, pool, teacher, config, 5, Worker(rank, 2, averaging(rank))) for rank in range(2)]
    assert [each.steps for each in pair] == [2, 2]
    drawn = torch.cat([each._draw()[0] for each in pair])
    assert len(set(drawn.tolist())) == 16 and set(drawn.tolist()) <= set(pool.images.train.tolist())
    threads = [Thread(target=lambda each=each: [each.train_step() for _ in range(2)]) for each in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ours, theirs = (dict(each._student.named_parameters()) for each in pair)
    begun = space.supernet.state_dict()["first_conv.conv.weight"]
    assert not torch.equal(ours["supernet.first_conv.conv.weight"], begun)
    _same(ours, theirs)


def test_a_pool_that_gives_no_batch_to_each_worker_is_refused(space, pool, teacher):
    with pytest.raises(ConfigError, match="30 training images are no batch of 8 for each of 4 workers"):
        Pretraining(space, pool, teacher, CONFIG, 5, Worker(3, 4))


def test_a_crop_is_the_part_of_the_picture_that_was_asked_for():
    picture = torch.arange(16.0).reshape(1, 1, 4, 4)
    whole = cropped(picture, torch.ones(1), torch.tensor([[0.3, 0.9]]))
    assert torch.allclose(whole, picture)
    # Half of four pixels, from the edge: -1/4 (which is the edge), 1/4, 3/4 and 5/4; 9/16 in the mean.
    corner = cropped(picture, torch.full((1,), 0.5), torch.tensor([[0.0, 0.0]]))
    assert corner.mean().item() == pytest.approx(4 * 9 / 16 + 9 / 16)
    across = cropped(picture, torch.full((1,), 0.5), torch.tensor([[1.0, 0.0]]))
    assert across.mean().item() == pytest.approx(4 * 9 / 16 + 3 - 9 / 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 1}, "batch size must be at least 2"),
        ({"peak_lr": float("nan")}, "learning rate must be above 0 and finite"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **change)


def _same(ours, theirs) -> None:
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert torch.equal(ours[name], theirs[name]), name
