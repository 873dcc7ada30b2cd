"""Rule sets: planted rules and values found, values that are the best there are, and exchange that beats greedy growth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from locum.core.errors import InvalidData
from locum.explain.rule_set import RuleSetClassifier, RuleSetRegressor

COLOURS = np.array(["blue", "green", "pink", "red", "white"])


def grid(n, d, seed=0):
    """Rows of two-digit numbers, so that every threshold is a candidate."""
    return np.random.default_rng(seed).integers(0, 100, size=(n, d)) / 100


def planted(X):
    """Two rules that overlap, and one that holds for a fifth of the rows of either."""
    return (
        2.0 * ((X[:, 0] > 0.405) & (X[:, 1] > 0.305))
        - 1.5 * ((X[:, 2] > 0.205) & (X[:, 2] <= 0.605))
        + 1.0 * ((X[:, 3] > 0.505) & (X[:, 4] <= 0.705))
    )


CONDITIONS = ["0.205 < x2 <= 0.605", "x0 > 0.405 and x1 > 0.305", "x3 > 0.505 and x4 <= 0.705"]


def logistic(score):
    p = 1 / (1 + np.exp(-score))
    return np.column_stack([1 - p, p])


def added(model):
    """What each rule adds, in score of the second class or in value, by its conditions."""
    columns = model.program_.columns
    return {t.text(columns): t.value[-1] - (t.value[0] if len(t.value) == 2 else 0) for t in model.program_.terms}


def mixed(n, seed=0):
    rng = np.random.default_rng(seed)
    X = np.empty((n, 3), dtype=object)
    X[:, 0] = rng.integers(0, 50, n) / 50
    X[:, 1] = COLOURS[rng.integers(0, 5, n)]
    X[:, 2] = rng.normal(size=n).round(2)
    X[rng.random(n) < 0.2, 2] = None
    X[rng.random(n) < 0.1, 1] = None
    return X


def noisy(seed, n=300):
    X = np.random.default_rng(seed).normal(size=(n, 4)).round(2)
    return X, np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + np.abs(X[:, 3])


# ------------------------------------------------------------------ known answers
def test_planted_rules_and_values_are_found():
    X, fresh = grid(2000, 6), grid(2000, 6, seed=1)
    model = RuleSetRegressor().fit(X, planted(X) + 0.5)
    assert added(model) == pytest.approx(dict(zip(CONDITIONS, [-1.5, 2.0, 1.0], strict=True)), abs=1e-3)
    assert model.program_.base == pytest.approx([0.5], abs=1e-3)
    np.testing.assert_allclose(model.predict(fresh), planted(fresh) + 0.5, atol=2e-3)


def test_planted_rules_and_scores_are_found_from_probabilities():
    X = grid(2000, 6)
    P = logistic(planted(X) - 0.7)
    model = RuleSetClassifier().fit(X, P)
    assert added(model) == pytest.approx(dict(zip(CONDITIONS, [-1.5, 2.0, 1.0], strict=True)), abs=0.01)
    np.testing.assert_allclose(model.predict_proba(X), P, atol=2e-3)


def test_three_classes():
    X, fresh = grid(1500, 4), grid(1500, 4, seed=1)

    def black_box(X):
        scores = np.zeros((len(X), 3))
        scores[:, 1] = 4 * ((X[:, 0] > 0.405) & (X[:, 1] > 0.205)) - 2
        scores[:, 2] = 3 * (X[:, 3] > 0.605) - 1
        raised = np.exp(scores)
        return raised / raised.sum(axis=1, keepdims=True)

    model = RuleSetClassifier(max_rules=2).fit(X, black_box(X))
    np.testing.assert_allclose(model.predict_proba(fresh), black_box(fresh), atol=0.01)
    names = np.array(["a", "b", "c"])
    hard = RuleSetClassifier(max_rules=3).fit(X, names[black_box(X).argmax(axis=1)])
    assert (hard.predict(fresh) == names[black_box(fresh).argmax(axis=1)]).mean() > 0.99


def test_conditions_that_mean_nothing_alone_are_found_together():
    X = grid(1000, 6)
    y = ((X[:, 1] > 0.505) ^ (X[:, 4] > 0.505)).astype(float)
    model = RuleSetRegressor(max_rules=2).fit(X, y)
    np.testing.assert_allclose(model.predict(X), y, atol=1e-3)


def test_a_sum_of_votes_is_learnt_from_labels():
    X, fresh = grid(1000, 3), grid(1000, 3, seed=1)

    def black_box(X):
        votes = (X[:, 0] > 0.505).astype(int) + (X[:, 1] > 0.405) + (X[:, 2] <= 0.505)
        return np.where(votes >= 2, "many", "few")

    model = RuleSetClassifier(max_rules=3, max_conditions=1).fit(X, black_box(X))
    assert (model.predict(fresh) == black_box(fresh)).all()


def test_what_a_rule_says_is_taken_over_by_those_that_say_it_better():
    # The third column says more than either of the others alone, and nothing beside both.
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 1500)) < 0.5
    hint = (a | b) ^ (rng.random(1500) < 0.03)
    X = np.column_stack([a, b, hint]).astype(float)
    y = 1.0 * a + 1.0 * b
    assert RuleSetRegressor(max_rules=1, max_conditions=1).fit(X, y).program_.used == (2,)
    model = RuleSetRegressor(max_rules=2, max_conditions=1).fit(X, y)
    assert model.program_.used == (0, 1)
    np.testing.assert_allclose(model.predict(X), y, atol=1e-3)


def test_categories_and_missing_values():
    X = mixed(1500)
    missing = np.array([v is None for v in X[:, 2]])
    warm = np.isin(X[:, 1].astype(str), ["pink", "red"])
    y = 5.0 * (missing & warm) - 2.0 * (X[:, 0].astype(float) > 0.61)
    model = RuleSetRegressor(max_rules=2).fit(X, y)
    assert added(model) == pytest.approx({"x1 is one of pink, red and x2 is missing": 5.0, "x0 > 0.61": -2.0}, abs=1e-3)
    # An unknown category is in no rule of its column.
    rows = np.array([[0.1, "violet", None]], dtype=object)
    assert model.predict(rows) == pytest.approx(model.program_.base)


def test_separable_data_stay_finite():
    X = grid(400, 2)
    model = RuleSetClassifier().fit(X, X[:, 0] > 0.5)
    assert np.abs([rule.value for rule in model.program_.terms]).max() < 20
    assert (model.predict(X) == (X[:, 0] > 0.5)).all()


def test_a_class_that_does_not_occur_gets_little():
    X = grid(300, 2)
    model = RuleSetClassifier(classes=["no", "perhaps", "yes"]).fit(X, np.where(X[:, 0] > 0.5, "yes", "no"))
    assert model.predict_proba(X)[:, 1].max() < 0.01


def test_constant_answers_need_no_rule():
    X = grid(200, 3)
    model = RuleSetRegressor().fit(X, np.full(200, 7.0))
    assert model.program_.terms == ()
    assert model.predict(X) == pytest.approx(np.full(200, 7.0))


# ------------------------------------------------------------------ what must hold for any data
def test_formula():
    X = mixed(400)
    model = RuleSetClassifier(max_rules=5).fit(X, (X[:, 0] > 0.5) ^ (X[:, 1] == "red"))
    Z = model.domain_.encode(X)
    scores = np.array([model.program_.base] * len(Z))
    for rule in model.program_.terms:
        scores[rule.holds(Z)] += rule.value
        assert rule.n == rule.holds(Z).sum()
    raised = np.exp(scores)
    np.testing.assert_allclose(model.predict_proba(X), raised / raised.sum(axis=1, keepdims=True), rtol=1e-9)


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_the_values_are_the_best_for_their_rules(classes):
    """The stated loss, minimised by other means, is no smaller."""
    X, score = noisy(0, 200)
    ridge, weights = 0.01, np.random.default_rng(0).uniform(0.2, 2, 200)
    score = (score - np.average(score, weights=weights)) / np.sqrt(np.cov(score, aweights=weights, ddof=0))
    if classes == 1:
        model, Y = RuleSetRegressor(max_rules=4, ridge=ridge).fit(X, score, weights), score[:, None]
    else:
        labels = np.digitize(score, [0, 1][: classes - 1])
        model, Y = RuleSetClassifier(max_rules=4, ridge=ridge).fit(X, labels, weights), np.eye(classes)[labels]
    Z, share = model.domain_.encode(X), weights / weights.sum()
    H = np.column_stack([np.ones(len(Z)), *(rule.holds(Z) for rule in model.program_.terms)])

    def loss(theta):
        theta = np.reshape(theta, (H.shape[1], classes))
        F = H @ theta
        each = ((Y - F) ** 2).sum(axis=1) / 2 if classes == 1 else np.log(np.exp(F).sum(axis=1)) - (Y * F).sum(axis=1)
        return share @ each + ridge / 2 * float((share @ H) @ (theta**2).sum(axis=1))

    ours = np.array([model.program_.base, *(rule.value for rule in model.program_.terms)])
    assert loss(ours) <= minimize(loss, np.zeros(ours.size)).fun + 1e-9


def test_exchange_beats_greedy_growth():
    ratios = []
    for seed in range(5):
        X, y = noisy(seed)
        greedy, better = (RuleSetRegressor(max_rules=6, sweeps=sweeps).fit(X, y) for sweeps in (0, 2))
        ratios.append(((y - better.predict(X)) ** 2).sum() / ((y - greedy.predict(X)) ** 2).sum())
    assert max(ratios) <= 1 + 1e-6
    assert np.mean(ratios) < 0.95


def test_a_search_allows_for_what_the_other_rules_take_over():
    # Steps that approximate slopes lean on one another. With the others' values held, 10.9 to 11.3 % is left.
    left = []
    for seed in range(4):
        X = np.random.default_rng(seed).normal(size=(400, 3))
        y = X[:, 0] + X[:, 1] + 0.5 * X[:, 2]
        model = RuleSetRegressor(max_rules=8, max_conditions=1).fit(X, y)
        left.append(((y - model.predict(X)) ** 2).mean() / y.var())
    assert np.mean(left) < 0.106


def test_no_rule_says_what_others_say():
    # A copy would share the ridge penalty with its original, and so lower the loss a little.
    X = grid(300, 2)
    for ridge in (1e-4, 1.0):
        model = RuleSetClassifier(ridge=ridge, max_conditions=1).fit(X, (X[:, 0] > 0.3) & (X[:, 1] > 0.4))
        H = np.column_stack([np.ones(300), *(rule.holds(X) for rule in model.program_.terms)])
        assert np.linalg.matrix_rank(H) == H.shape[1]


@pytest.mark.parametrize("estimator", [RuleSetClassifier, RuleSetRegressor])
def test_the_budgets_are_held(estimator):
    X, score = noisy(0)
    X[::7, 3] = np.nan
    y = np.digitize(score, [0.5, 1.5]) if estimator is RuleSetClassifier else score
    for most in (1, 2, 3, 7):
        for conditions in (1, 3):
            program = estimator(max_rules=most, max_conditions=conditions, min_share=0.04, sweeps=1).fit(X, y).program_
            assert len(program.terms) == program.statements == most
            assert max(len(rule.conditions) for rule in program.terms) <= conditions
            assert min(rule.n for rule in program.terms) >= 0.04 * 300


def test_the_most_useful_rule_comes_first():
    X = grid(1000, 3)
    y = 1.0 * (X[:, 0] > 0.5) + 3.0 * (X[:, 1] > 0.5) + 2.0 * (X[:, 2] > 0.5)
    model = RuleSetRegressor(max_conditions=1, max_rules=3).fit(X, y)
    assert [rule.conditions[0].column for rule in model.program_.terms] == [1, 2, 0]


def test_affine_answers():
    X, y = noisy(1)
    plain, scaled = RuleSetRegressor(4).fit(X, y), RuleSetRegressor(4).fit(X, 1e6 * y - 3e5)
    np.testing.assert_allclose(scaled.predict(X), 1e6 * plain.predict(X) - 3e5, rtol=1e-6)


# ------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    "setting",
    [
        {"max_rules": 0},
        {"max_conditions": 0},
        {"sweeps": -1},
        {"min_share": -0.1},
        {"min_share": 0.5},
        {"ridge": 0.0},
        {"ridge": np.inf},
    ],
)
def test_bad_settings_are_refused(setting):
    X = grid(50, 2)
    (name,) = setting
    with pytest.raises(InvalidData, match=f"expected max_rules >= 1.*got {name}="):
        RuleSetClassifier(**setting).fit(X, X[:, 0] > 0.5)
