"""Volume expected of an evaluation: against BoTorch's formula, against drawn values, and what is certain already."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("botorch")

import torch

from locum.core.errors import InvalidData
from locum.optimize import Space
from locum.optimize._mfbo_models import Moments
from locum.optimize._mfbo_volume import VolumePerCost
from locum.optimize._svh_psl_front import volume
from locum.optimize.mfbo import Fidelities, TrustRegion, VariableFidelityExpectedImprovement
from locum.optimize.mfbo_front import MultiFidelityParetoOptimizer

VALUES = np.array([[0.0, 4.0], [1.0, 2.5], [3.0, 0.0], [0.5, 0.5]])  # larger is better; the last is no part of the front


class Known:
    """A surrogate whose moments are given; rows say which."""

    def __init__(self, mean, covariance):
        self.mean, self.covariance = torch.as_tensor(mean), torch.as_tensor(covariance)

    def moments(self, X):
        rows = X[:, 0].long()
        return Moments(self.mean[rows], self.covariance[rows])


def made(means, deviations, alike=None):
    """Objectives of one level, or of two whose correlation is `alike`; means and deviations of shape (b, m)."""
    out = []
    for mean, sd in zip(np.transpose(means), np.transpose(deviations), strict=True):
        block = np.ones((1, 1)) if alike is None else np.array([[1.0, alike], [alike, 1.0]])
        out.append(Known(np.repeat(mean[:, None], len(block), axis=1), sd[:, None, None] ** 2 * block))
    return out


def standing(*cost):
    return SimpleNamespace(cost=torch.tensor(cost))


def worths(rule, n, *cost):
    rows = torch.arange(n, dtype=torch.float64)[:, None]
    return rule.table(None, standing(*cost))(rows).exp().numpy()


@pytest.fixture
def few():
    rng = np.random.default_rng(0)
    return rng.uniform(0, 4, size=(8, 2)), rng.uniform(0.1, 2, size=(8, 2))


def test_the_truth_alone_is_worth_what_botorch_says(few):
    from botorch.acquisition.multi_objective.analytic import ExpectedHypervolumeImprovement
    from botorch.models.model import Model
    from botorch.posteriors import GPyTorchPosterior
    from botorch.utils.multi_objective.box_decompositions.non_dominated import NondominatedPartitioning
    from gpytorch.distributions import MultitaskMultivariateNormal
    from linear_operator.operators import DiagLinearOperator

    means, deviations = few

    class Same(Model):
        num_outputs = 2

        def posterior(self, X, *rest, **settings):
            i = X[:, 0, 0].long()
            spread = DiagLinearOperator(torch.as_tensor(deviations[i] ** 2))
            return GPyTorchPosterior(MultitaskMultivariateNormal(torch.as_tensor(means[i])[:, None], spread))

    rule = VolumePerCost(made(means, deviations), VALUES)
    worst = [-0.1 * 3, -0.1 * 4]  # a tenth of the front's ranges below its worst
    assert (rule.lower.min(dim=0).values * rule.scale).tolist() == pytest.approx(worst)
    peer = ExpectedHypervolumeImprovement(
        Same(), worst, NondominatedPartitioning(torch.tensor(worst, dtype=torch.float64), torch.as_tensor(VALUES))
    )
    theirs = peer(torch.arange(8, dtype=torch.float64)[:, None, None]).numpy()
    ours = worths(rule, 8, 1.0)[:, 0] * float(rule.scale.prod())
    assert ours == pytest.approx(theirs, rel=1e-8)


def test_a_level_below_is_worth_what_it_may_change_and_not_what_is_certain(few):
    means, deviations = few
    rule = VolumePerCost(made(means, deviations, alike=0.8), VALUES)
    found = worths(rule, 8, 1.0, 4.0)
    scale = rule.scale.numpy()
    worst = np.array([-0.3, -0.4])
    rng = np.random.default_rng(1)
    draws = rng.normal(size=(4000, 2))
    before = volume(-VALUES, -worst)

    def gained(y):
        return (volume(-np.vstack([VALUES, y]), -worst) - before) / scale.prod()

    for i in (0, 3, 6):
        below = np.array([gained(means[i] + 0.8 * deviations[i] * z) for z in draws]) - gained(means[i])
        assert abs(found[i, 0] / 4 - below.mean()) < 4 * below.std() / np.sqrt(len(draws))  # a quarter of the cost
        above = np.array([gained(means[i] + 0.6 * deviations[i] * z) for z in draws])  # what the level leaves of it
        assert abs(found[i, 1] - above.mean()) < 4 * above.std() / np.sqrt(len(draws))


def test_a_level_that_tells_nothing_is_worth_nothing(few):
    means, deviations = few
    found = worths(VolumePerCost(made(means, deviations, alike=0.0), VALUES), 8, 1.0, 4.0)
    assert (found[:, 0] < 1e-9).all()
    alone = worths(VolumePerCost(made(means, deviations), VALUES), 8, 1.0)
    assert found[:, 1] == pytest.approx(alone[:, 0])


def test_one_constant_objective_leaves_the_others_their_worth():
    values = np.column_stack([np.arange(4.0), np.ones(4)])
    found = worths(VolumePerCost(made(np.array([[5.0, 1.0]]), np.array([[1.0, 1e-6]])), values), 1, 1.0)
    assert np.isfinite(found).all()


def test_what_is_for_one_objective_wants_an_acquisition():
    levels = Fidelities([lambda p: [p["x0"], -p["x0"]]] * 2, [1.0, 4.0])
    space = Space.box([(0, 1)])
    with pytest.raises(InvalidData, match="trust_region= is for one objective; give acquisition="):
        MultiFidelityParetoOptimizer(space, levels, direction="minimize", trust_region=TrustRegion())
    made_one = MultiFidelityParetoOptimizer(
        space, levels, acquisition=VariableFidelityExpectedImprovement(), direction="minimize", trust_region=TrustRegion()
    )
    assert len(made_one.run(budget=30).x) > 1


def test_the_same_seed_proposes_the_same():
    def level(shift):
        return lambda p: [(p["x0"] - shift) ** 2, (p["x0"] - 0.8) ** 2]

    runs = [
        MultiFidelityParetoOptimizer(
            Space.box([(0, 1)]), Fidelities([level(0.25), level(0.2)], [1.0, 5.0]), direction="minimize", random_state=3
        ).run(budget=50)
        for _ in range(2)
    ]
    assert np.array_equal(runs[0].values, runs[1].values)
    assert len(set(runs[0].levels)) == 2
