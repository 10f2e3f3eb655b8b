"""The surrogate: BoTorch's own posterior, what rows teach about other datasets, fits that repeat or fail."""

import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from math import log
from pathlib import Path

import pytest
import torch
from acquisition_worlds import CostedSpace, dataset_record, trained
from botorch.models import SingleTaskGP
from botorch.optim.fit import fit_gpytorch_mll_scipy
from gpytorch.means import ConstantMean
from scipy.stats import spearmanr

from tans_core.acquisition.hypervolume import CostScale
from tans_core.acquisition.inputs import Design, LabelledPairs, Labeller, Labels, PairEncoder
from tans_core.acquisition.surrogates.exact import Exact, condition
from tans_core.acquisition.surrogates.fit import FitFailed, fit
from tans_core.acquisition.surrogates.kernel import FittedKernel, Hyperparameters, prior_hyperparameters
from tans_core.records import Candidate

SPACE = CostedSpace(4)
DATASETS = [dataset_record(index) for index in range(6)]
ENCODER = PairEncoder(DATASETS, SPACE, CostScale(SPACE, 64))


def trained_pairs(count: int, datasets: int = len(DATASETS), seed: int = 0) -> LabelledPairs:
    generator = torch.Generator().manual_seed(seed)
    dataset_N = (torch.arange(count) % datasets).tolist()
    topologies = [tuple(topology) for topology in SPACE.sample(count, generator).tolist()]
    observed = [trained(Candidate(DATASETS[d].fingerprint, t), SPACE) for d, t in zip(dataset_N, topologies)]
    labellers = [Labeller(dataset.chance) for dataset in DATASETS]
    labels = [labellers[d].label(each.correct, each.total) for d, each in zip(dataset_N, observed)]
    return ENCODER.labelled(dataset_N, topologies, *zip(*labels))


