r"""Regressions as estimating equations: one solver and one sandwich for every way of combining two kinds of rows.

All estimates here solve :math:`\sum_r a_r x_r (y_r - \mu(x_r' \beta)) = 0` over stacked rows r with weights a, which may be
negative: a doubly robust equation is the predicted rows with weight 1, the expert rows with weight 1/π, and the predicted
copies of the expert rows with weight -1/π. The influence of an independent unit is the sum over its rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse, special

from locum.core.errors import InvalidData, LocumError

__all__ = ["LINKS", "Link", "NoSolution", "Solution", "Stack", "project_positive", "residuals_of_effects", "sandwich"]

Array = NDArray[np.float64]
_Index = NDArray[np.intp]

_STEPS = 100
_TOLERANCE = 1e-11  # of a score, against the size of its terms
_COLLINEAR = 1e-11  # smallest eigenvalue of the scaled cross-products, against the largest
_FARTHEST = 600.0  # a linear predictor beyond which a count leaves the range of numbers
_FLAT = 1e-8  # mean slope in some direction below which all means there are at their limits
_NO_SOLUTION = (
    "no finite coefficients solve the equations with the {} link: the columns separate the outcome perfectly, or there are too "
    "few expert labels of one kind; drop the column that separates, merge rare categories, or have more rows labelled"
)


class NoSolution(LocumError, RuntimeError):
    """The estimating equations have no finite solution on these rows."""


@dataclass(frozen=True)
class Link:
    """A mean as a function of the linear predictor, what it is the slope of, its own slope, and its range."""

    name: str
    potential: Callable[[Array], Array]
    mean: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    range: tuple[float, float]


def _softplus(eta: Array) -> Array:
    return np.logaddexp(0.0, eta)


def _logistic_slope(eta: Array) -> Array:
    p = special.expit(eta)
    return p * (1.0 - p)


LINKS = {
    "identity": Link("identity", lambda eta: eta**2 / 2.0, lambda eta: eta, np.ones_like, (-np.inf, np.inf)),
    "logit": Link("logit", _softplus, special.expit, _logistic_slope, (0.0, 1.0)),
    "log": Link("log", np.exp, np.exp, np.exp, (0.0, np.inf)),
}


@dataclass(frozen=True)
class Solution:
    """Coefficients, and what each unit contributes to them.

    Attributes
    ----------
    params : ndarray of shape (q,)
        The p coefficients of the first outcome, then those of the next.
    influence : ndarray of shape (m, q)
        Of each stacked row; the sum over all rows is zero.
    """

    params: Array
    influence: Array


@dataclass(frozen=True)
class Stack:
    """Rows with weights.

    Parameters
    ----------
    X : ndarray of shape (m, p)
    Y : ndarray of shape (m, k)
        One column an outcome; each has coefficients of its own.
    weights : ndarray of shape (m,)
    """

    X: Array
    Y: Array
    weights: Array

    def solve(self, link: Link, names: tuple[str, ...]) -> Solution:
        """Solve the equations of each outcome.

        Raises
        ------
        InvalidData
            Collinear columns.
        NoSolution
        """
        scale = np.sqrt(np.maximum((self.X**2).mean(axis=0), 1e-300))
        X = self.X / scale
        self._require_full_rank(X, names)
        params, influence = [], []
        for y in self.Y.T:
            beta = self._newton(X, y, link)
            eta = X @ beta
            bread = X.T @ (X * (self.weights * link.slope(eta))[:, None])
            scores = X * (self.weights * (y - link.mean(eta)))[:, None]
            self._require_information(X, bread, link)
            influence.append(np.linalg.solve(bread.T, scores.T).T / scale)
            params.append(beta / scale)
        return Solution(np.concatenate(params), np.hstack(influence))

    def _newton(self, X: Array, y: Array, link: Link) -> Array:
        """Newton steps, halved until the loss whose slope the equations are falls; one step for the identity."""
        beta = np.zeros(X.shape[1])
        size = float(np.abs(X * (self.weights * y)[:, None]).sum(axis=0).max()) + 1e-300
        for _ in range(_STEPS):
            eta = X @ beta
            score = X.T @ (self.weights * (y - link.mean(eta)))
            if np.abs(score).max() <= _TOLERANCE * size:
                return beta
            try:
                step = np.linalg.solve(X.T @ (X * (self.weights * link.slope(eta))[:, None]), score)
            except np.linalg.LinAlgError:
                break
            if score @ step <= 0:  # no minimum is near: weights that are negative bend the loss downwards here
                step = score * (np.linalg.norm(step) / np.linalg.norm(score))
            taken = self._step_length(eta, X @ step, y, link)
            if taken == 0.0:
                if np.abs(score).max() <= 1e4 * _TOLERANCE * size:  # as near as rounding lets it come
                    return beta
                break
            beta = beta + taken * step
        raise NoSolution(_NO_SOLUTION.format(link.name))

    def _step_length(self, eta: Array, move: Array, y: Array, link: Link) -> float:
        """The longest of 1, 1/2, 1/4, ... at which the loss does not rise, beyond rounding; 0 where there is none."""
        before = self.weights * (link.potential(eta) - y * eta)
        slack = 1e-14 * float(np.abs(before).sum())
        for halving in range(40):
            length = 0.5**halving
            trial = eta + length * move
            if link.name == "identity":
                return length
            if (
                np.abs(trial).max() <= _FARTHEST
                and float((self.weights * (link.potential(trial) - y * trial) - before).sum()) <= slack
            ):
                return length
        return 0.0

    def _require_information(self, X: Array, bread: Array, link: Link) -> None:
        """Refuse a solution at infinity: a direction in which every fitted mean has stopped moving."""
        if link.name != "identity":
            gram = X.T @ (X * np.abs(self.weights)[:, None])
            if np.abs(linalg.eigh((bread + bread.T) / 2.0, gram, eigvals_only=True)).min() < _FLAT:
                raise NoSolution(_NO_SOLUTION.format(link.name))

    def _require_full_rank(self, X: Array, names: tuple[str, ...]) -> None:
        values, vectors = np.linalg.eigh(X.T @ (X * np.abs(self.weights)[:, None]))
        if values[0] > _COLLINEAR * values[-1]:
            return
        involved = [name for name, share in zip(names, np.abs(vectors[:, 0]), strict=True) if share > 1e-3]
        raise InvalidData(
            f"the columns {', '.join(involved)} are collinear on the rows used, so they have no coefficients of their own: "
            "drop one of them"
        )


# ---------------------------------------------------------------------- variance
def sandwich(influence: Array, groups: _Index | None = None) -> Array:
    """Robust covariance of an estimate from the influences of its units, shape (q, q).

    Parameters
    ----------
    influence : ndarray of shape (n, q)
    groups : ndarray of shape (n,) or None, default=None
        Codes of the independent groups; each row is its own where None.
    """
    totals = influence if groups is None else sums(influence, groups, int(groups.max()) + 1)
    return totals.T @ totals


def freedom(influence: Array, groups: _Index | None = None) -> Array:
    """Degrees of freedom that the variance of each coefficient rests on, (Σψ²)² / Σψ⁴ over units, shape (q,).

    Where few units carry a variance it is itself uncertain, and Student's quantiles take the place of normal ones. Reference:
    Satterthwaite, Biometrics Bulletin 2 (1946).
    """
    totals = influence if groups is None else sums(influence, groups, int(groups.max()) + 1)
    squares, fourths = (totals**2).sum(axis=0), (totals**4).sum(axis=0)
    return np.divide(squares**2, fourths, out=np.full(len(squares), np.inf), where=fourths > 0)


def sums(rows: Array, codes: _Index, count: int) -> Array:
    """Sum of the rows of each code, shape (count, q)."""
    chooser = sparse.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(count, len(codes)))
    return np.asarray(chooser @ rows)


def project_positive(matrix: Array) -> Array:
    """The nearest symmetric matrix without negative eigenvalues."""
    symmetric = (matrix + matrix.T) / 2.0
    values, vectors = np.linalg.eigh(symmetric)
    return symmetric if values[0] >= 0 else (vectors * np.maximum(values, 0.0)) @ vectors.T


# ---------------------------------------------------------------------- fixed effects
def residuals_of_effects(columns: Array, effects: list[_Index]) -> tuple[Array, int]:
    """Columns (n, q) with the means of one or two groupings taken out exactly, and how many coefficients those means are.

    With two groupings the first is swept out, and the normal equations of the second (the one with fewer levels) are solved.
    """
    effects = sorted(effects, key=lambda codes: -int(codes.max()))
    first = effects[0]
    sizes = np.bincount(first).astype(float)

    def swept(table: Any) -> Array:
        return table - (sums(table, first, len(sizes)) / sizes[:, None])[first]

    out = swept(columns)
    if len(effects) == 1:
        return out, len(sizes)
    second = effects[1]
    levels = int(second.max()) + 1
    counts = np.zeros((len(sizes), levels))
    np.add.at(counts, (first, second), 1.0)
    normal = np.diag(np.bincount(second).astype(float)) - counts.T @ (counts / sizes[:, None])
    inverse = np.linalg.pinv(normal, rcond=1e-10, hermitian=True)
    means = inverse @ sums(out, second, levels)
    rank = int(np.linalg.matrix_rank(normal, tol=1e-8 * sizes.max(), hermitian=True))
    return swept(columns - means[second]), len(sizes) + rank
