"""The space's three networks: datasets and trained networks as points on one sphere, and an accuracy for a pair.

The query encoder starts as what is hard to beat with few datasets: the mean of a dataset's features, standardised
over the zoo's datasets and projected so that cosines to all of them are kept. What it learns is added to that.
Axes: B batch, N instances of a dataset, D features, E the space, T topology, F response, X facts, A architecture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize, one_hot

FACTS = 3  # of a query, see `facts_of`
ARCHITECTURE = 8  # entries that tell architectures apart, for the predictor alone

_SPANNING = 512  # instances that are enough to find their leading directions
_NEVER = torch.tensor(1e12)  # divides what never varied, so that it counts for nothing in a new row either


class QueryEncoder(nn.Module):
    """Instances of a dataset -> unit vectors (B, E), whatever their number and order."""

    def __init__(self, feature_dim: int, dim: int, hidden: int) -> None:
        super().__init__()
        self.mean_D: Tensor
        self.scale_D: Tensor
        self.basis_DE: Tensor
        self.register_buffer("mean_D", torch.zeros(feature_dim))
        self.register_buffer("scale_D", torch.ones(feature_dim))
        self.register_buffer("basis_DE", torch.zeros(feature_dim, dim))
        self.instance = nn.Linear(dim, hidden)
        self.residual = nn.Linear(hidden, dim)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)

    def fit(self, means_KD: Tensor, instances_ND: Tensor) -> None:
        """Take standardisation and projection from the training datasets' means and instances.

        The first directions span the standardised means, so that a query's cosines to them change by one common
        factor; where the space has room left, the leading directions of the instances fill it.
        """
        room = self.basis_DE.shape[1]
        scale = means_KD.std(dim=0, correction=0)
        self.mean_D.copy_(means_KD.mean(dim=0))
        self.scale_D.copy_(scale + 1e-2 * scale.mean() + 1e-12)
        spanned = _directions(self._standardised(means_KD).double())[:room]
        some = instances_ND[:: math.ceil(len(instances_ND) / _SPANNING)]
        rest = self._standardised(some).double()
        leading = _directions(rest - (rest @ spanned.T) @ spanned)[: room - len(spanned)]
        directions = torch.cat([spanned, leading])
        self.basis_DE.zero_()[:, : len(directions)] = directions.T.float()

    def project(self, instances_ND: Tensor) -> Tensor:
        """The part that does not learn (N, E): done once for instances that are drawn again and again."""
        return self._standardised(instances_ND) @ self.basis_DE

    def untrained(self, projected_BNE: Tensor) -> Tensor:
        """Where the queries would lie without anything learned."""
        return normalize(projected_BNE.mean(dim=1), dim=-1)

    def forward(self, projected_BNE: Tensor) -> Tensor:
        learned = self.residual(gelu(self.instance(projected_BNE)).mean(dim=1))
        return normalize(self.untrained(projected_BNE) + learned, dim=-1)

    def _standardised(self, features_ND: Tensor) -> Tensor:
        return (features_ND - self.mean_D) / self.scale_D


def _directions(vectors_ND: Tensor) -> Tensor:
    """Orthonormal rows that span these vectors, strongest first, up to their rank."""
    strength, left = torch.linalg.eigh(vectors_ND @ vectors_ND.T)
    strong = strength > 1e-9 * strength[-1].clamp(min=1e-12)
    rows = (vectors_ND.T @ left[:, strong] / strength[strong].sqrt()).T
    return rows.flip(0)


class ModelEncoder(nn.Module):
    """Topology and response of trained networks -> their places among the datasets, unit vectors (B, E), and (B, A)
    entries of their topology alone, shorter than 1.

    Topology and response are standardised over the zoo's rows and weighted to the same size: raw, one would drown the
    other. The entries are no part of the place: no dataset has a say in them, so that in the indexed vector they would
    only push extreme architectures away from every query.
    """

    def __init__(self, topology_length: int, response_length: int, dim: int, hidden: int) -> None:
        super().__init__()
        self.topology_length = topology_length
        length = topology_length + response_length
        self.mean_F: Tensor
        self.scale_F: Tensor
        self.register_buffer("mean_F", torch.zeros(length))
        self.register_buffer("scale_F", torch.ones(length))
        self.place = nn.Sequential(nn.Linear(length, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.architecture = nn.Linear(topology_length, ARCHITECTURE)

    def fit(self, topology_BT: Tensor, response_BF: Tensor) -> None:
        """Take the standardisation from the training rows. An entry that never varies counts for nothing."""
        raw = torch.cat([topology_BT, response_BF], dim=1)
        self.mean_F.copy_(raw.mean(dim=0))
        std = raw.std(dim=0, correction=0)
        parts = std[: self.topology_length], std[self.topology_length :]
        scale = torch.cat([(part + 1e-2 * part.mean() + 1e-6) * len(part) ** 0.5 for part in parts])
        self.scale_F.copy_(torch.where(std > 1e-6, scale, _NEVER))

    def standardised(self, topology_BT: Tensor, response_BF: Tensor) -> Tensor:
        """Inputs of `forward` (B, T + F), of length about 1.4."""
        return (torch.cat([topology_BT, response_BF], dim=1) - self.mean_F) / self.scale_F

    def forward(self, standardised_BF: Tensor) -> tuple[Tensor, Tensor]:
        entries_BA = self.architecture(standardised_BF[:, : self.topology_length])
        length_B1 = (1 + entries_BA.square().sum(dim=1, keepdim=True)).sqrt()
        return normalize(self.place(standardised_BF), dim=-1), entries_BA / length_B1


class Predictor(nn.Module):
    """[query, architecture] -> accuracy, between chance and 1: the query's ease, and what the architecture adds to it.

    A row is known on the dataset it was trained on only, so that nothing can be learned of how a source helps
    elsewhere. A predictor that sees a network's place takes a row of an easy dataset for a good network (its
    predictions for one query then followed the ease of the rows' datasets, r = 0.5 in a synthetic zoo). So it sees of
    a network the entries of its architecture alone, learned from rows of one dataset set against each other.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean_X: Tensor
        self.scale_X: Tensor
        self.register_buffer("mean_X", torch.zeros(FACTS))
        self.register_buffer("scale_X", torch.ones(FACTS))
        self.ease = nn.Linear(dim + FACTS, 1)
        self.extra = nn.Linear(ARCHITECTURE, 1, bias=False)
        nn.init.zeros_(self.ease.weight)
        nn.init.zeros_(self.ease.bias)

    def fit(self, facts_KX: Tensor) -> None:
        """Take the standardisation of the facts from the training datasets."""
        self.mean_X.copy_(facts_KX.mean(dim=0))
        self.scale_X.copy_(facts_KX.std(dim=0, correction=0) + 0.1)

    def forward(self, query_BE: Tensor, facts_BX: Tensor, entries_BA: Tensor) -> tuple[Tensor, Tensor]:
        """Ease of the queries (B,) and additions of the architectures (B,), see `accuracy`."""
        facts = (facts_BX - self.mean_X) / self.scale_X
        ease_B = self.ease(torch.cat([query_BE, facts], dim=1)).squeeze(1)
        return ease_B, self.extra(entries_BA).squeeze(1)


