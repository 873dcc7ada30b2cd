"""Curves over a box of few parameters as Chebyshev polynomials: what a smooth function says, for two small matrix products."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.polynomial.chebyshev import chebvander
from numpy.typing import ArrayLike, NDArray
from scipy.fft import dct

from locum.core.errors import InvalidData, require_positive, require_whole

__all__ = ["ChebyshevInterpolant", "chebyshev_interpolant"]

Array = NDArray[np.float64]

_FIRST = 5  # nodes of each parameter to begin with
_ROWS = 2048  # rows that are answered at once: few enough that what they become stays in the processor's cache


@dataclass(frozen=True, eq=False)
class ChebyshevInterpolant:
    """Curves of a function of few parameters, quickly.

    Called with rows of shape (n, d) or (d,) within the box, it answers with curves of shape (n, T).

    Attributes
    ----------
    bounds : dict of str to (float, float)
        The box.
    error : float
        Largest difference from the function along a curve, over `checked` rows drawn evenly from the box which had no part in
        choosing the nodes. A further such row goes beyond it with probability 1 / (checked + 1) at most.
    checked : int
    calls : int
        Curves that were asked of the function, with those that measure.
    coefficients : ndarray of shape (n_1, ..., n_d, r)
        Of products of Chebyshev polynomials, for each mode.
    modes : ndarray of shape (r, T)
        Curves whose sums all curves are.
    """

    bounds: dict[str, tuple[float, float]]
    error: float
    checked: int
    calls: int
    coefficients: Array
    modes: Array

    def __call__(self, rows: ArrayLike) -> Array:
        X = np.atleast_2d(np.asarray(rows, dtype=float))
        low, high = np.array(list(self.bounds.values())).T
        if X.ndim != 2 or X.shape[1] != len(low) or not ((low <= X) & (high >= X)).all():
            raise InvalidData(f"expected rows of {', '.join(self.bounds)} within {self.bounds}, got {np.shape(rows)} of them"
                              f" from {X.min(initial=math.inf)} to {X.max(initial=-math.inf)}")  # fmt: skip
        at = 2 * (X - low) / (high - low) - 1
        out = np.empty((len(X), self.modes.shape[1]))
        for start in range(0, len(X), _ROWS):
            out[start : start + _ROWS] = self._answered(at[start : start + _ROWS])
        return out

    def _answered(self, at: Array) -> Array:
        sizes = self.coefficients.shape
        held = chebvander(at[:, 0], sizes[0] - 1) @ self.coefficients.reshape(sizes[0], -1)
        for k in range(1, at.shape[1]):
            basis = chebvander(at[:, k], sizes[k] - 1)
            held = (basis[:, None] @ held.reshape(len(at), sizes[k], -1))[:, 0]
        return np.asarray(held @ self.modes)


def chebyshev_interpolant(
    curves: Callable[[Array], ArrayLike],
    bounds: Mapping[str, tuple[float, float]],
    *,
    tolerance: float = 1e-5,
    max_calls: int = 20_000,
    check: int = 64,
    random_state: int = 0,
) -> ChebyshevInterpolant:
    """Ask a function at Chebyshev nodes until what is between them follows.

    Parameters
    ----------
    curves : callable
        From rows (n, d) to curves (n, T): a simulator, or what stands in for one.
    bounds : mapping of str to (float, float)
        The box of each parameter; at most six of them.
    tolerance : float, default=1e-5
        Largest difference allowed along a curve, in the unit of the curves, on rows between the nodes.
    max_calls : int, default=20_000
        Curves that may be asked for.
    check : int, default=64
        Rows between the nodes that decide whether they suffice, and as many again to measure the error.
    random_state : int, default=0

    Returns
    -------
    ChebyshevInterpolant

    Raises
    ------
    InvalidData
        Curves that are not finite, or that do not follow within `max_calls`: they have kinks, jumps or noise above the
        tolerance.

    Notes
    -----
    Nodes are nested, so that asking for more keeps what was asked; a parameter gets more where its last coefficients are
    not small. For functions without kinks the error falls geometrically with their number (Trefethen, Approximation Theory
    and Approximation Practice, chapter 8). Cost: the product of the numbers of nodes. One row then takes about
    n_1 · ... · n_d · r multiplications.
    """
    low, high = _box(bounds)
    require_positive(tolerance=tolerance)
    require_whole(1, max_calls=max_calls, check=check)
    asked = _Asked(curves, low, high, max_calls - 2 * check)
    between, fresh = low + (high - low) * np.random.default_rng([random_state, 83]).random((2, check, len(low)))
    grid, truth = [_nodes(_FIRST)] * len(low), None
    values = asked(grid, "nothing was asked for")
    while True:
        coefficients = values
        for k in range(len(low)):
            coefficients = _transformed(coefficients, k)
        tails = [float(np.abs(np.moveaxis(coefficients, k, 0)[-2:]).max()) for k in range(len(low))]
        said = f"the last coefficients are {max(tails):.3g}"
        if max(tails) <= tolerance:
            found = ChebyshevInterpolant(_named(bounds), math.nan, check, asked.calls + 2 * check,
                                         *_truncated(coefficients, tolerance / 10))  # fmt: skip
            truth = asked.answers(between) if truth is None else truth
            off = float(np.abs(found(between) - truth).max())
            if off <= tolerance:
                return replace(found, error=float(np.abs(found(fresh) - asked.answers(fresh)).max()))
            said = f"the error is {off:.3g}"
        k = int(np.argmax(tails))
        more = _nodes(2 * len(grid[k]) - 1)
        new = asked([more[1::2] if j == k else one for j, one in enumerate(grid)],
                    f"with {' x '.join(str(len(one)) for one in grid)} nodes {said}")  # fmt: skip
        values, grid[k] = np.insert(values, range(1, len(grid[k])), new, axis=k), more


class _Asked:
    """The function on grids, and how many curves it was asked for."""

    def __init__(self, curves: Callable[[Array], ArrayLike], low: Array, high: Array, most: int) -> None:
        self._curves, self._low, self._high, self._most, self.calls = curves, low, high, most, 0

    def __call__(self, grid: list[Array], where: str) -> Array:
        rows = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, len(grid))
        if (calls := self.calls + len(rows)) > self._most:
            raise InvalidData(
                f"{calls} curves at nodes would be asked for, and max_calls leaves {self._most}; {where}. Raise tolerance or"
                " max_calls, take a smaller box, or look for kinks and noise in the curves"
            )
        self.calls = calls
        return self.answers(self._low + (self._high - self._low) * (rows + 1) / 2).reshape(*map(len, grid), -1)

    def answers(self, rows: Array) -> Array:
        out = np.asarray(self._curves(rows), dtype=float)
        if out.ndim != 2 or len(out) != len(rows) or not np.isfinite(out).all():
            raise InvalidData(f"expected {len(rows)} finite curves of shape ({len(rows)}, T), got shape {out.shape}")
        return out


def _named(bounds: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}


def _box(bounds: Mapping[str, tuple[float, float]]) -> Array:
    """Low and high ends, shape (2, d)."""
    ends = np.array(list(bounds.values()), dtype=float).reshape(-1, 2) if bounds else np.empty((0, 2))
    if not 1 <= len(ends) <= 6 or not np.isfinite(ends).all() or not (ends[:, 0] < ends[:, 1]).all():
        raise InvalidData(f"expected finite bounds, low below high, of one to six parameters, got {dict(bounds)}")
    return ends.T


def _nodes(n: int) -> Array:
    """Extrema of the Chebyshev polynomial of degree n - 1, from 1 to -1."""
    return np.asarray(np.cos(np.pi * np.arange(n) / (n - 1)))


def _transformed(values: Array, axis: int) -> Array:
    """Coefficients of Chebyshev polynomials from values at `_nodes`, along an axis."""
    n = values.shape[axis]
    out = np.moveaxis(dct(values, type=1, axis=axis) / (n - 1), axis, 0)
    out[[0, -1]] /= 2
    return np.moveaxis(out, 0, axis)


def _truncated(coefficients: Array, allowed: float) -> tuple[Array, Array]:
    """Coefficients of few modes, and the modes; what is left out is at most this much anywhere."""
    flat = coefficients.reshape(-1, coefficients.shape[-1])
    left, scales, right = np.linalg.svd(flat, full_matrices=False)
    r = 1
    while r < len(scales) and np.abs((left[:, r:] * scales[r:]) @ right[r:]).sum(axis=0).max() > allowed:
        r += 1
    kept: Any = (left[:, :r] * scales[:r]).reshape(*coefficients.shape[:-1], r)
    return np.ascontiguousarray(kept), right[:r].copy()
