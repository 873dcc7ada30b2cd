"""Columns that are bent: slopes, the same answers as of bent rows, planted warps found, and what they are for."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("botorch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.optimize import ExpectedImprovement, GaussianProcess, Known, ModelAverage, Optimizer, Space  # noqa: E402
from locum.optimize._input_warp import bent, with_slopes  # noqa: E402
from locum.optimize._likelihood import CORRELATIONS, Priors, _Density  # noqa: E402
from locum.optimize._models import process_of  # noqa: E402

RNG = np.random.default_rng(0)
U = RNG.random((30, 2))
POWERS = np.array([[0.3, 1.0], [1.7, 0.6]])


def test_ends_stay_and_order_is_kept():
    x = np.linspace(0, 1, 200)[:, None] * np.ones(2)
    y = bent(x, POWERS)
    np.testing.assert_allclose(y[[0, -1]], [[0, 0], [1, 1]], atol=0.02)
    assert (np.diff(y, axis=0) > 0).all()
    np.testing.assert_allclose(bent(x, np.ones((2, 2))), x, atol=1e-5)
    np.testing.assert_allclose(bent(torch.as_tensor(x), torch.as_tensor(POWERS)).numpy(), y)


def test_slopes_in_the_logarithms_of_the_powers():
    rows, slopes = with_slopes(U, POWERS)
    np.testing.assert_allclose(rows, bent(U, POWERS))
    for k in range(2):
        h = np.zeros(2)
        h[k] = 1e-6
        numeric = (bent(U, POWERS * np.exp(h)) - bent(U, POWERS * np.exp(-h))) / 2e-6
        np.testing.assert_allclose(slopes[:, :, k], numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kernel", sorted(CORRELATIONS))
@pytest.mark.parametrize("known", [None, 0.01])
@pytest.mark.parametrize("priors", [None, Priors((1.4, 1.7), (-4.0, 3.0), 10.0)])
def test_slopes_of_the_density_are_those_of_differences(kernel, known, priors):
    y, features = np.sin(5 * U).sum(axis=1), np.column_stack([np.ones(30), U])
    density = _Density(U, y, features, kernel, None if known is None else np.full(30, known), priors, warped=True)
    at = 0.4 * np.random.default_rng(1).normal(size=6 + (priors is None) + (known is None) + 3)
    _, slope = density(at)
    numeric = [(density(at + 1e-6 * one)[0] - density(at - 1e-6 * one)[0]) / 2e-6 for one in np.eye(len(at))]
    np.testing.assert_allclose(slope, numeric, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"hyperparameters": "mle"}, {"hyperparameters": "sampled"}, {"noise": 0.0}])
def test_answers_are_those_of_a_process_of_bent_rows(settings):
    y = np.sin(6 * U[:, 0] ** 0.3) + U[:, 1]
    model = GaussianProcess(input_warping=True, **settings).fit(U, y).models_[0]
    fresh = torch.as_tensor(RNG.random((20, 2)))
    process = process_of(model)
    with torch.no_grad():
        theirs = model.posterior(fresh)
        mean, variance = process.marginal(fresh)
    np.testing.assert_allclose(mean.numpy(), theirs.mean[:, 0].numpy(), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(variance.numpy(), theirs.variance[:, 0].numpy(), rtol=1e-4, atol=1e-9)
    powers = model.covar_module.powers
    inner = model.covar_module.base(bent(fresh, powers), bent(torch.as_tensor(U), powers)).to_dense()
    np.testing.assert_allclose(model.covar_module(fresh, torch.as_tensor(U)).to_dense().detach(), inner.detach(), atol=1e-10)


def test_rows_beyond_the_unit_cube_are_answered():
    wide = 4 * U - 1
    y = np.sin(6 * U[:, 0] ** 0.3) + U[:, 1]
    process = GaussianProcess(input_warping=True).fit(wide, y)
    assert np.abs(process.predict(wide) - y).max() < 0.05
    far = process.predict(np.array([[10.0, 0.0], [wide[:, 0].max(), 0.0]]))
    assert far[0] == pytest.approx(far[1])


def test_improvement_has_slopes_at_the_ends_too():
    y = U[:, 0]
    model = GaussianProcess(input_warping=True).fit(U, y).model_
    X = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]], [[0.5, 0.5]]], dtype=torch.float64, requires_grad=True)
    rows = torch.as_tensor(U)
    found = ExpectedImprovement().of(model, Known(rows, torch.as_tensor(y), rows))(X)
    (slope,) = torch.autograd.grad(found.sum(), X)
    assert torch.isfinite(slope).all()


def test_a_planted_warp_is_found_and_foretells_better():
    rng = np.random.default_rng(5)
    X, fresh = rng.random((60, 2)), rng.random((400, 2))

    def truth(x):
        return np.sin(12 * x[:, 0] ** 0.2) + 0.3 * x[:, 1]

    plain, warped = (GaussianProcess(input_warping=one).fit(X, truth(X)) for one in (False, True))
    off = [np.sqrt(np.mean((one.predict(fresh) - truth(fresh)) ** 2)) for one in (plain, warped)]
    assert off[1] < 0.5 * off[0]
    assert warped.model_.covar_module.powers[0, 0] < 0.6
    straight = GaussianProcess(input_warping=True).fit(X, np.sin(5 * X[:, 0]) + X[:, 1]).model_.covar_module.powers
    assert ((straight > 0.4) & (straight < 2.5)).all()


@pytest.mark.parametrize(("surrogate", "least"), [(GaussianProcess(input_warping=True), 0.0), (ModelAverage(), 0.2)])
def test_an_optimum_in_a_corner_is_found_sooner(surrogate, least):
    """Weight of a beam of five blocks whose ranges are 100 and whose best heights are below 7."""
    stiff = np.array([61.0, 37.0, 19.0, 7.0, 1.0])

    def weight(point):
        x = np.array(list(point.values()))
        return float(np.log(x.sum()) + np.log1p(10 * max((stiff / x**3).sum() - 1, 0)))

    def best(surrogate, seed):
        optimizer = Optimizer(Space.box([(0.01, 100.0)] * 5), surrogate, direction="minimize", random_state=seed)
        for _ in range(30):
            points = optimizer.ask()
            optimizer.tell(points, [weight(point) for point in points])
        return min(optimizer.values)

    gained = [best(GaussianProcess(), seed) - best(surrogate, seed) for seed in range(4)]
    assert np.mean(gained) > least


def test_same_numbers_again_and_what_cannot_be_bent():
    y = np.sin(5 * U).sum(axis=1)
    one, other = (GaussianProcess(input_warping=True).fit(U, y).predict(U) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    with pytest.raises(InvalidData, match="another kernel= with input_warping=True"):
        GaussianProcess("power_exponential", input_warping=True).fit(U, y)
