"""Lyapunov exponents: systems whose exponents are known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.core.lyapunov import kaplan_yorke, lyapunov_spectrum


def test_a_linear_map_has_the_logarithms_of_its_eigenvalues():
    rng = np.random.default_rng(0)
    V = rng.normal(size=(3, 3))
    A = V @ np.diag([1.5, 0.9, 0.2]) @ np.linalg.inv(V)
    found = lyapunov_spectrum([A] * 200, time_step=0.5, skip=60)
    np.testing.assert_allclose(found, np.log([1.5, 0.9, 0.2]) / 0.5, atol=1e-6)


def test_the_henon_map_contracts_areas_as_its_parameter_says():
    a, b, x, y, maps = 1.4, 0.3, 0.1, 0.1, []
    for _ in range(20_000):
        maps.append(np.array([[-2 * a * x, 1.0], [b, 0.0]]))
        x, y = 1 - a * x * x + y, b * x
    found = lyapunov_spectrum(maps, skip=100)
    assert found.sum() == pytest.approx(np.log(b), abs=1e-9)
    assert found[0] == pytest.approx(0.419, abs=0.01)
    assert kaplan_yorke(found) == pytest.approx(1.258, abs=0.01)


def test_a_direction_that_is_flattened_has_minus_infinity():
    assert lyapunov_spectrum([np.diag([2.0, 0.0])] * 3)[1] == -np.inf


@pytest.mark.parametrize(
    ("spectrum", "dimension"),
    [([-1.0, -2.0], 0.0), ([1.0, 0.5], 2.0), ([0.0, -1.0], 1.0), ([-2.0, 1.0], 1.5), ([0.5, -1.0, 0.0], 2.5)],
)
def test_kaplan_yorke_by_hand(spectrum, dimension):
    assert kaplan_yorke(spectrum) == pytest.approx(dimension)


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(InvalidData, match="more than skip=2 steps"):
        lyapunov_spectrum([np.eye(2)] * 2, skip=2)
    with pytest.raises(InvalidData, match="infinity at step 1"):
        lyapunov_spectrum([np.eye(2), np.full((2, 2), np.nan)])
