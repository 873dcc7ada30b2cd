"""Processes that were observed with their gradients: kernels against differences and GPyTorch, and what gradients are worth."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("botorch")

import torch

from locum.core.errors import InvalidData
from locum.optimize import (
    Categorical,
    EntropySearch,
    ExpectedImprovement,
    GaussianProcess,
    GradientGaussianProcess,
    KnowledgeGradient,
    Known,
    Optimizer,
    Real,
    Space,
    derivative_covariance,
)

LENGTHS = np.array([0.4, 0.7, 1.3])


def wave(U):
    return np.sin(4 * U[:, 0]) * np.cos(3 * U[:, 1])


def slope(U):
    return np.stack([4 * np.cos(4 * U[:, 0]) * np.cos(3 * U[:, 1]), -3 * np.sin(4 * U[:, 0]) * np.sin(3 * U[:, 1])], axis=1)


@pytest.mark.parametrize("kernel", ["rbf", "matern52"])
def test_derivative_kernels_are_differences_of_the_kernel(kernel):
    rng = np.random.default_rng(0)
    A, X, h = rng.random((3, 3)), rng.random((2, 3)), 1e-4
    whole = derivative_covariance(A, X, LENGTHS, kernel).reshape(3, 4, 2, 4)

    def plain(A, X):
        return derivative_covariance(A, X, LENGTHS, kernel).reshape(len(A), 4, len(X), 4)[:, 0, :, 0]

    for i in range(3):
        e = h * np.eye(3)[i]
        np.testing.assert_allclose(whole[:, 1 + i, :, 0], (plain(A + e, X) - plain(A - e, X)) / (2 * h), atol=1e-6)
        np.testing.assert_allclose(whole[:, 0, :, 1 + i], (plain(A, X + e) - plain(A, X - e)) / (2 * h), atol=1e-6)
        for j in range(3):
            f = h * np.eye(3)[j]
            twice = plain(A + e, X + f) - plain(A + e, X - f) - plain(A - e, X + f) + plain(A - e, X - f)
            np.testing.assert_allclose(whole[:, 1 + i, :, 1 + j], twice / (4 * h**2), atol=1e-6)


@pytest.mark.parametrize("kernel", ["rbf", "matern52"])
def test_derivative_kernels_are_gpytorchs(kernel):
    from gpytorch.kernels import Matern52KernelGrad, RBFKernelGrad

    rng = np.random.default_rng(1)
    A, X = rng.random((4, 3)), rng.random((3, 3))
    theirs = (RBFKernelGrad if kernel == "rbf" else Matern52KernelGrad)(ard_num_dims=3).double()
    theirs.lengthscale = torch.as_tensor(LENGTHS)
    with torch.no_grad():
        found = theirs(torch.as_tensor(A), torch.as_tensor(X)).to_dense().numpy()
    np.testing.assert_allclose(derivative_covariance(A, X, LENGTHS, kernel), found, atol=1e-6)


def test_the_covariance_of_a_set_with_itself_is_symmetric_and_positive():
    A = np.random.default_rng(0).random((5, 3))
    for kernel in ("rbf", "matern52"):
        found = derivative_covariance(A, A, LENGTHS, kernel)
        np.testing.assert_allclose(found, found.T, atol=1e-12)
        assert np.linalg.eigvalsh(found).min() > -1e-9


@pytest.mark.parametrize("kernel", ["rbf", "matern52"])
def test_gradients_sharpen_what_is_known(kernel):
    rng = np.random.default_rng(2)
    U, V = rng.random((12, 2)), rng.random((200, 2))
    sharp = GradientGaussianProcess(kernel, noise=0.0).fit(U, wave(U), slope(U))
    plain = GaussianProcess(kernel, noise=0.0).fit(U, wave(U))
    np.testing.assert_allclose(sharp.predict(U), wave(U), atol=0.01)
    error = [np.sqrt(np.mean((one.predict(V) - wave(V)) ** 2)) for one in (sharp, plain)]
    assert error[0] < error[1] / 1.5
    mean, sd = sharp.predict(V, return_std=True)
    assert (np.abs(wave(V) - mean) < 3 * sd + 0.01).mean() > 0.9
    # The slope of the mean at a point that was seen is the slope told.
    h = 1e-4
    for i in range(2):
        e = h * np.eye(2)[i]
        np.testing.assert_allclose((sharp.predict(U + e) - sharp.predict(U - e)) / (2 * h), slope(U)[:, i], atol=0.1)


def test_the_knowledge_gradient_counts_the_slopes_that_will_be_seen():
    rng = np.random.default_rng(3)
    U, m = rng.random((5, 2)), 60
    process = GradientGaussianProcess("rbf", noise=0.0).fit(U, wave(U), slope(U))
    candidates = torch.as_tensor(rng.random((m, 2)))
    known = Known(torch.as_tensor(U), torch.as_tensor(wave(U)), candidates, free=torch.zeros(2).double())
    X = torch.as_tensor(rng.random((3, 1, 2)))
    value = KnowledgeGradient(m, samples=4096).of(process.model_, known)(X).exp().detach().numpy()
    # By simulation: see a value and slopes there, and fit the same process to them.
    settings = process.model_.process.settings
    lengths, noise = settings["lengths"].numpy(), process.model_.process.fresh.numpy()
    variance, level = settings["variance"].item(), settings["mean"].item()
    for j in range(2):
        A = torch.cat([known.candidates, known.rows, X[j]]).numpy()
        rows = np.vstack([U, X[j].numpy()])
        K = variance * derivative_covariance(rows, rows, lengths, "rbf") + np.diag(np.tile(noise, 6))
        cross = variance * derivative_covariance(A, rows, lengths, "rbf")[::3]
        seen = np.column_stack([wave(U) - level, slope(U)]).ravel()
        old, new = np.arange(15), np.arange(15, 18)
        inner = np.linalg.solve(K[np.ix_(old, old)], K[np.ix_(old, new)])
        spread = K[np.ix_(new, new)] - K[np.ix_(new, old)] @ inner
        draws = seen @ inner + rng.multivariate_normal(np.zeros(3), spread, size=40_000)
        after = np.hstack([np.tile(seen, (40_000, 1)), draws]) @ np.linalg.solve(K, cross.T)
        before = (cross[:, :15] @ np.linalg.solve(K[:15, :15], seen)).max()
        assert value[j] == pytest.approx((after.max(axis=1) - before).mean(), rel=0.05, abs=2e-3)


@pytest.mark.parametrize("acquisition", [ExpectedImprovement(), KnowledgeGradient()])
def test_the_loop_with_gradients_needs_fewer_evaluations(acquisition):
    space = Space([Real("x", -2.0, 2.0), Real("rate", 1e-3, 1.0, log=True)])

    def answer(point):
        a, b = point["x"] - 0.7, np.log10(point["rate"]) + 1.2
        return a**2 + 0.5 * a * b + b**2, [2 * a + 0.5 * b, (0.5 * a + 2 * b) / (point["rate"] * np.log(10))]

    optimizer = Optimizer(space, GradientGaussianProcess(noise=0.0), acquisition, direction="minimize", initial=3)
    for _ in range(4):
        points = optimizer.ask(2)  # one of them pending while the other is chosen
        told = [answer(point) for point in points]
        optimizer.tell(points, [value for value, _ in told], gradients=[slopes for _, slopes in told])
    best = optimizer.recommend("best_mean")
    assert answer(best)[0] < 0.02
    assert optimizer.recommend() in optimizer.points


def test_gradients_that_cannot_be_used_are_refused():
    space = Space.box([(0, 1), (0, 1)])
    with pytest.raises(InvalidData, match="takes no gradients"):
        Optimizer(space, direction="minimize").tell([{"x0": 0.1, "x1": 0.2}], [1.0], gradients=[[1.0, 2.0]])
    optimizer = Optimizer(space, GradientGaussianProcess(), direction="minimize")
    for wrong in (None, [[1.0]], [[np.nan, 1.0]]):
        with pytest.raises(InvalidData, match=r"finite gradients of shape \(1, 2\)"):
            optimizer.tell([{"x0": 0.1, "x1": 0.2}], [1.0], gradients=wrong)
    with pytest.raises(InvalidData, match="space of Real parameters"):
        Optimizer(Space([Real("x", 0, 1), Categorical("c", "ab")]), GradientGaussianProcess(), direction="minimize")
    U = np.random.default_rng(0).random((4, 2))
    with pytest.raises(InvalidData, match=r"gradient of shape \(2,\)"):
        GradientGaussianProcess().fit(U, wave(U))
    with pytest.raises(InvalidData, match="kernel= to be one of rbf, matern52"):
        GradientGaussianProcess("matern32").fit(U, wave(U), slope(U))
    with pytest.raises(InvalidData, match="noise= to be"):
        GradientGaussianProcess(noise=-1.0).fit(U, wave(U), slope(U))
    with pytest.raises(InvalidData, match="rows and lengths of one width"):
        derivative_covariance(U, U, LENGTHS)
    process = GradientGaussianProcess().fit(U, wave(U), slope(U))
    known = Known(torch.as_tensor(U), torch.as_tensor(wave(U)), torch.as_tensor(U))
    with pytest.raises(InvalidData, match="values alone"):
        EntropySearch().of(process.model_, known)
