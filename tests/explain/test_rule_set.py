"""Rule sets: planted rules recovered, limits held, exchange never worse."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_squared_error

from locum.core.errors import InvalidData
from locum.explain import RuleSetClassifier, RuleSetRegressor


def planted(n=800, seed=0):
    X = np.random.default_rng(seed).uniform(size=(n, 4)).round(2)
    y = 1.0 + 3.0 * ((X[:, 0] > 0.3) & (X[:, 0] <= 0.6)) - 2.0 * ((X[:, 1] > 0.5) & (X[:, 2] <= 0.7))
    return X, y


def test_planted_rules_are_found_exactly():
    X, y = planted()
    model = RuleSetRegressor(max_rules=2).fit(X, y)
    np.testing.assert_allclose(model.predict(X), y, atol=1e-3)
    assert sorted(round(term.value[0]) for term in model.program_.terms) == [-2, 3]
    assert model.program_.used == (0, 1, 2)


def test_a_sum_of_votes_is_learnt_from_labels():
    X = np.random.default_rng(0).uniform(size=(900, 3)).round(3)
    votes = (X[:, 0] > 0.5).astype(int) + (X[:, 1] > 0.4) + (X[:, 2] <= 0.5)
    y = np.array(["few", "many"])[(votes >= 2).astype(int)]
    model = RuleSetClassifier(max_rules=3, max_conditions=1).fit(X, y)
    assert model.score(X, y) > 0.98


def test_three_classes_and_their_probabilities():
    X = np.random.default_rng(0).uniform(size=(600, 2))
    y = np.digitize(X[:, 0], [0.3, 0.7])
    model = RuleSetClassifier(max_rules=4).fit(X, y)
    assert model.score(X, y) > 0.97
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0)


@pytest.mark.parametrize("most", [1, 2, 4, 7])
def test_the_limits_are_held(most):
    X = np.random.default_rng(1).normal(size=(300, 4))
    y = np.sin(3 * X[:, 0]) * X[:, 1]
    model = RuleSetRegressor(max_rules=most, max_conditions=2, min_share=0.05).fit(X, y)
    assert model.program_.statements <= most
    assert all(len(term.conditions) <= 2 for term in model.program_.terms)
    assert all(term.n >= 0.05 * len(X) * (1 - 1e-9) for term in model.program_.terms)


@pytest.mark.parametrize("seed", range(3))
def test_more_rules_and_exchange_never_hurt_on_the_rows_of_the_fit(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(400, 4))
    y = np.sin(2 * X[:, 0]) + X[:, 1] * (X[:, 2] > 0)
    errors = [mean_squared_error(y, RuleSetRegressor(max_rules=m, sweeps=0).fit(X, y).predict(X)) for m in (1, 3, 6)]
    assert errors[0] > errors[1] > errors[2]
    assert mean_squared_error(y, RuleSetRegressor(max_rules=6, sweeps=2).fit(X, y).predict(X)) <= errors[2] * (1 + 1e-9)
    label = y > 0
    losses = [log_loss(label, RuleSetClassifier(max_rules=4, sweeps=s).fit(X, label).predict_proba(X)) for s in (0, 2)]
    assert losses[1] <= losses[0] * (1 + 1e-6)


def test_a_constant_needs_no_rule():
    X = np.random.default_rng(0).uniform(size=(100, 2))
    model = RuleSetRegressor().fit(X, np.full(100, 4.0))
    assert model.program_.terms == ()
    assert model.predict(X) == pytest.approx(np.full(100, 4.0))


@pytest.mark.parametrize(
    "settings", [{"max_rules": 0}, {"max_conditions": 0}, {"min_share": 0.5}, {"sweeps": -1}, {"ridge": 0.0}]
)
def test_settings_that_cannot_be_are_refused(settings):
    X, y = planted(50)
    with pytest.raises(InvalidData, match=next(iter(settings))):
        RuleSetRegressor(**settings).fit(X, y)
