"""Calibration: posteriors that are known, sigma that takes up what is wrong, and coverage."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.emulate import calibrate, simulation_check

T = np.linspace(0, 1, 40)
BOX = {"level": (-3.0, 5.0), "slope": (-3.0, 5.0)}


def line(rows):
    return rows[:, :1] + rows[:, 1:] * T


def seen(seed, noise=0.2, bend=0.0):
    return 1.0 + 2.0 * T + bend * T**2 + np.random.default_rng(seed).normal(0, noise, len(T))


def least_squares(y, sigma):
    design = np.column_stack([np.ones_like(T), T])
    covariance = sigma**2 * np.linalg.inv(design.T @ design)
    return covariance @ design.T @ y / sigma**2, np.sqrt(np.diag(covariance))


def test_the_posterior_of_a_line_is_that_of_least_squares():
    y = seen(0)
    found = calibrate(line, y, BOX, sigma=0.2, steps=1500)
    mean, deviation = least_squares(y, 0.2)
    np.testing.assert_allclose(found.mean, mean, atol=0.12 * deviation.max())
    np.testing.assert_allclose(found.deviation, deviation, rtol=0.1)
    assert found.steps_apart < 100
    assert 0.4 < found.acceptance < 0.9
    np.testing.assert_allclose(found.interval(0.9), mean[:, None] + 1.645 * deviation[:, None] * [-1, 1], atol=0.15)
    assert "level" in str(found)
    assert "sigma  0.2" in str(found)


def test_walkers_that_hang_in_another_hollow_are_brought_back():
    """A wave of 7 turns: other numbers of turns are hollows of their own, which moves along the ensemble do not leave."""
    y = np.sin(2 * np.pi * 7 * T) + np.random.default_rng(0).normal(0, 0.1, len(T))
    found = calibrate(lambda rows: np.sin(2 * np.pi * rows * T), y, {"turns": (1.0, 12.0)}, sigma=0.1, burn=100, steps=100)
    assert np.abs(found.draws - 7).max() < 0.1
    slope = 2 * np.pi * T * np.cos(2 * np.pi * 7 * T)
    np.testing.assert_allclose(found.deviation, 0.1 / np.sqrt((slope**2).sum()), rtol=0.15)
    assert np.isfinite(found.steps_apart)


def test_draws_stay_within_the_bounds_and_ask_for_nothing_outside():
    asked = []

    def watched(rows):
        asked.append(rows)
        return line(rows)

    found = calibrate(watched, seen(1), {"level": (1.1, 5.0), "slope": (-3.0, 1.5)}, sigma=0.2, steps=200)
    rows = np.concatenate(asked)
    assert (rows[:, 0] >= 1.1).all()
    assert (rows[:, 1] <= 1.5).all()
    assert found.draws[:, 1].max() > 1.49  # the truth lies outside, so the posterior is at the edge
    assert len(asked) < 1000  # walkers ask together


def test_sigma_takes_up_what_the_curves_cannot_explain():
    tight, bent = (calibrate(line, seen(2, 0.05, bend), BOX, guess=0.1, steps=150) for bend in (0.0, 4.0))
    assert tight.explained
    assert bent.explained
    assert 0.05 < tight.sigma < 0.12
    assert bent.sigma > 3 * tight.sigma
    assert bent.deviation.min() > 2 * tight.deviation.min()
    away = np.abs(line(bent.draws[::20]) - seen(2, 0.05, 4.0)).max()
    assert away < 2 * bent.sigma * 1.3  # of more draws than the bisection looks at
    hopeless = calibrate(lambda rows: 0.0 * line(rows), seen(3) + 100.0, BOX, guess=0.01, burn=20, steps=60)
    assert not hopeless.explained
    assert "not explained" in str(hopeless)


def test_the_same_seed_gives_the_same_draws_and_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, two, other = (calibrate(line, seen(4), BOX, sigma=0.2, steps=60, random_state=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one.draws, two.draws)
    assert not np.array_equal(one.draws, other.draws)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_simulated_truths_are_covered_by_a_right_stand_in_and_not_by_a_wrong_one():
    settings = {"noise": 0.2, "sigma": 0.2, "n": 40, "burn": 100, "steps": 120, "walkers": 12}
    right = simulation_check(line, line, BOX, **settings)
    for name in BOX:
        assert right.coverage(name).value > 0.75
        assert right.evenness(name) > 0.01
    wrong = simulation_check(lambda rows: line(rows) + 0.3, line, BOX, **settings)
    assert wrong.coverage("level").value < 0.3
    assert wrong.evenness("level") < 1e-4
    assert right.ranks.shape == right.truths.shape == (40, 2)
    assert len(right.calibrations) == 40


def test_what_is_refused():
    for call, message in [
        (lambda: calibrate(line, [np.nan] * 40, BOX), "finite data"),
        (lambda: calibrate(line, seen(0), BOX, sigma=0.0), "sigma= above 0"),
        (lambda: calibrate(line, seen(0), BOX, sigma="guess"), "sigma="),
        (lambda: calibrate(line, seen(0), BOX, sigma=0.1, walkers=3), "walkers= to be a whole number of 6"),
        (lambda: calibrate(line, seen(0), {"level": (1, 1), "slope": (0, 1)}, sigma=0.1), "low < high"),
        (lambda: calibrate(line, seen(0)[:30], BOX, sigma=0.1), "expected curves of shape"),
        (lambda: simulation_check(line, line, BOX, noise=-1.0), "noise= above 0"),
    ]:
        with pytest.raises(InvalidData, match=message):
            call()
