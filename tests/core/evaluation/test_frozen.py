"""Ridge on frozen features, by worlds in which the answer is known."""

import torch
from sklearn.linear_model import Ridge

from tans_core.evaluation.frozen import PENALTIES, ridge_predictions


def world(count: int, seed: int, noise: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes whose centres are the axes; the last feature never varies."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    features = 3 * torch.eye(3)[labels] + noise * torch.randn(count, 3, generator=generator)
    return torch.cat([features, torch.full((count, 1), 7.0)], dim=1), labels


def test_classes_that_lie_apart_are_told_apart():
    (train, train_labels), (validation, validation_labels), (test, test_labels) = (world(60, seed) for seed in range(3))
    predicted = ridge_predictions(train, train_labels, validation, validation_labels, test)
    assert (predicted == test_labels).float().mean() > 0.97


def test_the_penalty_is_chosen_in_validation():
    # 12 images, 40 features: penalties disagree. Someone else's ridge gives each one's classes; the one that
    # validation likes best must be what comes out, and validation is made so that it likes one alone.
    generator = torch.Generator().manual_seed(4)
    train, test = torch.randn(12, 40, generator=generator), torch.randn(400, 40, generator=generator)
    labels = torch.arange(12) % 3
    mean, std = train.mean(0), train.std(0, correction=0)
    target = torch.eye(3)[labels]

    def theirs(penalty: float, features: torch.Tensor) -> torch.Tensor:
        ridge = Ridge(alpha=penalty).fit(((train - mean) / std).double().numpy(), target.double().numpy())
        return torch.from_numpy(ridge.predict(((features - mean) / std).double().numpy())).argmax(dim=1)

    small, large = PENALTIES[0], PENALTIES[-1]
    assert not torch.equal(theirs(small, test), theirs(large, test))
    for liked in (small, large):
        labels_of_validation = theirs(liked, test)
        predicted = ridge_predictions(train, labels, test, labels_of_validation, test)
        assert torch.equal(predicted, labels_of_validation)
