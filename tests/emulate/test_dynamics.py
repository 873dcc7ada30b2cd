"""Measures of dynamics: identities, cases worked by hand, order of rows, and runs that diverge."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy

from locum.core.errors import InvalidData
from locum.emulate import (
    Forecasts,
    compare_dynamics,
    diverged,
    judge_dynamics,
    power_spectrum_distance,
    state_space_divergence,
    valid_prediction_time,
)

RNG = np.random.default_rng(0)
CLOUD = RNG.normal(size=(4000, 2))
WAVES = np.stack([np.sin(0.1 * np.arange(3000)), np.cos(0.31 * np.arange(3000))], axis=1)


@pytest.mark.parametrize("method", ["bins", "mixture"])
def test_a_copy_has_no_divergence_and_rows_may_come_in_any_order(method):
    assert state_space_divergence(CLOUD, CLOUD, method=method) == pytest.approx(0.0, abs=1e-9)
    other = RNG.normal(size=(4000, 2)) * 1.3
    shuffled = other[RNG.permutation(4000)]
    first = state_space_divergence(CLOUD, other, method=method)
    assert first > 0.01
    assert state_space_divergence(CLOUD, shuffled, method=method) == pytest.approx(first, rel=1e-9)


def test_bins_by_hand():
    truth, generated = np.repeat([0.0, 1.0], [3, 1])[:, None], np.repeat([0.0, 1.0], [1, 3])[:, None]
    p, q = np.array([3, 1]) + 1e-5, np.array([1, 3]) + 1e-5
    assert state_space_divergence(truth, generated, bins=2) == pytest.approx(entropy(p, q), rel=1e-9)


def test_bins_that_nobody_visits_count_as_in_a_whole_table():
    x, y = CLOUD[:300], CLOUD[300:700] * 1.2
    margin = 0.1 * x.std(axis=0)
    edges = [np.linspace(lo, hi, 6) for lo, hi in zip(x.min(axis=0) - margin, x.max(axis=0) + margin, strict=True)]
    p, q = (np.histogramdd(one, edges)[0].ravel() + 1e-5 for one in (x, y))
    assert state_space_divergence(x, y, bins=5) == pytest.approx(entropy(p, q), rel=1e-9)


def test_the_mixture_of_two_normal_densities_has_the_divergence_that_theory_gives():
    """One centre each: half the squared distance in standard deviations."""
    x, y = np.zeros((5, 6)), np.full((5, 6), 0.5)
    found = state_space_divergence(x, y, samples=40_000)
    assert found == pytest.approx(0.5 * 6 * 0.25, rel=0.03)


def test_spectra():
    assert power_spectrum_distance(WAVES, WAVES) == 0.0
    assert power_spectrum_distance(WAVES, 5 * WAVES + 3) == pytest.approx(0.0, abs=1e-6)
    assert power_spectrum_distance(WAVES, WAVES[::-1]) == pytest.approx(0.0, abs=0.01), "a spectrum has no direction of time"
    half = WAVES.copy()
    half[:, 1] = np.sin(2.0 * np.arange(3000))
    assert power_spectrum_distance(WAVES, half, smoothing=2.0) == pytest.approx(0.5, abs=0.01), "one dimension of two is lost"


def test_valid_prediction_time_by_hand():
    truth = np.zeros((10, 2))
    off = truth.copy()
    off[6:] = 1.0
    assert valid_prediction_time(truth, off, scale=[1.0, 1.0], dt=0.5, exponent=2.0) == 6.0
    assert valid_prediction_time(truth, truth, scale=[1.0, 1.0]) == 10.0
    off[2] = np.nan
    assert valid_prediction_time(truth, off, scale=[1.0, 1.0]) == 2.0


def test_runs_that_diverge_are_counted_and_get_the_worst_there_is():
    gone = WAVES.copy()
    gone[100:] = np.nan
    far = WAVES * 50
    report = compare_dynamics([WAVES] * 3, [WAVES, gone, far], other=[WAVES[::-1]] * 3)
    assert report.n_runs == 3
    assert report.n_diverged == 2
    assert diverged(WAVES, far)
    assert not diverged(WAVES, WAVES)
    assert np.isnan(state_space_divergence(WAVES, gone))
    assert report["D_H"].values[:2] == (0.0, 1.0)
    stuck = np.tile(WAVES.max(axis=0) + 0.05, (3000, 1))
    elsewhere = WAVES.copy() * 1e-9 + 1.0  # one bin that the truth also visits: less bad than never meeting it
    assert report["D_stsp"].values[1] > max(state_space_divergence(WAVES, one) for one in (far, elsewhere))
    assert report["D_stsp"].values[1] == pytest.approx(state_space_divergence(WAVES, stuck), abs=0.01)
    assert report["D_stsp"].floor[0] < 0.01
    found = report["D_stsp"].fidelity()
    assert found.n == 3
    assert found.lower < report["D_stsp"].values[1]
    assert not found.greater_is_better
    assert "diverged: 2 of 3 runs" in str(report)
    alone = compare_dynamics([WAVES], [WAVES])["D_H"]
    assert alone.fidelity() is None
    assert "no interval" in str(alone)


def test_forecasts_of_a_model_that_explodes_are_as_bad_as_leaving_and_can_be_averaged():
    class Explodes(Forecasts):
        def forecast(self, history, n_steps):
            with np.errstate(over="ignore"):
                return history[-1] * 10.0 ** np.arange(1, n_steps + 1, dtype=float)[:, None] ** 3

    report = judge_dynamics(Explodes(), [WAVES, WAVES[::-1]], horizon=20)
    found = report["PE(20)"]
    assert report.n_diverged == 2
    assert found.values == pytest.approx([(20 / np.sqrt(0.5)) ** 2] * 2, rel=0.01)  # ten widths of 2, in variances of a wave
    assert "PE(20)" in str(report)
    assert found.fidelity().value == pytest.approx(found.values[0])


def test_a_dead_trajectory_has_no_spectrum():
    dead = WAVES.copy()
    dead[:, 0] = 0.3
    assert np.isnan(power_spectrum_distance(WAVES, dead))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: power_spectrum_distance(WAVES, WAVES[:-1]), "equal length, got 3000 and 2999"),
        (lambda: state_space_divergence(WAVES, WAVES[:, :1]), r"same d, got \(3000, 2\) and \(3000, 1\)"),
        (lambda: state_space_divergence(np.full((3, 1), np.nan), np.ones((3, 1))), "finite truth"),
        (lambda: state_space_divergence(WAVES, WAVES, method="grid"), "expected method= to be one of"),
        (lambda: valid_prediction_time(WAVES, WAVES, dt=0), "positive dt="),
        (lambda: compare_dynamics([WAVES], []), "generated run for each of 1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InvalidData, match=message):
        call()
