"""Training a space: datasets and the networks trained on them are brought together, others kept apart.

Every random number of a step is a function of (seed, step), so that a resumed training is the unbroken one.
Axes: K datasets, one row of each a step; R rows; E the space; G gallery draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from tans_core.cross_modal.encoders import SpaceModel, SpaceShape, accuracy
from tans_core.cross_modal.losses import LOSSES, MARGIN, TEMPERATURE, negatives
from tans_core.cross_modal.metrics import ranks
from tans_core.cross_modal.space_data import Instances, Rows, SpaceData
from tans_core.errors import ConfigError
from tans_core.records import canonical_json, content_hash

CURVE = ("step", "loss", "mean_rank", "r_at_1", "predictor_mse")  # columns of `SpaceState.curve`


@dataclass(frozen=True, kw_only=True)
class SpaceConfig:
    """How a space is trained; stored with it."""

    dim: int = 128
    hidden: int = 128
    steps: int = 300
    instances: int = 32  # of a dataset, drawn anew at each step
    loss: str = "infonce"  # or "hinges", "printed"
    temperature: float = TEMPERATURE  # of infonce
    margin: float = MARGIN  # of hinges and printed
    attraction: float = 5.0  # weight of 1 - s+, so that networks lie at their datasets and not only nearer than others
    keep: float = 10.0  # weight of the queries' squared way from where they lay untrained
    predictor: float = 30.0  # weight of its squared errors
    dropout: float = 0.2  # of the networks' inputs
    peak_lr: float = 3e-3
    weight_decay: float = 0.1
    evaluate_every: int = 50  # steps between checkpoints
    validation_draws: int = 10

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ConfigError(f"loss must be one of {', '.join(LOSSES)}, got {self.loss!r}")
        for name in ("dim", "hidden", "steps", "instances", "evaluate_every", "validation_draws"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("temperature", "peak_lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be a number above 0, got {getattr(self, name)}")
        for name in ("margin", "attraction", "keep", "predictor", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be a number of at least 0, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be at least 0 and below 1, got {self.dropout}")


@dataclass(frozen=True, eq=False)
class SpaceState:
    """A training under way, or at its end: tensors only, so that it can be kept as safetensors.

    `model` as trained, `best` as chosen on validation instances, `optimiser` by parameter and name; `curve` has a row
    for each evaluation and the columns of `CURVE`, all of validation instances but for the loss.
    """

    step: int
    best_step: int
    model: dict[str, Tensor]
    best: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    curve: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """All of it under flat names."""
        parts = {"model": self.model, "best": self.best, "optimiser": self.optimiser}
        flat = {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
        return {**flat, "curve": self.curve, "steps": torch.tensor([self.step, self.best_step])}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> SpaceState:
        """The inverse of `tensors`."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        step, best_step = tensors["steps"].tolist()
        return cls(step, best_step, part("model/"), part("best/"), part("optimiser/"), tensors["curve"])


@dataclass(frozen=True)
class Worker:
    """Which of several workers this is. All draw the same batch of datasets and encode a share of it each; the loss is
    that of the whole batch, on every worker. `total` sums a tensor over the workers, in place."""

    rank: int = 0
    workers: int = 1
    total: Callable[[Tensor], object] = lambda tensor: None

    def share(self, count: int) -> slice:
        """Which of `count` datasets are this worker's."""
        return slice(self.rank * count // self.workers, (self.rank + 1) * count // self.workers)


class _Gathered(torch.autograd.Function):
    """Rows of all workers, each in its place. Every worker works out the same loss of them, so that its own rows'
    gradient is whole as it comes back."""

    @staticmethod
    def forward(ctx: Any, own_SF: Tensor, worker: Worker, count: int) -> Tensor:
        ctx.share = worker.share(count)
        all_KF = own_SF.new_zeros(count, own_SF.shape[1])
        all_KF[ctx.share] = own_SF
        worker.total(all_KF)
        return all_KF

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.share], None, None


def build_model(data: SpaceData, config: SpaceConfig, seed: int) -> SpaceModel:
    """The untrained space: queries by their standardised mean features, networks anywhere."""
    feature_dim = data.train[0].shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(seed, "weights"))
        model = SpaceModel(
            SpaceShape(
                feature_dim=feature_dim,
                topology_length=data.topology_RT.shape[1],
                response_length=data.response_RF.shape[1],
                dim=min(config.dim, feature_dim),
                hidden=config.hidden,
            )
        )
    model.query.fit(torch.stack([each.mean(dim=0) for each in data.train]), torch.cat(data.train))
    model.model.fit(data.topology_RT, data.response_RF)
    model.predictor.fit(data.facts_KX)
    return model


