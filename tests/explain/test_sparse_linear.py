"""Sparse linear models: known answers, invariances, budgets and bad input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.program import Levels, Linear
from locum.explain.sparse_linear import SparseLinearClassifier, SparseLinearRegressor

COLOURS = np.array(["blue", "green", "pink", "red", "white"])


def logistic(score):
    p = 1 / (1 + np.exp(-score))
    return np.column_stack([1 - p, p])


def slopes(model):
    """Slope by column, in score of the second class or in value."""
    return {t.column: t.slope[0] if len(t.slope) == 1 else t.slope[1] - t.slope[0] for t in model.program_.terms}


def mixed(n, seed=0):
    rng = np.random.default_rng(seed)
    X = np.empty((n, 3), dtype=object)
    X[:, 0] = rng.normal(size=n)
    X[:, 1] = COLOURS[rng.integers(0, 5, n)]
    X[:, 2] = rng.normal(size=n)
    X[rng.random(n) < 0.2, 2] = None
    X[rng.random(n) < 0.1, 1] = None
    return X


# ------------------------------------------------------------------ known answers
def test_regression_finds_planted_slopes_and_no_other_column():
    X = np.random.default_rng(0).normal(3, [1, 10, 0.1, 5, 1, 1], size=(800, 6))
    model = SparseLinearRegressor().fit(X, 4 + 2 * X[:, 0] - 0.5 * X[:, 1] + 30 * X[:, 2])
    assert slopes(model) == pytest.approx({0: 2.0, 1: -0.5, 2: 30.0}, rel=1e-4)
    np.testing.assert_allclose(model.predict(np.zeros((1, 6))), 4.0, atol=0.01)
    assert [term.center for term in model.program_.terms] == pytest.approx(X[:, :3].mean(axis=0))


def test_classification_finds_planted_slopes_from_probabilities():
    X = np.random.default_rng(0).normal(size=(1500, 6))
    P = logistic(1.5 * X[:, 1] - 0.7 * X[:, 4] + 0.3)
    model = SparseLinearClassifier().fit(X, P)
    assert slopes(model) == pytest.approx({1: 1.5, 4: -0.7}, rel=0.01)
    np.testing.assert_allclose(model.predict_proba(X), P, atol=0.002)


def test_three_classes_from_labels_and_probabilities():
    X, fresh = np.random.default_rng(0).normal(size=(2, 2000, 5))
    beta = np.zeros((5, 3))
    beta[1], beta[3] = [1, -1, 0], [0, 2, -2]

    def black_box(X):
        raised = np.exp(1.5 * X @ beta)
        return raised / raised.sum(axis=1, keepdims=True)

    hard = SparseLinearClassifier(max_terms=2).fit(X, black_box(X).argmax(axis=1))
    assert (hard.predict(fresh) == black_box(fresh).argmax(axis=1)).mean() > 0.98
    soft = SparseLinearClassifier().fit(X, black_box(X))
    assert soft.program_.used == (1, 3)
    np.testing.assert_allclose(soft.predict_proba(fresh), black_box(fresh), atol=0.03)
    assert [t.slope for t in soft.program_.terms] == [pytest.approx(1.5 * beta[j], abs=0.05) for j in (1, 3)]


def test_terms_are_the_best_subset_where_one_by_one_would_mislead():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 1000))
    # Alone, the third column says more than either of the two that say everything together.
    X = np.column_stack([a, b, a + b + 0.3 * rng.normal(size=1000), rng.normal(size=1000)])
    y = a + b
    model = SparseLinearRegressor(max_terms=2).fit(X, y)
    assert model.program_.used == (0, 1)
    np.testing.assert_allclose(model.predict(X), y, atol=1e-3)


def test_no_worse_than_any_subset_of_columns():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(300, 7)) @ rng.normal(size=(7, 7))
    y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2] / 4 + X[:, 3] - X[:, 5]
    model = SparseLinearRegressor(max_terms=3).fit(X, y)

    def loss(columns):
        A = np.column_stack([np.ones(300), X[:, columns]])
        return ((y - A @ np.linalg.lstsq(A, y)[0]) ** 2).sum()

    best = min(loss(list(columns)) for columns in itertools.combinations(range(7), 3))
    assert ((y - model.predict(X)) ** 2).sum() <= best * 1.001


def test_missing_values_have_a_value_of_their_own():
    X = np.random.default_rng(0).normal(size=(1000, 3))
    X[:300, 1] = np.nan
    y = np.where(np.isnan(X[:, 1]), 7.0, 2 * X[:, 1] + 1)
    model = SparseLinearRegressor().fit(X, y)
    np.testing.assert_allclose(model.predict(X), y, atol=1e-3)
    assert model.program_.statements == 1


def test_categories_are_grouped_and_unknown_ones_add_nothing():
    rng = np.random.default_rng(0)
    X = np.column_stack([COLOURS[rng.integers(0, 5, 900)], rng.integers(0, 9, 900).astype(str)]).astype(object)
    y = np.select([np.isin(X[:, 0], ["blue", "red"]), X[:, 0] == "pink"], [2.0, 9.0], -1.0)
    model = SparseLinearRegressor().fit(X, y)
    (term,) = model.program_.terms
    assert isinstance(term, Levels)
    assert term.statements == 3
    assert term.values[0] == term.values[3]
    np.testing.assert_allclose(model.predict(X), y, atol=1e-3)
    assert model.predict(np.array([["violet", "1"]], dtype=object))[0] == pytest.approx(y.mean(), abs=1e-3)
    # A budget that does not reach for the three groups takes the best two.
    two = SparseLinearRegressor(max_terms=2).fit(X, y)
    assert two.program_.statements == 2
    assert two.program_.terms[0].values[2] != two.program_.terms[0].values[0]


def test_numbers_and_categories_together():
    X = mixed(800)
    number = X[:, 0].astype(float)
    P = logistic(2 * number + 3 * np.isin(X[:, 1], ["red", "white"]) - 1)
    model = SparseLinearClassifier().fit(X, P)
    kinds = {term.column: type(term) for term in model.program_.terms}
    assert kinds == {0: Linear, 1: Levels}
    np.testing.assert_allclose(model.predict_proba(X), P, atol=0.01)


def test_separable_data_stay_finite():
    X = np.random.default_rng(0).normal(size=(200, 2))
    model = SparseLinearClassifier().fit(X, X[:, 0] > 0)
    assert np.isfinite([term.slope for term in model.program_.terms]).all()
    assert (model.predict(X) == (X[:, 0] > 0)).mean() > 0.98


def test_a_class_that_does_not_occur_gets_little():
    X = np.random.default_rng(0).normal(size=(300, 2))
    model = SparseLinearClassifier(classes=["no", "perhaps", "yes"]).fit(X, np.where(X[:, 0] > 0, "yes", "no"))
    assert model.predict_proba(X)[:, 1].max() < 0.02


def test_copies_and_constants_are_left_out():
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    X = np.column_stack([np.full(400, 3.0), x, 2 * x + 1, rng.normal(size=400)])
    model = SparseLinearRegressor().fit(X, x + 0.1 * X[:, 3])
    assert model.program_.used == (1, 3)
    assert SparseLinearRegressor().fit(X, np.full(400, 7.0)).program_.terms == ()


# ------------------------------------------------------------------ what must hold for any data
def test_formula():
    X = mixed(400)
    model = SparseLinearClassifier(max_terms=6, min_gain=0).fit(X, (X[:, 0] > 0.5) ^ (X[:, 1] == "red"))
    Z = model.domain_.encode(X)
    scores = np.tile(model.program_.base, (len(Z), 1))
    for term in model.program_.terms:
        for i, z in enumerate(Z[:, term.column]):
            if np.isnan(z):
                scores[i] += term.missing
            elif isinstance(term, Linear):
                scores[i] += np.array(term.slope) * (z - term.center)
            else:
                scores[i] += term.values[int(z)]
    raised = np.exp(scores)
    np.testing.assert_allclose(model.predict_proba(X), raised / raised.sum(axis=1, keepdims=True), rtol=1e-9)


@pytest.mark.parametrize("kind", ["labels", "probabilities", "values"])
def test_the_budget_is_held(kind):
    X = mixed(300)
    number = X[:, 0].astype(float)
    score = number + np.searchsorted(COLOURS, np.array([c or "blue" for c in X[:, 1]])) + np.abs(number)
    y = {"labels": np.digitize(score, [1, 3]), "probabilities": logistic(score - 2), "values": score}[kind]
    estimator = SparseLinearRegressor if kind == "values" else SparseLinearClassifier
    sizes = [estimator(max_terms=most, min_gain=0).fit(X, y).program_.statements for most in (1, 2, 3, 4, 5, 6, 20, 40)]
    assert (np.array(sizes) <= [1, 2, 3, 4, 5, 6, 20, 40]).all()
    assert sizes[5] == 6


@pytest.mark.parametrize("estimator", [SparseLinearClassifier, SparseLinearRegressor])
def test_affine_rescaling_changes_nothing(estimator):
    X = np.random.default_rng(0).normal(size=(400, 4))
    score = X[:, 0] - 2 * X[:, 1] + np.abs(X[:, 2])
    y = (score > 0.3) if estimator is SparseLinearClassifier else score
    model = estimator().fit(X, y)
    factor, shift = np.array([1e-6, -1e6, 3.0, 0.1]), np.array([0.0, 1e5, -7.0, 2.0])
    other = estimator().fit(X * factor + shift, y)
    Z = model.domain_.encode(X)
    np.testing.assert_allclose(model.program_.values(Z), other.program_.values(Z * factor + shift), rtol=1e-6, atol=1e-6)


def test_extreme_magnitudes():
    X = np.random.default_rng(0).normal(size=(300, 3)) * [1e200, 1e-200, 1.0]
    y = X[:, 0] / 1e200 + X[:, 1] * 1e200
    np.testing.assert_allclose(SparseLinearRegressor().fit(X, y).predict(X), y, atol=1e-3)


@pytest.mark.parametrize("estimator", [SparseLinearClassifier, SparseLinearRegressor])
def test_weights_are_repeats_and_order_does_not_matter(estimator):
    X = mixed(300)
    rng = np.random.default_rng(1)
    score = np.array([0.0 if v is None else v for v in X[:, 2]]) + 2 * X[:, 0].astype(float) + (X[:, 1] == "red")
    y = (score > 1).astype(int) + (score > 2) if estimator is SparseLinearClassifier else score
    weights = rng.integers(0, 4, 300)
    domain = Domain.of(X)
    weighted = estimator(domain=domain).fit(X, y, weights)
    repeat = rng.permutation(np.repeat(np.arange(300), weights))
    repeated = estimator(domain=domain).fit(X[repeat], y[repeat])
    Z = domain.encode(X)
    np.testing.assert_allclose(weighted.program_.values(Z), repeated.program_.values(Z), rtol=1e-7, atol=1e-9)
    assert weighted.program_ == estimator(domain=domain).fit(X, y, weights).program_


def test_the_program_is_the_model_and_survives_saving():
    X = mixed(300)
    model = SparseLinearClassifier().fit(X, np.where(X[:, 0] > 0.4, "hi", "lo"))
    np.testing.assert_array_equal(model.program_.predict(model.domain_.encode(X)), model.predict(X))
    again = SparseLinearClassifier.from_state(*model.to_state())
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


# ------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    "setting", [{"max_terms": 0}, {"min_gain": -0.1}, {"min_gain": 1.0}, {"ridge": 0.0}, {"ridge": np.inf}]
)
def test_bad_settings_are_refused(setting):
    X = np.random.default_rng(0).normal(size=(50, 2))
    with pytest.raises(InvalidData, match="expected max_terms"):
        SparseLinearRegressor(**setting).fit(X, X[:, 0])
