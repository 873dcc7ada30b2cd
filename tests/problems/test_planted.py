"""Planted problems: answers are the truth's, rows lie on a correlated manifold within the stated ranges."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.program import Levels, Linear, Program, Rule, Steps
from locum.problems import planted_additive, planted_rules, planted_sparse_linear, planted_tree

PLANTERS = [planted_rules, planted_tree, planted_additive, planted_sparse_linear]
every = pytest.mark.parametrize("planter", PLANTERS)


# ---------------------------------------------------------------------- the truth
@every
@pytest.mark.parametrize("seed", [0, 5])
def test_the_truth_survives_being_written_down(planter, seed):
    problem = planter(seed)
    X = problem.sample(500, seed=9)
    again = Program.from_dict(problem.truth.to_dict())
    assert np.array_equal(again.predict(problem.domain.encode(X)), problem.answer(X))


@every
def test_kinds_of_answers(planter):
    X = planter(3).sample(200)
    labels, shares = planter(3).answer(X), planter(3, output="probability").answer(X)
    assert set(labels.tolist()) == {"no", "yes"}
    assert shares.shape == (200, 2)
    assert np.allclose(shares.sum(axis=1), 1)
    assert np.array_equal(np.array(["no", "yes"])[shares.argmax(axis=1)], labels)
    values = planter(3, output="value")
    assert values.answer(values.sample(200)).shape == (200,)
    assert values.answer(values.sample(200)).std() > 0


@every
def test_three_classes_all_come_up(planter):
    problem = planter(1, classes=("low", "middle", "high"))
    _, counts = np.unique(problem.answer(problem.sample(5000, seed=4)), return_counts=True)
    assert len(counts) == 3
    assert counts.min() > 0.03 * 5000


@every
@pytest.mark.parametrize("seed", range(6))
def test_only_relevant_columns_move_the_answer(planter, seed):
    problem = planter(seed, output="probability", relevant=3)
    rng = np.random.default_rng(seed)
    X = problem.sample(3000, seed=1)
    before = problem.answer(X)
    assert len(problem.relevant) == 3
    for j, name in enumerate(problem.domain.names):
        shuffled = X.copy()
        shuffled[:, j] = X[rng.permutation(len(X)), j]
        moved = np.abs(problem.answer(shuffled) - before).max()
        assert (moved > 0) == (name in problem.relevant)


def test_a_rule_list_answers_with_the_first_rule_that_holds():
    problem = planted_rules(2, rules=3, output="value")
    X = problem.sample(2000, seed=3)
    Z = problem.domain.encode(X)
    expected = np.full(len(Z), problem.truth.base[0])
    for rule in reversed(problem.truth.terms):
        expected[rule.holds(Z)] = rule.value[0]
    assert len(problem.truth.terms) == 3
    assert np.array_equal(problem.answer(X), expected)
    assert {len(rule.conditions) for rule in problem.truth.terms} <= {1, 2}


def test_each_rule_takes_its_share_of_the_rows_that_reach_it():
    shares = []
    for seed in range(10):
        problem = planted_rules(seed)
        fired = problem.truth.fired(problem.domain.encode(problem.sample(4000)))
        shares += [(fired == i).sum() / (fired >= i).sum() for i in range(4)]
    assert np.mean((np.array(shares) > 0.09) & (np.array(shares) < 0.55)) > 0.9


@pytest.mark.parametrize("seed", range(8))
def test_exactly_one_leaf_of_a_tree_holds_each_row(seed):
    problem = planted_tree(seed, leaves=7)
    Z = problem.domain.encode(problem.sample(3000, seed=2))
    holds = np.stack([rule.holds(Z) for rule in problem.truth.terms])
    assert holds.shape[0] == 7
    assert (holds.sum(axis=0) == 1).all()
    assert holds.any(axis=1).all()


def test_a_sum_is_the_sum_of_its_columns():
    problem = planted_additive(4, output="value", numeric=4, categorical=0, missing=0.0)
    X = problem.sample(1000)
    base = X[:1]
    total = problem.answer(base)[0]
    parts = np.zeros(len(X))
    for j in range(4):
        one = np.repeat(base, len(X), axis=0)
        one[:, j] = X[:, j]
        parts += problem.answer(one) - total
    assert np.allclose(problem.answer(X), total + parts)
    assert all(isinstance(term, Steps) for term in problem.truth.terms)


def test_a_linear_truth_is_found_by_least_squares():
    problem = planted_sparse_linear(7, output="value", numeric=5, categorical=0, relevant=3, missing=0.0)
    X = problem.sample(400)
    slopes = np.linalg.lstsq(np.column_stack([X, np.ones(400)]), problem.answer(X), rcond=None)[0][:-1]
    planted = np.zeros(5)
    for term in problem.truth.terms:
        planted[term.column] = term.slope[0]
    assert np.allclose(slopes, planted, atol=1e-8)
    assert np.count_nonzero(planted) == 3


def test_terms_are_of_the_family():
    kinds = {type(term) for seed in range(5) for term in planted_additive(seed).truth.terms}
    assert kinds == {Steps, Levels}
    kinds = {type(term) for seed in range(5) for term in planted_sparse_linear(seed).truth.terms}
    assert kinds == {Linear, Levels}
    assert {type(term) for term in planted_rules(0).truth.terms} == {Rule}


# ---------------------------------------------------------------------- the rows
@every
def test_rows_keep_to_the_domain_and_fill_it(planter):
    problem = planter(0)
    X = problem.sample(20_000, seed=1)
    Z, read = problem.domain.encode(X), Domain.of(X, names=problem.domain.names)
    for j, (stated, found) in enumerate(zip(problem.domain.columns, read.columns, strict=True)):
        assert (stated.kind, stated.levels, stated.missing) == (found.kind, found.levels, found.missing)
        if stated.kind == "numeric":
            assert stated.integer == found.integer
            assert stated.low <= found.low
            assert found.high <= stated.high
            assert np.nanstd(Z[:, j]) > 0


def test_columns_depend_on_each_other():
    problem = planted_rules(0, numeric=6, categorical=0)
    X = problem.sample(20_000)
    known = np.where(np.isnan(X), np.nanmedian(X, axis=0), X)
    strengths = np.abs(np.corrcoef(np.argsort(np.argsort(known, axis=0), axis=0), rowvar=False))
    assert np.sort(strengths[np.triu_indices(6, 1)])[-3:].min() > 0.3


def test_missing_values_come_at_the_stated_share_and_not_at_random():
    problem = planted_rules(0, missing=0.2)
    Z = problem.domain.encode(problem.sample(40_000))
    absent = np.isnan(Z)
    assert np.allclose(absent.mean(axis=0), [0.2, 0, 0.2, 0, 0.2, 0, 0.2, 0, 0.2], atol=0.01)
    complete = Z[:, [1, 3, 5]]
    shifts = [abs(complete[absent[:, j]].mean(axis=0) - complete[~absent[:, j]].mean(axis=0)) for j in (0, 2, 4)]
    assert (np.max(shifts, axis=0) / complete.std(axis=0) > 0.1).all()


def test_without_missing_values_there_are_none():
    problem = planted_tree(1, missing=0.0)
    assert not np.isnan(problem.domain.encode(problem.sample(5000))).any()
    assert not any(column.missing for column in problem.domain.columns)


def test_rows_of_numbers_only_are_a_float_array():
    assert planted_rules(0, categorical=0).sample(5).dtype == np.float64
    assert planted_rules(0).sample(5).dtype == object


# ---------------------------------------------------------------------- seeds
@every
def test_same_seed_same_numbers(planter):
    assert planter(3).truth == planter(3).truth
    assert planter(3).truth != planter(4).truth
    one, same, other = planter(3).sample(50, seed=1), planter(3).sample(50, seed=1), planter(3).sample(50, seed=2)
    encode = planter(3).domain.encode
    assert np.array_equal(encode(one), encode(same), equal_nan=True)
    assert not np.array_equal(encode(one), encode(other), equal_nan=True)


def test_the_global_generator_is_untouched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    planted_tree(0).sample(10)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


# ---------------------------------------------------------------------- bad input
@every
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": "score"}, "expected output= to be 'class', 'probability' or 'value', got 'score'"),
        ({"classes": ("a", "a")}, "expected at least two different classes"),
        ({"classes": ("a",)}, "expected at least two different classes"),
        ({"relevant": 0}, "expected relevant= between 1 and the number of columns"),
        ({"relevant": 10}, "expected relevant= between 1 and the number of columns"),
        ({"numeric": -1}, "no negative count"),
        ({"missing": 0.6}, "expected missing= to be a share from 0 to below 0.5"),
    ],
)
def test_settings_out_of_range_are_refused(planter, settings, message):
    with pytest.raises(InvalidData, match=message):
        planter(0, **settings)


def test_settings_of_one_planter_are_refused():
    with pytest.raises(InvalidData, match="expected rules= of at least one, got 0"):
        planted_rules(rules=0)
    with pytest.raises(InvalidData, match="expected leaves= of at least two, got 1"):
        planted_tree(leaves=1)
    with pytest.raises(InvalidData, match="expected pieces= of at least two, got 1"):
        planted_additive(pieces=1)
    with pytest.raises(InvalidData, match="expected to sample at least one row, got n=0"):
        planted_rules().sample(0)


def test_what_cannot_be_planted_is_refused_with_advice():
    with pytest.raises(InvalidData, match=r"200 draws gave no planted_rules .*ask for fewer columns or classes"):
        planted_rules(rules=1, relevant=5)
