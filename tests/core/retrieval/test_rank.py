import torch
from torch.nn.functional import normalize

from tans_core.cross_modal.encoders import OWN, SpaceModel, SpaceShape
from tans_core.retrieval.index import Index
from tans_core.retrieval.rank import rank


def test_the_nearest_are_found_and_predicted_accuracy_picks_among_them():
    model = SpaceModel(SpaceShape(feature_dim=4, topology_length=3, response_length=3, dim=2 + OWN, hidden=4))
    torch.nn.init.constant_(model.predictor.extra.weight, 10.0)
    embedding = torch.zeros(4, 2 + OWN)
    embedding[:, :2] = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.9, 0.1], [0.0, 1.0]])
    embedding[:, -1] = torch.tensor([0.0, 0.2, 0.2, 0.9])  # the last would be the most accurate, and is too far
    index = Index(["a", "c", "b", "d"], normalize(embedding, dim=1))
    query = torch.zeros(2 + OWN)
    query[0] = 1
    found = rank(model, index, query, torch.tensor([0.5, 1.0, 0.0]), torch.ones(4, dtype=torch.bool), top=3)
    assert [index.keys[each.place] for each in found] == ["b", "c", "a"]  # b before c: equal, by key
    assert found[0].predicted_accuracy > found[2].predicted_accuracy and found[0].similarity < found[2].similarity
    none = rank(model, index, query, torch.tensor([0.5, 1.0, 0.0]), torch.zeros(4, dtype=torch.bool), top=3)
    assert none == []
