"""Bayesian networks as surrogates: exact where the posterior is known, and BoTorch models everywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("botorch")

from locum.core.errors import InvalidData, LocumError  # noqa: E402
from locum.nets import seeded  # noqa: E402
from locum.optimize import ExpectedImprovement, Optimizer, ParallelExpectedImprovement, Space  # noqa: E402
from locum.optimize._bnn_kernels import InfiniteWidthKernel, TangentKernel  # noqa: E402
from locum.optimize._bnn_networks import Layers  # noqa: E402
from locum.optimize.bnn_surrogates import (  # noqa: E402
    DeepEnsemble,
    DeepKernelProcess,
    HamiltonianNetwork,
    InfiniteWidthProcess,
    LaplaceNetwork,
    StochasticGradientHamiltonianNetwork,
)

RNG = np.random.default_rng(0)
U = RNG.random((24, 2))
Y = U @ [2.0, -1.0] + 0.3 * RNG.normal(size=24)
V = RNG.random((7, 2))
PRIOR, NOISE = 1.0, 0.1
GIVEN = {"prior_var": PRIOR, "noise_var": NOISE}
SMALL = {
    "HamiltonianNetwork": HamiltonianNetwork((8,), **GIVEN, burn=40, samples=40),
    "StochasticGradientHamiltonianNetwork": StochasticGradientHamiltonianNetwork((8,), **GIVEN, steps=300, burn=100),
    "DeepEnsemble": DeepEnsemble((8,), **GIVEN, members=4, steps=300, learning_rate=1e-2),
    "LaplaceNetwork": LaplaceNetwork((8,), steps=200),
    "InfiniteWidthProcess": InfiniteWidthProcess(),
    "DeepKernelProcess": DeepKernelProcess((8, 4), pretrain=200, steps=100, learning_rate=1e-2),
}


def exact(rows):
    """Mean and covariance of f under Bayesian linear regression with an offset, of values in their own unit."""
    shift, scale = Y.mean(), Y.std(ddof=1)
    A, B = (np.column_stack([X, np.ones(len(X))]) for X in (U, rows))
    S = np.linalg.inv(A.T @ A / NOISE + np.eye(3) / PRIOR)
    return shift + scale * B @ S @ A.T @ ((Y - shift) / scale) / NOISE, scale**2 * B @ S @ B.T


def drawn(fitted, rows):
    """Mean and covariance of joint samples."""
    values = fitted.model_.posterior(torch.as_tensor(rows)).values[..., 0].detach().numpy()
    return values.mean(axis=0), np.cov(values.T)


# ---------------------------------------------------------------------- exact posteriors
def test_hamiltonian_monte_carlo_is_exact_on_a_linear_network():
    fitted = HamiltonianNetwork((), "identity", **GIVEN, burn=500, samples=2000, path_length=1.0, step_size=0.1).fit(U, Y)
    mean, covariance = exact(V)
    found, spread = drawn(fitted, V)
    np.testing.assert_allclose(found, mean, atol=0.05 * np.sqrt(np.diag(covariance)).max() + 0.005)
    np.testing.assert_allclose(spread, covariance, atol=0.1 * np.diag(covariance).max())
    assert 0.6 < fitted.diagnostics_["accepted"] < 0.98
    assert fitted.diagnostics_["split_r_hat"] < 1.05
    assert fitted.diagnostics_["leapfrog"] > 1


def test_stochastic_gradients_are_near_it():
    settings = {"batch": 24, "steps": 20_000, "burn": 4000, "every": 8, "learning_rate": 0.05}
    fitted = StochasticGradientHamiltonianNetwork((), "identity", **GIVEN, **settings).fit(U, Y)
    mean, covariance = exact(V)
    found, spread = drawn(fitted, V)
    np.testing.assert_allclose(found, mean, atol=0.3 * np.sqrt(np.diag(covariance)).max())
    assert np.trace(spread) == pytest.approx(np.trace(covariance), rel=0.4)


def test_the_linearisation_of_a_linear_network_is_the_network():
    fitted = LaplaceNetwork((), "identity", **GIVEN, steps=3000).fit(U, Y)
    mean, covariance = exact(V)
    found = fitted.model_.posterior(torch.as_tensor(V))
    np.testing.assert_allclose(found.mean[:, 0].detach(), mean, atol=2e-3)
    np.testing.assert_allclose(found.mvn.covariance_matrix.detach(), covariance, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_the_infinite_kernel_is_that_of_wide_networks(depth, activation):
    """Only one draw of the hidden layers is wide; the last layer's weights are integrated out exactly."""
    weight, offset, width = 2.0, 0.5, 2048
    X = torch.as_tensor(np.random.default_rng(depth).random((5, 4)))
    act = torch.relu if activation == "relu" else torch.erf
    total = torch.zeros(5, 5, dtype=torch.float64)
    with seeded(depth):
        for _ in range(12):
            h = X
            for _ in range(depth):
                W = torch.randn(h.shape[1], width, dtype=torch.float64) * math.sqrt(weight / h.shape[1])
                h = act(h @ W + math.sqrt(offset) * torch.randn(width, dtype=torch.float64))
            total += offset + weight * h @ h.T / width
    kernel = InfiniteWidthKernel(depth, weight, offset, activation)
    np.testing.assert_allclose(kernel(X, X).to_dense(), total / 12, rtol=0.04)
    np.testing.assert_allclose(kernel(X, X, diag=True), kernel(X, X).to_dense().diagonal(), rtol=1e-4)


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
def test_the_tangent_kernel_is_that_of_gradients(activation):
    layers = Layers((3, 5, 4, 1), activation)
    with seeded(0):
        weights, X = layers.start(1), torch.rand(6, 3, dtype=torch.float64)
    J = torch.autograd.functional.jacobian(lambda w: layers(w, X)[0], weights)[:, 0]
    np.testing.assert_allclose(TangentKernel(layers, weights, 2.0)(X, X).to_dense(), 2 * J @ J.T, rtol=1e-10)
    np.testing.assert_allclose(TangentKernel(layers, weights, 2.0)(X, X, diag=True), 2 * (J**2).sum(dim=1), rtol=1e-10)


