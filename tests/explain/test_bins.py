"""Bins: codes and the conditions they stand for, on values that are easy to get wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locum.core.domain import Column
from locum.explain._bins import Bins

NUMBER = Column("x", low=0.0, high=1.0)


def bins_of(values, max_bins=255, weights=None, column=NUMBER, answers=None):
    Z = np.asarray(values, dtype=float)[:, None]
    weights = np.ones(len(Z)) if weights is None else np.asarray(weights, dtype=float)
    Y = np.zeros((len(Z), 1)) if answers is None else np.asarray(answers, dtype=float).reshape(len(Z), -1)
    return Bins.of((column,), Z, Y, weights, max_bins), Z


def holds(bins, Z, first, last, missing=False):
    return bins.condition(0, first, last, missing=missing).holds(Z)


def check_round_trip(bins, Z):
    """The condition of a run of codes holds for exactly the rows that have one of them."""
    code, count = bins.codes(Z)[:, 0], int(bins.counts[0])
    for first in range(count):
        for last in range(first, min(first + 3, count)):
            np.testing.assert_array_equal(holds(bins, Z, first, last), (code >= first) & (code <= last))
    np.testing.assert_array_equal(holds(bins, Z, 0, count - 1, missing=True) & (Z[:, 0] >= -np.inf), code < count)


def test_few_values_get_a_bin_each_cut_half_way():
    bins, Z = bins_of([3.0, 1.0, 2.0, 1.0])
    assert bins.edges[0].tolist() == [1.5, 2.5]
    assert bins.codes(Z)[:, 0].tolist() == [2, 0, 1, 0]
    assert bins.counts.tolist() == [3]


def test_a_value_on_an_edge_belongs_to_the_bin_below():
    bins, Z = bins_of([1.0, 2.0, 3.0])
    on_edges = np.array([[1.5], [2.5], [np.nextafter(1.5, 2)]])
    assert bins.codes(on_edges)[:, 0].tolist() == [0, 1, 1]
    check_round_trip(bins, np.vstack([Z, on_edges]))


def test_values_beyond_those_seen_belong_to_the_outer_bins():
    bins, _ = bins_of([1.0, 2.0, 3.0])
    assert bins.codes(np.array([[-1e9], [1e9]]))[:, 0].tolist() == [0, 2]


def test_one_value_has_one_bin():
    bins, Z = bins_of([4.0, 4.0])
    assert bins.edges[0].size == 0
    assert bins.codes(Z)[:, 0].tolist() == [0, 0]
    assert holds(bins, Z, 0, 0).all()


def test_neighbouring_floats_are_told_apart():
    # Half-way between two neighbours rounds to the even one: down for the first pair, up for the second.
    one, two = np.nextafter(1.0, 2), np.nextafter(np.nextafter(1.0, 2), 2)
    for pair in ([1.0, one], [one, two]):
        bins, Z = bins_of(pair)
        assert bins.codes(Z)[:, 0].tolist() == [0, 1]
        check_round_trip(bins, Z)


@pytest.mark.parametrize(
    "values", [[-1e308, 0.0, 1e308], [5e-324, 0.0, -5e-324], [1e-300, 1e300, -1e300], [2.0**53, 2.0**53 + 2]]
)
def test_extreme_magnitudes(values):
    bins, Z = bins_of(values)
    assert np.isfinite(bins.edges[0]).all()
    assert len(np.unique(bins.codes(Z))) == len(values)
    check_round_trip(bins, Z)


def test_missing_values_have_the_last_code():
    bins, Z = bins_of([np.nan, 1.0, 2.0, np.nan])
    assert bins.codes(Z)[:, 0].tolist() == [2, 0, 1, 2]
    assert holds(bins, Z, 1, 1).tolist() == [False, False, True, False]
    assert holds(bins, Z, 1, 1, missing=True).tolist() == [True, False, True, True]


def test_categories_stand_in_the_order_of_their_answers():
    column = Column("c", "categorical", levels=("a", "b", "c", "d"))
    bins, Z = bins_of([0, 1, 2, 0, 1, 2], column=column, answers=[5, 1, 3, 7, 1, 3])
    # "d" never occurs, and goes where the average (10/3) goes.
    assert bins.order[0].tolist() == [1, 2, 3, 0]
    assert bins.counts.tolist() == [4]
    assert bins.codes(Z)[:, 0].tolist() == [3, 0, 1, 3, 0, 1]
    assert bins.condition(0, 0, 1, missing=False).levels == (1, 2)
    check_round_trip(bins, Z)


def test_unknown_categories_count_as_missing_but_pass_no_condition():
    column = Column("c", "categorical", levels=("a", "b"))
    bins, _ = bins_of([0, 1, 1], column=column, answers=[0, 1, 1])
    Z = np.array([[-1.0], [np.nan], [1.0]])
    assert bins.codes(Z)[:, 0].tolist() == [2, 2, 1]
    assert holds(bins, Z, 0, 1, missing=True).tolist() == [False, True, True]


def test_several_answers_order_categories_along_their_leading_direction():
    column = Column("c", "categorical", levels=("a", "b", "c"))
    level = np.repeat([0, 1, 2], 20)
    P = np.array([[0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.45, 0.45, 0.1]])[level]
    bins, _ = bins_of(level, column=column, answers=P)
    assert bins.order[0].tolist() in ([0, 2, 1], [1, 2, 0])


def test_the_number_of_bins_is_held_and_they_hold_like_weight():
    values = np.random.default_rng(0).normal(size=5000)
    for most in (2, 3, 16, 255):
        bins, Z = bins_of(values, max_bins=most)
        assert bins.counts[0] == most
        share = np.bincount(bins.codes(Z)[:, 0]) / 5000
        assert share.max() <= 1 / most + 2e-3


def test_ties_share_a_bin_however_heavy():
    values = np.r_[np.zeros(900), np.arange(1, 101)]
    bins, Z = bins_of(values, max_bins=10)
    code = bins.codes(Z)[:, 0]
    assert (code[:900] == 0).all()
    assert 0 not in code[900:]
    check_round_trip(bins, Z)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40),
    st.integers(2, 12),
)
def test_codes_and_conditions_agree_for_any_values(values, most):
    bins, Z = bins_of(values, max_bins=most)
    assert bins.counts[0] <= most
    check_round_trip(bins, np.vstack([Z, bins.edges[0][:, None], [[np.nan]]]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-30, 30), st.integers(1, 5)), min_size=1, max_size=60), st.integers(2, 9), st.randoms())
def test_weighted_quantiles_are_those_of_repeated_rows(rows, most, random):
    values, weights = np.array(rows).T
    repeated = np.repeat(values, weights).tolist()
    random.shuffle(repeated)
    weighted, _ = bins_of(values, most, weights / weights.mean())
    plain, _ = bins_of(repeated, most)
    np.testing.assert_array_equal(weighted.edges[0], plain.edges[0])
