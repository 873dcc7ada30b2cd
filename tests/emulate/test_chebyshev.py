"""Chebyshev interpolants: exact on polynomials, an error that is measured on other rows, and functions that do not follow."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.emulate import calibrate, chebyshev_interpolant
from locum.problems.battery import graphite_nmc

BOX = {"a": (-1.0, 3.0), "b": (10.0, 20.0)}
T = np.linspace(0, 1, 7)


def polynomial(X):
    a, b = X[:, :1], X[:, 1:]
    return 1 + a**3 * T - 2 * a * (b / 10) ** 2 * T**2


def waves(X):
    return np.sin(X[:, :1] * (1 + T)) * np.exp(-X[:, 1:] / 15)


def draws(n, box=BOX, seed=5):
    low, high = np.array(list(box.values())).T
    return low + (high - low) * np.random.default_rng(seed).random((n, len(low)))


def test_polynomials_are_exact():
    found = chebyshev_interpolant(polynomial, BOX, tolerance=1e-9)
    assert found.coefficients.shape[:2] in {(5, 5), (9, 5), (5, 9), (9, 9)}
    assert found.modes.shape[0] <= 3  # three curves of time, of which all are sums
    np.testing.assert_allclose(found(draws(100)), polynomial(draws(100)), atol=1e-9)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_error_is_that_on_other_rows_and_near_the_tolerance(tolerance):
    found = chebyshev_interpolant(waves, BOX, tolerance=tolerance)
    off = np.abs(found(draws(4000)) - waves(draws(4000))).max(axis=1)
    assert found.error <= 3 * tolerance
    assert (off > found.error).mean() < 0.1  # 1 / 65 expected
    assert off.max() < 10 * tolerance


def test_tighter_tolerances_ask_for_more():
    calls = [chebyshev_interpolant(waves, BOX, tolerance=t).calls for t in (1e-2, 1e-5, 1e-8)]
    assert calls == sorted(calls)
    assert calls[0] < calls[2]


def test_the_harder_parameter_gets_the_nodes():
    found = chebyshev_interpolant(lambda X: np.sin(9 * X[:, :1]) + X[:, 1:] + 0 * T, BOX, tolerance=1e-6)
    assert found.coefficients.shape[0] > 4 * found.coefficients.shape[1]


def test_nothing_is_asked_twice_nor_uncounted():
    seen = []

    def counted(X):
        seen.append(X.copy())
        return waves(X)

    found = chebyshev_interpolant(counted, BOX, tolerance=1e-6)
    rows = np.vstack(seen)
    assert len(rows) == found.calls == len(np.unique(rows.round(12), axis=0))


def test_nodes_are_reproduced_with_one_three_and_a_single_row():
    for d in (1, 3):
        box = {str(k): (0.0, 1.0) for k in range(d)}
        found = chebyshev_interpolant(lambda X: np.exp(-X.sum(axis=1, keepdims=True) * T), box, tolerance=1e-7)
        X = draws(3000, box)  # more than are answered at once
        np.testing.assert_allclose(found(X), np.exp(-X.sum(axis=1, keepdims=True) * T), atol=1e-6)
        np.testing.assert_array_equal(found(X[0])[0], found(X[:1])[0])


def test_same_seed_same_numbers():
    one, two = (chebyshev_interpolant(waves, BOX, random_state=3) for _ in range(2))
    np.testing.assert_array_equal(one.coefficients, two.coefficients)
    assert one.error == two.error


def test_kinks_are_refused_with_what_was_reached():
    with pytest.raises(InvalidData, match=r"max_calls leaves 372; with .* nodes the last coefficients are .*kinks"):
        chebyshev_interpolant(lambda X: np.abs(X[:, :1] - 0.3) + 0 * T, BOX, max_calls=500)


def test_a_jump_between_nodes_that_coefficients_do_not_see_is_found_by_rows_between():
    with pytest.raises(InvalidData, match="the error is"):
        chebyshev_interpolant(lambda X: (np.abs(X[:, :1] - 0.3) < 0.2) * 1.0 + 0 * T, BOX, max_calls=170)


@pytest.mark.parametrize(
    ("box", "settings", "words"),
    [
        ({}, {}, "one to six parameters"),
        ({"a": (1.0, 1.0)}, {}, "low below high"),
        ({"a": (0.0, np.inf)}, {}, "finite bounds"),
        ({str(k): (0.0, 1.0) for k in range(7)}, {}, "one to six"),
        (BOX, {"tolerance": 0.0}, "tolerance"),
        (BOX, {"check": 0}, "check"),
        (BOX, {"max_calls": 100}, "nothing was asked for"),
    ],
)
def test_bad_input_is_refused_before_anything_is_asked(box, settings, words):
    def never(X):
        raise AssertionError("asked")

    with pytest.raises(InvalidData, match=words):
        chebyshev_interpolant(never, box, **settings)


@pytest.mark.parametrize("answer", [lambda X: np.full((len(X), 3), np.nan), lambda X: X[:, 0], lambda X: np.ones((3, 4))])
def test_curves_that_are_none_are_refused(answer):
    with pytest.raises(InvalidData, match="finite curves"):
        chebyshev_interpolant(answer, BOX)


def test_rows_outside_the_box_are_refused():
    found = chebyshev_interpolant(polynomial, BOX)
    for rows in ([[4.0, 15.0]], [[0.0, np.nan]], [[0.0]], [[[0.0, 15.0]]]):
        with pytest.raises(InvalidData, match="within"):
            found(rows)


def test_a_battery_in_a_table_has_the_posterior_of_its_solver():
    cell, times = graphite_nmc(), np.linspace(10, 1350, 20)

    def solver(X):
        return cell.voltage(X, times, shells=16, steps=40)

    table = chebyshev_interpolant(solver, cell.bounds)
    assert table.error < 2e-5
    seen = solver([[2.0, 2.0]])[0] + np.random.default_rng(0).normal(0, 0.003, len(times))
    short = {"sigma": 0.003, "walkers": 8, "burn": 40, "steps": 60, "random_state": 0}
    exact, quick = (calibrate(curves, seen, cell.bounds, **short) for curves in (solver, table))
    np.testing.assert_allclose(quick.mean, exact.mean, atol=0.3 * exact.deviation.max())
