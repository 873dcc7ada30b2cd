"""Additive models: known answers, invariances, budgets and bad input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.program import Levels, Steps
from locum.explain.additive import AdditiveClassifier, AdditiveRegressor

COLOURS = np.array(["blue", "green", "pink", "red", "white"])


def grid(n, d, seed=0):
    """Rows of two-digit numbers, so that every threshold is a candidate."""
    return np.random.default_rng(seed).integers(0, 100, size=(n, d)) / 100


def planted(X):
    return 2.0 * (X[:, 0] > 0.305) - 1.0 * (X[:, 0] > 0.705) + 1.5 * (X[:, 2] > 0.505)


def logistic(score):
    p = 1 / (1 + np.exp(-score))
    return np.column_stack([1 - p, p])


def rises(term):
    """Differences between neighbouring pieces, in score of the second class or in value."""
    values = np.array(term.values)
    return np.diff(values[:, 1] - values[:, 0] if values.shape[1] == 2 else values[:, 0])


def mixed(n, seed=0):
    rng = np.random.default_rng(seed)
    X = np.empty((n, 3), dtype=object)
    X[:, 0] = rng.integers(0, 50, n) / 50
    X[:, 1] = COLOURS[rng.integers(0, 5, n)]
    X[:, 2] = rng.normal(size=n).round(2)
    X[rng.random(n) < 0.2, 2] = None
    X[rng.random(n) < 0.1, 1] = None
    return X


# ------------------------------------------------------------------ known answers
def test_regression_finds_planted_edges_and_values_and_no_other_column():
    X = grid(2000, 4)
    model = AdditiveRegressor().fit(X, planted(X))
    assert model.program_.used == (0, 2)
    first, second = model.program_.terms
    assert first.edges == pytest.approx([0.305, 0.705])
    assert second.edges == pytest.approx([0.505])
    assert rises(first) == pytest.approx([2.0, -1.0], abs=1e-3)
    assert rises(second) == pytest.approx([1.5], abs=1e-3)
    assert model.program_.statements == 5


def test_classification_finds_planted_edges_and_scores_from_probabilities():
    X = grid(3000, 4)
    model = AdditiveClassifier().fit(X, logistic(planted(X) - 1))
    first, second = model.program_.terms
    assert (first.edges, second.edges) == (pytest.approx([0.305, 0.705]), pytest.approx([0.505]))
    assert rises(first) == pytest.approx([2.0, -1.0], abs=0.02)
    assert rises(second) == pytest.approx([1.5], abs=0.02)
    np.testing.assert_allclose(model.predict_proba(X), logistic(planted(X) - 1), atol=0.01)


def test_a_bump_is_found_although_its_sides_are_alike():
    X = grid(1500, 3)
    y = (np.abs(X[:, 1] - 0.5) < 0.155).astype(float)
    model = AdditiveRegressor(max_statements=3).fit(X, y)
    assert model.program_.terms[0].edges == pytest.approx([0.345, 0.655])
    np.testing.assert_allclose(model.predict(X), y, atol=1e-3)


def test_one_column_is_cut_in_the_best_way_there_is():
    rng = np.random.default_rng(3)
    x = np.repeat(np.arange(9.0), rng.integers(20, 60, 9))
    y = rng.normal(size=9)[x.astype(int)]
    model = AdditiveRegressor(max_statements=4).fit(x[:, None], y)
    losses = []
    for cuts in itertools.combinations(range(1, 9), 3):
        piece = np.searchsorted(cuts, x, side="right")
        mean = np.bincount(piece, y) / np.bincount(piece)
        losses.append(((y - mean[piece]) ** 2).sum())
    assert ((y - model.predict(x[:, None])) ** 2).sum() == pytest.approx(min(losses), rel=1e-4)


def test_three_classes():
    X, fresh = grid(2000, 4), grid(2000, 4, seed=1)

    def black_box(X):
        scores = np.column_stack([np.zeros(len(X)), 4 * (X[:, 0] > 0.405) - 2, 3 * (X[:, 3] > 0.605) - 1])
        return np.array(["a", "b", "c"])[scores.argmax(axis=1)]

    model = AdditiveClassifier(max_statements=4).fit(X, black_box(X))
    assert (model.predict(fresh) == black_box(fresh)).all()
    assert model.program_.used == (0, 3)
    assert model.classes_.tolist() == ["a", "b", "c"]


def test_missing_values_have_a_value_of_their_own():
    X = grid(1000, 2)
    X[:250, 0] = np.nan
    y = np.where(np.isnan(X[:, 0]), 5.0, 1.0 * (X[:, 0] > 0.505))
    model = AdditiveRegressor().fit(X, y)
    np.testing.assert_allclose(model.predict(X), y, atol=1e-3)
    alone = AdditiveRegressor(max_statements=1).fit(X, y)  # one piece: known or missing
    known = ~np.isnan(X[:, 0])
    np.testing.assert_allclose(alone.predict(X), np.where(known, y[known].mean(), 5.0), atol=1e-3)


def test_categories_with_equal_effects_share_a_piece_and_unknown_ones_add_nothing():
    rng = np.random.default_rng(0)
    X = np.column_stack([COLOURS[rng.integers(0, 5, 900)], rng.integers(0, 9, 900).astype(str)]).astype(object)
    y = np.where(np.isin(X[:, 0], ["blue", "red"]), 2.0, -1.0)
    model = AdditiveRegressor().fit(X, y)
    (term,) = model.program_.terms
    assert isinstance(term, Levels)
    assert term.statements == 2
    assert term.values[0] == term.values[3] != term.values[1] == term.values[2] == term.values[4]
    row = np.array([["violet", "1"]], dtype=object)
    assert model.predict(row)[0] == pytest.approx(y.mean(), abs=1e-3)


def test_separable_data_stay_finite():
    X = grid(400, 2)
    model = AdditiveClassifier().fit(X, X[:, 0] > 0.5)
    values = np.array([value for term in model.program_.terms for value in term.values])
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 20
    assert (model.predict(X) == (X[:, 0] > 0.5)).all()


def test_a_class_that_does_not_occur_gets_little():
    X = grid(300, 2)
    model = AdditiveClassifier(classes=["no", "perhaps", "yes"]).fit(X, np.where(X[:, 0] > 0.5, "yes", "no"))
    assert np.isfinite(model.predict_proba(X)).all()
    assert model.predict_proba(X)[:, 1].max() < 0.01


def test_constant_columns_and_constant_answers():
    X = grid(300, 3)
    X[:, 1] = 4.0
    model = AdditiveRegressor().fit(X, X[:, 0])
    assert 1 not in model.program_.used
    assert AdditiveRegressor().fit(X, np.full(300, 7.0)).predict(X) == pytest.approx(np.full(300, 7.0))


# ------------------------------------------------------------------ what must hold for any data
def test_formula():
    X = mixed(500)
    model = AdditiveClassifier(max_statements=9).fit(X, (X[:, 0] > 0.5) ^ (X[:, 1] == "red"))
    Z = model.domain_.encode(X)
    scores = np.tile(model.program_.base, (len(Z), 1))
    for term in model.program_.terms:
        for i, z in enumerate(Z[:, term.column]):
            if np.isnan(z):
                scores[i] += term.missing
            elif isinstance(term, Steps):
                scores[i] += term.values[sum(z > edge for edge in term.edges)]
            else:
                scores[i] += term.values[int(z)]
    raised = np.exp(scores)
    np.testing.assert_allclose(model.predict_proba(X), raised / raised.sum(axis=1, keepdims=True), rtol=1e-9)


def test_shapes_have_mean_zero():
    X = mixed(600)
    weights = np.random.default_rng(0).uniform(0.1, 3, 600)
    model = AdditiveRegressor().fit(X, X[:, 0].astype(float) + (X[:, 1] == "red"), weights)
    Z = model.domain_.encode(X)
    assert model.program_.terms
    for term in model.program_.terms:
        assert weights @ term.contribution(Z) == pytest.approx([0.0], abs=1e-4 * weights.sum())


@pytest.mark.parametrize("kind", ["labels", "probabilities", "values"])
def test_the_budget_is_held(kind):
    X = np.random.default_rng(0).normal(size=(250, 4))
    X[::7, 3] = np.nan
    score = np.sin(3 * X[:, 0]) + X[:, 1] ** 2 - 1 + np.isnan(X[:, 3])
    y = {"labels": (score > 0).astype(int) + (score > 1), "probabilities": logistic(score), "values": score}[kind]
    estimator = AdditiveRegressor if kind == "values" else AdditiveClassifier
    for most in (1, 2, 3, 4, 7, 12, 25, 40):
        model = estimator(max_statements=most, iterations=40).fit(X, y)
        assert model.program_.statements <= most
    assert model.program_.statements > 25


def test_monotone_transforms_change_nothing():
    X = np.random.default_rng(0).normal(size=(400, 3))
    y = np.sin(2 * X[:, 0]) + X[:, 1]
    bent = np.column_stack([np.exp(X[:, 0]), X[:, 1] ** 3, -1 + 1e-6 * X[:, 2]])
    model, other = AdditiveRegressor().fit(X, y), AdditiveRegressor().fit(bent, y)
    assert model.program_.statements == other.program_.statements
    np.testing.assert_array_equal(model.predict(X), other.predict(bent))


@pytest.mark.parametrize("estimator", [AdditiveClassifier, AdditiveRegressor])
def test_weights_are_repeats_and_order_does_not_matter(estimator):
    X = mixed(300)
    rng = np.random.default_rng(1)
    score = np.array([0.0 if v is None else v for v in X[:, 2]]) + 2 * X[:, 0].astype(float) + (X[:, 1] == "red")
    y = (score > 1).astype(int) + (score > 2) if estimator is AdditiveClassifier else score
    weights = rng.integers(0, 4, 300)
    domain = Domain.of(X)
    settings = {"max_statements": 15, "iterations": 60, "domain": domain}
    weighted = estimator(**settings).fit(X, y, weights)
    repeat = rng.permutation(np.repeat(np.arange(300), weights))
    repeated = estimator(**settings).fit(X[repeat], y[repeat])
    Z = domain.encode(X)
    np.testing.assert_allclose(weighted.program_.values(Z), repeated.program_.values(Z), rtol=1e-14, atol=1e-15)
    assert weighted.program_ == estimator(**settings).fit(X, y, weights).program_


def test_the_program_is_the_model_and_survives_saving():
    X = mixed(300)
    model = AdditiveClassifier(max_statements=8).fit(X, np.where(X[:, 0] > 0.4, "hi", "lo"))
    Z = model.domain_.encode(X)
    np.testing.assert_array_equal(model.program_.predict(Z), model.predict(X))
    again = AdditiveClassifier.from_state(*model.to_state())
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_affine_answers():
    X = np.random.default_rng(0).normal(size=(300, 2))
    y = X[:, 0] ** 2 + X[:, 1]
    plain, scaled = AdditiveRegressor().fit(X, y), AdditiveRegressor().fit(X, 1e6 * y - 3e5)
    np.testing.assert_allclose(scaled.predict(X), 1e6 * plain.predict(X) - 3e5, rtol=1e-5, atol=1.0)


# ------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    "setting",
    [
        {"max_statements": 0},
        {"iterations": 0},
        {"learning_rate": 0.0},
        {"learning_rate": 1.5},
        {"min_share": 0.5},
        {"min_gain": 1.0},
        {"ridge": 0.0},
        {"max_bins": 1},
        {"max_bins": 256},
    ],
)
def test_bad_settings_are_refused(setting):
    X = grid(50, 2)
    (name,) = setting
    with pytest.raises(InvalidData, match=f"got {name}="):
        AdditiveClassifier(**setting).fit(X, X[:, 0] > 0.5)
