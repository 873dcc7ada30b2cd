"""Fixed points and cycles of a piecewise-linear map: within a region of it they are the solution of a linear system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.emulate._gtf_cells import Cell, Parameters

__all__ = ["Cycle", "cycles"]

Array = NDArray[np.floating[Any]]

_SAME = 1e-5  # of the size of a state: two orbits closer than that are one


@dataclass(frozen=True, eq=False)
class Cycle:
    """A fixed point, or an orbit that comes back after some steps.

    Attributes
    ----------
    states : ndarray of shape (k, m)
        In the order that they are visited.
    eigenvalues : ndarray of complex, shape (m,)
        Of the derivative of k steps, largest first in size.
    """

    states: Array
    eigenvalues: NDArray[np.complex128]

    @property
    def stable(self) -> bool:
        """Whether orbits nearby are drawn to it."""
        return bool(np.abs(self.eigenvalues[0]) < 1.0)


def cycles(cell: Cell, p: Parameters, starts: Array, length: int, iterations: int) -> tuple[Cycle, ...]:
    """Orbits of exactly `length` steps that searches from many states (n, m) end in.

    Each search solves for the orbit that the linear pieces around the present one have, and goes there, until that orbit lies
    in the pieces it was solved with.
    """
    found: list[Cycle] = []
    for start in starts:
        z = start
        for _ in range(iterations):
            orbit = _orbit(cell, p, z, length)
            solved = _solved(cell, p, orbit)
            if solved is None:
                break
            closed = _orbit(cell, p, solved, length)
            if np.array_equal(cell.pattern(p, closed), cell.pattern(p, orbit)):
                _keep(found, _cycle(cell, p, closed))
                break
            z = solved
    return tuple(sorted(found, key=lambda one: float(np.abs(one.eigenvalues[0]))))


def _orbit(cell: Cell, p: Parameters, z: Array, length: int) -> Array:
    out = [z]
    for _ in range(length - 1):
        out.append(cell.step(p, out[-1]))
    return np.stack(out)


def _solved(cell: Cell, p: Parameters, orbit: Array) -> Array | None:
    """The state that the affine maps around an orbit bring back to itself."""
    slope, offset = np.eye(orbit.shape[1]), np.zeros(orbit.shape[1])
    for z, J in zip(orbit, cell.jacobian(p, orbit), strict=True):
        slope, offset = J @ slope, J @ offset + cell.step(p, z) - J @ z
    try:
        solved = np.linalg.solve(np.eye(len(offset)) - slope, offset)
    except np.linalg.LinAlgError:
        return None
    return solved if np.isfinite(solved).all() and np.abs(solved).max() < 1e8 else None


def _cycle(cell: Cell, p: Parameters, orbit: Array) -> Cycle:
    slope = np.eye(orbit.shape[1])
    for J in cell.jacobian(p, orbit):
        slope = J @ slope
    values = np.linalg.eigvals(slope).astype(complex)
    return Cycle(orbit, values[np.argsort(-np.abs(values))])


def _keep(found: list[Cycle], one: Cycle) -> None:
    """Unless it is there already, from another of its states on, or is a shorter orbit gone through more than once."""
    size = _SAME * (1.0 + np.abs(one.states).max())
    if len(one.states) > 1 and (np.abs(one.states[1:] - one.states[0]).max(axis=1) < size).any():
        return
    if all((np.abs(known.states - one.states[0]).max(axis=1) >= size).all() for known in found):
        found.append(one)
