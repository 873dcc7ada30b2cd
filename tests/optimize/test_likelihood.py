"""Settings found without a graph: slopes, and the same optimum as a general library finds."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("botorch")
from botorch.acquisition.analytic import LogExpectedImprovement  # noqa: E402
from botorch.fit import fit_gpytorch_mll  # noqa: E402
from gpytorch.mlls import ExactMarginalLogLikelihood  # noqa: E402

from locum.optimize import ExpectedImprovement, GaussianProcess, Known  # noqa: E402
from locum.optimize._likelihood import CORRELATIONS, Priors, _Density  # noqa: E402

RNG = np.random.default_rng(0)
U = RNG.random((30, 3))
Y = np.sin(5 * U).sum(axis=1) + 0.05 * RNG.normal(size=30)


@pytest.mark.parametrize("kernel", sorted(CORRELATIONS))
@pytest.mark.parametrize("known", [None, 0.01])
@pytest.mark.parametrize("priors", [None, Priors((1.4, 1.7), (-4.0, 3.0), 10.0)])
def test_slopes_are_those_of_differences(kernel, known, priors):
    features = np.column_stack([np.ones(30), U])
    density = _Density(U, Y, features, kernel, None if known is None else np.full(30, known), priors)
    at = 0.5 * np.random.default_rng(1).normal(size=3 + (priors is None) + (known is None) + 4)
    _, slope = density(at)
    numeric = [(density(at + 1e-6 * one)[0] - density(at - 1e-6 * one)[0]) / 2e-6 for one in np.eye(len(at))]
    np.testing.assert_allclose(slope, numeric, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", ["matern52", "rbf"])
def test_the_likelihood_is_no_lower_than_where_the_library_ends(kernel):
    model = GaussianProcess(kernel, hyperparameters="mle").fit(U, Y).model_
    mll = ExactMarginalLogLikelihood(model.likelihood, model.train())
    with torch.no_grad():
        own = float(mll(model(*model.train_inputs), model.train_targets))
    fit_gpytorch_mll(mll)  # goes on from there
    with torch.no_grad():
        model.train()
        theirs = float(mll(model(*model.train_inputs), model.train_targets))
    assert own > theirs - 1e-3


@pytest.mark.parametrize("kernel", ["matern52", "matern32", "matern12", "rbf", "power_exponential"])
def test_improvement_is_that_of_the_library(kernel):
    model = GaussianProcess(kernel).fit(U, Y).model_
    X = torch.as_tensor(RNG.random((40, 1, 3))).requires_grad_()
    rows = torch.as_tensor(U)
    known = Known(rows, torch.as_tensor(Y), rows)
    found = ExpectedImprovement().of(model, known)(X)
    expected = LogExpectedImprovement(model, best_f=model.posterior(rows).mean.detach().max())(X)
    np.testing.assert_allclose(found.detach(), expected.detach(), rtol=1e-6, atol=1e-6)
    slopes = [torch.autograd.grad(one.sum(), X)[0] for one in (found, expected)]
    np.testing.assert_allclose(*slopes, rtol=1e-4, atol=1e-5)


def test_many_rows_take_their_settings_from_some_and_their_means_from_all():
    rows = RNG.random((900, 2))
    values = np.sin(6 * rows).sum(axis=1)
    process = GaussianProcess(noise=0.0).fit(rows, values)
    assert len(process.model_.train_targets) == 900
    np.testing.assert_allclose(process.predict(rows), values, atol=1e-3)
