import pytest
import torch
from torch import Tensor, nn

from tans_core.cross_modal.features import extract_features, keeps_class_when_mirrored, stratified
from tans_core.records import ImageDataset
from tans_core.search_space.ofa_lite import lite0_backbone


class Corners(nn.Module):
    """Mean colour of the four corners, and the side of the picture it was given."""

    def forward(self, images: Tensor) -> Tensor:
        means = nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)
        return torch.cat([means, torch.full((len(images), 1), images.shape[-1])], dim=1)


def _dataset(images: Tensor, labels: Tensor, classes: int) -> ImageDataset:
    order = torch.arange(len(labels))
    train, validation, test = order[order % 5 < 3], order[order % 5 == 3], order[order % 5 == 4]
    return ImageDataset(
        fingerprint="f",
        name="n",
        source="s",
        spec="folder:n",
        licence="CC0-1.0",
        class_names=tuple(map(str, range(classes))),
        images=images,
        labels=labels,
        train=train,
        validation=validation,
        test=test,
    )


def test_a_part_is_cut_with_every_class_in_its_share():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    chosen = stratified(torch.randperm(100, generator=torch.Generator().manual_seed(0)), labels, 20)
    assert labels[chosen].bincount().tolist() == [12, 6, 2]
    assert len(set(chosen.tolist())) == 20


def test_features_are_of_at_most_160_40_40_images_enlarged_to_96_px_with_their_labels():
    labels = torch.arange(500) % 4
    images = (60 * labels).to(torch.uint8)[:, None, None, None].expand(-1, 3, 32, 32).contiguous()
    features = extract_features(_dataset(images, labels, 4), Corners())
    assert (len(features.train_ND), len(features.validation_ND), len(features.test_ND)) == (160, 40, 40)
    assert set(features.train_ND[:, -1].tolist()) == {96}
    assert torch.allclose(features.test_ND[:, 0], (60 * features.test_labels_N - 127) / 128)


def test_grey_pictures_have_the_features_of_the_same_pictures_in_colour():
    grey = torch.randint(0, 256, (20, 1, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    labels = torch.arange(20) % 2
    backbone = lite0_backbone()
    features = [
        extract_features(_dataset(images, labels, 2), backbone) for images in (grey, grey.expand(-1, 3, -1, -1))
    ]
    assert torch.equal(features[0].train_ND, features[1].train_ND)


def _letters(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A stem with a bowl on its right (b) or on its left (d), shifted a little."""
    labels = torch.arange(count) % 2
    images = torch.full((count, 1, 32, 32), 255, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist()):
        down, right = torch.randint(-2, 3, (2,), generator=generator).tolist()
        image[0, 6 + down : 26 + down, 14 + right : 18 + right] = 0
        bowl = slice(18 + right, 26 + right) if label == 0 else slice(6 + right, 14 + right)
        image[0, 16 + down : 26 + down, bowl] = 60
    return images, labels


def _photographs(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Coloured noise, of two colours, with a dark thing anywhere."""
    labels = torch.arange(count) % 2
    images = torch.randint(60, 200, (count, 3, 32, 32), generator=generator)
    images[torch.arange(count), labels] += 40
    for image in images:
        row, column = torch.randint(0, 24, (2,), generator=generator).tolist()
        image[:, row : row + 8, column : column + 8] //= 3
    return images.to(torch.uint8), labels


@pytest.mark.parametrize(("make", "kept"), [(_letters, False), (_photographs, True)])
def test_a_mirrored_b_is_a_d_and_a_mirrored_photograph_is_a_photograph(make, kept):
    images, labels = make(150, torch.Generator().manual_seed(0))
    assert keeps_class_when_mirrored(_dataset(images, labels, 2), lite0_backbone()) is kept


def test_whether_pictures_may_be_mirrored_is_decided_without_validation_and_test():
    images, labels = _letters(150, torch.Generator().manual_seed(0))
    dataset = _dataset(images, labels, 2)
    photographs, _ = _photographs(150, torch.Generator().manual_seed(0))
    for index in (dataset.validation, dataset.test):
        images[index] = photographs[index, :1]
    assert keeps_class_when_mirrored(dataset, Corners()) is False
