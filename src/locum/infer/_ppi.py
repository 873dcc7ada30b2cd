"""Prediction-powered inference with power tuning (PPI++), as a rival: labelled rows correct the rows without labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from locum.infer._moments import Link, Stack

__all__ = ["prediction_powered"]

Array = NDArray[np.float64]

_TUNINGS = 2  # λ is chosen at the estimate with λ = 1, and once more at the one it gives


def prediction_powered(
    X: Array, y: Array, predicted: Array, rows: NDArray[np.intp], pi: Array, link: Link, names: tuple[str, ...]
) -> tuple[Array, Array, float]:
    r"""Coefficients (p,), their covariance (p, p) and the tuning λ of PPI++.

    Solves :math:`\lambda\,\bar s_u(f) + \bar s_l(y) - \lambda\,\bar s_l(f) = 0`, with mean scores over unlabelled (u) and
    labelled (l) rows, for the λ in [0, 1] that makes the sum of the variances least. Rows weigh 1/π and 1/(1 - π).

    Parameters
    ----------
    X : ndarray of shape (N, p)
    y : ndarray of shape (n,)
        Expert labels.
    predicted : ndarray of shape (N,)
        Surrogate labels.
    rows : ndarray of shape (n,)
        Positions of the labelled rows.
    pi : ndarray of shape (N,)
        Below 1.
    link : Link
    names : tuple of str

    Notes
    -----
    References: Angelopoulos, Duchi and Zrnic, *PPI++*, 2023, arXiv 2311.01453, section 6.
    """
    free = np.ones(len(X), dtype=bool)
    free[rows] = False
    n, m = len(rows), int(free.sum())
    near, far = (1.0 / pi[rows]), 1.0 / (1.0 - pi[free])
    near, far = near * n / near.sum(), far * m / far.sum()
    weights = np.concatenate([far, near, near])
    stacked = np.vstack([X[free], X[rows], X[rows]])
    outcomes = np.concatenate([predicted[free], predicted[rows], y])

    def scores(beta: Array) -> list[Array]:
        residuals = (outcomes - link.mean(stacked @ beta)) * weights
        return np.split(stacked * residuals[:, None], [m, m + n])

    def solve(tuning: float) -> tuple[Array, Array]:
        signed = weights * np.repeat([tuning / m, -tuning / n, 1.0 / n], [m, n, n])
        beta = Stack(stacked, outcomes[:, None], signed).solve(link, names).params
        slopes = (link.slope(stacked @ beta) * weights)[: m + n, None] / (m + n)
        return beta, np.linalg.inv(stacked[: m + n].T @ (stacked[: m + n] * slopes))

    tuning = 1.0
    for _ in range(_TUNINGS):
        beta, inverse = solve(tuning)
        free_scores, guessed, expert = scores(beta)
        shared = (expert - expert.mean(axis=0)).T @ (guessed - guessed.mean(axis=0)) / n
        spread = np.atleast_2d(np.cov(np.vstack([guessed, free_scores]).T))
        gain, cost = (
            np.trace(inverse @ (shared + shared.T) @ inverse),
            2.0 * (1.0 + n / m) * np.trace(inverse @ spread @ inverse),
        )
        tuning = float(np.clip(gain / cost, 0.0, 1.0)) if cost > 0 else 0.0
    beta, inverse = solve(tuning)
    free_scores, guessed, expert = scores(beta)
    middle = np.atleast_2d(np.cov(tuning * free_scores.T)) / m + np.atleast_2d(np.cov((expert - tuning * guessed).T)) / n
    return beta, inverse @ middle @ inverse, tuning
