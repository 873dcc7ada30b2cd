"""The search for conjunctions: exact on one column, no worse than any single move on several, and true to its conditions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locum.core.domain import Column
from locum.explain._rules import Clause, RuleSearch

NUMBER = Column("x", low=0.0, high=1.0)
COLOUR = Column("c", "categorical", levels=("a", "b", "c", "d"))
NONE = Clause((), ())


def searched(Z, columns, *, weights=None, least=0.0, max_conditions=2, answers=None):
    Z = np.asarray(Z, dtype=float)
    weights = np.ones(len(Z)) if weights is None else np.asarray(weights, dtype=float)
    Y = np.zeros((len(Z), 1)) if answers is None else np.asarray(answers, dtype=float).reshape(len(Z), -1)
    return RuleSearch(columns, Z, Y, weights, max_conditions=max_conditions, max_bins=255, least=least)


def everyone(search):
    return search.among(np.arange(len(search.weights)))


def best_on_one_column(search, gain, column=0):
    """What the search thinks best on a column: the rows it holds."""
    part = everyone(search)
    found = [clause for clause in part.seeds(gain[:, None], 9, pairs=False)[0] if clause.columns in ((column,), ())]
    return part.holds(found[0])


def masks(z, column):
    """Every condition there is on a column, as the rows that pass."""
    absent = np.isnan(z)
    sides = (np.zeros(len(z), dtype=bool), absent)
    if column.kind == "categorical":
        for size in range(len(column.levels) + 1):
            for levels in itertools.combinations(range(len(column.levels)), size):
                yield from (np.isin(z, levels) | side for side in sides)
        return
    values = np.unique(z[~absent])
    for low, high in itertools.combinations_with_replacement(values, 2):
        yield from (((z >= low) & (z <= high)) | side for side in sides)
    yield absent


def least_sum(z, column, gain, weights=None, least=0.0):
    weights = np.ones(len(z)) if weights is None else weights
    fine = [passed for passed in masks(z, column) if passed.any() and weights[passed].sum() >= least]
    return min((gain[passed].sum() for passed in fine), default=np.inf)


def some_rows(most):
    """Lists of (value up to `most` or missing, gain, weight)."""
    value = st.one_of(st.integers(0, most), st.just(float("nan")))
    return st.lists(st.tuples(value, st.integers(-5, 5), st.integers(1, 3)), min_size=2, max_size=30)


# ------------------------------------------------------------------ one column
@settings(max_examples=150, deadline=None)
@given(some_rows(9), st.integers(0, 12))
def test_the_best_interval_is_the_best_of_all_intervals(rows, least):
    z, gain, weights = np.array(rows, dtype=float).T
    search = searched(z[:, None], [NUMBER], weights=weights, least=float(least))
    if not search.usable:
        assert len(np.unique(z)) == 1
        return
    part = everyone(search)
    found = part.seeds(gain[:, None], 1, pairs=False)[0]
    wanted = least_sum(z, NUMBER, gain, weights, least)
    if not found:
        assert wanted == np.inf
        return
    # A condition that every row passes is no condition, and holds all.
    assert gain[part.holds(found[0])].sum() == pytest.approx(wanted)
    assert weights[part.holds(found[0])].sum() >= least


@settings(max_examples=150, deadline=None)
@given(some_rows(3))
def test_the_best_set_of_levels_is_the_best_of_all_sets(rows):
    z, gain, answers = np.array(rows, dtype=float).T
    search = searched(z[:, None], [COLOUR], answers=answers)
    if search.usable:
        held = best_on_one_column(search, gain)
        assert gain[held].sum() == pytest.approx(least_sum(z, COLOUR, gain))


def test_several_gains_are_searched_as_if_each_were_alone():
    rng = np.random.default_rng(0)
    Z, gains = rng.integers(0, 20, (200, 3)), rng.normal(size=(200, 4))
    part = everyone(searched(Z, [NUMBER] * 3))
    together = part.seeds(gains, 3, pairs=True)
    for q in range(4):
        (alone,) = part.seeds(gains[:, [q]], 3, pairs=True)
        assert [(c.columns, [m.tolist() for m in c.masks]) for c in alone] == [
            (c.columns, [m.tolist() for m in c.masks]) for c in together[q]
        ]


def test_ends_lie_half_way_to_the_next_row_and_outer_ends_are_open():
    z = np.repeat(np.arange(10.0), 2)
    search = searched(z[:, None], [NUMBER])
    # Only some of the values occur among the rows searched: 1, 4 and 9.
    part = search.among(np.flatnonzero(np.isin(z, [1, 4, 9])))
    for wanted, low, high in ((1, None, 2.5), (4, 2.5, 6.5), (9, 6.5, None)):
        gain = np.where(z[part.rows] == wanted, -1.0, 1.0)
        (condition,) = search.conditions(part.seeds(gain[:, None], 1, pairs=False)[0][0])
        assert (condition.low, condition.high) == (low, high)


def test_missing_values_alone_can_be_held():
    z = np.array([1.0, 2.0, 3.0, np.nan, np.nan])
    search = searched(z[:, None], [NUMBER])
    gain = np.where(np.isnan(z), -1.0, 1.0)
    (condition,) = search.conditions(everyone(search).seeds(gain[:, None], 1, pairs=False)[0][0])
    assert condition.holds(z[:, None]).tolist() == [False, False, False, True, True]


def test_unknown_categories_are_never_held():
    Z = np.array([[0.0], [0.0], [1.0], [-1.0], [-1.0], [np.nan]])
    search = searched(Z, [COLOUR])
    for gain in (np.array([0, 0, 9, -9, -9, 9.0]), np.array([-1, -1, -1, -9, -9, -1.0])):
        for clause in everyone(search).seeds(gain[:, None], 1, pairs=False)[0]:
            if clause.columns:
                assert not search.holds(clause)[3:5].any()


# ------------------------------------------------------------------ several columns
def rectangle(n=2000, seed=0):
    """A rectangle that neither of its sides shows: what is gained inside is lost in the rest of both strips."""
    Z = np.random.default_rng(seed).integers(0, 60, (n, 6)).astype(float)
    high = Z[:, 1] >= 30, Z[:, 4] >= 30
    return Z, np.where(high[0] ^ high[1], 1.0, -1.0)


def test_a_pair_of_columns_that_mean_nothing_alone_is_seen():
    Z, gain = rectangle()
    part = everyone(searched(Z, [NUMBER] * 6))
    pairs = [clause for clause in part.seeds(gain[:, None], 1, pairs=True)[0] if len(clause.columns) == 2]
    found = part.polish(pairs[0], gain)
    assert found.columns == (1, 4)
    assert (gain[part.holds(found)] == -1).all()
    assert part.holds(found).sum() > 400


def test_polishing_ends_where_no_single_condition_can_be_bettered():
    rng = np.random.default_rng(1)
    Z = rng.integers(0, 12, (300, 3)).astype(float)
    Z[rng.random((300, 3)) < 0.1] = np.nan
    columns = [NUMBER, NUMBER, COLOUR]
    Z[:, 2] = np.where(np.isnan(Z[:, 2]), np.nan, Z[:, 2] % 4)
    for seed in range(8):
        gain = np.random.default_rng(seed).normal(size=300) - 0.2 * ((Z[:, 0] > 6) & (Z[:, 2] == 1))
        part = everyone(searched(Z, columns))
        for start in part.seeds(gain[:, None], 2, pairs=True)[0]:
            found = part.polish(start, gain)
            score = part.score(found, gain)
            assert score <= part.score(start, gain) + 1e-9
            for column in found.columns:
                others = part.holds(found.without(column))
                assert score <= least_sum(Z[others, column], columns[column], gain[others]) + 1e-9


def test_no_more_conditions_than_allowed_and_never_too_few_rows():
    rng = np.random.default_rng(0)
    Z, gain = rng.integers(0, 30, (400, 5)).astype(float), rng.normal(size=400)
    for most in (1, 2, 3):
        part = everyone(searched(Z, [NUMBER] * 5, max_conditions=most, least=20.0))
        for start in part.seeds(gain[:, None], 3, pairs=True)[0]:
            found = part.polish(start, gain)
            assert len(found.columns) <= most
            assert part.holds(found).sum() >= 20


def test_conditions_of_a_program_hold_for_the_rows_the_search_held():
    rng = np.random.default_rng(0)
    Z = np.column_stack([rng.integers(0, 40, 500), rng.integers(-1, 4, 500), rng.normal(size=500)]).astype(float)
    Z[rng.random((500, 3)) < 0.1] = np.nan
    search = searched(Z, [NUMBER, COLOUR, NUMBER], max_conditions=3, answers=rng.normal(size=500))
    part = everyone(search)
    for seed in range(10):
        gain = np.random.default_rng(seed).normal(size=500)
        for start in part.seeds(gain[:, None], 3, pairs=True)[0]:
            found = part.polish(start, gain)
            passed = np.all([one.holds(Z) for one in search.conditions(found)], axis=0)
            np.testing.assert_array_equal(passed, search.holds(found))


def test_columns_that_tell_nothing_apart_or_nothing_new_are_left_out():
    x = np.random.default_rng(0).normal(size=100)
    search = searched(np.column_stack([np.ones(100), x, np.exp(x), -x]), [NUMBER] * 4)
    assert search.usable == (1, 3)
    assert searched(np.ones((5, 2)), [NUMBER] * 2).usable == ()


def test_where_nothing_can_be_told_apart_nothing_is_found():
    part = everyone(searched(np.ones((5, 2)), [NUMBER] * 2))
    gain = np.array([-1.0, 1, 1, 1, 1])
    assert part.seeds(gain[:, None], 2, pairs=True) == [[]]
    assert part.polish(NONE, gain).columns == ()
