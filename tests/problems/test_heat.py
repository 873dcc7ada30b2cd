"""The plate: steady states, a mode that decays as known, order of convergence, bounds, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.problems.heat import HeatPlate


def last(plate, p):
    return list(plate(p))[-1]


def test_a_plate_at_the_temperature_of_its_edges_stays_there():
    np.testing.assert_allclose(last(HeatPlate(n=8), [300.0] * 5), 300.0)


def test_between_two_edges_the_steady_state_is_a_line_across_when_the_others_follow_it():
    """By symmetry: 100 on the left and 300 on the right give 200 in the middle, whatever the start."""
    u = last(HeatPlate(n=9, n_steps=2000, dt=0.01), [450.0, 200.0, 200.0, 100.0, 300.0])
    np.testing.assert_allclose(u[:, 4], 200.0, atol=1e-6)
    np.testing.assert_allclose(u + u[:, ::-1], 400.0, atol=1e-6)
    inner = u[1:-1, 1:-1]
    around = 0.25 * (u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:])
    np.testing.assert_allclose(inner, around, atol=1e-6)


def test_the_first_mode_decays_as_known():
    """From 1 with edges at 0; after a while the slowest mode is left, which Euler's method shrinks by a known factor a step."""
    plate = HeatPlate(n=32, n_steps=60, dt=0.005)
    frames = list(plate([1.0, 0.0, 0.0, 0.0, 0.0]))
    shrinks = frames[-1].max() / frames[-2].max()
    assert shrinks == pytest.approx(1 / (1 + 0.005 * 2 * np.pi**2), rel=2e-3)


def test_errors_fall_as_first_order_in_time():
    p = [100.0, 200.0, 300.0, 400.0, 500.0]
    exact = last(HeatPlate(n=8, n_steps=1280, dt=0.02 / 1280), p)
    errors = [np.abs(last(HeatPlate(n=8, n_steps=k, dt=0.02 / k), p) - exact).mean() for k in (10, 20, 40)]
    order = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (order > 0.9).all()


def test_no_temperature_is_exceeded_and_rotation_turns_the_answer():
    rng = np.random.default_rng(0)
    p = rng.uniform(100, 500, 5)
    u = np.stack(list(HeatPlate()(p)))
    assert u.min() >= p.min()
    assert u.max() <= p.max()
    turned = np.stack(list(HeatPlate()([p[0], p[3], p[4], p[1], p[2]])))
    np.testing.assert_allclose(turned, u.swapaxes(1, 2), atol=1e-9)


def test_what_cannot_be_solved_is_refused():
    with pytest.raises(InvalidData, match="expected 5 temperatures, got 4"):
        next(HeatPlate()([1.0, 2.0, 3.0, 4.0]))
    with pytest.raises(InvalidData, match="n= to be a whole number of 2"):
        HeatPlate(n=1)
    with pytest.raises(InvalidData, match="dt= above 0"):
        HeatPlate(dt=0.0)
