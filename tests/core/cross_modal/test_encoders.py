import pytest
import torch
from torch.nn.functional import normalize

from tans_core.cross_modal.encoders import ModelEncoder, QueryEncoder, SpaceModel, SpaceShape, facts_of


def _fitted(datasets: int = 6, feature_dim: int = 20) -> tuple[QueryEncoder, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    instances = [
        3 * torch.randn(feature_dim, generator=generator) + torch.randn(30, feature_dim, generator=generator)
        for _ in range(datasets)
    ]
    encoder = QueryEncoder(feature_dim, dim=16, hidden=8)
    encoder.fit(torch.stack([each.mean(dim=0) for each in instances]), torch.cat(instances))
    return encoder, instances


def test_untrained_a_query_is_as_near_to_each_dataset_as_its_standardised_mean_features():
    encoder, instances = _fitted()
    means = torch.stack([each.mean(dim=0) for each in instances])
    standard = (means - means.mean(dim=0)) / encoder.scale_D
    places = torch.stack([encoder(encoder.project(each)[None])[0] for each in instances])
    unseen = torch.randn(30, 20, generator=torch.Generator().manual_seed(1)) + means[2] / 2
    query = encoder(encoder.project(unseen)[None])[0]
    by_features = normalize(standard, dim=1) @ normalize(
        (unseen.mean(dim=0) - means.mean(dim=0)) / encoder.scale_D, dim=0
    )
    ratio = (places @ query) / by_features
    assert torch.allclose(ratio, ratio[0].expand(6), rtol=1e-3)  # one factor, at least 1: the part that fits no dataset
    assert ratio[0] >= 1 - 1e-5


def test_a_query_does_not_depend_on_the_order_of_its_instances():
    encoder, instances = _fitted()
    torch.nn.init.normal_(encoder.residual.weight)
    projected = encoder.project(instances[0])
    one, other = encoder(projected[None]), encoder(projected.flip(0)[None])
    assert torch.allclose(one, other, atol=1e-6)
    assert one.norm().item() == pytest.approx(1)


def test_no_architecture_is_extreme_enough_to_be_pushed_away_from_the_queries():
    model = SpaceModel(SpaceShape(feature_dim=20, topology_length=4, response_length=6, dim=16, hidden=8))
    torch.nn.init.constant_(model.model.architecture.weight, 100.0)  # entries that would dwarf a place beside them
    place, entries = model.embed_models(torch.rand(5, 4) + 1, torch.rand(5, 6))
    assert place.shape == (5, 16) and torch.allclose(place.norm(dim=1), torch.ones(5))
    assert ((entries.norm(dim=1) > 0.99) & (entries.norm(dim=1) < 1)).all()


def test_topology_and_response_weigh_the_same_and_what_never_varied_counts_for_nothing():
    generator = torch.Generator().manual_seed(0)
    topology = torch.randint(3, 8, (50, 5), generator=generator).float()
    topology[:, 2] = 4
    response = 100 + 1e-3 * torch.randn(50, 300, generator=generator)
    encoder = ModelEncoder(5, 300, dim=16, hidden=8)
    encoder.fit(topology, response)
    topology[0, 2] = 7
    inputs = encoder.standardised(topology, response)
    sizes = inputs[:, :5].square().sum(dim=1).mean().item(), inputs[:, 5:].square().sum(dim=1).mean().item()
    assert sizes == pytest.approx((0.8, 1), abs=0.1)
    assert inputs[:, 2].abs().max() < 1e-6
    assert torch.allclose(encoder(inputs)[0].norm(dim=1), torch.ones(50))


def test_facts_by_hand():
    # Two classes of two; the mean of the others: 0's are 1 apart and 9 from class 1. One of class 1 is alone far away.
    features = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    assert facts_of(features, torch.tensor([0, 0, 1, 1]), 0.5, 2).tolist() == pytest.approx([0.5, 1, 1])
    # The only one of its class cannot be known without itself: 2 of 3 right, scaled (2/3 - 1/2) / (1/2).
    alone = facts_of(features[:3], torch.tensor([0, 0, 1]), 0.5, 2)
    assert alone.tolist() == pytest.approx([0.5, 1, 1 / 3], abs=1e-6)


def test_a_prediction_lies_between_chance_and_one():
    model = SpaceModel(SpaceShape(feature_dim=20, topology_length=4, response_length=6, dim=16, hidden=8))
    torch.nn.init.normal_(model.predictor.ease.weight, std=3)
    generator = torch.Generator().manual_seed(0)
    query, entries = normalize(torch.randn(50, 16, generator=generator), dim=1), torch.rand(50, 8, generator=generator)
    predicted = model.predict(query, torch.tensor([0.3, 0.0, 0.0]).expand(50, 3), entries)
    assert predicted.min() >= 0.3 and predicted.max() <= 1 and predicted.std() > 0.05