def test_a_vector_of_weights_makes_the_network_that_pytorch_makes():
    layers = Layers((3, 5, 1), "tanh")
    with seeded(0):
        weights, X = layers.start(2), torch.rand(4, 3, dtype=torch.float64)
    assert weights.shape == (2, layers.size)
    for draw in range(2):
        (W, b), (w, c) = ((M[draw], o[draw]) for M, o in layers.split(weights))
        np.testing.assert_allclose(layers(weights, X)[draw], (torch.tanh(X @ W + b) @ w + c)[:, 0])


# ---------------------------------------------------------------------- as surrogates
@pytest.mark.parametrize("name", sorted(SMALL))
def test_each_is_a_surrogate_and_a_botorch_model(name):
    from sklearn.base import clone

    one, two = clone(SMALL[name]).fit(U, Y), clone(SMALL[name]).fit(U, Y)
    mean, sd = one.predict(V, return_std=True)
    np.testing.assert_array_equal(mean, two.predict(V))  # the same seed
    assert (sd > 0).all()
    assert np.corrcoef(one.predict(U), Y)[0, 1] > 0.5
    X = torch.as_tensor(V)[:, None].requires_grad_()
    posterior = one.model_.posterior(X)
    assert posterior.rsample(torch.Size([3])).shape[0] == 3
    (slope,) = torch.autograd.grad((posterior.mean + posterior.variance).sum(), X)
    assert torch.isfinite(slope).all()
    shifted = clone(SMALL[name]).fit(U, 5 + 10 * Y).predict(V)
    np.testing.assert_allclose(shifted, 5 + 10 * mean, rtol=1e-3, atol=0.05)  # the unit of values does not matter


