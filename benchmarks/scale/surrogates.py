"""What surrogates predict: pairs and datasets that were held out, and the levels of fronts.

Errors are to the true scaled accuracies of the made-up worlds; log likelihoods of held-out labels.
Axes: N rows, C held-out pairs, D datasets, F columns of a pair.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.scale.decisions import observed
from benchmarks.simulation.worlds import World, make_world
from tans_core.acquisition.config import AcquisitionConfig
from tans_core.acquisition.hypervolume import front_levels
from tans_core.acquisition.inputs import Labeller, Labels
from tans_core.acquisition.surrogates import SURROGATES, constant, exact
from tans_core.acquisition.surrogates.fit import fit, spread_rows
from tans_core.acquisition.surrogates.kernel import Hyperparameters, prior_hyperparameters
from tans_core.acquisition.surrogates.surrogate import Surrogate
from tans_core.search_space import make_search_space

SIZES = ((40, 2_000), (140, 14_000))  # datasets that have rows or are held out, rows
EXACT_ROWS = 2_000  # beyond, the exact process is not asked
HELD_OUT = 600
WINDOW = 800  # newest rows: what there was before


def measure(out: Path) -> dict[str, Any]:
    """Each world and size; the first tenth of the datasets has no rows."""
    torch.set_num_threads(1)
    space = make_search_space("ofa-lite")
    told = {}
    for name in ("smooth", "rough"):
        for datasets, rows in SIZES:
            world = make_world(name, datasets, space, 64, 0)
            told[f"{name}, {datasets} datasets, {rows} rows"] = compared(world, rows)
    return {"surrogates": told}


def compared(world: World, rows: int) -> dict[str, Any]:
    """Each surrogate on one draw of rows."""
    held = len(world.datasets) // 10
    share = len(world.datasets) / (len(world.datasets) - held)
    X_AF, labels_A, true_A = _pairs(world, int((rows + HELD_OUT) * share * 1.1))
    fresh_A = X_AF[:, 0] < held
    known, new = (~fresh_A).nonzero()[:, 0], fresh_A.nonzero()[:, 0][:HELD_OUT]
    seen, unseen = known[:rows], known[rows : rows + HELD_OUT]
    X_NF, labels, design, config = X_AF[seen], labels_A[seen], world.encoder.design, AcquisitionConfig()
    some = spread_rows(rows, config.fit_rows)
    began = time.thread_time()
    fitted = fit(design, X_NF[some], labels[some])
    fit_s = time.thread_time() - began
    prior = prior_hyperparameters(design)

    def blocks(hyperparameters: Hyperparameters, inducing_pairs: int, block_rows: int) -> Surrogate:
        return SURROGATES["blocks"](hyperparameters, design, X_NF, labels, inducing_pairs, block_rows)

    made = {
        "blocks": lambda: blocks(fitted, config.inducing_pairs, config.block_rows),
        "blocks, 512 inducing pairs": lambda: blocks(fitted, 512, config.block_rows),
        "blocks, priors": lambda: blocks(prior, config.inducing_pairs, config.block_rows),
        "constant": lambda: constant.condition(fitted, design, X_NF, labels),
        "newest 800": lambda: exact.condition(fitted, design, X_NF[-WINDOW:], labels[-WINDOW:]),
    }
    if rows <= EXACT_ROWS:
        made["exact"] = lambda: exact.condition(fitted, design, X_NF, labels)
        made["blocks of one row"] = lambda: blocks(fitted, config.inducing_pairs, 1)
    told: dict[str, Any] = {"fit_s": fit_s}
    for name, make in made.items():
        began = time.thread_time()
        surrogate = make()
        given_s = time.thread_time() - began
        forgotten_N = surrogate.means(X_NF[: rows - len(surrogate)]) if len(surrogate) < rows else X_NF[:0, 0]
        level_N = torch.cat([forgotten_N, surrogate.scaled_at_rows_N])
        told[name] = {"given_s": given_s, "level_rmse": _level_rmse(X_NF, level_N, true_A[seen])}
        for side, at in (("pairs", unseen), ("datasets", new)):
            told[name][side] = _scores(surrogate, X_AF[at], labels_A[at], true_A[at])
    told["raw labels"] = {"level_rmse": _level_rmse(X_NF, labels.scaled_N, true_A[seen])}
    return told


def _pairs(world: World, count: int) -> tuple[Tensor, Labels, Tensor]:
    """Rows for a surrogate, their labels, and what they really are, luck included."""
    candidates = [each.candidate for each in observed(world, count)]
    dataset_N = torch.tensor([world.index[each.fingerprint] for each in candidates])
    topology_NT = torch.tensor([each.topology for each in candidates])
    labellers = [Labeller(dataset.chance) for dataset in world.datasets]
    results = [world.observe(each) for each in candidates]
    labels = [labellers[d].label(each.correct, each.total) for d, each in zip(dataset_N.tolist(), results)]
    true_N = world.scaled(dataset_N, topology_NT)
    return world.encoder.encode(dataset_N, topology_NT), Labels(*torch.tensor(labels, dtype=torch.float64).T), true_N


def _scores(surrogate: Surrogate, X_CF: Tensor, labels: Labels, true_C: Tensor) -> dict[str, float]:
    mean_C, std_C = torch.empty(2, len(X_CF), dtype=torch.float64)
    for index in X_CF[:, 0].unique().int().tolist():
        there = (X_CF[:, 0] == index).nonzero()[:, 0]
        survey = surrogate.survey(X_CF[there, 1:], index + 1)
        mean_C[there], std_C[there] = survey.mean_DQ[index], survey.std(index, torch.arange(len(there)))
    variance_C = std_C**2 + labels.variance_N
    likelihood_C = -((labels.scaled_N - mean_C) ** 2 / variance_C + variance_C.log() + math.log(2 * math.pi)) / 2
    return {
        "rmse": (mean_C - true_C).square().mean().sqrt().item(),
        "log_likelihood": likelihood_C.mean().item(),
    }


def _level_rmse(X_NF: Tensor, level_N: Tensor, true_N: Tensor) -> float:
    """Over all networks of all fronts."""
    errors = []
    for index in X_NF[:, 0].unique().tolist():
        there = (X_NF[:, 0] == index).nonzero()[:, 0]
        rows = there[list(front_levels(level_N[there].numpy(), X_NF[there][:, -2:].numpy()).rows_F)]
        errors.append(level_N[rows] - true_N[rows])
    return torch.cat(errors).square().mean().sqrt().item()
