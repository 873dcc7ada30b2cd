"""The cheapest emulators: exact on what they contain."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.emulate import Analogues, EchoState, LaggedMap, Persistence

TURN = np.array([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]])
CIRCLE = np.stack([np.linalg.matrix_power(TURN, t) @ [1.0, 0.0] for t in range(400)])


def henon(n):
    x = np.zeros((n, 2))
    for t in range(1, n):
        x[t] = 1 - 1.4 * x[t - 1, 0] ** 2 + x[t - 1, 1], 0.3 * x[t - 1, 0]
    return x[20:]


def test_no_change():
    assert Persistence().fit(CIRCLE).forecast(CIRCLE[:3], 2).tolist() == [CIRCLE[2].tolist()] * 2


def test_a_linear_map_is_found_exactly():
    found = LaggedMap(ridge=0.0).fit([CIRCLE[:150], CIRCLE[200:]])
    np.testing.assert_allclose(found.forecast(CIRCLE[:10], 100), CIRCLE[10:110], atol=1e-6)


def test_a_quadratic_map_is_found_exactly_by_degree_two_and_one_column_by_two_lags():
    x = henon(600)
    np.testing.assert_allclose(LaggedMap(degree=2, ridge=0.0).fit(x).forecast(x[:5], 8), x[5:13], atol=1e-4)
    alone = x[:, :1]
    np.testing.assert_allclose(LaggedMap(2, 2, 0.0).fit(alone).forecast(alone[:5], 8), alone[5:13], atol=1e-4)
    with np.errstate(all="raise"):
        assert np.abs(LaggedMap(degree=1).fit(x).forecast(x[:5], 8) - x[5:13]).max() > 0.1


def test_analogues_replay_the_data_and_start_again_where_it_ends():
    found = Analogues().fit([CIRCLE[:50], CIRCLE[60:100]])
    np.testing.assert_array_equal(found.forecast(CIRCLE[10:11], 39), CIRCLE[11:50])
    assert found.forecast(CIRCLE[10:11], 500).shape == (500, 2)


def test_a_reservoir_learns_a_chaotic_map():
    x = henon(1500)
    found = EchoState(units=200, ridge=1e-9).fit(x[:1200])
    np.testing.assert_allclose(found.forecast(x[1100:1201], 5), x[1201:1206], atol=0.05)
    again = EchoState(units=200, ridge=1e-9).fit(x[:1200])
    np.testing.assert_array_equal(again.coef_, found.coef_)
    other = EchoState(units=200, ridge=1e-9, random_state=1).fit(x[:1200])
    assert np.abs(other.coef_ - found.coef_).max() > 0


def test_a_reservoir_that_diverges_says_so_without_a_warning():
    found = EchoState(units=20).fit(CIRCLE)
    found.coef_ = 1e3 * np.ones_like(found.coef_)
    assert not np.isfinite(found.forecast(CIRCLE[:100], 500)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LaggedMap(degree=3).fit(CIRCLE), "degree= of 1 or 2"),
        (lambda: LaggedMap(lags=3).fit(CIRCLE).forecast(CIRCLE[:2], 5), "3 finite rows or more of 2 columns"),
        (lambda: EchoState().fit(CIRCLE[:50]), "a run of 102 rows or more"),
        (lambda: Persistence().fit(CIRCLE).forecast(np.full((1, 2), np.nan), 5), "1 finite rows or more"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InvalidData, match=message):
        call()
