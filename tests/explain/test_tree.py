"""Trees: exact where a tree is exact, better than greedy, and within their limits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from locum.core.errors import InvalidData
from locum.explain import TreeClassifier, TreeRegressor


def test_alternating_optimisation_finds_what_greedy_growth_cannot():
    X = np.random.default_rng(0).uniform(size=(800, 4))
    y = (X[:, 0] > 0.5) ^ (X[:, 1] > 0.5)
    greedy = TreeClassifier(max_rules=4, sweeps=0).fit(X, y).score(X, y)
    improved = TreeClassifier(max_rules=4).fit(X, y).score(X, y)
    assert improved > greedy + 0.05


def test_a_planted_tree_of_values_is_found_exactly():
    X = np.random.default_rng(0).uniform(size=(600, 3)).round(2)
    y = np.where(X[:, 0] <= 0.3, -9.0, np.where(X[:, 2] <= 0.6, 5.0, 3.0))
    tree = TreeRegressor(max_rules=3).fit(X, y)
    np.testing.assert_allclose(tree.predict(X), y)
    assert tree.text_.count("IF") == 3
    assert tree.program_.used == (0, 2)


@pytest.mark.parametrize("most", [1, 2, 3, 5, 9])
def test_the_limit_is_held_and_exactly_one_rule_holds(most):
    X = np.random.default_rng(1).normal(size=(300, 4))
    X[::9, 1] = np.nan
    y = np.sin(3 * X[:, 0]) + np.nan_to_num(X[:, 1])
    tree = TreeRegressor(max_rules=most).fit(X, y)
    assert tree.program_.statements <= most
    fresh = np.random.default_rng(2).normal(size=(500, 4))
    fresh[::5, 1] = np.nan
    held = sum(rule.holds(fresh).astype(int) for rule in tree.program_.terms)
    assert (held == 1).all()


@pytest.mark.parametrize("seed", range(4))
def test_never_worse_than_cart_with_as_many_leaves_on_the_rows_of_the_fit(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(500, 5))
    value = np.sin(2 * X[:, 0]) * X[:, 1] + X[:, 2] ** 2
    cart = DecisionTreeRegressor(max_leaf_nodes=6, random_state=0).fit(X, value)
    ours = TreeRegressor(max_rules=6, min_share=0.0).fit(X, value)
    assert ours.score(X, value) >= cart.score(X, value) - 1e-2
    label = value > 0.5
    greedy = DecisionTreeClassifier(max_leaf_nodes=6, random_state=0).fit(X, label)
    assert TreeClassifier(max_rules=6, min_share=0.0).fit(X, label).score(X, label) >= greedy.score(X, label) - 1e-2


def test_missing_values_alone_can_be_a_side():
    X = np.random.default_rng(0).uniform(size=(200, 2))
    X[::3, 0] = np.nan
    tree = TreeClassifier(max_rules=2).fit(X, np.isnan(X[:, 0]))
    assert (tree.predict(X) == np.isnan(X[:, 0])).all()
    assert "x0 is missing" in tree.text_


def test_where_nothing_was_missing_a_missing_value_goes_with_the_weight():
    X = np.linspace(0, 1, 10)[:, None]
    y = np.where(X[:, 0] > 0.45, 1.0, 8.0)
    weights = np.where(X[:, 0] > 0.45, 1.0, 9.0)
    assert TreeRegressor(max_rules=2, min_share=0.0).fit(X, y, weights).predict([[np.nan]]) == [8.0]
    assert TreeRegressor(max_rules=2, min_share=0.0).fit(X, y, 10 - weights).predict([[np.nan]]) == [1.0]


@pytest.mark.parametrize("leaves", [2, 4, 7])
def test_without_sweeps_it_is_the_tree_of_scikit_learn(leaves):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 50, (400, 4)).astype(float)
    y = rng.normal(size=400) + np.sin(X[:, 0] / 8) + (X[:, 1] > 20) * (X[:, 2] > 30)
    cart = DecisionTreeRegressor(max_leaf_nodes=leaves, random_state=0).fit(X, y)
    ours = TreeRegressor(max_rules=leaves, sweeps=0, min_share=0.0).fit(X, y)
    np.testing.assert_allclose(ours.predict(X), cart.predict(X))
    assert sorted(rule.n for rule in ours.program_.terms) == sorted(np.bincount(cart.apply(X))[np.unique(cart.apply(X))])


def test_a_leaf_answers_with_the_mean_of_its_rows():
    X = np.random.default_rng(0).normal(size=(300, 3))
    weights = np.random.default_rng(1).uniform(0.2, 2, 300)
    P = 1 / (1 + np.exp(-X[:, 0] * X[:, 1] - X[:, 2]))
    tree = TreeClassifier(max_rules=5).fit(X, np.column_stack([1 - P, P]), weights)
    for rule in tree.program_.terms:
        held = rule.holds(X)
        mean = np.average(P[held], weights=weights[held])
        share = np.average(P[held] > 0.5, weights=weights[held])
        # Where the mean would name another class than most of the rows have, their shares are told.
        assert rule.value[1] == pytest.approx(mean if (mean > 0.5) == (share > 0.5) else share)
        assert rule.n == pytest.approx(weights[held].sum() / weights.mean())


def test_categories_are_split_into_two_sets():
    rng = np.random.default_rng(0)
    X = np.array(["blue", "green", "pink", "red", "white"], dtype=object)[rng.integers(0, 5, 500)][:, None]
    y = np.where(np.isin(X[:, 0], ["blue", "red", "white"]), 2.0, -1.0)
    tree = TreeRegressor(max_rules=2).fit(X, y)
    np.testing.assert_array_equal(tree.predict(X), y)
    assert sorted(tree.text_.splitlines()) == [
        "IF x0 is one of blue, red, white THEN 2",
        "IF x0 is one of green, pink THEN -1",
    ]


def test_a_leaf_holds_its_share_of_the_weight():
    X = np.random.default_rng(0).normal(size=(400, 3))
    y = np.where(np.arange(400) < 8, 50.0, X[:, 0])
    for least in (0.05, 0.2):
        tree = TreeRegressor(max_rules=6, min_share=least).fit(X, y)
        assert min(rule.n for rule in tree.program_.terms) >= least * 400


@pytest.mark.parametrize("settings", [{"max_rules": 0}, {"sweeps": -1}, {"min_share": -0.1}, {"min_share": 0.5}])
def test_settings_that_cannot_be_are_refused(settings):
    X = np.random.default_rng(0).normal(size=(50, 2))
    with pytest.raises(InvalidData, match="expected max_rules >= 1, sweeps >= 0"):
        TreeRegressor(**settings).fit(X, X[:, 0])
