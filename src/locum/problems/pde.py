"""Equations on a periodic line that can be solved anew at any length, step, grid and parameter: advection and Burgers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, require_positive, require_whole

__all__ = ["Advection", "Burgers", "RandomWaves"]

Array = NDArray[np.float64]

_WINDOW = 0.01  # width of the flanks of a window
_COURANT = 0.45
_BLOCK = 16_384  # numbers that a sweep of the solver works on at once: they stay in the cache of a processor


# ---------------------------------------------------------------------- initial states
@dataclass(frozen=True, eq=False)
class RandomWaves:
    r"""Initial states that can be looked at anywhere on the periodic line of length 1: sums of sine waves, a few of them bent.

    :math:`u(x) = s\, w(x)\, |\sum_j a_j \sin(2 \pi k_j x + \phi_j)|`, where the modulus, the sign :math:`s = -1` and the window
    :math:`w` are there for some of the states only.

    Attributes
    ----------
    amplitudes, numbers, phases : ndarray of shape (n, waves)
        Of the waves; numbers are whole.
    absolute : ndarray of bool of shape (n,)
        Whether the modulus is taken.
    signs : ndarray of shape (n,)
        1 or -1.
    windows : ndarray of shape (n, 2)
        Left and right end; NaN for none.
    bound : float
        What no state exceeds in size.

    References
    ----------
    Takamoto et al., *PDEBench*, arXiv 2210.07182, for the family.

    Examples
    --------
    >>> states = RandomWaves.draw(3, random_state=0)
    >>> x = np.linspace(0, 1, 5)
    >>> states(x).shape, bool(np.allclose(states(x), states(x + 1)))
    ((3, 5), True)
    """

    amplitudes: Array
    numbers: Array
    phases: Array
    absolute: NDArray[np.bool_]
    signs: Array
    windows: Array
    bound: float

    @classmethod
    def draw(cls, n: int, *, waves: int = 2, highest: int = 4, bent: float = 0.1, random_state: int = 0) -> Self:
        """Draw states: amplitudes uniform up to 1, phases uniform, wave numbers from 1 to `highest`.

        Parameters
        ----------
        n : int
        waves : int, default=2
            Of each state.
        highest : int, default=4
            Largest wave number.
        bent : float, default=0.1
            Probability of the modulus, and of the window.
        random_state : int, default=0
        """
        require_whole(1, n=n, waves=waves, highest=highest)
        require_whole(0, random_state=random_state)
        if not 0 <= bent <= 1:
            raise InvalidData(f"expected bent= between 0 and 1, got {bent!r}")
        rng = np.random.default_rng([random_state, 51])
        windows = np.stack([rng.uniform(0.1, 0.45, n), rng.uniform(0.55, 0.9, n)], axis=1)
        windows[rng.random(n) >= bent] = np.nan
        return cls(
            rng.random((n, waves)), rng.integers(1, highest + 1, (n, waves)).astype(float),
            rng.uniform(0, 2 * math.pi, (n, waves)), rng.random(n) < bent, rng.choice([-1.0, 1.0], n), windows, float(waves),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.signs)

    def __call__(self, x: ArrayLike) -> Array:
        """Values of all states, shape (n, m), at places (m,), or at places (n, m) of their own."""
        at = np.mod(np.asarray(x, dtype=float), 1.0)
        at = np.broadcast_to(at, (len(self), at.shape[-1]))
        u = np.zeros(at.shape)
        for a, k, phase in zip(self.amplitudes.T, self.numbers.T, self.phases.T, strict=True):
            u += a[:, None] * np.sin(2 * math.pi * k[:, None] * at + phase[:, None])
        u = np.where(self.absolute[:, None], np.abs(u), u) * self.signs[:, None]
        left, right = self.windows.T[:, :, None]
        window = 0.5 * (np.tanh((at - left) / _WINDOW) - np.tanh((at - right) / _WINDOW))
        return u * np.where(np.isnan(left), 1.0, window)


# ---------------------------------------------------------------------- equations
@dataclass(frozen=True)
class Advection:
    r"""What is carried along: :math:`u_t + \beta u_x = 0`, whose solution :math:`u_0(x - \beta t)` is exact.

    Examples
    --------
    >>> states = RandomWaves.draw(2)
    >>> U = Advection().solve(states, 1.0, n_steps=10, dt=0.1, n_grid=32)
    >>> U.shape, bool(np.allclose(U[:, 10], U[:, 0]))     # once round the line
    ((2, 11, 1, 32), True)
    """

    parameter = "speed"

    def solve(self, states: RandomWaves, speed: ArrayLike, *, n_steps: int, dt: float, n_grid: int = 64) -> Array:
        """Values at the middle of `n_grid` cells at times 0, dt, 2 dt, ..., shape (n, n_steps + 1, 1, n_grid).

        Parameters
        ----------
        states : RandomWaves
            n initial states.
        speed : float or array-like of shape (n,)
            β, lengths of the line in a unit of time.
        n_steps : int
        dt : float
            Time between two frames.
        n_grid : int, default=64
        """
        beta = _parameters(states, speed, "speed", lowest=-math.inf)
        _check_grid(n_steps, dt, n_grid)
        x = (np.arange(n_grid) + 0.5) / n_grid
        return np.stack([states(x - t * dt * beta[:, None]) for t in range(n_steps + 1)], axis=1)[:, :, None]


@dataclass(frozen=True)
class Burgers:
    r"""What carries itself and is smoothed: :math:`u_t + (u^2/2)_x = (\nu / \pi) u_{xx}`, by finite volumes of second order.

    Piecewise linear cells with the monotonized central limiter, Godunov's flux and two stages of Runge-Kutta for what is
    carried; between, in halves, the heat equation for differences of cell means, solved exactly (Strang). The mean over the
    line is conserved to rounding, and steps are so small that no wave crosses half a cell.

    Parameters
    ----------
    cells : int, default=1024
        Of the solver; frames are means over blocks of them.

    Notes
    -----
    Cost: proportional to `cells` squared; at 256 cells 30 ms for one state and two units of time. The numbers of one state do
    not depend on which others are solved with it.

    References
    ----------
    van Leer, Journal of Computational Physics 23 (1977); Strang, SIAM Journal on Numerical Analysis 5 (1968).

    Examples
    --------
    >>> states = RandomWaves.draw(2)
    >>> U = Burgers(cells=64).solve(states, [0.01, 1.0], n_steps=2, dt=0.1, n_grid=32)
    >>> U.shape, bool(np.allclose(U.mean(axis=-1), U[:, :1].mean(axis=-1)))
    ((2, 3, 1, 32), True)
    """

    cells: int = 1024
    parameter = "viscosity"

    def solve(self, states: RandomWaves, viscosity: ArrayLike, *, n_steps: int, dt: float, n_grid: int = 64) -> Array:
        """Means over `n_grid` cells at times 0, dt, 2 dt, ..., shape (n, n_steps + 1, 1, n_grid).

        Parameters
        ----------
        states : RandomWaves
            n initial states.
        viscosity : float or array-like of shape (n,)
            ν, which is divided by π in the equation.
        n_steps : int
        dt : float
            Time between two frames.
        n_grid : int, default=64
            Divides `cells`.
        """
        nu = _parameters(states, viscosity, "viscosity", lowest=0.0)
        _check_grid(n_steps, dt, n_grid)
        if self.cells % n_grid or self.cells < 4:
            raise InvalidData(f"expected n_grid= to divide cells={self.cells} (4 or more), got {n_grid}")
        u = _cell_means(states, self.cells)
        sub_steps = math.ceil(dt * states.bound * self.cells / _COURANT)
        rows = max(1, _BLOCK // self.cells)
        blocks = [
            _burgers(u[i : i + rows], nu[i : i + rows, None] / math.pi, n_steps, dt / sub_steps, sub_steps, n_grid)
            for i in range(0, len(u), rows)
        ]
        return np.concatenate(blocks)[:, :, None]


def _parameters(states: RandomWaves, given: ArrayLike, name: str, lowest: float) -> Array:
    found = np.asarray(given, dtype=float)
    if found.shape not in ((), (len(states),)) or not np.isfinite(found).all():
        raise InvalidData(f"expected {name} as one finite number, or one for each of {len(states)} states, got {given!r}")
    if (found < lowest).any():
        raise InvalidData(f"expected {name} of {lowest:g} or more, got {found.min():g}")
    return np.broadcast_to(found, (len(states),))


def _check_grid(n_steps: Any, dt: Any, n_grid: Any) -> None:
    require_whole(1, n_steps=n_steps, n_grid=n_grid)
    require_positive(dt=dt)


def _cell_means(states: RandomWaves, cells: int) -> Array:
    """By Gauss's rule with two places a cell."""
    middle, off = (np.arange(cells) + 0.5) / cells, 0.5 / (math.sqrt(3.0) * cells)
    return 0.5 * (states(middle - off) + states(middle + off))


