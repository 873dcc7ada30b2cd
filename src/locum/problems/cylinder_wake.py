"""The wake of a cylinder in two dimensions, by a lattice Boltzmann method of second order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, need, require_whole

__all__ = ["CylinderWake", "LatticeFluid"]

Array = NDArray[np.float64]

_X = np.array([0, 1, 0, -1, 0, 1, -1, -1, 1])
_Y = np.array([0, 0, 1, 0, -1, 1, 1, -1, -1])
_WEIGHT = np.array([4 / 9, *[1 / 9] * 4, *[1 / 36] * 4])
_OPPOSITE = np.array([0, 3, 4, 1, 2, 7, 8, 5, 6])


class LatticeFluid:
    """An almost incompressible fluid on a square lattice, periodic in both directions unless it is driven.

    Nine populations of particles a cell relax to equilibrium and move on (BGK collision); walls bounce them back. Velocities
    solve the Navier-Stokes equations with an error of second order in the width of a cell and in the speed.

    Parameters
    ----------
    velocity : ndarray of shape (2, nx, ny)
        At the start, in cells a step; below 0.2.
    viscosity : float
        In squares of cells a step.
    solid : ndarray of bool, shape (nx, ny), or None, default=None
    inflow : float or None, default=None
        Where given, fluid enters at the left with this speed and leaves at the right.
    density : ndarray of shape (nx, ny) or None, default=None
        At the start; 1 where None. A density of 1 + 3 p sets the pressure p that belongs to the velocity.

    Raises
    ------
    InvalidData
        A viscosity that is not positive, speeds beyond 0.2 where errors of compressibility take over, or NaN.

    Notes
    -----
    Cost: 25 ns a cell and step on one core, after some seconds to compile. Reference: Krüger et al., *The Lattice Boltzmann
    Method*, Springer (2017), chapters 3 to 5.
    """

    def __init__(
        self, velocity: Array, viscosity: float, *, solid: Any = None, inflow: float | None = None, density: Array | None = None
    ) -> None:
        given = np.asarray(velocity, dtype=float)
        if given.ndim != 3 or given.shape[0] != 2 or not np.abs(given).max() < 0.2:
            raise InvalidData(f"expected velocities of shape (2, nx, ny) below 0.2 cells a step, got shape {given.shape}")
        if not 0 < viscosity < np.inf or (inflow is not None and not 0 < inflow < 0.2):
            raise InvalidData(f"expected a positive viscosity, and an inflow between 0 and 0.2, got {viscosity} and {inflow}")
        self.shape = given.shape[1:]
        self.solid = np.zeros(self.shape, dtype=np.bool_) if solid is None else np.asarray(solid, dtype=np.bool_)
        if self.solid.shape != self.shape:
            raise InvalidData(f"expected solid= of shape {self.shape}, got {self.solid.shape}")
        self._rate = 1.0 / (3.0 * viscosity + 0.5)
        self._inflow = -1.0 if inflow is None else float(inflow)
        self._f = _equilibrium(np.ones(self.shape) if density is None else np.asarray(density, dtype=float), given)

    @property
    def density(self) -> Array:
        """Of each cell, shape (nx, ny)."""
        return np.asarray(self._f.sum(axis=0))

    @property
    def velocity(self) -> Array:
        """In cells a step, shape (2, nx, ny)."""
        moved = np.stack([np.tensordot(c.astype(float), self._f, axes=1) for c in (_X, _Y)])
        return np.asarray(np.where(self.solid, 0.0, moved / self.density))

    def advance(self, steps: int) -> None:
        """Some steps on.

        Raises
        ------
        InvalidData
            The flow is no longer finite: the viscosity is too small for these speeds and cells.
        """
        require_whole(1, steps=steps)
        self._f = _compiled()(self._f, self.solid, self._rate, self._inflow, steps)
        if not np.isfinite(self._f).all():
            raise InvalidData("the flow is no longer finite: use a larger viscosity, a lower speed or more cells")


@dataclass(frozen=True)
class CylinderWake:
    """The flow past a cylinder, behind which vortices are shed by turns.

    Parameters
    ----------
    reynolds : float, default=100.0
        Speed times diameter over viscosity; vortices are shed above about 47.
    diameter : int, default=12
        Cells.
    speed : float, default=0.08
        Cells a step.
    size : int, default=64
        Cells of a frame, which is square and begins one diameter behind the centre.

    Raises
    ------
    InvalidData
        A diameter below 6 cells, or a frame that does not fit between the ends.

    Examples
    --------
    >>> CylinderWake(diameter=8, size=32).dt(steps=10)
    0.1
    """

    reynolds: float = 100.0
    diameter: int = 12
    speed: float = 0.08
    size: int = 64

    def __post_init__(self) -> None:
        require_whole(6, diameter=self.diameter)
        require_whole(16, size=self.size)
        if self.size > 10 * self.diameter:
            raise InvalidData(f"expected a frame of at most 10 diameters ({10 * self.diameter} cells), got size={self.size}")

    def dt(self, steps: int) -> float:
        """Time between frames that are so many steps apart, in diameters over speed."""
        return round(steps * self.speed / self.diameter, 12)

    def frames(self, n: int, *, steps: int = 40, transient: float = 150.0, random_state: int = 0) -> Array:
        """Velocities behind the cylinder, over the speed of the flow, shape (n, 2, size, size).

        Parameters
        ----------
        n : int
        steps : int, default=40
            Between frames.
        transient : float, default=150.0
            Time before the first frame, in diameters over speed.
        random_state : int, default=0
            Of a small disturbance at the start, which decides the phase.

        Notes
        -----
        Cost: 20 s on one core for 400 frames at the defaults.
        """
        require_whole(1, n=n, steps=steps)
        D = self.diameter
        nx, ny, centre = 16 * D, 8 * D, 3 * D
        x, y = np.meshgrid(np.arange(nx), np.arange(ny), indexing="ij")
        solid = (x - centre) ** 2 + (y - (ny - 1) / 2) ** 2 <= (D / 2) ** 2
        begin = np.zeros((2, nx, ny))
        begin[0] = self.speed
        begin[1] = 0.01 * self.speed * np.random.default_rng(random_state).normal(size=(nx, ny))
        fluid = LatticeFluid(begin, self.speed * D / self.reynolds, solid=solid, inflow=self.speed)
        fluid.advance(max(1, round(transient * D / self.speed)))
        first, low = centre + D, (ny - self.size) // 2
        if first + self.size > nx or low < 0:
            raise InvalidData(f"expected a frame that fits behind the cylinder in {nx} x {ny} cells, got size={self.size}")
        out = np.empty((n, 2, self.size, self.size))
        for t in range(n):
            out[t] = fluid.velocity[:, first : first + self.size, low : low + self.size] / self.speed
            fluid.advance(steps)
        return out.swapaxes(2, 3)


def _equilibrium(density: Array, velocity: Array) -> Array:
    along = 3.0 * (np.tensordot(_X, velocity[0], axes=0) + np.tensordot(_Y, velocity[1], axes=0))
    square = 1.5 * (velocity**2).sum(axis=0)
    return np.asarray(_WEIGHT[:, None, None] * density * (1.0 + along + 0.5 * along**2 - square))


@lru_cache(maxsize=1)
def _compiled() -> Any:
    numba = need("numba", "a lattice Boltzmann simulation", "emulate")
    cx, cy, weight, opposite = _X, _Y, _WEIGHT, _OPPOSITE

    def advance(f: Array, solid: NDArray[np.bool_], rate: float, inflow: float, steps: int) -> Array:
        _, nx, ny = f.shape
        f = f.copy()
        g = np.empty_like(f)
        for _ in range(steps):
            for i in range(nx):
                for j in range(ny):
                    if solid[i, j]:
                        for q in range(9):
                            g[opposite[q], (i - cx[q]) % nx, (j - cy[q]) % ny] = f[q, i, j]
                        continue
                    density, u, v = 0.0, 0.0, 0.0
                    for q in range(9):
                        density += f[q, i, j]
                        u += cx[q] * f[q, i, j]
                        v += cy[q] * f[q, i, j]
                    u, v = u / density, v / density
                    square = 1.5 * (u * u + v * v)
                    for q in range(9):
                        along = 3.0 * (cx[q] * u + cy[q] * v)
                        rest = weight[q] * density * (1.0 + along + 0.5 * along * along - square)
                        g[q, (i + cx[q]) % nx, (j + cy[q]) % ny] = f[q, i, j] + rate * (rest - f[q, i, j])
            if inflow > 0:
                square = 1.5 * inflow * inflow
                for j in range(ny):
                    for q in range(9):
                        along = 3.0 * cx[q] * inflow
                        g[q, 0, j] = weight[q] * (1.0 + along + 0.5 * along * along - square)
                        g[q, nx - 1, j] = g[q, nx - 2, j]
            f, g = g, f
        return f

    return numba.njit(cache=True)(advance)
