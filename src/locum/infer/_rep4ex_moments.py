"""Kernels as features, and tests of what the residual of a code after least squares on the actions must satisfy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from sklearn.metrics.pairwise import pairwise_kernels

__all__ = ["KERNELS", "KernelFeatures", "Resampled", "TestResult", "independence_test", "linear_invariance_test", "with_ones"]

Array = NDArray[np.floating[Any]]

KERNELS = {"rbf": "euclidean", "laplacian": "cityblock"}  # and the distance whose median is the bandwidth
_LARGEST = 200  # features
_MISSED = 1e-4  # mean of the kernel's diagonal that features may leave out
_PAIRED = 1000  # rows whose distances give the median
_CHUNK = 100  # resamples at once


@dataclass(frozen=True)
class Resampled:
    """A statistic on n rows, and what it is where the hypothesis holds, once a resample."""

    value: float
    drawn: Array
    n: int


@dataclass(frozen=True)
class TestResult:
    """A test by resampling.

    Attributes
    ----------
    statistic : float
        A mean over pairs of rows, so that it does not grow with n where the hypothesis fails.
    pvalue : float
    n : int
        Rows.
    resamples : int
    """

    __test__ = False  # no test of pytest's

    statistic: float
    pvalue: float
    n: int
    resamples: int

    @classmethod
    def of(cls, *parts: Resampled) -> TestResult:
        """One test of what was seen in independent parts, by the mean of their statistics."""
        value = float(np.mean([part.value for part in parts]))
        drawn = np.mean([part.drawn for part in parts], axis=0)
        pvalue = float((1 + (drawn >= value).sum()) / (1 + len(drawn)))
        return cls(value, pvalue, sum(part.n for part in parts), len(drawn))

    def __str__(self) -> str:
        return f"statistic {self.statistic:.3g}, p = {self.pvalue:.3g}, n={self.n}, {self.resamples} resamples"


class KernelFeatures:
    """Features whose inner products are a kernel, up to a ten thousandth: a pivoted Cholesky factor of the Gram matrix.

    Parameters
    ----------
    rows : ndarray of shape (n, k)
    kernel : {"rbf", "laplacian"}

    Attributes
    ----------
    gamma : float
        From the median distance of rows.
    """

    def __init__(self, rows: Array, kernel: str) -> None:
        self._kernel = kernel
        step = -(-len(rows) // _PAIRED)
        median = float(np.median(pdist(rows[::step], KERNELS[kernel])))
        width = median if median > 0 else 1.0
        self.gamma = 1.0 / (2.0 * width**2) if kernel == "rbf" else 1.0 / width
        self._pivots, self._root = self._factor(rows)

    def _factor(self, rows: Array) -> tuple[Array, Array]:
        left = np.ones(len(rows))  # what the features so far leave out of the diagonal
        columns = np.empty((len(rows), min(_LARGEST, len(rows))))
        chosen: list[int] = []
        while len(chosen) < columns.shape[1] and left.mean() > _MISSED:
            pivot, m = int(left.argmax()), len(chosen)
            column = self._gram(rows, rows[[pivot]])[:, 0] - columns[:, :m] @ columns[pivot, :m]
            columns[:, m] = column / np.sqrt(left[pivot])
            left = np.maximum(left - columns[:, m] ** 2, 0.0)
            chosen.append(pivot)
        return rows[chosen], columns[chosen, : len(chosen)]

    def _gram(self, one: Array, other: Array) -> Array:
        return pairwise_kernels(one, other, metric=self._kernel, gamma=self.gamma)

    def __call__(self, rows: Array) -> Array:
        """Features of rows, shape (n, m)."""
        return np.linalg.solve(self._root, self._gram(self._pivots, rows)).T


def with_ones(actions: Array) -> Array:
    """A column of ones before the actions, shape (n, 1 + k)."""
    return np.column_stack([np.ones(len(actions)), actions])


def linear_invariance_test(
    white: Array, actions: Array, features: Array, rng: np.random.Generator, resamples: int
) -> Resampled:
    """Whether the mean of a code given the action is linear: E[r|a] = 0, by a wild bootstrap of the V-statistic.

    The residuals are multiplied by random signs and cleared of the actions anew, which keeps their variance given the action.

    Parameters
    ----------
    white : ndarray of shape (n, d)
        A code with the identity as its covariance.
    actions : ndarray of shape (n, k)
    features : ndarray of shape (n, m)
        Of the actions.
    """
    n = len(white)
    basis = np.linalg.qr(with_ones(actions))[0]
    clear = features - basis @ (basis.T @ features)
    residual = white - basis @ (basis.T @ white)
    value = float(np.square(clear.T @ residual / n).sum())
    drawn = []
    for start in range(0, resamples, _CHUNK):
        signs = rng.choice([-1.0, 1.0], size=(min(_CHUNK, resamples - start), n))
        drawn.append(sum(np.square((signs * column) @ clear / n).sum(axis=1) for column in residual.T))
    return Resampled(value, np.concatenate(drawn), n)


def independence_test(residual: Array, actions: Array, rng: np.random.Generator, resamples: int) -> Resampled:
    """Whether residuals are independent of the actions, by permutations of the Hilbert-Schmidt criterion.

    Parameters
    ----------
    residual : ndarray of shape (n, d)
    actions : ndarray of shape (n, k)
    """
    n = len(residual)
    one, other = (KernelFeatures(rows, "rbf")(rows) for rows in (residual, actions))
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    value = float(np.square(one.T @ other / n).sum())
    drawn = [np.square(one[rng.permutation(n)].T @ other / n).sum() for _ in range(resamples)]
    return Resampled(value, np.array(drawn), n)