def _burgers(u: Array, diffusivity: Array, n_steps: int, dt: float, sub_steps: int, n_grid: int) -> Array:
    """Frames of cell means (n, cells), shape (n, n_steps + 1, n_grid)."""
    n, cells = u.shape
    rates = (2 * cells * np.sin(math.pi * np.arange(cells // 2 + 1) / cells)) ** 2
    decay = np.exp(-diffusivity * rates * dt)  # of differences of cell means: no mean leaves the range of the others
    half = np.sqrt(decay)
    frames = np.empty((n, n_steps + 1, n_grid))
    for t in range(n_steps + 1):
        frames[:, t] = u.reshape(n, n_grid, -1).mean(axis=-1)
        if t == n_steps:
            break
        u = _smoothed(u, half)
        for step in range(sub_steps):
            u = _carried(u, dt * cells)
            u = _smoothed(u, decay if step < sub_steps - 1 else half)  # two halves that meet are one
    return frames


def _smoothed(u: Array, decay: Array) -> Array:
    return np.fft.irfft(np.fft.rfft(u) * decay, n=u.shape[1])


def _carried(u: Array, ratio: float) -> Array:
    """One step of Heun's method, `ratio` the step in time over the width of a cell."""
    first = u - ratio * _outflow(u)
    return 0.5 * (u + first - ratio * _outflow(first))


def _outflow(u: Array) -> Array:
    """What leaves each cell on the right less what enters on the left."""
    step = np.roll(u, -1, axis=1) - u
    before = np.roll(step, 1, axis=1)
    size = np.minimum(np.minimum(2 * np.abs(before), 2 * np.abs(step)), 0.5 * np.abs(before + step))
    half = np.where(before * step > 0, 0.5 * np.sign(step) * size, 0.0)
    left, right = np.maximum(u + half, 0.0), np.minimum(np.roll(u - half, -1, axis=1), 0.0)
    flux = 0.5 * np.maximum(left * left, right * right)
    return flux - np.roll(flux, 1, axis=1)
