"""Equations on a line: exact solutions, order of convergence, what is conserved, seeds, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.problems.pde import Advection, Burgers, RandomWaves


def wave(amplitude=1.0, number=1, phase=0.3):
    """One sine wave, as an initial state."""
    one = np.array([[amplitude]])
    none = np.full((1, 2), np.nan)
    return RandomWaves(one, np.array([[float(number)]]), np.array([[phase]]), np.array([False]), np.ones(1), none, amplitude)


def cole_hopf(state, viscosity, t, n_grid, fine=4096):
    """Exact solution: u is -2 D (log of a solution of the heat equation)', with D the diffusivity; means over cells."""
    D, k = viscosity / np.pi, 2 * np.pi * np.fft.rfftfreq(fine, 1 / fine)
    x = np.arange(fine) / fine
    u = np.fft.rfft(state(x)[0])
    integral = np.fft.irfft(np.where(k > 0, u / np.where(k > 0, 1j * k, 1), 0), n=fine)
    heat = np.fft.irfft(np.fft.rfft(np.exp(-integral / (2 * D))) * np.exp(-D * k**2 * t), n=fine)
    potential = -2 * D * np.log(heat)  # the mean of u over a cell is the potential's difference over it
    edges = potential[:: fine // n_grid]
    return (np.roll(edges, -1) - edges) * n_grid


# ---------------------------------------------------------------------- advection
def test_advection_is_a_shift():
    states = RandomWaves.draw(5, random_state=1)
    speeds = np.array([0.2, -1.0, 4.0, 0.0, 1.5])
    U = Advection().solve(states, speeds, n_steps=4, dt=0.25, n_grid=16)
    x = (np.arange(16) + 0.5) / 16
    np.testing.assert_allclose(U[:, 0, 0], states(x))
    np.testing.assert_allclose(U[2, 1, 0], U[2, 0, 0], atol=1e-12)  # once round
    np.testing.assert_allclose(U[1, 1, 0], np.roll(U[1, 0, 0], -4), atol=1e-12)  # a quarter of the line to the left
    np.testing.assert_array_equal(U[3, 3], U[3, 0])


@pytest.mark.parametrize("equation", [Advection(), Burgers(cells=64)])
def test_two_steps_of_half_the_size_are_one(equation):
    states = RandomWaves.draw(3)
    fine = equation.solve(states, 0.5, n_steps=4, dt=0.05, n_grid=32)
    coarse = equation.solve(states, 0.5, n_steps=2, dt=0.1, n_grid=32)
    np.testing.assert_allclose(fine[:, ::2], coarse, atol=3e-3)
    assert np.abs(fine[:, 1] - coarse[:, 1]).max() > 0.05


# ---------------------------------------------------------------------- Burgers
def test_burgers_is_that_of_cole_and_hopf_at_second_order():
    state, errors = wave(), []
    for cells in (32, 64, 128):
        found = Burgers(cells).solve(state, 0.1, n_steps=1, dt=0.3, n_grid=cells)[0, -1, 0]
        errors.append(np.abs(found - cole_hopf(state, 0.1, 0.3, cells)).mean())
    order = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (order > 1.7).all(), (errors, order)
    assert errors[-1] < 2e-3


def test_the_mean_is_conserved_to_rounding_and_energy_falls():
    states = RandomWaves.draw(8, bent=0.5, random_state=3)
    U = Burgers(128).solve(states, np.geomspace(0.002, 2, 8), n_steps=5, dt=0.2, n_grid=64)[:, :, 0]
    np.testing.assert_allclose(U.mean(axis=-1), np.repeat(U[:, :1].mean(axis=-1), 6, axis=1), atol=1e-13)
    assert (np.diff((U**2).mean(axis=-1), axis=1) < 0).all()
    assert (U.max(axis=-1) <= U[:, :1].max(axis=-1) + 1e-9).all(), "no value is exceeded"


def test_a_shock_moves_at_the_mean_of_its_sides():
    """From 1 on the left to 0 on the right of a step, without viscosity: half a unit of length in a unit of time."""
    states = RandomWaves.draw(1)
    step = RandomWaves(np.ones((1, 1)), np.zeros((1, 1)), np.full((1, 1), np.pi / 2), states.absolute & False, np.ones(1),
                       np.array([[0.1, 0.5]]), 1.0)  # fmt: skip
    u = Burgers(256).solve(step, 0.0, n_steps=1, dt=0.3, n_grid=256)[0, -1, 0]
    at = (np.flatnonzero(u > 0.5)[-1] + 1) / 256
    assert at == pytest.approx(0.65, abs=0.01)


def test_without_viscosity_no_wave_grows_at_a_shock():
    """Total variation never rises, and no value leaves the range of those before."""
    states = RandomWaves.draw(6, bent=0.5, random_state=4)
    U = Burgers(64).solve(states, 0.0, n_steps=8, dt=0.1, n_grid=64)[:, :, 0]
    variation = np.abs(np.diff(U, axis=-1, append=U[..., :1])).sum(axis=-1)
    assert (np.diff(variation, axis=1) <= 1e-9).all()
    assert (np.diff(U.max(axis=-1), axis=1) <= 1e-9).all()


def test_strong_viscosity_is_the_heat_equation():
    small = wave(amplitude=1e-4, number=2)
    u = Burgers(128).solve(small, 0.5, n_steps=1, dt=0.05, n_grid=128)[0, :, 0]
    np.testing.assert_allclose(u[1], u[0] * np.exp(-0.5 / np.pi * (4 * np.pi) ** 2 * 0.05), atol=1e-7)


def test_a_state_does_not_depend_on_its_company():
    """Blocks of 64 rows at 256 cells: alone, with others, and in another block."""
    states = RandomWaves.draw(70, random_state=2)
    nu = np.geomspace(0.01, 1, 70)
    many = Burgers(256).solve(states, nu, n_steps=1, dt=0.02, n_grid=32)
    for i in (0, 69):
        alone = RandomWaves(*(getattr(states, name)[i : i + 1] for name in
                              ("amplitudes", "numbers", "phases", "absolute", "signs", "windows")), states.bound)  # fmt: skip
        np.testing.assert_allclose(Burgers(256).solve(alone, nu[i], n_steps=1, dt=0.02, n_grid=32)[0], many[i], atol=1e-12)


# ---------------------------------------------------------------------- states
def test_states_are_drawn_by_a_seed_and_leave_the_global_generator_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, again, other = (RandomWaves.draw(400, random_state=seed) for seed in (1, 1, 2))
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    x = np.linspace(0, 1, 101)
    np.testing.assert_array_equal(one(x), again(x))
    assert np.abs(one(x) - other(x)).max() > 0.5
    assert np.abs(one(x)).max() <= one.bound
    assert set(np.unique(one.numbers)) == {1, 2, 3, 4}
    assert 0.04 < one.absolute.mean() < 0.17
    assert 0.04 < np.isfinite(one.windows[:, 0]).mean() < 0.17


def test_bent_states_are_bent():
    x = np.linspace(0, 1, 200, endpoint=False)
    bent, plain = (RandomWaves.draw(50, bent=bent, random_state=0)(x) for bent in (1.0, 0.0))
    assert ((bent >= 0).all(axis=1) | (bent <= 0).all(axis=1)).all()
    assert np.abs(bent[:, :10]).max() < 1e-3, "outside its window"
    assert np.abs(plain[:, :10]).max() > 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: RandomWaves.draw(0), "n= to be a whole number of 1"),
        (lambda s: RandomWaves.draw(1, bent=2), "bent= between 0 and 1"),
        (lambda s: Advection().solve(s, [1.0, 2.0], n_steps=1, dt=0.1), "one for each of 3 states"),
        (lambda s: Advection().solve(s, 1.0, n_steps=0, dt=0.1), "n_steps= to be a whole number"),
        (lambda s: Burgers(64).solve(s, -1.0, n_steps=1, dt=0.1), "viscosity of 0 or more"),
        (lambda s: Burgers(64).solve(s, 1.0, n_steps=1, dt=0.1, n_grid=48), "to divide cells=64"),
        (lambda s: Burgers(64).solve(s, 1.0, n_steps=1, dt=-0.1), "dt= above 0"),
    ],
)
def test_what_cannot_be_solved_is_refused(call, message):
    with pytest.raises(InvalidData, match=message):
        call(RandomWaves.draw(3))
