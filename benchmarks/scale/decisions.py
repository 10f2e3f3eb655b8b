"""What a decision costs as a zoo grows, and its closed form beside BoTorch's improvements on the same predictions.

Seconds are processor time of the deciding thread: what other programs of the machine take is not in them, nor is a
wait for the thread that fits, which is told apart. 140 datasets, 1,000 networks looked at in each decision.
Axes: N rows, Q networks, K levels of a front.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from botorch.acquisition.multi_objective.analytic import ExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.monte_carlo import qExpectedHypervolumeImprovement
from botorch.models.model import Model
from botorch.posteriors import GPyTorchPosterior
from botorch.sampling.normal import SobolQMCNormalSampler
from botorch.utils.multi_objective.box_decompositions.non_dominated import FastNondominatedPartitioning
from gpytorch.distributions import MultitaskMultivariateNormal
from torch import Tensor

from benchmarks.simulation.worlds import World, make_world, validation_images
from pipeline.growing.build_zoo import quantile
from tans_core.acquisition.choose import HypervolumeChooser
from tans_core.acquisition.config import AcquisitionConfig
from tans_core.acquisition.gain import expected_gain
from tans_core.acquisition.hypervolume import REF_COST, front_levels, raw_accuracy
from tans_core.acquisition.inputs import Labeller, Labels
from tans_core.acquisition.surrogates import SURROGATES
from tans_core.acquisition.surrogates.kernel import prior_hyperparameters
from tans_core.records import Candidate, Observation
from tans_core.search_space import make_search_space

DATASETS, NETWORKS, PENDING = 140, 1_000, 8
COUNTS = {
    100: 8,
    1_000: 8,
    5_000: 8,
    13_810: 24,
}  # rows -> decisions; the last are around 13,824, where a fit falls due
MONTE_CARLO = 128  # samples
FEW = 3  # datasets that BoTorch is timed on


def measure(out: Path) -> dict[str, Any]:
    """The curve over rows, and the ratios at its end."""
    torch.set_num_threads(1)
    space = make_search_space("ofa-lite")
    world = make_world("smooth", DATASETS, space, 64, 0)
    observations = observed(world, max(COUNTS) + max(COUNTS.values()))
    curve = {rows: decided(world, observations, rows, decisions) for rows, decisions in COUNTS.items()}
    last, rival = curve[max(COUNTS)], beside_botorch(world, observations[: max(COUNTS)])
    return {
        "decision_p95_s": last["p95_s"],
        "decisions": {str(rows): told for rows, told in curve.items()},
        "closed_form_vs_mc_ratio": rival["monte_carlo_s"] / rival["closed_form_s"],
        "closed_form_vs_analytic_ratio": rival["analytic_s"] / rival["closed_form_s"],
        "gains": rival,
    }


def observed(world: World, count: int) -> list[Observation]:
    """Outcomes of random networks, half of them changes of small ones, as fronts have them."""
    space, generator = world.search_space, torch.Generator().manual_seed(0)
    drawn_NT = space.sample(count, generator)
    small_QT = drawn_NT[world.encoder.cost_scale(drawn_NT).sum(dim=1).argsort()[: max(1, count // 20)]]
    half = torch.arange(0, count, 2)
    drawn_NT[half] = space.mutate(small_QT[torch.randint(len(small_QT), (len(half),), generator=generator)], generator)
    dataset_N = torch.randint(len(world.datasets), (count,), generator=generator)
    scaled_N = world.truth(dataset_N, world.encoder.networks(drawn_NT))
    observations = []
    for index, topology, scaled in zip(dataset_N.tolist(), drawn_NT.tolist(), scaled_N.tolist()):
        dataset = world.datasets[index]
        images = torch.tensor(float(validation_images(dataset)))
        accuracy = torch.tensor(raw_accuracy(scaled, dataset.chance))
        correct = int(torch.binomial(images, accuracy, generator=generator))
        observations.append(Observation(Candidate(dataset.fingerprint, tuple(topology)), correct, int(images)))
    return observations


def decided(world: World, observations: list[Observation], rows: int, decisions: int) -> dict[str, Any]:
    """Decisions one after the other from so many rows on, with a new row and eight pending pairs for each."""
    config = AcquisitionConfig(networks=NETWORKS)
    with closing(_chooser(world, config)) as chooser:
        for observation in observations[:rows]:
            chooser.observe(observation)
        began = time.perf_counter()
        choice = chooser.propose(rows, [])  # waits for the fit that is in force; one that is not due begins
        first_s = time.perf_counter() - began
        assert choice is not None
        pending, seconds, walls = [choice.candidate], [], []
        for number, observation in enumerate(observations[rows : rows + decisions], start=1):
            chooser.observe(observation)
            began, wall = time.thread_time(), time.perf_counter()
            choice = chooser.propose(rows + number, pending)
            seconds.append(time.thread_time() - began)
            walls.append(time.perf_counter() - wall)
            assert choice is not None and choice.chosen_by == "hypervolume"
            pending = [*pending, choice.candidate][-PENDING:]
    return {
        "median_s": quantile(seconds, 0.5),
        "p95_s": quantile(seconds, 0.95),
        "wall_p95_s": quantile(walls, 0.95),
        "first_with_its_fit_wall_s": first_s,
        "fits_wall_s": chooser.refit_seconds,
        "decisions": decisions,
        "reason": choice.reason,
    }


def _chooser(world: World, config: AcquisitionConfig) -> HypervolumeChooser:
    return HypervolumeChooser(world.datasets, [], world.search_space, world.encoder.cost_scale, 0, config)


class Told(Model):
    """A model of three objectives, to be made larger, that says what it was told of each of Q networks."""

    def __init__(self, mean_Q3: Tensor, variance_Q3: Tensor) -> None:
        super().__init__()
        self._mean_Q3, self._variance_Q3 = mean_Q3, variance_Q3

    @property
    def num_outputs(self) -> int:
        return 3

    def posterior(self, X: Tensor, *_: object, **__: object) -> GPyTorchPosterior:
        at_Q = X[:, 0, 0].long()
        covariance_Q33 = torch.diag_embed(self._variance_Q3[at_Q])
        return GPyTorchPosterior(MultitaskMultivariateNormal(self._mean_Q3[at_Q, None], covariance_Q33))


def beside_botorch(world: World, observations: list[Observation]) -> dict[str, Any]:
    """Seconds for the gains of 1,000 networks on a dataset, its front included, and how far the results differ."""
    config, encoder = AcquisitionConfig(), world.encoder
    labellers = [Labeller(dataset.chance) for dataset in world.datasets]
    dataset_N = torch.tensor([world.index[each.candidate.fingerprint] for each in observations])
    labels = [labellers[d].label(each.correct, each.total) for d, each in zip(dataset_N.tolist(), observations)]
    X_NF = encoder.encode(dataset_N, torch.tensor([each.candidate.topology for each in observations]))
    labels = Labels(*torch.tensor(labels, dtype=torch.float64).T)
    given, design = SURROGATES[config.surrogate], encoder.design
    surrogate = given(prior_hyperparameters(design), design, X_NF, labels, config.inducing_pairs, config.block_rows)
    level_N = surrogate.scaled_at_rows_N
    network_QF = encoder.networks(world.search_space.sample(NETWORKS, torch.Generator().manual_seed(1)))
    survey, costs_Q2 = surrogate.survey(network_QF, FEW), network_QF[:, -2:]
    told: dict[str, list[float]] = {"closed_form_s": [], "analytic_s": [], "monte_carlo_s": [], "difference": []}
    for index in range(FEW):
        rows, mean_Q = dataset_N == index, survey.mean_DQ[index]
        std_Q = survey.std(index, torch.arange(NETWORKS))
        level_R, costs_R2 = level_N[rows], X_NF[rows][:, -2:]

        def ours(
            level_R: Tensor = level_R, costs_R2: Tensor = costs_R2, mean_Q: Tensor = mean_Q, std_Q: Tensor = std_Q
        ) -> Tensor:
            front = front_levels(level_R.numpy(), costs_R2.numpy())
            return expected_gain(mean_Q, std_Q, front.level_K, front.areas(costs_Q2))

        model = Told(
            torch.cat([mean_Q[:, None], -costs_Q2], dim=1),
            torch.stack([std_Q**2, *torch.full((2, NETWORKS), 1e-12)], 1),
        )
        points_R3 = torch.cat([level_R[:, None], -costs_R2], dim=1)
        gains, seconds = _timed(ours)
        told["closed_form_s"].append(seconds)
        for name, improvement in (("analytic_s", _analytic), ("monte_carlo_s", _monte_carlo)):
            theirs, seconds = _timed(lambda model=model, points=points_R3, make=improvement: make(model, points))
            told[name].append(seconds)
            if name == "analytic_s":
                told["difference"].append((theirs / REF_COST**2 - gains).abs().max().item())
    largest = max(told.pop("difference"))
    return {name: quantile(each, 0.5) for name, each in told.items()} | {"largest_difference_to_analytic": largest}


def _analytic(model: Model, points_R3: Tensor) -> Tensor:
    reference = torch.tensor([0.0, -REF_COST, -REF_COST], dtype=torch.float64)
    parts: Any = FastNondominatedPartitioning(reference, points_R3)
    return ExpectedHypervolumeImprovement(model, reference.tolist(), parts)(_places())


def _monte_carlo(model: Model, points_R3: Tensor) -> Tensor:
    reference = torch.tensor([0.0, -REF_COST, -REF_COST], dtype=torch.float64)
    parts: Any = FastNondominatedPartitioning(reference, points_R3)
    sampler = SobolQMCNormalSampler(torch.Size([MONTE_CARLO]), seed=0)
    return qExpectedHypervolumeImprovement(model, reference.tolist(), parts, sampler)(_places())


def _places() -> Tensor:
    return torch.arange(NETWORKS, dtype=torch.float64)[:, None, None]


def _timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Its result, and the shortest of three runs in seconds of this thread."""
    taken: list[float] = []
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        for _ in range(3):
            began = time.thread_time()
            result = work()
            taken.append(time.thread_time() - began)
    return result, min(taken)
