"""Chaotic systems: known exponents, re-integration on one clock, typed failures, no global generator."""

from __future__ import annotations

import numpy as np
import pytest

import locum
from locum.core.errors import InvalidData
from locum.core.lyapunov import kaplan_yorke
from locum.problems import chaos


@pytest.fixture(scope="module")
def lorenz():
    return chaos.load("Lorenz").with_parameters(beta=8 / 3)


def test_the_exponents_of_the_lorenz_system(lorenz):
    found = lorenz.lyapunov_spectrum(120)
    assert found.sum() == pytest.approx(-(10 + 1 + 8 / 3), abs=1e-6), "the divergence of the flow is constant"
    np.testing.assert_allclose(found, [0.906, 0.0, -14.572], atol=0.05)
    assert kaplan_yorke(found) == pytest.approx(2.06, abs=0.01)


def test_the_tangent_map_is_of_order_four(lorenz):
    """Halving the step divides the change of an exponent by far more than a method of order two would."""
    one, two, four = (lorenz.lyapunov_spectrum(3, steps=steps)[0] for steps in (20, 40, 80))
    assert abs(two - four) < abs(one - two) / 8


def test_finer_points_pass_through_the_coarse_ones(lorenz):
    coarse, fine = lorenz.integrate(60, 30), lorenz.integrate(120, 60)
    np.testing.assert_allclose(fine[::2], coarse, atol=1e-4 * coarse.std())
    assert lorenz.time_step(60) == lorenz.time_step(30) / 2


def test_methods_agree():
    X, Y = (chaos.load("Rossler", method=m, rtol=1e-9, atol=1e-9).integrate(100, 50) for m in ("LSODA", "DOP853"))
    np.testing.assert_allclose(X, Y, atol=1e-4)


def test_a_period_is_a_period():
    X = chaos.load("Rossler").integrate(2000, 100)
    power = np.abs(np.fft.rfft(X[:, 0] - X[:, 0].mean()))
    assert np.argmax(power) == pytest.approx(20, abs=3)


def test_seeds_give_other_starts_on_the_same_attractor_and_leave_the_global_generator_alone(lorenz):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, again, other = (lorenz.integrate(1500, 50, seed=seed) for seed in (1, 1, 2))
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    np.testing.assert_array_equal(one, again)
    assert np.abs(one[0] - other[0]).max() > 1
    np.testing.assert_allclose(one.std(axis=0), other.std(axis=0), rtol=0.3)


def test_a_start_whose_way_sticks_is_moved_less(monkeypatch):
    """Once it sticks, this oscillator takes ever smaller steps; without a limit it would not come back for minutes."""
    monkeypatch.setattr(chaos, "_MOST", 6_000)  # a period, for ten of them
    system = chaos.load("StickSlipOscillator")
    x = system.integrate(50, 100, seed=2)
    assert np.isfinite(x).all()
    monkeypatch.setattr(chaos, "_MOST", 5)
    with pytest.raises(chaos.IntegrationError, match=r"50 calls of its equations, and hardly moves on; take another start"):
        system.integrate(50, 100, seed=2)
    with pytest.raises(chaos.IntegrationError, match=r"StickSlipOscillator was integrated to time .* with 100 calls"):
        system.integrate(81, 4)


def test_derivatives_by_differences_are_those_written_down():
    system = chaos.load("Lorenz")
    x = np.array([1.0, 2.0, 20.0])
    written = system.jacobian(0.0, x)
    np.testing.assert_allclose(written, [[-10, 10, 0], [8, -1, -1], [2, 1, -2.667]])
    lorenz96 = chaos.load("Lorenz96")
    y, d = lorenz96.start, lorenz96.dimension
    expected = np.zeros((d, d))
    for i in range(d):
        expected[i, (i + 1) % d] += y[i - 1]
        expected[i, i - 2] -= y[i - 1]
        expected[i, i - 1] += y[(i + 1) % d] - y[i - 2]
        expected[i, i] -= 1
    np.testing.assert_allclose(lorenz96.jacobian(0.0, y), expected, atol=1e-6)


def test_angles_that_grow_come_bounded_unless_asked():
    pendulum = chaos.load("DoublePendulum")
    assert np.abs(pendulum.integrate(300, 30)[:, :2]).max() <= 1
    assert pendulum.integrate(300, 30, bounded=False).shape == (300, 4)


def test_other_parameters_are_another_system(lorenz):
    calm = lorenz.with_parameters(rho=10.0).integrate(1000, 50)
    height = 9.0
    np.testing.assert_allclose(np.abs(calm[-1]), [np.sqrt(8 / 3 * height), np.sqrt(8 / 3 * height), height], atol=1e-3)


def test_the_flow_is_a_target_whose_runs_are_recorded(lorenz):
    X = lorenz.integrate(6, 100)
    target = locum.target(lorenz.flow(lorenz.time_step(100)))
    np.testing.assert_allclose(target.query(X[:-1], "fit"), X[1:], atol=1e-5)
    target.query(X[:-1], "use")
    assert target.account().paid == 5, "nothing is paid twice"
    with pytest.raises(InvalidData, match="a positive time"):
        lorenz.flow(0.0)


def test_what_is_known_of_a_system(lorenz):
    known = lorenz.properties
    assert known.period == pytest.approx(1.5008)
    assert known.maximum_lyapunov == pytest.approx(0.89, abs=0.02)
    assert not known.hamiltonian
    assert len(chaos.names()) == 129
    assert "MackeyGlass" in chaos.names(delay=True)


def test_a_run_that_fails_says_which_and_how_far():
    away = chaos.load("Rossler").with_parameters(a=5.0)
    with pytest.raises(chaos.IntegrationError, match="Rossler was integrated to time") as caught:
        away.integrate(5000, 10)
    assert caught.value.system == "Rossler"
    assert 0 < caught.value.reached < 5000
    with pytest.raises(chaos.IntegrationError, match="seconds given ran out"):
        chaos.load("Lorenz").integrate(100_000, seconds=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: chaos.load("Lorentz"), "the nearest are Lorenz"),
        (lambda: chaos.load("MackeyGlass"), "system with delay"),
        (lambda: chaos.load("Lorenz", method="Euler"), "expected method= to be one of"),
        (lambda: chaos.load("Lorenz", rtol=0.0), "tolerances of more than 0"),
        (lambda: chaos.load("Lorenz").integrate(1), "expected n= to be a whole number of 2"),
        (lambda: chaos.load("Lorenz").integrate(10, 2), "pts_per_period= of 3 or more"),
        (lambda: chaos.load("Lorenz").integrate(10, ic=[1.0]), "as 3 finite numbers, got shape"),
        (lambda: chaos.load("Lorenz").integrate(10, ic=[1.0, 2.0, 3.0], seed=1), "ic= or seed=, got both"),
        (lambda: chaos.load("Lorenz").with_parameters(tau=1.0), "among beta, rho, sigma"),
        (lambda: chaos.load("Lorenz").lyapunov_spectrum(0.1), "periods= of one or more"),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(InvalidData, match=message):
        call()
