"""Shapley values: the axioms exactly, the definition by brute force, a peer, and intervals that hold."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest

from locum.core.errors import InvalidData
from locum.core.target import Target
from locum.explain.shapley import ShapleyExplainer
from locum.targets.recorded import recorded
from locum.targets.sklearn import from_sklearn

X = np.random.default_rng(0).normal(size=(200, 4))


def tangled(X):
    return X[:, 0] * X[:, 1] + np.sin(3 * X[:, 2]) * (X[:, 0] > 0) + X[:, 1] ** 2


def value(function, **settings):
    return Target(function, name="black box", output="value", **settings)


def by_definition(function, x, background):
    """The mean gain of each column over all orders, straight from the definition."""
    d = len(x)
    gains = np.zeros(d)
    for order in itertools.permutations(range(d)):
        rows = background.copy()
        before = function(rows).mean()
        for j in order:
            rows[:, j] = x[j]
            after = function(rows).mean()
            gains[j] += after - before
            before = after
    return gains / np.prod(np.arange(1, d + 1))


# ------------------------------------------------------------------ exact
def test_exact_values_are_those_of_the_definition():
    background = X[:15]
    for found, x in zip(ShapleyExplainer(value(tangled), X, background=background).explain(X[50:53]), X[50:], strict=False):
        np.testing.assert_allclose(found.values, by_definition(tangled, x, background), atol=1e-12)
        np.testing.assert_array_equal(found.lower, found.upper)
        assert found.base == pytest.approx(tangled(background).mean())
        assert found.baseline == "15 rows given as background"


def test_a_linear_model_is_explained_exactly():
    slopes = np.array([2.0, -1.0, 0.5, 0.0])
    for samples in (32_768, 320):
        (found,) = ShapleyExplainer(value(lambda X: X @ slopes), X, background=X[:20], samples=samples).explain(X[30:31])
        np.testing.assert_allclose(found.values, slopes * (X[30] - X[:20].mean(axis=0)), atol=1e-12)
        assert found.fidelity.value == pytest.approx(1.0)


@pytest.mark.parametrize("samples", [32_768, 32 * 6 * 3])
def test_axioms_hold_exactly(samples):
    def symmetric(X):  # of the first two columns, and blind to the last
        return np.exp(X[:, 0] * X[:, 1]) + np.abs(X[:, 2])

    background = X[:32].copy()
    background[:, 1] = background[:, 0]
    x = np.array([[0.7, 0.7, -1.2, 3.0]])
    (found,) = ShapleyExplainer(value(symmetric), X, background=background, samples=samples).explain(x)
    assert found.base + found.values.sum() == pytest.approx(symmetric(x)[0], abs=1e-12)
    assert found.values[3] == 0.0
    assert found.lower[3] == found.upper[3] == 0.0
    assert found.values[0] == pytest.approx(found.values[1], abs=1e-12 if samples > 10_000 else 0.3)


def test_values_of_a_sum_are_the_sum_of_values():
    def one(X):
        return X[:, 0] * X[:, 1]

    def two(X):
        return np.maximum(X[:, 2], X[:, 3])

    parts = [
        ShapleyExplainer(value(f), X, samples=32 * 6 * 2).explain(X[:2]) for f in (one, two, lambda X: 2 * one(X) - two(X))
    ]
    for a, b, both in zip(*parts, strict=True):
        np.testing.assert_allclose(both.values, 2 * a.values - b.values, atol=1e-12)


def test_categories_missing_values_and_classes():
    rng = np.random.default_rng(0)
    rows = np.empty((60, 3), dtype=object)
    rows[:, 0] = rng.choice(["blue", "red"], 60)
    rows[:, 1] = rng.normal(size=60)
    rows[:, 2] = rng.normal(size=60)
    rows[::3, 1] = None

    def black_box(X):
        return np.where((X[:, 0] == "red") & pd.isna(X[:, 1]), "yes", "no")

    x = np.array([["red", None, 0.0]], dtype=object)
    (found,) = ShapleyExplainer(Target(black_box, name="both"), rows, background=60).explain(x)
    assert found.output == "the answer yes"
    red, missing = rows[:, 0] == "red", pd.isna(rows[:, 1])
    base = (red & missing).mean()
    expected = [(missing.mean() - base + 1 - red.mean()) / 2, (red.mean() - base + 1 - missing.mean()) / 2, 0]
    np.testing.assert_allclose(found.values, expected, atol=1e-12)


# ------------------------------------------------------------------ a peer
@pytest.mark.parametrize("classify", [True, False])
def test_the_same_as_shap_for_trees(classify):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shap = pytest.importorskip("shap", reason="the peer is not installed")
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    y = tangled(X)
    model = (RandomForestClassifier if classify else RandomForestRegressor)(20, random_state=0).fit(X, y > 0 if classify else y)
    method = "predict_proba" if classify else "predict"
    settings = {"background": X[:32], "output": True if classify else None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = shap.TreeExplainer(model, X[:32], model_output="raw").shap_values(X[100:104], check_additivity=False)
    expected = peer[..., 1] if classify else peer
    exact = ShapleyExplainer(from_sklearn(model, method=method), X, **settings).explain(X[100:104])
    np.testing.assert_allclose([found.values for found in exact], expected, atol=1e-7)
    sampled = ShapleyExplainer(from_sklearn(model, method=method), X, samples=500, **settings).explain(X[100:104])
    inside = [(found.lower <= true) & (true <= found.upper) for found, true in zip(sampled, expected, strict=True)]
    assert np.mean(inside) > 0.8


# ------------------------------------------------------------------ how sure
@pytest.mark.parametrize("orders", [1, 3])
def test_intervals_hold(orders):
    wide = np.random.default_rng(1).normal(size=(40, 6))

    def black_box(X):
        return np.sin(X[:, :3].sum(axis=1)) * X[:, 3] + X[:, 4] * X[:, 5]

    settings = {"background": wide[:16]}
    (truth,) = ShapleyExplainer(value(black_box), wide, **settings).explain(wide[20:21])
    inside = []
    for seed in range(60):
        explainer = ShapleyExplainer(value(black_box), wide, samples=16 * 10 * orders, random_state=seed, **settings)
        (found,) = explainer.explain(wide[20:21])
        inside += ((found.lower - 1e-9 <= truth.values) & (truth.values <= found.upper + 1e-9)).tolist()
    assert np.mean(inside) > 0.92


def test_the_background_is_no_sample():
    # Without interactions, what a column gains from a background row does not depend on the order.
    slopes = np.array([2.0, -1.0, 0.5, 1.0])
    sure, unsure = (
        ShapleyExplainer(value(lambda X: X @ slopes), X, background=X[:32], samples=32 * 6 * orders).explain(X[50:51])[0]
        for orders in (2, 1)
    )
    np.testing.assert_allclose(sure.upper, sure.lower, atol=1e-9)
    assert (unsure.upper - unsure.lower > 0.05).all()


def test_the_fidelity_falls_where_columns_work_together():
    alone, together = (
        ShapleyExplainer(value(f), X).explain(X[:1])[0].fidelity
        for f in (lambda X: X.sum(axis=1), lambda X: np.sin(9 * X.prod(axis=1)))
    )
    assert alone.value == pytest.approx(1.0)
    assert together.upper < 0.9
    assert alone.region == "fresh coalitions of this row's columns"


def test_where_everything_was_asked_nothing_is_left_to_score_on():
    (found,) = ShapleyExplainer(value(tangled), X, background=X[:1]).explain(X[5:6])
    assert found.fidelity is None
    assert "fidelity not measured" in found.text()


# ------------------------------------------------------------------ same numbers, few questions
@pytest.mark.parametrize("samples", [32_768, 400])
def test_alone_or_among_others_in_any_order_and_twice(samples):
    together = ShapleyExplainer(value(tangled), X, samples=samples).explain(X[:5])
    backwards = ShapleyExplainer(value(tangled), X[::-1], samples=samples).explain(X[:5][::-1])
    for i, found in enumerate(together):
        (alone,) = ShapleyExplainer(value(tangled), X, samples=samples).explain(X[i : i + 1])
        assert alone.to_dict() == found.to_dict() == backwards[4 - i].to_dict()


def test_all_rows_are_asked_together():
    calls = []
    target = value(lambda X: calls.append(len(X)) or tangled(X), batch_size=10**6)
    ShapleyExplainer(target, X).explain(X[:20])
    assert len(calls) == 4
    assert sum(calls) <= 20 * (32 * 14 + 64 * 32 + 1) + 32


# ------------------------------------------------------------------ refused
def test_bad_settings_are_refused_before_anything_is_asked():
    calls = []
    target = value(lambda X: calls.append(1) or tangled(X))
    with pytest.raises(InvalidData, match="at least 192, one pair of orders of 4 columns from each of 32 background"):
        ShapleyExplainer(target, X, samples=100)
    with pytest.raises(InvalidData, match="background= of 1 or more rows"):
        ShapleyExplainer(target, X, background=0)
    with pytest.raises(InvalidData, match="samples= to be a whole number"):
        ShapleyExplainer(target, X, samples=1.5)
    with pytest.raises(InvalidData, match="expected rows of 4 columns"):
        ShapleyExplainer(target, X, background=X[:3, :2])
    with pytest.raises(InvalidData, match="only has recorded answers"):
        ShapleyExplainer(recorded(X, tangled(X)), X)
    assert not calls
