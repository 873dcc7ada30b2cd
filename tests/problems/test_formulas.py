"""Engineering formulas: published figures, the physics they stand for, and their ranges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from locum.core.errors import InvalidData
from locum.problems import borehole, otl_circuit, piston, wing_weight

FORMULAS = [borehole, otl_circuit, piston, wing_weight]
every = pytest.mark.parametrize("make", FORMULAS)


def changed(problem, X, **values):
    """The rows with some inputs replaced."""
    X = X.copy()
    for name, value in values.items():
        X[:, problem.domain.names.index(name)] = value
    return X


# ---------------------------------------------------------------------- known answers
def test_wing_weight_of_the_published_baseline():
    # Forrester et al.: a light aircraft without paint weighs about 234 lb.
    row = [[174, 252, 7.52, 0, 33.98, 0.672, 0.12, 3.795, 2004, 0]]
    assert wing_weight().answer(row)[0] == pytest.approx(233.90840542, abs=1e-7)


def test_wing_weight_is_symmetric_in_sweep_and_linear_in_paint():
    problem = wing_weight()
    X = problem.sample(100)
    sweep = X[:, problem.domain.names.index("sweep")]
    assert np.allclose(problem.answer(X), problem.answer(changed(problem, X, sweep=-sweep)))
    bare = problem.answer(changed(problem, X, paint_weight=0.0))
    assert np.allclose(problem.answer(changed(problem, X, paint_weight=0.05)) - bare, 0.05 * X[:, 0])
    straight = problem.answer(changed(problem, X, paint_weight=0.0, sweep=0.0))
    assert np.allclose(bare, straight * np.cos(np.pi * sweep / 180) ** -0.9)
    assert np.allclose(
        problem.answer(changed(problem, X, gross_weight=2000.0, load_factor=4.0)),
        problem.answer(changed(problem, X, gross_weight=4000.0, load_factor=2.0)),
    )


def test_borehole_flows_with_the_difference_of_heads():
    problem = borehole()
    X = problem.sample(100)
    upper, lower = 1000.0, 800.0
    flow = problem.answer(changed(problem, X, upper_head=upper, lower_head=lower))
    assert np.allclose(problem.answer(changed(problem, X, upper_head=upper + 200, lower_head=lower)), 2 * flow)
    assert np.allclose(problem.answer(changed(problem, X, upper_head=lower, lower_head=lower)), 0)
    assert (flow > 0).all()


def test_borehole_is_three_resistances_in_series():
    problem = borehole()
    X = problem.sample(200)
    rw, r, Tu, Hu, Tl, Hl, L, Kw = X.T
    upper, lower = np.log(r / rw) / (2 * np.pi * Tu), np.log(r / rw) / (2 * np.pi * Tl)
    hole = L / (np.pi * rw**2 * Kw)
    assert np.allclose(problem.answer(X), (Hu - Hl) / (upper + hole + lower))


def test_piston_balances_its_forces():
    problem = piston()
    for M, S, V0, k, P0, Ta, T0 in problem.sample(50):

        def imbalance(V, M=M, S=S, V0=V0, k=k, P0=P0, Ta=Ta, T0=T0):
            return P0 * V0 * Ta / (T0 * V) * S - P0 * S - 19.62 * M - k * (V - V0) / S

        V = brentq(imbalance, 1e-7, 1.0, xtol=1e-15)
        stiffness = k + S**2 * P0 * V0 * Ta / (T0 * V**2)
        assert problem.answer([[M, S, V0, k, P0, Ta, T0]])[0] == pytest.approx(2 * np.pi * np.sqrt(M / stiffness), rel=1e-8)


def test_otl_circuit_in_its_limits():
    problem = otl_circuit()
    X = problem.sample(100)
    rb1, rb2 = X[:, 0], X[:, 1]
    base = 12 * rb2 / (rb1 + rb2)
    assert np.allclose(problem.answer(changed(problem, X, rf=0.0)), base + 0.74)
    # Without gain nothing but the second stage is seen.
    assert np.allclose(problem.answer(changed(problem, X, current_gain=0.0)), 11.35)


# ---------------------------------------------------------------------- ranges, units, seeds
@every
def test_rows_fill_the_box_and_nothing_else(make):
    problem = make()
    X = problem.sample(4000)
    for j, column in enumerate(problem.domain.columns):
        width = column.high - column.low
        assert column.low <= X[:, j].min() < column.low + 0.01 * width
        assert column.high - 0.01 * width < X[:, j].max() <= column.high
        assert X[:, j].mean() == pytest.approx((column.low + column.high) / 2, abs=0.03 * width)
    assert np.abs(np.corrcoef(X, rowvar=False) - np.eye(X.shape[1])).max() < 0.07
    assert np.isfinite(problem.answer(X)).all()


@every
def test_every_input_has_a_unit_and_matters(make):
    problem = make()
    assert tuple(problem.units) == problem.domain.names
    X = problem.sample(50)
    for column in problem.domain.columns:
        low = problem.answer(changed(problem, X, **{column.name: column.low}))
        high = problem.answer(changed(problem, X, **{column.name: 0.7 * column.high + 0.3 * column.low}))
        assert not np.allclose(low, high, rtol=1e-9)


@every
def test_same_seed_same_rows(make):
    assert np.array_equal(make().sample(20, seed=4), make().sample(20, seed=4))
    assert not np.array_equal(make().sample(20, seed=4), make().sample(20, seed=5))


# ---------------------------------------------------------------------- bad input
@every
def test_another_number_of_columns_is_refused(make):
    with pytest.raises(InvalidData, match=rf"expected rows of {len(make().domain)} columns"):
        make().answer([[1.0, 2.0]])


def test_rows_without_a_finite_answer_are_named():
    X = changed(borehole(), borehole().sample(3), well_radius=0.0)
    with pytest.raises(InvalidData, match="borehole has no finite answer for 3 of 3 rows, first row 0; keep to the ranges"):
        borehole().answer(X)
    with pytest.raises(InvalidData, match="expected to sample at least one row, got n=0"):
        borehole().sample(0)
