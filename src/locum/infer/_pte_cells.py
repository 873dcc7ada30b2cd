"""Where the early surrogate times are counted: kernel weights on a grid, or one cell a distinct value."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cells"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_GRID = 201
_UNDERSMOOTHED = 1 / 5 + 0.06


@dataclass(frozen=True, eq=False)
class Cells:
    """A grid of surrogate times up to t0 and what each row adds to each point of it.

    Attributes
    ----------
    points : ndarray of shape (m,)
        Ascending.
    weights : ndarray of shape (rows, m)
        Of each early row; a line sums to one, so no mass leaks out.
    nearest : ndarray of shape (rows,)
        Point that is nearest to the row's own surrogate time.
    bandwidth : float
        0 where each distinct value is a cell of its own.
    """

    points: _FLOAT
    weights: _FLOAT
    nearest: _INT
    bandwidth: float

    @classmethod
    def of(cls, surrogate: _FLOAT, t0: float, bandwidth: str | float, n: int) -> Cells:
        """Cells for the early surrogate times, with the bandwidth that n of them would get.

        A kernel narrower than the gap between neighbouring values (visits every six weeks, say) would count each value for
        itself in a roundabout way, so there the distinct values are the cells.
        """
        values = np.unique(surrogate)
        if bandwidth == "discrete" or len(values) == 1:
            return cls._discrete(surrogate, values)
        if isinstance(bandwidth, str):
            width = 1.06 * float(surrogate.std(ddof=1)) * n**-_UNDERSMOOTHED
            if float(np.median(np.diff(values))) > width:
                return cls._discrete(surrogate, values)
        else:
            width = float(bandwidth)
        step = (t0 - values[0]) / _GRID
        points = values[0] + step * (np.arange(_GRID) + 0.5)
        # Mirrored at both ends of the range: the same rule for every density that enters a ratio.
        weights = sum(
            np.exp(-0.5 * ((points - image[:, None]) / width) ** 2)
            for image in (surrogate, 2 * values[0] - surrogate, 2 * t0 - surrogate)
        )
        weights = np.asarray(weights) + np.finfo(float).tiny
        weights /= weights.sum(axis=1, keepdims=True)
        return cls(points, weights, _nearest(points, surrogate), width)

    @classmethod
    def _discrete(cls, surrogate: _FLOAT, values: _FLOAT) -> Cells:
        nearest = np.searchsorted(values, surrogate)
        return cls(values, np.eye(len(values))[nearest], nearest, 0.0)

    def find(self, surrogate: _FLOAT) -> _INT:
        """The point nearest to each time."""
        return _nearest(self.points, surrogate)


def _nearest(points: _FLOAT, values: _FLOAT) -> _INT:
    if len(points) == 1:
        return np.zeros(len(values), dtype=np.intp)
    return np.searchsorted((points[1:] + points[:-1]) / 2.0, values).astype(np.intp)


def merged(mass: _FLOAT, trim: float) -> _INT:
    """For each point the first point of its run: those with too little mass join the nearest with enough.

    A point has too little where its mass is below `trim` times the mean.
    """
    enough = np.flatnonzero(mass >= max(trim * mass.mean(), math.ulp(0.0)))
    owner = _nearest(enough.astype(float), np.arange(len(mass), dtype=float))
    return np.flatnonzero(np.diff(owner, prepend=-1))
