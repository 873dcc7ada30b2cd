"""Many parameters by few: lengths of all inputs follow from a few numbers, by directions along which values change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.cross_decomposition import PLSRegression

if TYPE_CHECKING:
    from locum.optimize._mfbo_models import Falls

__all__ = ["Reduced", "directions"]

_FLOAT = NDArray[np.float64]
_LEAST = 1e-8  # inverse square of the length of an input that no direction has


def directions(rows: _FLOAT, values: _FLOAT, L: int, components: int) -> _FLOAT:
    """Squares of the weights of each input in the directions of partial least squares, by level, shape (L, d, h).

    Parameters
    ----------
    rows : ndarray of shape (n, d + 1)
        The level stands last.
    values : ndarray of shape (n,)
    L : int
    components : int
        h; where a level has too few designs for as many, the last are empty.
    """
    d = rows.shape[1] - 1
    out = np.zeros((L, d, components))
    for level in range(L):
        at = rows[:, -1] == level
        X, y = rows[at, :-1], values[at]
        most = min(components, d, int(at.sum()) - 1)
        if most < 1 or np.ptp(y) == 0:
            out[level, :, 0] = 1.0 / d
            continue
        out[level, :, :most] = PLSRegression(most, scale=False).fit(X, y).x_rotations_ ** 2
    return out


class Reduced:
    r"""A likelihood in the logarithms of a few numbers θ in place of those of the lengths, with slopes.

    .. math:: \ell_i^{-2} = \sum_h \theta_h w_{ih}^2

    Parameters
    ----------
    falls : callable
        Of parts with "lengths" of shape (L, d).
    squares : ndarray of shape (L, d, h)
    """

    def __init__(self, falls: Falls, squares: _FLOAT) -> None:
        self.falls, self.squares = falls, squares

    def lengths(self, numbers: _FLOAT) -> _FLOAT:
        """Logarithms of the lengths, shape (L, d), from those of θ, shape (L, h)."""
        return -0.5 * np.log(np.einsum("ldh,lh->ld", self.squares, np.exp(numbers)) + _LEAST)

    def __call__(self, parts: dict[str, _FLOAT]) -> tuple[float, dict[str, _FLOAT]]:
        value, slopes = self.falls({**parts, "lengths": self.lengths(parts["lengths"])})
        if not np.isfinite(value):
            return value, parts
        each = np.exp(parts["lengths"])[:, None] * self.squares  # (L, d, h)
        share = each / (each.sum(axis=-1, keepdims=True) + _LEAST)
        return value, {**slopes, "lengths": -0.5 * np.einsum("ld,ldh->lh", slopes["lengths"], share)}