def accuracy(ease_B: Tensor, extra_B: Tensor, facts_BX: Tensor) -> Tensor:
    """Accuracy (B,), 0 to 1, that an ease and an addition mean for a query with these facts."""
    chance = facts_BX[:, 0]
    return chance + (1 - chance) * torch.sigmoid(ease_B + extra_B)


@dataclass(frozen=True, kw_only=True)
class SpaceShape:
    """What decides the shapes of a space's weights; stored beside them."""

    feature_dim: int
    topology_length: int
    response_length: int
    dim: int
    hidden: int


class SpaceModel(nn.Module):
    """The three together: one module to train, to save, and to wrap for several workers."""

    def __init__(self, shape: SpaceShape) -> None:
        super().__init__()
        self.shape = shape
        self.query = QueryEncoder(shape.feature_dim, shape.dim, shape.hidden)
        self.model = ModelEncoder(shape.topology_length, shape.response_length, shape.dim, shape.hidden)
        self.predictor = Predictor(shape.dim)

    def forward(
        self, projected_BNE: Tensor, facts_BX: Tensor, standardised_BF: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Places of queries (B, E) and of networks, of which there may be several for each query; the predictor's ease
        of the queries (B,) and addition of the networks' architectures.

        The predictor moves neither: places keep the geometry they came with.
        """
        query_BE, (place_BE, entries_BA) = self.query(projected_BNE), self.model(standardised_BF)
        return query_BE, place_BE, *self.predictor(query_BE.detach(), facts_BX, entries_BA)

    def embed_query(self, instances_ND: Tensor) -> Tensor:
        """One dataset's place (E,) from its instances."""
        return self.query(self.query.project(instances_ND)[None])[0]

    def embed_models(self, topology_BT: Tensor, response_BF: Tensor) -> tuple[Tensor, Tensor]:
        """Networks' places (B, E) and the entries of their architectures (B, A)."""
        return self.model(self.model.standardised(topology_BT, response_BF))

    def predict(self, query_BE: Tensor, facts_BX: Tensor, entries_BA: Tensor) -> Tensor:
        """Accuracy (B,), 0 to 1, of architectures on queries; one query is good for all of them."""
        ease_B, extra_B = self.predictor(query_BE, facts_BX, entries_BA)
        return accuracy(ease_B, extra_B, facts_BX)


def facts_of(features_ND: Tensor, labels_N: Tensor, chance: float, classes: int) -> Tensor:
    """What a query's labels say of how hard it is (X,): chance, log2 of its classes, and how far its classes lie apart.

    The last is the accuracy of the nearest class mean on features that were left out of it, scaled so that 0 is one
    in `classes`; of classes with one instance, all are wrong.
    """
    scale = features_ND.std(dim=0, correction=0)
    x_ND = (features_ND - features_ND.mean(dim=0)) / (scale + 1e-2 * scale.mean() + 1e-12)
    member_NK = one_hot(labels_N, classes).to(x_ND.dtype)
    count_K = member_NK.sum(dim=0)
    mean_KD = member_NK.T @ x_ND / count_K.clamp(min=1)[:, None]
    distance_NK = torch.cdist(x_ND, mean_KD) ** 2
    to_class_N1 = distance_NK.gather(1, labels_N[:, None])
    alike_N1 = count_K[labels_N][:, None]
    left_out = to_class_N1 * (alike_N1 / (alike_N1 - 1)) ** 2  # to the mean of the others; infinite where none are
    distance_NK = distance_NK.scatter(1, labels_N[:, None], left_out).masked_fill((count_K == 0)[None, :], torch.inf)
    right = ((distance_NK.argmin(dim=1) == labels_N) & (alike_N1[:, 0] > 1)).float().mean().item()
    apart = (right - 1 / classes) / (1 - 1 / classes)
    return torch.tensor([chance, torch.tensor(float(classes)).log2().item(), apart])


def flat_response(response: Tensor) -> Tensor:
    """One network's response (images, D) as one vector (2 D,): mean and deviation over the noise images."""
    values = response.float()
    return torch.cat([values.mean(dim=0), values.std(dim=0, correction=0)])
