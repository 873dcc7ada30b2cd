"""The cheapest rivals: known answers, planted truths, weights, soft labels, saving."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from locum.core.domain import Domain
from locum.core.errors import FormatError
from locum.core.measures import measure
from locum.core.program import Levels, Linear
from locum.core.rivals import Rival, Standardised, grown_rules, linear_program, rivals

NAMES = ["constant", "one split", "linear model"]


def table(n=400, seed=0):
    """Two numbers, one of them with missing values, and a category with missing values."""
    rng = np.random.default_rng(seed)
    X = np.empty((n, 3), dtype=object)
    X[:, 0] = rng.normal(size=n)
    X[:, 1] = rng.normal(size=n)
    X[rng.random(n) < 0.2, 1] = None
    X[:, 2] = np.array(["blue", "green", "pink", "red"], dtype=object)[rng.integers(0, 4, n)]
    X[rng.random(n) < 0.1, 2] = None
    domain = Domain.of(X, names=["a", "b", "colour"])
    return domain, domain.encode(X)


def made(domain, Z, y, weights=None, classes=None):
    found = rivals(domain, Z, np.asarray(y), np.ones(len(Z)) if weights is None else weights, classes)
    assert [rival.name for rival in found] == NAMES
    return {rival.name: rival for rival in found}


def numbers(n, d, seed=0):
    Z = np.random.default_rng(seed).normal(size=(n, d))
    return Domain.of(Z), Z


# ------------------------------------------------------------------ the constant
def test_the_constant_names_the_most_frequent_class_by_weight():
    domain, Z = numbers(6, 1)
    y = np.array(["no", "no", "no", "no", "yes", "yes"])
    plain = made(domain, Z, y, classes=["no", "yes"])["constant"]
    assert plain.program.predict(Z).tolist() == ["no"] * 6
    assert plain.program.base == pytest.approx((2 / 3, 1 / 3))
    weighted = made(domain, Z, y, np.array([1.0, 1, 1, 1, 5, 5]), ["no", "yes"])["constant"]
    assert weighted.program.predict(Z).tolist() == ["yes"] * 6
    assert weighted.program.base == pytest.approx((4 / 14, 10 / 14))


def test_the_constant_is_the_weighted_mean_of_values():
    domain, Z = numbers(4, 1)
    constant = made(domain, Z, [1.0, 2.0, 3.0, 10.0], np.array([1.0, 1, 1, 2]))["constant"]
    np.testing.assert_allclose(constant.answers(Z, "value"), np.full(4, 26 / 5))


def test_soft_labels_keep_their_mean_and_their_class():
    domain, Z = numbers(50, 2)
    P = np.random.default_rng(1).dirichlet([1, 2, 3], 50)
    found = made(domain, Z, P, classes=["x", "y", "z"])
    np.testing.assert_allclose(found["constant"].answers(Z, "probability"), np.tile(P.mean(axis=0), (50, 1)))
    assert set(found["constant"].answers(Z, "class")) == {"z"}
    for rival in found.values():
        answers = rival.answers(Z, "probability")
        assert answers.shape == (50, 3)
        np.testing.assert_allclose(answers.sum(axis=1), 1)


# ------------------------------------------------------------------ one split
def loss(y, side, weights):
    """Weighted squared error of the means on both sides."""
    total = 0.0
    for part in (side, ~side):
        if weights[part].sum() > 0:
            total += weights[part] @ (y[part] - np.average(y[part], weights=weights[part])) ** 2
    return total


def test_the_split_is_the_best_one_there_is_on_numbers():
    rng = np.random.default_rng(3)
    for seed in range(5):
        domain, Z = numbers(40, 3, seed)
        y, weights = np.sin(3 * Z[:, 1]) + rng.normal(size=40), rng.integers(1, 4, 40).astype(float)
        best = min(loss(y, Z[:, j] <= cut, weights) for j in range(3) for cut in Z[:, j])
        said = made(domain, Z, y, weights)["one split"].answers(Z, "value")
        assert weights @ (y - said) ** 2 == pytest.approx(best, rel=1e-9)


def test_the_split_of_a_category_is_the_best_one_there_is_with_missing_on_the_better_side():
    rng = np.random.default_rng(0)
    code = rng.integers(0, 6, 300)
    X = np.array(list("abcdef"), dtype=object)[code][:, None]
    X[::9] = None
    y = np.array([3.0, 0, 5, 1, 4, 2])[code] + rng.normal(size=300)
    y[::9] += 10
    domain = Domain.of(X)
    Z, ones = domain.encode(X), np.ones(300)
    groups = [np.isnan(Z[:, 0]), *(Z[:, 0] == level for level in range(6))]
    sides = [np.any([groups[i] for i in chosen], axis=0) for r in range(1, 7) for chosen in itertools.combinations(range(7), r)]
    best = min(loss(y, side, ones) for side in sides)
    assert ((y - made(domain, Z, y)["one split"].answers(Z, "value")) ** 2).sum() == pytest.approx(best, rel=1e-9)


def test_a_planted_split_is_found_and_read():
    domain, Z = table()
    y = np.where((Z[:, 1] > 0.5) | np.isnan(Z[:, 1]), "yes", "no")
    split = made(domain, Z, y, classes=["no", "yes"])["one split"]
    assert (split.answers(Z, "class") == y).all()
    assert split.program.used == (1,)
    assert split.program.statements == 2
    assert [(c.low, c.high) for rule in split.program.terms for c in rule.conditions] == [
        (None, pytest.approx(0.5, abs=0.02)), (pytest.approx(0.5, abs=0.02), None),
    ]  # fmt: skip
    assert "or missing THEN yes (1)" in split.program.text()
    by_colour = np.where(np.isin(Z[:, 2], [0, 3]), 1.0, -1.0)
    assert "IF colour is one of blue, red THEN 1" in made(domain, Z, by_colour)["one split"].program.text()


def test_missing_values_alone_can_be_a_side():
    domain, Z = table()
    y = np.where(np.isnan(Z[:, 1]), 5.0, 1.0)
    split = made(domain, Z, y)["one split"]
    np.testing.assert_allclose(split.answers(Z, "value"), y)
    assert split.program.text() == "IF b is known THEN 1\nIF b is missing THEN 5"
    again = Rival.from_dict(json.loads(json.dumps(split.to_dict(), allow_nan=False)))
    np.testing.assert_allclose(again.answers(Z, "value"), y)


def test_missing_values_can_be_split_off_further_down():
    domain, Z = table(800)
    y = np.where(np.isnan(Z[:, 1]), 5.0, np.where(Z[:, 1] <= 0, 4.0, -4.0))
    rules = grown_rules(domain, Z, y[:, None], np.ones(800), leaves=3)
    np.testing.assert_allclose(sum(rule.contribution(Z)[:, 0] for rule in rules), y)
    assert sorted(rule.value[0] for rule in rules) == [-4.0, 4.0, 5.0]
    assert "b is missing" in [rule.text(domain.columns) for rule in rules]


def test_a_value_that_was_never_missing_goes_with_the_weightier_side():
    Z = np.arange(10.0)[:, None]
    domain = Domain.of(np.vstack([Z, [[np.nan]]]))
    y, weights = np.where(Z[:, 0] < 2, 8.0, 1.0), np.where(Z[:, 0] < 2, 9.0, 1.0)
    split = made(domain, Z, y, weights)["one split"]
    assert split.answers(np.array([[np.nan]]), "value").tolist() == [8.0]
    assert made(domain, Z, y)["one split"].answers(np.array([[np.nan]]), "value").tolist() == [1.0]


def test_an_unknown_category_gets_the_mean():
    domain, Z = table()
    y = np.where(Z[:, 2] == 1, 5.0, 0.0)
    split = made(domain, Z, y)["one split"]
    unknown = Z[:1].copy()
    unknown[0, 2] = -1
    assert split.answers(unknown, "value")[0] == pytest.approx(y.mean())


def test_where_nothing_splits_the_split_is_the_constant():
    domain, Z = numbers(20, 2)
    split = made(domain, Z, np.full(20, 7.0))["one split"]
    assert split.program.statements == 1
    np.testing.assert_allclose(split.answers(Z, "value"), 7.0)


def test_grown_rules_part_the_rows_and_keep_to_their_size():
    domain, Z = table(600)
    rng = np.random.default_rng(2)
    y = (Z[:, 0] > 0.3) * 2.0 + np.nan_to_num(Z[:, 1]) + rng.normal(size=600)
    weights = rng.uniform(0.5, 2, 600)
    for leaves, least in ((2, 1), (6, 40), (12, 5)):
        rules = grown_rules(domain, Z, y[:, None], weights, leaves=leaves, min_rows=least)
        held = np.array([rule.holds(Z) for rule in rules])
        assert (held.sum(axis=0) == 1).all()
        assert len(rules) <= leaves
        assert held.sum(axis=1).min() >= least
        for rule, rows in zip(rules, held, strict=True):
            assert rule.value[0] == pytest.approx(np.average(y[rows], weights=weights[rows]))
            assert rule.n == pytest.approx(weights[rows].sum())
            assert len({condition.column for condition in rule.conditions}) == len(rule.conditions)
    (only,) = grown_rules(domain, Z, np.ones((600, 1)), weights, leaves=4)
    assert only.conditions == ()


# ------------------------------------------------------------------ the linear model
def test_planted_slopes_come_back():
    rng = np.random.default_rng(0)
    Z = rng.normal(3, [1, 20, 0.1], size=(500, 3))
    linear = made(Domain.of(Z), Z, 4 + 2 * Z[:, 0] - 0.5 * Z[:, 1] + 30 * Z[:, 2])["linear model"]
    assert [term.slope[0] for term in linear.program.terms] == pytest.approx([2, -0.5, 30], rel=0.01)
    np.testing.assert_allclose(linear.answers(np.array([[3.0, 3.0, 3.0]]), "value"), 4 + 6 - 1.5 + 90, rtol=0.01)


def test_planted_levels_and_missing_values_come_back():
    domain, Z = table(2000)
    gap = np.isnan(Z[:, 1])
    level = np.where(np.isnan(Z[:, 2]), 0.0, np.array([0.0, 1.0, 5.0, -2.0, 9.9])[np.nan_to_num(Z[:, 2], nan=4).astype(int)])
    y = 1 + 2 * Z[:, 0] + np.where(gap, 7.0, 3 * np.nan_to_num(Z[:, 1])) + level
    linear = made(domain, Z, y)["linear model"]
    np.testing.assert_allclose(linear.answers(Z, "value"), y, atol=0.1)
    kinds = [type(term) for term in linear.program.terms]
    assert kinds == [Linear, Linear, Levels]


@pytest.mark.parametrize("soft", [True, False])
def test_planted_log_odds_come_back(soft):
    domain, Z = numbers(3000, 3)
    score = 1.5 * Z[:, 0] - Z[:, 2] + 0.5
    p = 1 / (1 + np.exp(-score))
    labels = np.random.default_rng(4).random(3000) < p
    y = np.column_stack([1 - p, p]) if soft else np.where(labels, "yes", "no")
    linear = made(domain, Z, y, classes=["no", "yes"])["linear model"]
    found = [term.slope[1] - term.slope[0] for term in linear.program.terms]
    assert found == pytest.approx([1.5, 0, -1], abs=0.05 if soft else 0.2)
    np.testing.assert_allclose(linear.answers(Z, "probability")[:, 1], p, atol=0.03 if soft else 0.12)


def test_three_classes():
    domain, Z = numbers(1500, 2)
    scores = np.column_stack([Z[:, 0], Z[:, 1], -Z[:, 0] - Z[:, 1]])
    y = np.array(["a", "b", "c"])[scores.argmax(axis=1)]
    linear = made(domain, Z, y, classes=["a", "b", "c"])["linear model"]
    assert (linear.answers(Z, "class") == y).mean() > 0.97


def test_a_class_that_does_not_occur_is_never_named():
    domain, Z = numbers(200, 2)
    y = np.where(Z[:, 0] > 0, "yes", "no")
    found = made(domain, Z, y, classes=["maybe", "no", "yes"])
    for rival in found.values():
        P = rival.answers(Z, "probability")
        assert P[:, 0].max() < 1e-6
        assert set(rival.answers(Z, "class")) <= {"no", "yes"}
    one = made(domain, Z, np.full(200, "no"), classes=["maybe", "no", "yes"])
    assert all(set(rival.answers(Z, "class")) == {"no"} for rival in one.values())


def test_a_column_that_is_constant_up_to_rounding_says_nothing():
    Z = np.column_stack([np.full(30, 0.1), np.random.default_rng(0).normal(size=30)])
    assert Z[:, 0].std() > 0
    y = np.where(Z[:, 1] > 0.3, "yes", "no")
    linear = made(Domain.of(Z, fixed=[0]), Z, y, classes=["no", "yes"])["linear model"]
    assert (linear.answers(Z + np.array([0.5, 0.0]), "class") == y).mean() > 0.9


def test_wild_values_are_clipped_where_the_linear_model_learns():
    Z = np.append(np.random.default_rng(0).normal(size=500), 1e9)[:, None]
    table = Standardised(Domain.of(Z), Z)
    assert np.abs(table(Z)).max() == 8
    assert np.isnan(Z).sum() == 0
    assert table(np.array([[np.nan]])).tolist() == [[0.0]]


def test_large_tables_are_read_in_part():
    domain, Z = numbers(6000, 2)
    program = linear_program(domain, Z, (3 * Z[:, :1]), np.ones(6000), None)
    assert program.terms[0].slope[0] == pytest.approx(3, rel=0.01)


# ------------------------------------------------------------------ what must hold for any data
@pytest.mark.parametrize("kind", ["labels", "probabilities", "values"])
def test_weights_are_repeats_and_order_does_not_matter(kind):
    domain, Z = table(200)
    rng = np.random.default_rng(5)
    score = Z[:, 0] + np.nan_to_num(Z[:, 1]) + rng.normal(size=200)
    p = 1 / (1 + np.exp(-score))
    y = {"labels": np.where(score > 0, "yes", "no"), "probabilities": np.column_stack([1 - p, p]), "values": score}[kind]
    classes = None if kind == "values" else ["no", "yes"]
    weights = rng.integers(1, 4, 200)
    repeats = rng.permutation(np.repeat(np.arange(200), weights))
    weighted = made(domain, Z, y, weights.astype(float), classes)
    repeated = made(domain, Z[repeats], y[repeats], None, classes)
    for name in NAMES:
        one, other = (found[name].program.values(Z) for found in (weighted, repeated))
        np.testing.assert_allclose(one, other, atol=1e-4 if name == "linear model" else 1e-9)


def test_answers_of_several_values_have_no_rivals():
    domain, Z = numbers(10, 1)
    assert rivals(domain, Z, np.ones((10, 2)), np.ones(10), None) == ()


def test_saved_and_read_back():
    domain, Z = table()
    y = np.where(Z[:, 0] > 0, "yes", "no")
    found = measure("agreement").fidelity(y[:50], y[50:100])
    for rival in made(domain, Z, y, classes=["no", "yes"]).values():
        held = rival.measured(found)
        again = Rival.from_dict(json.loads(json.dumps(held.to_dict(), allow_nan=False)))
        assert again == held
        np.testing.assert_array_equal(again.answers(Z, "probability"), rival.answers(Z, "probability"))
        assert rival.fidelity == ()


@pytest.mark.parametrize("damage", [{"program": None}, {"fidelity": [{}]}, {"name": ...}])
def test_a_record_that_is_no_rival_is_refused(damage):
    domain, Z = numbers(10, 1)
    record = {**made(domain, Z, Z[:, 0])["constant"].to_dict(), **damage}
    with pytest.raises(FormatError):
        Rival.from_dict({key: value for key, value in record.items() if value is not ...})
