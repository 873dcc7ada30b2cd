"""Rule lists: planted lists found exactly, what the loss says, and improvement over greedy growth."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.explain.rule_list import RuleListClassifier, RuleListRegressor

COLOURS = np.array(["blue", "green", "pink", "red", "white"])


def grid(n, d, seed=0):
    """Rows of two-digit numbers, so that every threshold is a candidate."""
    return np.random.default_rng(seed).integers(0, 100, size=(n, d)) / 100


def planted(X):
    """Three rules and a rest; where rules overlap, only their order makes them true."""
    a = (X[:, 0] > 0.605) & (X[:, 2] <= 0.505)
    b = (X[:, 1] > 0.205) & (X[:, 1] <= 0.605)
    c = (X[:, 0] > 0.305) & (X[:, 3] > 0.405)
    return np.select([a, b, c], ["a", "b", "c"], "d")


def losses(model, X, y):
    """Squared errors, or disagreements with a little of the squared error of probabilities."""
    if isinstance(model, RuleListRegressor):
        return ((y - model.predict(X)) ** 2).mean()
    wrong = model.predict(X) != y
    return (wrong + 0.05 * ((model.predict_proba(X) - (y[:, None] == model.classes_)) ** 2).sum(axis=1)).mean()


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
@pytest.mark.parametrize("seed", [0, 1, 3, 4])
def test_a_planted_list_is_found_exactly(seed):
    # The search is local: of the first ten seeds, number 2 ends at another list.
    X, fresh = grid(1500, 5, seed), grid(2000, 5, seed=99)
    model = RuleListClassifier(max_rules=4).fit(X, planted(X))
    assert (model.predict(fresh) == planted(fresh)).all()
    lines = model.text_.splitlines()
    assert lines[-1] == "OTHERWISE d (1)"
    assert sorted(lines) == [
        "IF 0.205 < x1 <= 0.605 THEN b (1)",
        "IF x0 > 0.305 and x3 > 0.405 THEN c (1)",
        "IF x0 > 0.605 and x2 <= 0.505 THEN a (1)",
        "OTHERWISE d (1)",
    ]


def test_a_planted_list_of_values_is_found_exactly():
    X = grid(1000, 3)
    y = np.select([(X[:, 0] > 0.705) & (X[:, 1] > 0.305), (X[:, 2] > 0.205) & (X[:, 2] <= 0.805)], [3.0, -2.0], 1.0)
    model = RuleListRegressor(max_rules=3).fit(X, y)
    assert model.text_.splitlines() == [
        "IF x0 > 0.705 and x1 > 0.305 THEN 3",
        "IF 0.205 < x2 <= 0.805 THEN -2",
        "OTHERWISE 1",
    ]
    np.testing.assert_array_equal(model.predict(X), y)


def test_conditions_that_mean_nothing_alone_are_found_together():
    X = grid(1000, 6)
    y = (X[:, 1] > 0.505) ^ (X[:, 4] > 0.505)
    model = RuleListClassifier(max_rules=3).fit(X, y)
    assert (model.predict(X) == y).all()
    assert model.program_.used == (1, 4)


@pytest.mark.parametrize("seed", range(5))
def test_one_condition_and_two_labels_disagree_as_little_as_any_interval(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 12, 300)
    y = rng.random(300) < rng.random(12)[x]
    model = RuleListClassifier(max_rules=2, max_conditions=1).fit(x[:, None], y)
    intervals = [(x >= low) & (x <= high) for low in range(12) for high in range(low, 12)]
    fewest = min(min((inside != y).sum(), (inside == y).sum()) for inside in intervals)
    assert (model.predict(x[:, None]) != y).sum() == fewest


def test_an_exception_is_put_before_the_rule_it_excepts():
    X = grid(1500, 3)
    # A rule at the end could only say again what the rest already says.
    y = np.where((X[:, 0] > 0.305) & ~((X[:, 1] > 0.455) & (X[:, 2] > 0.455)), "usual", "rare")
    model = RuleListClassifier(max_rules=3).fit(X, y)
    assert (model.predict(X) == y).all()


def test_categories_and_missing_values():
    X = mixed(1500)
    missing = np.array([v is None for v in X[:, 2]])
    warm = np.isin(X[:, 1].astype(str), ["pink", "red"])
    y = np.select([missing & warm, X[:, 0].astype(float) > 0.61], [5.0, 2.0], 0.0)
    model = RuleListRegressor(max_rules=3).fit(X, y)
    np.testing.assert_array_equal(model.predict(X), y)
    assert "x2 is missing" in model.text_
    assert "x1 is one of pink, red" in model.text_


def test_one_rule_says_the_same_always():
    X = grid(200, 2)
    y = X[:, 0]
    model = RuleListRegressor(max_rules=1).fit(X, y)
    assert model.program_.terms == ()
    assert model.text_.startswith("ALWAYS")
    assert model.predict(X) == pytest.approx(np.full(200, y.mean()))


def test_constant_answers_need_no_rule():
    X = grid(200, 3)
    model = RuleListRegressor().fit(X, np.full(200, 7.0))
    assert model.program_.terms == ()
    assert model.predict(X) == pytest.approx(np.full(200, 7.0))


# ------------------------------------------------------------------ what must hold for any data
@pytest.mark.parametrize("estimator", [RuleListClassifier, RuleListRegressor])
def test_a_rule_answers_with_the_mean_of_the_rows_it_is_the_first_to_hold(estimator):
    X = mixed(500)
    weights = np.random.default_rng(0).uniform(0.2, 2, 500)
    score = X[:, 0].astype(float) + (X[:, 1] == "red") + np.array([0.0 if v is None else v for v in X[:, 2]])
    y = score > 0.7 if estimator is RuleListClassifier else score
    model = estimator(max_rules=6).fit(X, y, weights)
    Z = model.domain_.encode(X)
    first = np.array([next((i for i, rule in enumerate(model.program_.terms) if rule.holds(row[None])[0]), 99) for row in Z])
    for i, rule in [*enumerate(model.program_.terms), (99, None)]:
        mine = first == i
        value = model.program_.base if rule is None else rule.value
        assert value[-1] == pytest.approx(np.average(y[mine], weights=weights[mine]))
        if rule is not None:
            assert rule.n == pytest.approx(weights[mine].sum() / weights.mean())


def test_a_rule_names_the_class_most_of_its_rows_have():
    X = np.repeat([[0.0], [1.0]], 100, axis=0)
    # Sixty of a hundred rows lean to the second class, but the mean of all names the first.
    P = np.where(np.arange(100) < 60, 0.45, 0.95)
    P = np.concatenate([P, np.zeros(100)])
    model = RuleListClassifier(max_rules=2).fit(X, np.column_stack([P, 1 - P]))
    assert model.predict([[0.0]]).tolist() == [1]
    assert model.predict_proba([[0.0]])[0].tolist() == pytest.approx([0.4, 0.6])


def test_improving_beats_greedy_growth():
    ratios = []
    for seed in range(4):
        X = np.random.default_rng(seed).normal(size=(200, 4)).round(2)
        y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + np.abs(X[:, 3])
        greedy, improved = (RuleListRegressor(max_rules=4, sweeps=sweeps).fit(X, y) for sweeps in (0, 10))
        ratios.append(losses(improved, X, y) / losses(greedy, X, y))
    assert max(ratios) <= 1
    assert np.mean(ratios) < 0.98
    assert min(ratios) < 0.9


def test_more_rules_and_more_conditions_lose_nothing():
    X = np.random.default_rng(0).normal(size=(300, 4)).round(2)
    y = (X[:, 0] * X[:, 1] + X[:, 2] > 0).astype(int) + (X[:, 3] > 1)
    by_rules = [losses(RuleListClassifier(max_rules=most).fit(X, y), X, y) for most in (1, 2, 4, 7)]
    assert (np.diff(by_rules) < 0).all()
    by_conditions = [losses(RuleListClassifier(4, max_conditions=most).fit(X, y), X, y) for most in (1, 2, 3)]
    assert (np.diff(by_conditions) < 0).all()


@pytest.mark.parametrize("estimator", [RuleListClassifier, RuleListRegressor])
def test_the_budgets_are_held(estimator):
    X = np.random.default_rng(0).normal(size=(200, 4))
    X[::7, 3] = np.nan
    score = np.sin(3 * X[:, 0]) + X[:, 1] ** 2 + np.isnan(X[:, 3])
    y = score > 1 if estimator is RuleListClassifier else score
    for most in (1, 2, 3, 6):
        for conditions in (1, 3):
            program = estimator(max_rules=most, max_conditions=conditions, sweeps=1).fit(X, y).program_
            assert program.statements <= most
            assert max((len(rule.conditions) for rule in program.terms), default=0) <= conditions
    assert program.statements == 6


def test_rules_hold_enough_weight_where_they_are_found():
    X = np.random.default_rng(0).normal(size=(400, 3))
    y = np.where(np.arange(400) < 8, 50.0, X[:, 0])
    model = RuleListRegressor(max_rules=5, min_share=0.1, sweeps=0).fit(X, y)
    Z = Domain.of(X).encode(X)
    assert all(rule.holds(Z).sum() >= 40 for rule in model.program_.terms)


def test_affine_answers():
    X = grid(300, 3)
    y = np.sin(5 * X[:, 0]) + X[:, 1]
    plain, scaled = RuleListRegressor(5).fit(X, y), RuleListRegressor(5).fit(X, 1024 * y - 8)
    np.testing.assert_allclose(scaled.predict(X), 1024 * plain.predict(X) - 8, rtol=1e-9)


# ------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    "setting", [{"max_rules": 0}, {"max_conditions": 0}, {"sweeps": -1}, {"min_share": -0.1}, {"min_share": 0.5}]
)
def test_bad_settings_are_refused(setting):
    X = grid(50, 2)
    with pytest.raises(InvalidData, match=r"max_rules >= 1, max_conditions >= 1, sweeps >= 0 and 0 <= min_share < 0[.]5"):
        RuleListClassifier(**setting).fit(X, X[:, 0] > 0.5)


def test_a_rule_is_found_among_thousands_of_columns() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4_000))
    y = ((X[:, 1_000] > 0.3) & (X[:, 3_000] < 0.5)).astype(float)
    program = RuleListRegressor(max_rules=2).fit(X, y).program_
    assert {condition.column for term in program.terms for condition in term.conditions} == {1_000, 3_000}