def predicted(posterior: Exact, X_CF: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each pair."""
    survey = posterior.survey(X_CF[:, 1:], len(posterior.kernel.by_dataset_DD))
    pairs = [(int(dataset), torch.tensor([place])) for place, dataset in enumerate(X_CF[:, 0].tolist())]
    means, stds = zip(*((survey.mean_DQ[dataset, place], survey.std(dataset, place)) for dataset, place in pairs))
    return torch.cat(means), torch.cat(stds)


def test_labels_worked_by_hand():
    # 45 of 60 with a chance of a quarter: (0.75 - 0.25) / 0.75 = 2/3. Before any row, half way between chance and
    # perfect is expected: 0.625; after it (0.625 + 0.75) / 2; after 60 of 60 (0.625 + 0.75 + 1) / 3.
    labeller = Labeller(chance=0.25)
    assert labeller.label(45, 60) == pytest.approx((2 / 3, 0.625 * 0.375 / 60 / 0.75**2))
    assert labeller.label(60, 60) == pytest.approx((1, 0.6875 * 0.3125 / 60 / 0.75**2))
    assert labeller.variance(20) == pytest.approx(2.375 / 3 * 0.625 / 3 / 20 / 0.75**2)


def test_luck_makes_no_label_surer():
    # Equal networks, right in 9 of 10 cases: averaged by their precision, their labels say so.
    generator, labeller = torch.Generator().manual_seed(0), Labeller(chance=0.0)
    correct = torch.binomial(torch.full((4_000,), 60.0), torch.tensor(0.9), generator=generator)
    labels = torch.tensor([labeller.label(int(each), 60) for each in correct], dtype=torch.float64)
    precision_N = 1 / labels[:, 1]
    assert float((labels[:, 0] * precision_N).sum() / precision_N.sum()) == pytest.approx(0.9, abs=0.003)


def test_all_correct_is_not_certainty():
    labeller = Labeller(chance=0.5)
    first, *_, last = [labeller.label(32, 32)[1] for _ in range(50)]
    assert first > last > 1e-5


@pytest.mark.parametrize(("correct", "label"), [(30, -1.0), (594, 0.0), (588, -1.0), (591, -0.5), (600, 1.0)])
def test_a_label_is_as_far_below_chance_at_most_as_perfect_is_above(correct: int, label: float):
    assert Labeller(chance=0.99).label(correct, 600)[0] == pytest.approx(label)


def test_a_dataset_far_below_its_chance_does_not_spoil_the_others():
    # Right in half of all cases where chance is 0.99: what is expected of a dataset without rows stays as sure.
    rare = replace(DATASETS[5], chance=0.99)
    labeller, encoder = Labeller(rare.chance), PairEncoder([*DATASETS[:5], rare], SPACE, CostScale(SPACE, 64))
    topologies = [tuple(each) for each in SPACE.sample(6, torch.Generator().manual_seed(2)).tolist()]
    useless = encoder.labelled([5] * 6, topologies, *zip(*[labeller.label(30, 60) for _ in range(6)]))
    X_CF = encoder.encode(torch.full((6,), 4), torch.tensor(topologies))

    def std(rows: LabelledPairs) -> float:
        fitted = fit(encoder.design, rows.X_NF, rows.labels)
        return float(predicted(condition(fitted, encoder.design, rows.X_NF, rows.labels), X_CF)[1].mean())

    rows = trained_pairs(40, datasets=4)
    assert std(rows + useless) < 1.5 * std(rows)


HYPERPARAMETERS = Hyperparameters(
    20, 0.4, (1.5, 0.5, 1.0, 2.0, 3.0), (1.2, 0.9, 2.0, 0.4, 0.8), (0.03, 0.02, 0.01, 0.02, 0.003)
)


def test_posterior_is_botorchs():
    rows, new, hyperparameters = trained_pairs(20), trained_pairs(30, seed=1), HYPERPARAMETERS
    kernel = FittedKernel(ENCODER.design)
    for parameter, values in zip(
        kernel.parameters(),
        (hyperparameters.dataset_lengthscales, hyperparameters.network_lengthscales, hyperparameters.variances),
    ):
        parameter.data = torch.tensor(values, dtype=torch.float64).log()
    mean = ConstantMean()
    mean.initialize(constant=torch.tensor(0.4, dtype=torch.float64))
    model = SingleTaskGP(
        rows.X_NF,
        rows.labels.scaled_N[:, None],
        train_Yvar=rows.labels.variance_N[:, None],
        covar_module=kernel,
        mean_module=mean,
        outcome_transform=None,
    )
    theirs = model.posterior(new.X_NF)
    posterior = condition(hyperparameters, ENCODER.design, rows.X_NF, rows.labels)
    mean_C, std_C = predicted(posterior, new.X_NF)
    torch.testing.assert_close(mean_C, theirs.mean[:, 0].detach(), atol=1e-8, rtol=0)
    torch.testing.assert_close(std_C, theirs.variance[:, 0].detach().sqrt(), atol=1e-8, rtol=0)
    torch.testing.assert_close(posterior.means(new.X_NF), mean_C)


def test_rows_taken_up_one_by_one_teach_the_same():
    rows, new = trained_pairs(20), trained_pairs(30, seed=1)
    at_once = condition(HYPERPARAMETERS, ENCODER.design, rows.X_NF, rows.labels)
    one_by_one = condition(HYPERPARAMETERS, ENCODER.design, rows.X_NF[:0], rows.labels[:0])
    for row in range(20):
        one_by_one = one_by_one.given(rows.X_NF[row : row + 1], rows.labels[row : row + 1])
    torch.testing.assert_close(one_by_one.scaled_at_rows_N, at_once.scaled_at_rows_N)
    torch.testing.assert_close(predicted(one_by_one, new.X_NF), predicted(at_once, new.X_NF))


def test_a_row_that_comes_out_as_predicted_changes_no_mean():
    rows, pending, new = trained_pairs(20), trained_pairs(5, seed=2), trained_pairs(30, seed=1)
    before = condition(HYPERPARAMETERS, ENCODER.design, rows.X_NF, rows.labels)
    after = before.given(pending.X_NF, Labels(before.means(pending.X_NF), pending.labels.variance_N))
    torch.testing.assert_close(after.means(new.X_NF), before.means(new.X_NF))
    assert (predicted(after, new.X_NF)[1] < predicted(before, new.X_NF)[1]).all()


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_a_bound_of_a_deviation_is_near_and_above_it(rows: int):
    given, networks = trained_pairs(rows, datasets=5), trained_pairs(50, seed=1).X_NF[:, 1:]
    survey = condition(HYPERPARAMETERS, ENCODER.design, given.X_NF, given.labels).survey(networks, 6)
    exact_DQ = torch.stack([survey.std(index, torch.arange(50)) for index in range(6)])
    ratio_DQ = survey.most_std() / exact_DQ
    assert (ratio_DQ >= 1 - 1e-9).all()
    assert ratio_DQ[:5].mean() < 1.2


def test_without_rows_the_prior_holds():
    prior = prior_hyperparameters(ENCODER.design)
    none = ENCODER.labelled([], [], [], [])
    mean_C, std_C = predicted(condition(prior, ENCODER.design, none.X_NF, none.labels), trained_pairs(5).X_NF)
    assert mean_C.tolist() == pytest.approx([prior.mean] * 5)
    assert std_C.tolist() == pytest.approx([sum(prior.variances) ** 0.5] * 5)


def test_a_lucky_label_is_taken_with_its_noise():
    rows = trained_pairs(30)
    scaled_N = rows.labels.scaled_N.clone()
    scaled_N[7] += 0.4
    lucky = Labels(scaled_N, rows.labels.variance_N)
    posterior = condition(prior_hyperparameters(ENCODER.design), ENCODER.design, rows.X_NF, lucky)
    assert rows.labels.scaled_N[7] - 0.1 < posterior.scaled_at_rows_N[7] < scaled_N[7] - 0.05


def test_a_dataset_without_rows_is_judged_by_those_that_resemble_it():
    twin = replace(DATASETS[0], fingerprint="twin")
    encoder = PairEncoder([*DATASETS, twin], SPACE, CostScale(SPACE, 64))
    topologies = [tuple(t) for t in SPACE.sample(24, torch.Generator().manual_seed(3)).tolist()]
    dataset_N = [index % 4 for index in range(24)]
    accuracies = [0.9 if index == 0 else 0.3 for index in dataset_N]
    rows = encoder.labelled(dataset_N, topologies, accuracies, [1e-3] * 24)
    posterior = condition(prior_hyperparameters(encoder.design), encoder.design, rows.X_NF, rows.labels)
    X_CF = encoder.encode(torch.tensor([6, 5, 0]), torch.tensor([topologies[0]] * 3))
    mean_C, std_C = predicted(posterior, X_CF)
    assert mean_C[0] > mean_C[1] + 0.05  # the twin of the good one, against one that resembles none
    assert std_C[2] < std_C[0] < std_C[1]


def test_a_fit_is_a_function_of_its_rows_in_any_thread():
    rows = trained_pairs(24)
    here = fit(ENCODER.design, rows.X_NF, rows.labels)
    torch.rand(5)  # the global random state plays no part
    with ThreadPoolExecutor(1) as thread:
        there = thread.submit(fit, ENCODER.design, rows.X_NF, rows.labels).result()
    assert here == there
    assert here != replace(prior_hyperparameters(ENCODER.design), rows=24)


@pytest.mark.parametrize("labels", [[0.5] * 10, [0.0] * 10, [1.0] * 10])
def test_e25_equal_rows_with_constant_labels_are_fitted(labels: list[float]):
    topology = tuple(SPACE.sample(1, torch.Generator().manual_seed(0))[0].tolist())
    rows = ENCODER.labelled([0] * 10, [topology] * 10, labels, [1e-4] * 10)
    fitted = fit(ENCODER.design, rows.X_NF, rows.labels)
    posterior = condition(fitted, ENCODER.design, rows.X_NF, rows.labels)
    mean_C, std_C = predicted(posterior, trained_pairs(5).X_NF)
    assert torch.isfinite(mean_C).all()
    assert (std_C > 0).all()


def test_a_fit_whose_search_does_not_end_says_so(monkeypatch: pytest.MonkeyPatch):
    # BoTorch's own search, given one step of the dozens that it needs.
    one_step = partial(fit_gpytorch_mll_scipy, options={"maxiter": 1})
    monkeypatch.setattr("tans_core.acquisition.surrogates.fit.fit_gpytorch_mll_scipy", one_step)
    rows = trained_pairs(24)
    with pytest.raises(FitFailed, match=r"ended after 1 steps: .*ITERATIONS"):
        fit(ENCODER.design, rows.X_NF, rows.labels)


def test_a_fit_that_cannot_be_says_so():
    rows = trained_pairs(10)
    spoilt = Labels(torch.full_like(rows.labels.scaled_N, torch.nan), rows.labels.variance_N)
    with pytest.raises(FitFailed):
        fit(ENCODER.design, rows.X_NF, spoilt)


def measured_pairs() -> tuple[Design, torch.Tensor, Labels]:
    """240 measured pairs: 40 real datasets, 6 random ofa-lite subnets each, from `pairs.csv`.

    Each label is a linear probe: the subnet with its starting weights, batch norm re-estimated on at most 320
    training images at 64 px, ridge regression (300 times the identity, standardised features) from its penultimate
    features to the classes, counted on at most 100 other images. `pc1` to `pc8` and `nearest_mean` (images whose
    nearest class mean is their own) are of the largest subnet's features; costs are quantiles as `CostScale` gives.
    """
    with (Path(__file__).parent / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["dataset"] for row in rows})
    about = {row["dataset"]: row for row in rows}
    components_DF = torch.tensor([[float(about[name][f"pc{k}"]) for k in range(1, 9)] for name in names])
    numbers_DF = torch.tensor(
        [
            (log(int(r["classes"])), float(r["chance"]), log(int(r["images"])), float(r["nearest_mean"]))
            for r in (about[name] for name in names)
        ]
    )
    numbers_DF = (numbers_DF - numbers_DF.mean(0)) / numbers_DF.std(0)
    design = Design(torch.cat([components_DF, numbers_DF], dim=1).double(), (8, 1, 1, 1, 1), (21, 21, 5, 1, 1))
    topology_NT = torch.tensor([[int(digit) for digit in row["topology"]] for row in rows]).double()
    topology_NT = (topology_NT - topology_NT.mean(0)) / topology_NT.std(0)
    topology_NT /= torch.tensor([21] * 42 + [5] * 5).sqrt()
    index_N1 = torch.tensor([[names.index(row["dataset"])] for row in rows])
    costs_N2 = torch.tensor([(float(row["params"]), float(row["flops"])) for row in rows])
    labellers = {name: Labeller(float(row["chance"])) for name, row in about.items()}
    labels = [labellers[row["dataset"]].label(int(row["correct"]), int(row["total"])) for row in rows]
    scaled_N, variance_N = torch.tensor(labels, dtype=torch.float64).T
    return design, torch.cat([index_N1, topology_NT, costs_N2], dim=1).double(), Labels(scaled_N, variance_N)


@pytest.mark.parametrize(("held_out", "at_least"), [("pairs", 0.85), ("datasets", 0.5)])
def test_it_ranks_measured_pairs_that_it_has_not_seen(held_out: str, at_least: float):
    """A constant model has no rank correlation (NaN), which is not at least anything."""
    design, X_NF, labels = measured_pairs()
    order = torch.randperm(len(X_NF) if held_out == "pairs" else 40, generator=torch.Generator().manual_seed(0))
    left_out = order[: len(order) // 4]
    test_N = torch.isin(torch.arange(len(X_NF)) if held_out == "pairs" else X_NF[:, 0].long(), left_out)
    seen = Labels(labels.scaled_N[~test_N], labels.variance_N[~test_N])
    posterior = condition(fit(design, X_NF[~test_N], seen), design, X_NF[~test_N], seen)
    mean_C, std_C = predicted(posterior, X_NF[test_N])
    assert float(spearmanr(mean_C, labels.scaled_N[test_N])[0]) > at_least  # pyright: ignore[reportArgumentType]
    surprise_C = (labels.scaled_N[test_N] - mean_C) / (std_C**2 + labels.variance_N[test_N]).sqrt()
    assert 0.5 < surprise_C.square().mean().sqrt() < 2  # it knows how wrong it is
