"""The Brownian bridge and the posterior means: identities, and what is known in closed form."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sklearn.gaussian_process import GaussianProcessRegressor  # noqa: E402
from sklearn.gaussian_process.kernels import RBF, ConstantKernel  # noqa: E402

from locum.core.errors import InvalidData  # noqa: E402
from locum.optimize.root import BrownianBridge, PosteriorMeans  # noqa: E402


# ---------------------------------------------------------------------- the bridge
def test_both_ends_are_pinned_and_the_middle_is_widest():
    bridge = BrownianBridge(times=999, variance=3.0)
    m, delta = bridge.shares.numpy(), bridge.variances.numpy()
    assert (m[0], m[-1]) == pytest.approx((0.001, 0.999))
    assert np.allclose(np.diff(m), m[1] - m[0])
    assert delta[0] == pytest.approx(2 * 3 * (0.001 - 0.001**2)) == pytest.approx(delta[-1])
    assert delta.argmax() == 499
    assert delta[499] == pytest.approx(3.0 / 2)


def test_the_variance_of_a_step_is_never_negative_nor_above_that_of_the_earlier_time():
    bridge = BrownianBridge()
    times = [*range(0, 1000, 37), 998, 999]
    steps = [(t, s, bridge.step_variance(t, s)) for t in times for s in times if s < t]
    steps += [(t, t - 1, bridge.step_variance(t, t - 1)) for t in range(1, 1000)]
    assert all(0 < variance <= float(bridge.variances[s]) for _, s, variance in steps)


@pytest.mark.parametrize(("t", "earlier"), [(999, 998), (999, 400), (700, 699), (500, 3), (1, 0)])
def test_a_step_from_the_bridge_ends_on_the_bridge(t, earlier):
    """Mean and variance at the earlier time follow from those at the later, both of which are known."""
    bridge = BrownianBridge()
    high, low = torch.tensor([[2.0, -1.0]], dtype=torch.float64), torch.tensor([[-3.0, 0.5]], dtype=torch.float64)
    zero = torch.zeros_like(high)
    at = {s: bridge.at(torch.tensor([s]), high, low, zero) for s in (t, earlier)}
    assert torch.allclose(bridge.step_mean(t, earlier, at[t], high, low), at[earlier])
    slope = bridge.step_mean(t, earlier, at[t] + 1.0, high, low) - at[earlier]
    total = slope**2 * bridge.variances[t] + bridge.step_variance(t, earlier)
    assert torch.allclose(total, bridge.variances[earlier].expand(1, 2))


def test_a_step_is_the_posterior_that_sampling_both_times_gives():
    """Of a Markov chain from high to low: its earlier time given its later one, by regression on draws."""
    bridge, rng = BrownianBridge(), np.random.default_rng(0)
    s, t, n = 300, 700, 400_000
    m, delta = bridge.shares.numpy(), bridge.variances.numpy()
    x_s = (1 - m[s]) * 1.0 + m[s] * -2.0 + np.sqrt(delta[s]) * rng.normal(size=n)
    scale = (1 - m[t]) / (1 - m[s])
    new = delta[t] - delta[s] * scale**2
    x_t = scale * x_s + (m[t] - m[s] * scale) * -2.0 + np.sqrt(new) * rng.normal(size=n)
    slope, level = np.polyfit(x_t, x_s, 1)
    ends = [torch.full((2, 1), value, dtype=torch.float64) for value in (1.0, -2.0)]
    said = bridge.step_mean(t, s, torch.tensor([[0.0], [1.0]], dtype=torch.float64), *ends).numpy().ravel()
    assert said == pytest.approx([level, level + slope], abs=0.01)
    assert bridge.step_variance(t, s) == pytest.approx(np.var(x_s - slope * x_t - level), rel=0.01)


MATRIX = np.array([[0.5, 0.3], [-0.2, 0.8]])
SPREAD = np.array([[1.0, 0.6], [0.6, 0.9]])


def exact(bridge, low):
    """Of pairs with x+ given x- normal about a linear map: the mean of x - x+ given x and x-."""
    centre = low @ torch.as_tensor(MATRIX).T + 1.0

    def predict(x, t):
        m, delta = float(bridge.shares[t]), float(bridge.variances[t])
        gain = (1 - m) * SPREAD @ np.linalg.inv((1 - m) ** 2 * SPREAD + delta * np.eye(2))
        return x - centre - (x - (1 - m) * centre - m * low) @ torch.as_tensor(gain).T

    return centre, predict


def test_with_the_exact_network_sampling_gives_the_conditional_distribution():
    bridge = BrownianBridge()
    low = torch.tensor([[-1.0, 2.0]], dtype=torch.float64).expand(20_000, 2)
    centre, predict = exact(bridge, low)
    deviations = np.sqrt(np.diag(SPREAD))

    def errors(steps, noise_scale):
        found = bridge.sample(low, predict, steps=steps, noise_scale=noise_scale, random_state=0).numpy()
        away = np.cov(found.T) / np.outer(deviations, deviations) - SPREAD / np.outer(deviations, deviations)
        return np.abs((found.mean(0) - centre[0].numpy()) / deviations).max(), np.abs(away).max()

    assert max(errors(500, 1.0)) < 0.05
    few = errors(200, 1.0)  # the variance is too small by a share that falls with the steps
    assert few[0] < 0.05
    assert 0.05 < few[1] < 0.08
    less = errors(200, 0.2)
    assert less[0] < 0.05
    assert less[1] > 0.5


def test_without_noise_sampling_goes_where_the_network_points():
    bridge, low = BrownianBridge(times=50), torch.zeros(3, 2)
    goal = torch.tensor([[4.0, -1.0]])
    found = bridge.sample(low, lambda x, t: x - goal, steps=10, noise_scale=0.0, random_state=0)
    assert torch.allclose(found, goal.expand(3, 2), atol=1e-5)


# ---------------------------------------------------------------------- the posterior means
def planted(n=60, width=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, width))
    return X, np.sin(X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * rng.normal(size=n)


LENGTHS, OUTPUTS = (0.7, 1.0, 3.0), (2.0, 1.0, 6.25)


def means(X, y, **settings):
    return PosteriorMeans(X, y, LENGTHS, OUTPUTS, **({"noise": 0.05, "dtype": torch.float64} | settings))


def test_they_are_those_of_scikit_learn():
    X, y = planted()
    points = np.random.default_rng(1).normal(size=(40, 3)) * 2
    found = means(X, y).values(torch.as_tensor(points)).numpy()
    for f, (ell, s) in enumerate(zip(LENGTHS, OUTPUTS, strict=True)):
        kernel = ConstantKernel(s, "fixed") * RBF(ell, "fixed")
        peer = GaussianProcessRegressor(kernel, alpha=0.05, optimizer=None).fit(X, y)
        assert found[f] == pytest.approx(peer.predict(points), abs=1e-8)


def test_gradients_are_those_of_differentiation():
    X, y = planted()
    functions = means(X, y)
    points = torch.as_tensor(np.random.default_rng(1).normal(size=(3, 20, 3))).requires_grad_()
    with torch.no_grad():
        _, found = functions.values_and_gradients(points)
    weights = torch.as_tensor(X)
    for f, (ell, s) in enumerate(zip(LENGTHS, OUTPUTS, strict=True)):
        kernel = s * torch.exp(-torch.cdist(weights, weights).square() / (2 * ell**2)) + 0.05 * torch.eye(len(X))
        solved = torch.linalg.solve(kernel, torch.as_tensor(y))
        squares = (points[f][:, None] - weights[None]).square().sum(-1)
        value = (s * torch.exp(-squares / (2 * ell**2)) @ solved).sum()
        expected = torch.autograd.grad(value, points)[0][f]
        assert torch.allclose(found[f], expected, atol=1e-8, rtol=0)


def test_a_point_is_judged_alike_alone_and_among_many():
    X, y = planted(n=3000)  # so that many points are taken in several parts
    functions = PosteriorMeans(X, y, (1.0,), (1.0,))
    points = torch.as_tensor(np.random.default_rng(2).normal(size=(900, 3)), dtype=torch.float32)
    values, gradients = functions.values_and_gradients(points)
    for i in (0, 333, 899):
        alone, slope = functions.values_and_gradients(points[i : i + 1])
        assert torch.allclose(values[:, i], alone[:, 0], atol=1e-3)
        assert torch.allclose(gradients[:, i], slope[:, 0], atol=1e-3)


def test_single_precision_agrees_with_double_and_far_away_there_is_nothing():
    X, y = planted()
    points = torch.as_tensor(np.random.default_rng(3).normal(size=(30, 3)))
    double, single = means(X, y).values(points), means(X, y, dtype=torch.float32).values(points.float())
    assert torch.allclose(double.float(), single, atol=1e-4)
    away = means(X, y, dtype=torch.float32).values_and_gradients(torch.full((1, 3), 1e3))
    assert all(bool((part == 0).all()) for part in away)


def test_a_matrix_that_cannot_be_factorised_is_refused():
    X = np.zeros((50, 2))
    with pytest.raises(InvalidData, match=r"kernel matrix of 50 rows .* raise gp_noise="):
        PosteriorMeans(X, np.arange(50.0), (1.0,), (1e9,), noise=1e-12)


def test_importing_does_not_load_torch():
    code = "import sys, locum.optimize.root; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_is_not_there_is_said_so():
    import locum.optimize.root as module

    with pytest.raises(AttributeError, match="no attribute 'Bridge'"):
        _ = module.Bridge
