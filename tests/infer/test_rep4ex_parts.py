"""Known answers of the parts that a fit cannot show by itself: the tests under their hypotheses, and the second stage."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from locum.infer._rep4ex_moments import KernelFeatures, independence_test, linear_invariance_test
from locum.infer.rep4ex import ControlFunction, TestResult

RNG = np.random.default_rng(0)


def test_features_are_the_kernel():
    rows, fresh = RNG.normal(size=(300, 2)), RNG.normal(size=(40, 2))
    features = KernelFeatures(rows, "rbf")
    exact = rbf_kernel(fresh, rows, gamma=features.gamma)
    np.testing.assert_allclose(features(fresh) @ features(rows).T, exact, atol=0.02)
    assert features(rows).shape[1] < 100
    pairs = np.linalg.norm(rows[:, None] - rows, axis=2)[np.triu_indices(300, 1)]
    assert features.gamma == pytest.approx(1 / (2 * np.median(pairs) ** 2))


def invariance(code, actions, seed=0):
    found = linear_invariance_test(code, actions, KernelFeatures(actions, "rbf")(actions), np.random.default_rng(seed), 99)
    return TestResult.of(found)


def test_the_moment_statistic_is_the_double_sum_over_the_gram_matrix():
    A = RNG.normal(size=(200, 2))
    code = A @ RNG.normal(size=(2, 2)) + RNG.normal(size=(200, 2)) + (A**2)[:, ::-1]
    ones = np.column_stack([np.ones(200), A])
    residual = code - ones @ np.linalg.lstsq(ones, code)[0]
    gram = rbf_kernel(A, gamma=KernelFeatures(A, "rbf").gamma)
    assert invariance(code, A).statistic == pytest.approx((residual @ residual.T * gram).mean(), rel=1e-3)


def test_the_moment_test_has_its_level_where_variance_depends_on_the_action_and_finds_a_curve():
    pvalues = {0.0: [], 0.3: []}
    for bend, values in pvalues.items():
        for seed in range(150):
            rng = np.random.default_rng(seed)
            A = rng.uniform(-1, 1, (200, 1))
            code = 2 * A + bend * 3 * A**2 + np.exp(A) * rng.normal(size=(200, 1))
            values.append(invariance(code, A, seed).pvalue)
    assert 0.01 < np.mean(np.array(pvalues[0.0]) <= 0.05) < 0.10
    assert np.mean(np.array(pvalues[0.3]) <= 0.05) > 0.5


def test_the_test_of_independence_has_its_level():
    pvalues = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        found = independence_test(rng.normal(size=(100, 2)), rng.uniform(size=(100, 1)), rng, 59)
        pvalues.append(TestResult.of(found).pvalue)
    assert 0.01 < np.mean(np.array(pvalues) <= 0.05) < 0.10


def outcome(Z):
    return np.sin(1.1 * Z[:, 0]) * 2 + 0.5 * Z[:, 1] ** 2


@pytest.fixture(scope="module")
def confounded():
    rng = np.random.default_rng(3)
    A, V = rng.uniform(-1, 1, (4000, 2)), rng.normal(size=(4000, 2))
    return A, A + V, outcome(A + V) + 1.6 * V[:, 0] + rng.normal(size=4000), V


@pytest.mark.parametrize("mixing", [np.eye(2), np.array([[1.0, 0.8], [-0.3, 0.5]]), np.array([[0.0, -2.0], [0.7, 0.0]])])
def test_any_affine_code_gives_the_effect_of_an_action(confounded, mixing):
    A, Z, Y, V = confounded
    asked = np.array([[0.0, 0.0], [1.0, -1.0], [1.5, 0.0], [-1.5, 1.5]])
    true = np.array([outcome(a + np.random.default_rng(5).normal(size=(100_000, 2))).mean() for a in asked])
    found = ControlFunction(Z @ mixing + [3.0, -1.0], A, Y, 0)
    np.testing.assert_allclose(found.do(asked), true, atol=0.25)
    said = found.given(Z @ mixing + [3.0, -1.0], A) - outcome(Z) - 1.6 * V[:, 0]
    assert np.sqrt(np.mean(said**2)) < 0.2


def test_regression_on_the_code_alone_is_biased_and_the_control_function_is_not(confounded):
    A, Z, Y, _ = confounded
    cloud = np.random.default_rng(5).normal(size=(100_000, 2))
    asked = np.array([[1.5, 0.0], [-1.5, 0.0]])
    alone = make_pipeline(PolynomialFeatures(5), LinearRegression()).fit(Z, Y)
    true, naive = (np.diff([said(a + cloud).mean() for a in asked])[0] for said in (outcome, alone.predict))
    assert np.diff(ControlFunction(Z, A, Y, 0).do(asked))[0] == pytest.approx(true, abs=0.3)
    assert abs(naive - true) > 1  # part of what V does to Y is put down to Z


def test_resampled_effects_spread_as_repeats_of_the_experiment_do():
    asked = np.array([[0.5], [1.2]])
    repeats, spreads = [], []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        A, V = rng.uniform(-1, 1, (240, 1)), rng.normal(size=(240, 1))
        Y = np.sin(A + V)[:, 0] + V[:, 0] + 0.5 * rng.normal(size=240)
        found = ControlFunction(A + V, A, Y, 0)
        repeats.append(found.do(asked))
        if seed < 3:
            spreads.append(found.do_resampled(asked, rng, 30).std(axis=0))
    ratio = np.mean(spreads, axis=0) / np.std(repeats, axis=0)
    assert np.all((ratio > 0.6) & (ratio < 1.6))
