"""The closed-form head beside someone else's ridge regression, fitted again and again where ours is in closed form."""

import math

import pytest
import torch
from sklearn.linear_model import Ridge, RidgeClassifierCV
from torch import Tensor

from tans_core.training.head import MOST_COPIES, STRENGTHS, closed_form_head, near_copies, put_head
from tests.core.training.toy import ToyNetwork

CLASSES = 3


def world(count: int, features: int, apart: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Classes whose centres lie `apart` on the axes, in normal noise; features of scales from 1 to 10."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    noise = torch.randn(count, features, generator=generator)
    return (apart * torch.eye(features)[labels] + noise) * torch.logspace(0, 1, features), labels


def standardised(features: Tensor, by: Tensor | None = None) -> Tensor:
    """By the mean and the deviation of `by`; what varies less than features do on average, by the mean deviation."""
    by = (features if by is None else by).double()
    deviation = by.std(dim=0, correction=0)
    return (features.double() - by.mean(dim=0)) / deviation.maximum(deviation.mean())


def refitted(features: Tensor, labels: Tensor, strength: float, copies: dict[int, Tensor]) -> Tensor:
    """Scores of each image by scikit-learn's ridge, fitted without the image and its copies."""
    x, target, scores = standardised(features), torch.eye(CLASSES)[labels].double(), []
    for place in range(len(x)):
        others = torch.ones(len(x), dtype=torch.bool)
        others[[place, *copies.get(place, torch.tensor([], dtype=torch.int64)).tolist()]] = False
        ridge = Ridge(alpha=strength).fit(x[others].numpy(), target[others].numpy())
        scores.append(torch.from_numpy(ridge.predict(x[place : place + 1].numpy()))[0])
    return torch.stack(scores)


def smoothed_loss(scores: Tensor, labels: Tensor) -> float:
    """The lowest cross-entropy over many factors, the label worth (N + 1) / (N + K)."""
    target = (len(labels) * torch.eye(CLASSES)[labels].double() + 1) / (len(labels) + CLASSES)
    return min(
        -(target * (factor * scores).log_softmax(dim=1)).sum(dim=1).mean().item()
        for factor in torch.logspace(-2, 4, 1201, dtype=torch.float64)
    )


@pytest.mark.parametrize("features", [5, 40])  # fewer than images, and more
@pytest.mark.parametrize("copies", [{}, {0: torch.tensor([3, 6]), 3: torch.tensor([0]), 7: torch.tensor([1, 4, 10])}])
def test_the_strength_is_chosen_by_leave_one_out_as_scikit_learn_fits_it(features, copies):
    x, labels = world(24, features, apart=2.5, seed=3)
    found = closed_form_head(x, labels, CLASSES, copies)
    scores = {strength: refitted(x, labels, strength, copies) for strength in STRENGTHS}
    losses = {strength: smoothed_loss(scores[strength], labels) for strength in STRENGTHS}
    assert found.strength == min(STRENGTHS, key=losses.__getitem__)
    assert found.held_out_loss == pytest.approx(losses[found.strength], abs=1e-4)
    assert found.held_out_right == int((scores[found.strength].argmax(dim=1) == labels).sum())
    assert STRENGTHS[0] < found.strength < STRENGTHS[-1]


@pytest.mark.parametrize("features", [5, 40])
def test_logits_are_a_multiple_of_scikit_learns_scores_of_that_strength(features):
    x, labels = world(24, features)
    new, _ = world(90, features, seed=1)
    found = closed_form_head(x, labels, CLASSES)
    new_x = standardised(new, x).numpy()
    ridge = Ridge(alpha=found.strength).fit(standardised(x).numpy(), torch.eye(CLASSES)[labels].double().numpy())
    scores, logits = torch.from_numpy(ridge.predict(new_x)), found.logits(new)
    factor = (logits / scores).median()
    assert torch.allclose(logits, factor * scores, rtol=1e-8, atol=1e-8)
    theirs = RidgeClassifierCV(alphas=[found.strength]).fit(standardised(x).numpy(), labels.numpy())
    assert logits.argmax(dim=1).tolist() == theirs.predict(new_x).tolist()


def test_probabilities_are_as_often_right_as_they_say():
    (x, labels), (new, new_labels) = world(600, 30, apart=1.5), world(6000, 30, apart=1.5, seed=1)
    share, taken = closed_form_head(x, labels, CLASSES).logits(new).softmax(dim=1).max(dim=1)
    right = (taken == new_labels).double()
    assert 0.6 < right.mean() < 0.9
    assert share.mean().item() == pytest.approx(right.mean().item(), abs=0.03)
    sure = share > share.median()
    assert share[sure].mean().item() == pytest.approx(right[sure].mean().item(), abs=0.03)


def test_all_right_is_not_certainty():
    """12 of 12 held out right, as far apart as one likes: Laplace says 13 of 15."""
    x, labels = world(12, 3, apart=1e6)
    share = closed_form_head(x, labels, CLASSES).logits(x).softmax(dim=1)
    assert share.max(dim=1).values.mean().item() == pytest.approx(13 / 15, abs=0.02)


def test_a_copy_does_not_vouch_for_its_twin():
    """Noise, each picture twice: nothing is to be learned, and only copies know the answer."""
    generator = torch.Generator().manual_seed(2)
    x, labels = torch.randn(60, 200, generator=generator).repeat(2, 1), (torch.arange(60) % CLASSES).repeat(2)
    twins = {place: torch.tensor([(place + 60) % 120]) for place in range(120)}
    flattered, honest = closed_form_head(x, labels, CLASSES), closed_form_head(x, labels, CLASSES, twins)
    assert flattered.held_out_right > 110 and honest.held_out_right < 60
    assert honest.held_out_loss > 0.99 * math.log(CLASSES) > 2 * flattered.held_out_loss


def test_features_that_never_vary_and_classes_without_an_image_do_no_harm():
    x, labels = world(30, 5)
    padded = torch.cat([x, torch.full((30, 1), 7.1), torch.zeros(30, 1)], dim=1)
    found = closed_form_head(padded, labels, CLASSES + 1)
    assert found.weight_KD[:, -2:].abs().max() < 1e-12 and torch.isfinite(found.weight_KD).all()
    assert found.logits(padded).argmax(dim=1).max() < CLASSES
    still = closed_form_head(torch.full((30, 5), 3.0), labels, CLASSES)
    assert torch.allclose(still.logits(x).softmax(dim=1), torch.full((30, CLASSES), 1 / CLASSES, dtype=torch.float64))


def test_a_feature_that_one_image_alone_has_does_not_drown_the_others_on_a_new_image():
    """Silent but for a whisper in one image: scaled by its own deviation, it would weigh 170 times what it should."""
    x, labels = world(30, 5, apart=4.0)
    whisper = torch.cat([x, 1e-3 * torch.eye(30)[:, :1]], dim=1)
    head = closed_form_head(whisper, labels, CLASSES)
    loud = torch.cat([x, torch.ones(30, 1)], dim=1)
    assert torch.allclose(head.logits(loud), head.logits(whisper), atol=0.01)


def test_near_copies_are_pictures_of_one_class_that_differ_in_light_or_hardly_at_all():
    generator = torch.Generator().manual_seed(3)
    one, other = (
        torch.randint(20, 120, (2, 3, 16, 16), generator=generator).repeat_interleave(2, 2).repeat_interleave(2, 3)
    )
    brighter, touched, flat = one + 60, one.clone(), torch.full_like(one, 90)
    touched[:, :2, :2] += 5
    nearly_flat = flat.clone()
    nearly_flat[0, 0, 0] += 1
    pictures = torch.stack([one, other, brighter, touched, one, flat, flat, nearly_flat]).to(torch.uint8)
    labels = torch.tensor([0, 0, 0, 0, 1, 0, 0, 0])
    found = {place: sorted(others.tolist()) for place, others in near_copies(pictures, labels).items()}
    assert found == {0: [2, 3], 2: [0, 3], 3: [0, 2]}


def test_of_many_copies_the_nearest_are_left_out():
    picture = torch.arange(256).reshape(1, 1, 16, 16)
    shades = [(picture + torch.eye(16).long() * strength).clamp(0, 255) for strength in range(2 * MOST_COPIES)]
    found = near_copies(torch.cat(shades).to(torch.uint8), torch.zeros(2 * MOST_COPIES, dtype=torch.int64))
    assert len(found) == 2 * MOST_COPIES
    assert sorted(found[0].tolist()) == list(range(1, MOST_COPIES + 1))


def test_a_head_that_is_put_into_a_network_gives_its_logits_there():
    network, images = ToyNetwork(1.0).eval(), torch.rand(6, 3, 4, 4)
    features, labels = network.pooled(images), torch.tensor([0, 1] * 3)
    head = closed_form_head(features.detach(), labels, 2)
    put_head(network, head)
    assert torch.allclose(network(images).double(), head.logits(features), atol=1e-5)