@pytest.mark.parametrize("name", sorted(SMALL))
def test_each_guides_the_loop(name):
    from sklearn.base import clone

    space = Space.box([(-1, 1)] * 2)
    optimizer = Optimizer(space, clone(SMALL[name]), ExpectedImprovement(), direction="minimize", initial=6)
    result = optimizer.run(lambda point: (point["x0"] - 0.4) ** 2 + (point["x1"] + 0.2) ** 2, 12)
    assert result.value < 0.5  # one in six points at random is as good
    assert len(result.points) == 12


def test_points_that_are_asked_for_at_once_differ():
    space = Space.box([(-1, 1)] * 2)
    surrogate, acquisition = DeepEnsemble((8,), **GIVEN, steps=100), ParallelExpectedImprovement(32)
    optimizer = Optimizer(space, surrogate, acquisition, direction="minimize", initial=4)
    optimizer.tell(points := space.sobol(8), [point["x0"] ** 2 for point in points])
    first, second = optimizer.ask(2)
    assert first != second


def test_noise_is_added_to_new_evaluations_alone():
    model = SMALL["DeepEnsemble"].fit(U, Y).model_
    X = torch.as_tensor(V)
    gap = model.posterior(X, observation_noise=True).variance - model.posterior(X).variance
    np.testing.assert_allclose(gap.detach(), NOISE * Y.std(ddof=1) ** 2, rtol=1e-9)


def test_variances_are_chosen_by_rows_held_out():
    smooth = RNG.random((60, 1))
    quiet = DeepEnsemble((16,), members=3, steps=50).fit(smooth, np.sin(5 * smooth[:, 0]))
    noisy = DeepEnsemble((16,), members=3, steps=50).fit(smooth, np.random.default_rng(1).normal(size=60))
    assert quiet.noise_var_ == 0.01
    assert noisy.noise_var_ == 1.0
    with pytest.warns(UserWarning, match="too few to choose variances by"):
        DeepEnsemble((4,), members=2, steps=5).fit(U[:4], Y[:4])


def test_the_density_rises_before_the_chain_starts():
    fitted = HamiltonianNetwork((8,), **GIVEN, burn=20, samples=20).fit(U, Y)
    with seeded(0):
        untrained = fitted.model_.layers.start(1)
    from locum.optimize._bnn_networks import Posterior

    y = torch.as_tensor((Y - Y.mean()) / Y.std(ddof=1))
    before = float(Posterior(fitted.model_.layers, torch.as_tensor(U), y, PRIOR, NOISE).energy(untrained))
    assert fitted.diagnostics_["energy_at_start"] < 0.8 * before


# ---------------------------------------------------------------------- refused
@pytest.mark.parametrize(
    ("surrogate", "message"),
    [
        (HamiltonianNetwork(hidden=3), "hidden="),
        (HamiltonianNetwork(hidden=(0,)), "hidden"),
        (HamiltonianNetwork(activation="sine"), "activation="),
        (HamiltonianNetwork(prior_var=-1.0), "prior_var= above 0"),
        (HamiltonianNetwork(noise_var="guess"), "noise_var"),
        (HamiltonianNetwork((4,), **GIVEN, path_length=0.0), "path_length= above 0"),
        (StochasticGradientHamiltonianNetwork((4,), **GIVEN, steps=100), "two draws or more"),
        (DeepEnsemble((4,), **GIVEN, members=1), "members"),
        (LaplaceNetwork(prior_var=1.0), "both variances, or neither"),
        (InfiniteWidthProcess(depth=0), "depth"),
        (InfiniteWidthProcess(activation="tanh"), "activation="),
        (DeepKernelProcess(learning_rate=0.0), "learning_rate= above 0"),
    ],
)
def test_settings_that_cannot_be_used(surrogate, message):
    with pytest.raises(InvalidData, match=message):
        surrogate.fit(U, Y)


def test_a_chain_that_goes_nowhere_is_named():
    with pytest.raises(LocumError, match=r"leapfrog steps of .* lower step_size="):
        HamiltonianNetwork((8,), **GIVEN, burn=1, samples=30, step_size=3.0, path_length=30.0).fit(U, Y)
