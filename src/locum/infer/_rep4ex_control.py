"""The control function: the outcome as a function of the code plus one of the part of the code that the action did not set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh, null_space
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from locum.infer._rep4ex_moments import with_ones

__all__ = ["ControlFunction", "Coefficients"]

Array = NDArray[np.floating[Any]]

_KNOTS = 120
_PENALTIES = np.logspace(-7, 3, 11)  # of roughness, in units of the mean squared error
_ENTRIES = 1_000_000  # of a table of distances at once
_CLOUD = 500  # residuals behind a standard error
_STEP = 0.05  # of a derivative, in standard deviations of the code


class CubicSpline:
    """A smooth function of several numbers: Σ w ‖x - knot‖³ and a linear part, which it follows far from the knots.

    The weights are orthogonal to linear functions, and turned so that the roughness is the sum of their squares.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
    knots : int
    random_state : int
    """

    def __init__(self, rows: Array, knots: int, random_state: int) -> None:
        knots = min(knots, len(rows) // 4)
        self._knots = KMeans(knots, n_init=1, max_iter=20, random_state=random_state).fit(rows).cluster_centers_
        free = null_space(with_ones(self._knots).T)  # sums that no linear function enters
        roughness = free.T @ _cubed(self._knots, self._knots) @ free
        value, vector = eigh(roughness)
        keep = value > 1e-9 * value[-1]
        self._turn = free @ vector[:, keep] / np.sqrt(value[keep])
        self.size = rows.shape[1] + int(keep.sum())
        self.linear = rows.shape[1]

    def __call__(self, rows: Array) -> Array:
        """Columns without a constant, the linear ones first, shape (n, size)."""
        return np.column_stack([rows, _cubed(rows, self._knots) @ self._turn])

    def averaged(self, centres: Array, cloud: Array) -> Array:
        """Mean of the columns over a cloud about each centre, shape (m, size)."""
        m, n = len(centres), len(cloud)
        step = max(1, _ENTRIES // (n * len(self._knots)))
        means = np.empty((m, len(self._knots)))
        for start in range(0, m, step):
            rows = (centres[start : start + step, None] + cloud).reshape(-1, self.linear)
            means[start : start + step] = _cubed(rows, self._knots).reshape(-1, n, len(self._knots)).mean(axis=1)
        return np.column_stack([centres + cloud.mean(axis=0), means @ self._turn])


def _cubed(rows: Array, knots: Array) -> Array:
    distance = cdist(rows, knots)
    return distance * distance * distance


@dataclass(frozen=True)
class Coefficients:
    """One fit of the control function.

    Attributes
    ----------
    slopes : ndarray of shape (1 + k, d)
        Of the code on the actions, α first.
    nu, psi : ndarray
        Of the two splines' columns.
    mean : float
        Of the outcome, less the mean of ν over the rows.
    constant : float
        Of the additive fit.
    """

    slopes: Array
    nu: Array
    psi: Array
    mean: float
    constant: float


class ControlFunction:
    """E[y | code, residual] = ν(code) + ψ(residual), both cubic splines with a ridge chosen by generalised cross-validation.

    Parameters
    ----------
    code : ndarray of shape (n, d)
        Of a scale near one, and of any affine map.
    actions : ndarray of shape (n, k)
    y : ndarray of shape (n,)
    random_state : int

    Attributes
    ----------
    best : Coefficients
    code, residual : ndarray of shape (n, d)
    penalties : tuple of float
        Of ν and of ψ.
    """

    def __init__(self, code: Array, actions: Array, y: Array, random_state: int) -> None:
        self.code, self._ones, self._y = code, with_ones(actions), y
        slopes = np.linalg.lstsq(self._ones, code)[0]
        self.residual = code - self._ones @ slopes
        self._of_code = CubicSpline(code, _KNOTS, random_state)
        self._of_residual = CubicSpline(self.residual, _KNOTS, random_state)
        self._nu_columns = self._of_code(code)
        columns = np.column_stack([self._nu_columns, self._of_residual(self.residual)])
        self.penalties = self._chosen(columns, y)
        self.best = self._solved(slopes, columns, np.full(len(y), 1.0 / len(y)))

    def _ridge(self, penalties: tuple[float, float]) -> Array:
        parts = []
        for spline, penalty in zip((self._of_code, self._of_residual), penalties, strict=True):
            parts += [np.full(spline.linear, 1e-10), np.full(spline.size - spline.linear, penalty)]
        return np.concatenate(parts)

    def _chosen(self, columns: Array, y: Array) -> tuple[float, float]:
        n = len(y)
        centred = columns - columns.mean(axis=0)
        gram, aim, total = centred.T @ centred / n, centred.T @ (y - y.mean()) / n, float(np.var(y))

        def score(penalties: tuple[float, float]) -> float:
            factor = cho_factor(gram + np.diag(self._ridge(penalties)))
            weights = cho_solve(factor, aim)
            error = total - 2 * weights @ aim + weights @ gram @ weights
            freedom = 1.0 + float(np.trace(cho_solve(factor, gram)))
            return float(error / (1.0 - min(freedom / n, 0.99)) ** 2)

        return min(((one, other) for one in _PENALTIES for other in _PENALTIES), key=score)

    def _solved(self, slopes: Array, columns: Array, weights: Array) -> Coefficients:
        mean, level = weights @ columns, float(weights @ self._y)
        centred = columns - mean
        gram = centred.T @ (weights[:, None] * centred)
        found = np.linalg.solve(gram + np.diag(self._ridge(self.penalties)), centred.T @ (weights * (self._y - level)))
        m = self._of_code.size
        return Coefficients(slopes, found[:m], found[m:], level - float(mean[:m] @ found[:m]), level - float(mean @ found))

    def resampled(self, rng: np.random.Generator) -> Coefficients:
        """The fit to as many rows, drawn with replacement."""
        n = len(self._y)
        weights = np.bincount(rng.integers(n, size=n), minlength=n) / n
        weighted = weights[:, None] * self._ones
        slopes = np.linalg.solve(self._ones.T @ weighted, weighted.T @ self.code)
        columns = np.column_stack([self._nu_columns, self._of_residual(self.code - self._ones @ slopes)])
        return self._solved(slopes, columns, weights)

    # ------------------------------------------------------------------ what it says
    def given(self, code: Array, actions: Array) -> Array:
        """E[y | code, do(action)], a row each."""
        residual = code - with_ones(actions) @ self.best.slopes
        return self.best.constant + self._of_code(code) @ self.best.nu + self._of_residual(residual) @ self.best.psi

    def do(self, actions: Array) -> Array:
        """E[y | do(action)]: the mean of ν over the residuals, about the centre that the action sets."""
        centres = with_ones(actions) @ self.best.slopes
        return self.best.mean + self._of_code.averaged(centres, self.residual) @ self.best.nu

    def do_resampled(self, actions: Array, rng: np.random.Generator, resamples: int) -> Array:
        """The same by fits to rows drawn with replacement, shape (resamples, m).

        The mean over residuals is linear in the fit of ν, and is taken to be linear in the shift of the centre as well.
        """
        cloud, centres = self.residual[:_CLOUD], with_ones(actions) @ self.best.slopes
        level = self._of_code.averaged(centres, cloud)
        steps = _STEP * np.eye(centres.shape[1])
        rise = [
            (self._of_code.averaged(centres + step, cloud) - self._of_code.averaged(centres - step, cloud)) / (2 * _STEP)
            for step in steps
        ]
        drawn = np.empty((resamples, len(actions)))
        for i in range(resamples):
            fit = self.resampled(rng)
            shift = actions @ (fit.slopes - self.best.slopes)[1:]  # the constant moves residuals and centre against one another
            columns = level + sum(by[:, None] * slope for by, slope in zip(shift.T, rise, strict=True))
            drawn[i] = fit.mean + columns @ fit.nu
        return drawn
