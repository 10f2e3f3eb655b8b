"""The best candidates by bounds are those that judging every candidate exactly gives."""

import pytest
import torch
from acquisition_worlds import CostedSpace, dataset_record

from tans_core.acquisition.gain import expected_gain
from tans_core.acquisition.hypervolume import CostScale, FrontLevels, front_levels
from tans_core.acquisition.inputs import PairEncoder
from tans_core.acquisition.maximise import best_candidates
from tans_core.acquisition.surrogates.exact import Exact, ExactSurvey, condition
from tans_core.acquisition.surrogates.kernel import prior_hyperparameters

SPACE = CostedSpace(4)
DATASETS = [dataset_record(index) for index in range(7)]
ENCODER = PairEncoder(DATASETS, SPACE, CostScale(SPACE, 64))


def world(seed: int, rows: int) -> tuple[Exact, list[FrontLevels], torch.Tensor, torch.Tensor]:
    """A surrogate after rows on all datasets but the last, its fronts, networks, and which pairs are candidates."""
    generator = torch.Generator().manual_seed(seed)
    dataset_N = torch.randint(6, (rows,), generator=generator)
    scaled_N = torch.randn(rows, dtype=torch.float64, generator=generator) * 0.3 + 0.6
    topologies = [tuple(each) for each in SPACE.sample(rows, generator).tolist()]
    given = ENCODER.labelled(dataset_N.tolist(), topologies, scaled_N.tolist(), [3e-3] * rows)
    posterior = condition(prior_hyperparameters(ENCODER.design), ENCODER.design, given.X_NF, given.labels)
    levels_N, rows_of = posterior.scaled_at_rows_N, [dataset_N == index for index in range(7)]
    fronts = [front_levels(levels_N[rows].tolist(), given.costs_N2[rows].numpy(), 1.1) for rows in rows_of]
    new_DQ = torch.rand(7, 200, generator=generator) < 0.8
    new_DQ[seed % 7] = False  # used up
    return posterior, fronts, ENCODER.networks(SPACE.sample(200, generator)), new_DQ


@pytest.mark.parametrize("rows", [0, 12, 120])
@pytest.mark.parametrize("seed", range(10))
def test_the_best_candidates_are_exact(seed: int, rows: int):
    posterior, fronts, network_QF, new_DQ = world(seed, rows)
    found = best_candidates(posterior, fronts, network_QF, new_DQ, count=4)
    survey, every_Q = posterior.survey(network_QF, 7), torch.arange(200)
    gain_DQ = torch.stack(
        [
            expected_gain(
                survey.mean_DQ[index], survey.std(index, every_Q), front.level_K, front.areas(network_QF[:, -2:])
            )
            for index, front in enumerate(fronts)
        ]
    ).where(new_DQ, -1.0)
    best_D, network_D = gain_DQ.max(dim=1)
    order = best_D.argsort(descending=True)[:4].tolist()
    assert [each.gain for each in found] == pytest.approx(best_D[order].tolist(), rel=1e-12)
    assert [(each.dataset, each.network) for each in found] == [(index, int(network_D[index])) for index in order]
    assert found[0].scaled_mean == survey.mean_DQ[found[0].dataset, found[0].network]
    assert found[0].costs == tuple(network_QF[found[0].network, -2:].tolist())


def test_without_candidates_nothing_is_best():
    posterior, fronts, network_QF, new_DQ = world(0, rows=12)
    assert best_candidates(posterior, fronts, network_QF, torch.zeros_like(new_DQ), count=4) == []


def test_few_candidates_are_judged_exactly(monkeypatch: pytest.MonkeyPatch):
    posterior, fronts, network_QF, new_DQ = world(0, rows=120)
    exact, judged = ExactSurvey.std, []

    def counted(survey: ExactSurvey, dataset: int, part_Q: torch.Tensor) -> torch.Tensor:
        judged.append(len(part_Q))
        return exact(survey, dataset, part_Q)

    monkeypatch.setattr(ExactSurvey, "std", counted)
    best_candidates(posterior, fronts, network_QF, new_DQ, count=4)
    assert 4 <= sum(judged) < 0.2 * new_DQ.sum()