def train(
    data: SpaceData,
    config: SpaceConfig,
    seed: int,
    *,
    resume: SpaceState | None = None,
    on_checkpoint: Callable[[SpaceState], None] = lambda state: None,
    worker: Worker = Worker(),
) -> SpaceState:
    """Train a space to its end, from the start or from `resume`.

    Args:
        on_checkpoint: called after every evaluation, the last included; may raise to stop.
        worker: several train the same space as one does, to rounding.
    """
    state = resume
    for state in checkpoints(data, config, seed, resume=resume, worker=worker):
        on_checkpoint(state)
    assert state is not None
    return state


def checkpoints(
    data: SpaceData, config: SpaceConfig, seed: int, *, resume: SpaceState | None = None, worker: Worker = Worker()
) -> Iterator[SpaceState]:
    """The same training as it goes: its state after every evaluation, the last included."""
    trainer = _Trainer(data, config, seed, worker)
    if resume is not None:
        trainer.load(resume)
    while trainer.step < config.steps:
        trainer.train_step()
        if trainer.step % config.evaluate_every == 0 or trainer.step == config.steps:
            trainer.evaluate()
            yield trainer.state()


class _Trainer:
    def __init__(self, data: SpaceData, config: SpaceConfig, seed: int, worker: Worker) -> None:
        self._data, self._config, self._seed, self._worker = data, config, seed, worker
        self._model = build_model(data, config, seed)
        self._optimiser = torch.optim.AdamW(self._model.parameters(), weight_decay=config.weight_decay)
        self._rows, self._negative_KK = Rows(data), negatives(data.sources)
        self._train = Instances([self._model.query.project(each) for each in data.train])
        self._validation = Instances([self._model.query.project(each) for each in data.validation])
        self._inputs_RF = self._model.model.standardised(data.topology_RT, data.response_RF)
        self.step, self._losses = 0, []
        self._best, self._best_step, self._best_score = self._copy(), 0, math.inf
        self._curve: list[list[float]] = []

    def train_step(self) -> None:
        """Two rows of each dataset against one draw of its instances."""
        config = self._config
        generator = generator_of(self._seed, "train", self.step)
        row_2K = torch.cat([self._rows.draw_good(generator), self._rows.draw_any(generator)])
        instances = self._train.draw(config.instances, generator)
        inputs = self._inputs_RF[row_2K]
        kept = torch.rand(inputs.shape, generator=generator) >= config.dropout
        query, place, ease, extra = self._encoded(instances, inputs * kept / (1 - config.dropout))
        moved = (query - self._model.query.untrained(instances)).square().sum(dim=1).mean()
        loss = (
            torch.stack([self._contrast(query, rows) for rows in place.chunk(2)]).mean()
            + config.keep * moved
            + config.predictor * self._prediction_loss(ease, extra, row_2K)
        )
        for group in self._optimiser.param_groups:
            group["lr"] = config.peak_lr * 0.5 * (1 + math.cos(math.pi * self.step / config.steps))
        self._optimiser.zero_grad()
        loss.backward()
        self._share_gradients()
        self._optimiser.step()
        self._losses.append(loss.item())
        self.step += 1

    def _encoded(self, instances_KNE: Tensor, inputs_2KF: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `SpaceModel.forward`, each worker encoding a share of the datasets and their rows."""
        count, own = len(instances_KNE), self._worker.share(len(instances_KNE))
        inputs_F = torch.cat([part[own] for part in inputs_2KF.chunk(2)])
        query, place, ease, extra = self._model(instances_KNE[own], self._data.facts_KX[own], inputs_F)
        columns = [query, *place.chunk(2), ease[:, None], *extra[:, None].chunk(2)]
        widths = [column.shape[1] for column in columns]
        query, one, other, ease, *extras = _Gathered.apply(torch.cat(columns, dim=1), self._worker, count).split(
            widths, dim=1
        )
        return query, torch.cat([one, other]), ease.squeeze(1), torch.cat(extras).squeeze(1)

    def _share_gradients(self) -> None:
        """Every worker has the gradient that its own datasets gave: they add up, in one exchange."""
        parameters = [each for each in self._model.parameters() if each.requires_grad]
        given = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
        flat = torch.cat([each.flatten() for each in given])
        self._worker.total(flat)
        for parameter, gradient in zip(parameters, flat.split([each.numel() for each in given])):
            parameter.grad = gradient.view_as(parameter)

    def _contrast(self, query_KE: Tensor, place_KE: Tensor) -> Tensor:
        similarity_KK = query_KE @ place_KE.T
        config = self._config
        apart = LOSSES[config.loss](
            similarity_KK, self._negative_KK, margin=config.margin, temperature=config.temperature
        )
        return apart + config.attraction * (1 - similarity_KK.diagonal()).mean()

    def _prediction_loss(self, ease_K: Tensor, extra_2K: Tensor, row_2K: Tensor) -> Tensor:
        """The ease learns from all rows, given what architectures add; the addition from two rows of one dataset."""
        facts = self._data.facts_KX.repeat(2, 1)
        ease_2K, measured = ease_K.repeat(2), self._data.accuracy_R[row_2K]
        (one, other), (this, that) = accuracy(ease_2K.detach(), extra_2K, facts).chunk(2), measured.chunk(2)
        return mse_loss(accuracy(ease_2K, extra_2K.detach(), facts), measured) + mse_loss(one - other, this - that)

    def evaluate(self) -> None:
        """On validation instances, the same draws each time. The best is chosen by rank and predicted accuracy."""
        draws = self._config.validation_draws
        rank_GK = gallery_ranks(self._model, self._data, self._validation, draws, self._config.instances, self._seed)
        predicted_R = predict_rows(self._model, self._data, self._data.validation)
        mse = mse_loss(predicted_R, self._data.accuracy_R).item()
        mean_rank = rank_GK.double().mean().item()
        score = mean_rank / len(self._data.names) + mse
        if score < self._best_score:
            self._best, self._best_step, self._best_score = self._copy(), self.step, score
        loss = sum(self._losses) / len(self._losses)
        self._losses = []
        self._curve.append([self.step, loss, mean_rank, (rank_GK == 1).double().mean().item(), mse])

    def state(self) -> SpaceState:
        optimiser = {
            f"{place}/{name}": value.clone()
            for place, entry in self._optimiser.state_dict()["state"].items()
            for name, value in entry.items()
        }
        curve = torch.tensor(self._curve, dtype=torch.float64)
        return SpaceState(self.step, self._best_step, self._copy(), dict(self._best), optimiser, curve)

    def load(self, state: SpaceState) -> None:
        self._model.load_state_dict(state.model)
        entries: dict[int, dict[str, Tensor]] = {}
        for path, value in state.optimiser.items():
            place, name = path.split("/")
            entries.setdefault(int(place), {})[name] = value.clone()
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": entries})
        self.step, self._best, self._best_step = state.step, dict(state.best), state.best_step
        self._curve = state.curve.tolist()
        gallery = len(self._data.names)
        self._best_score = min((rank / gallery + mse for _, _, rank, _, mse in self._curve), default=math.inf)

    def _copy(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self._model.state_dict().items()}


def gallery_ranks(
    model: SpaceModel, data: SpaceData, instances: Instances, draws: int, count: int, seed: int
) -> Tensor:
    """Rank of a dataset's row, for `count` instances of the dataset, among one row of every dataset, int64 (G, K)."""
    generator, rows = generator_of(seed, "gallery", draws), Rows(data)
    with torch.no_grad():
        embedding_RE, _ = model.embed_models(data.topology_RT, data.response_RF)
        return torch.cat(
            [
                ranks(model.query(instances.draw(count, generator))[None], embedding_RE[rows.draw_any(generator)][None])
                for _ in range(draws)
            ]
        )


def predict_rows(model: SpaceModel, data: SpaceData, instances: tuple[Tensor, ...]) -> Tensor:
    """Accuracy (R,) that the space predicts for each row on its dataset, from these instances of the dataset."""
    with torch.no_grad():
        query_KE = torch.stack([model.embed_query(each) for each in instances])
        _, entries_RA = model.embed_models(data.topology_RT, data.response_RF)
        return model.predict(query_KE[data.dataset_R], data.facts_KX[data.dataset_R], entries_RA)


def generator_of(seed: int, purpose: str, number: int) -> torch.Generator:
    """Random numbers that depend on these three alone."""
    return torch.Generator().manual_seed(_seed(seed, purpose, number))


def _seed(*parts: object) -> int:
    return int(content_hash(canonical_json(parts))[:15], 16)
