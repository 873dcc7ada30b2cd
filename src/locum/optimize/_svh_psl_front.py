"""Fronts: which points no other is better than, the volume they dominate, and preferences that are spread evenly."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

__all__ = ["even_preferences", "nondominated", "volume"]

_FLOAT = NDArray[np.float64]


def nondominated(Y: _FLOAT) -> NDArray[np.bool_]:
    """Which rows no other row is at least as good as in all objectives and better in one; of equal rows, the first.

    Parameters
    ----------
    Y : ndarray of shape (n, m)
        Smaller is better.
    """
    order = np.lexsort(Y.T[::-1])  # none is dominated by one that comes later
    kept: list[int] = []
    front = np.empty_like(Y)
    for i in order:
        if not (front[: len(kept)] <= Y[i]).all(axis=1).any():
            front[len(kept)] = Y[i]
            kept.append(i)
    out = np.zeros(len(Y), dtype=bool)
    out[kept] = True
    return out


def volume(Y: _FLOAT, reference: _FLOAT) -> float:
    """Volume that is dominated by rows and dominates the reference point.

    Slices across the last objective, each with the volume of one objective less: O(n log n) for two, O(n^(m - 1)) for m.

    Parameters
    ----------
    Y : ndarray of shape (n, m)
    reference : ndarray of shape (m,)
    """
    inside = Y[(reference > Y).all(axis=1)]
    if not len(inside):
        return 0.0
    if Y.shape[1] == 2:
        inside = inside[np.lexsort(inside.T[::-1])]
        best = np.minimum.accumulate(inside[:, 1])
        ends = np.append(inside[1:, 0], reference[0])
        return float(((ends - inside[:, 0]) * (reference[1] - best)).sum())
    inside = inside[nondominated(inside)]
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    heights = np.diff(np.append(inside[:, -1], reference[-1]))
    flat = inside[:, :-1]
    return float(sum(h * volume(flat[: i + 1], reference[:-1]) for i, h in enumerate(heights) if h > 0))


def even_preferences(m: int, n: int) -> _FLOAT:
    """The finest lattice of at most n preferences on the simplex, corners included, shape (k, m).

    Parameters
    ----------
    m : int
        Objectives.
    n : int
        At least m.
    """
    steps = 1
    while math.comb(steps + m, m - 1) <= n:
        steps += 1
    bars = np.array(list(combinations(range(steps + m - 1), m - 1)), dtype=float)
    edges = np.column_stack([np.full(len(bars), -1.0), bars, np.full(len(bars), steps + m - 1.0)])
    return (np.diff(edges, axis=1) - 1.0) / steps
