"""Settings of a Gaussian process at the mode of their posterior: plain linear algebra, with slopes written out.

For the tens to hundreds of rows that an optimiser has, most of the time of a general library goes into building its graphs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, lapack
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from locum.optimize._input_warp import with_slopes

__all__ = ["CORRELATIONS", "Priors", "Settings", "likeliest"]

_FLOAT = NDArray[np.float64]
# Squared scaled distances to correlations, and their slopes in the squared distances.
_Correlation = Callable[[_FLOAT], tuple[_FLOAT, _FLOAT]]
_LENGTHS, _SCALES = (-7.0, 12.0), (-9.0, 12.0)  # logarithms that are looked at
_POWERS, _BENT = (-3.0, 3.0), 0.75**0.5  # logarithms that are looked at, and the deviation of their prior about 0
_STEPS = 100


def _matern52(r2: _FLOAT) -> tuple[_FLOAT, _FLOAT]:
    r = np.sqrt(5.0 * r2)
    fall = np.exp(-r)
    return (1.0 + r + r2 * (5.0 / 3.0)) * fall, (-5.0 / 6.0) * (1.0 + r) * fall


def _matern32(r2: _FLOAT) -> tuple[_FLOAT, _FLOAT]:
    r = np.sqrt(3.0 * r2)
    fall = np.exp(-r)
    return (1.0 + r) * fall, -1.5 * fall


def _matern12(r2: _FLOAT) -> tuple[_FLOAT, _FLOAT]:
    r = np.sqrt(r2)
    fall = np.exp(-r)
    return fall, -fall / (2.0 * np.maximum(r, 1e-10))


def _rbf(r2: _FLOAT) -> tuple[_FLOAT, _FLOAT]:
    fall = np.exp(-0.5 * r2)
    return fall, -0.5 * fall


CORRELATIONS: dict[str, _Correlation] = {"matern52": _matern52, "matern32": _matern32, "matern12": _matern12, "rbf": _rbf}


@dataclass(frozen=True)
class Priors:
    """Normal priors of logarithms, as (mean, deviation), and the deviation of weights of the mean.

    Densities are of the settings themselves, not of their logarithms.
    """

    lengths: tuple[float, float]
    noise: tuple[float, float]
    weights: float


@dataclass(frozen=True)
class Settings:
    """Of a process of standardised values.

    Parameters
    ----------
    lengths : ndarray of shape (d,)
    scale : float
        Variance of the process.
    noise : float or None
        None where it was given.
    mean : ndarray of shape (k,)
        A constant, and weights of the features.
    powers : ndarray of shape (d, 2) or None, default=None
        Of the warp of each column; None where they are as they are.
    """

    lengths: _FLOAT
    scale: float
    noise: float | None
    mean: _FLOAT
    powers: _FLOAT | None = None


class _Density:
    """Less the logarithm of the posterior density of the settings, up to a constant, and its slope."""

    def __init__(
        self, rows: _FLOAT, values: _FLOAT, features: _FLOAT, kernel: str, known: _FLOAT | None, priors: Priors | None,
        warped: bool = False,
    ) -> None:  # fmt: skip
        self.values, self.features, self.known, self.priors = values, features, known, priors
        self.correlation, self.d = CORRELATIONS[kernel], rows.shape[1]
        self.rows, self.warped = rows, warped
        self.apart = _apart(rows)
        # With priors the variance is that of the values; without, it is learnt.
        self.scaled, self.noisy = priors is None, known is None

    def split(self, at: _FLOAT) -> tuple[_FLOAT, _FLOAT, float, float, _FLOAT]:
        """Logarithms of lengths, of powers (d, 2), none where there are none, of the scale and of the noise, and the mean."""
        d = self.d
        place = 3 * d if self.warped else d
        powers = at[d:place].reshape(-1, 2)
        scale = float(at[place]) if self.scaled else 0.0
        place += self.scaled
        noise = float(at[place]) if self.noisy else -math.inf
        return at[:d], powers, scale, noise, at[place + self.noisy :]

    def __call__(self, at: _FLOAT) -> tuple[float, _FLOAT]:
        n = len(self.values)
        lengths, powers, log_scale, log_noise, mean = self.split(at)
        shrunk, apart = np.exp(-2.0 * lengths), self.apart
        if self.warped:
            rows, slopes = with_slopes(self.rows, np.exp(powers))
            apart = _apart(rows)
        correlation, slope = self.correlation((shrunk @ apart).reshape(n, n))
        scale, noise = math.exp(log_scale), math.exp(log_noise)
        K = scale * correlation
        K[np.diag_indices(n)] += noise if self.known is None else self.known
        root, failed = lapack.dpotrf(K, lower=1)
        if failed:
            return 1e10, np.zeros_like(at)
        residual = self.values - self.features @ mean
        weights = cho_solve((root, True), residual)
        whole, _ = lapack.dpotri(root, lower=1)
        inverse = np.tril(whole) + np.tril(whole, -1).T
        value = 0.5 * residual @ weights + np.log(np.diag(root)).sum()
        pull = np.outer(weights, weights) - inverse  # twice the slope of the log likelihood in K
        by_length = (pull * slope).ravel() @ apart.T * shrunk * scale  # -0.5 * pull : (-2 * slope * apart * shrunk)
        parts = [by_length]
        if self.warped:  # -0.5 * pull : (slope * shrunk * slope of the squared distance, 2 (w - w') (s - s'))
            moved = (pull * slope).sum(axis=1)[:, None] * rows - (pull * slope) @ rows
            by_power = -2.0 * scale * shrunk[:, None] * (moved[:, :, None] * slopes).sum(axis=0)
            value += 0.5 * float((powers**2).sum()) / _BENT**2
            parts.append((by_power + powers / _BENT**2).ravel())
        if self.scaled:
            parts.append(np.array([-0.5 * scale * float((pull * correlation).sum())]))
        if self.noisy:
            parts.append(np.array([-0.5 * noise * float(np.trace(pull))]))
        falls = np.concatenate([*parts, -self.features.T @ weights])
        return self._with_priors(value, falls, lengths, log_noise, mean)

    def _with_priors(
        self, value: float, falls: _FLOAT, lengths: _FLOAT, log_noise: float, mean: _FLOAT
    ) -> tuple[float, _FLOAT]:
        if self.priors is None:
            return float(value), falls
        (centre, width), d = self.priors.lengths, self.d
        off = (lengths - centre) / width
        value += float((0.5 * off**2 + lengths).sum())
        falls[:d] += off / width + 1.0
        if self.noisy:
            centre, width = self.priors.noise
            off_noise = (log_noise - centre) / width
            value += 0.5 * off_noise**2
            falls[3 * d if self.warped else d] += off_noise / width
        value += 0.5 * float((mean[1:] ** 2).sum()) / self.priors.weights**2
        falls[len(falls) - len(mean) + 1 :] += mean[1:] / self.priors.weights**2
        return float(value), falls


def _apart(rows: _FLOAT) -> _FLOAT:
    """Squared distances by column, shape (d, n * n)."""
    return ((rows[:, None] - rows[None]) ** 2).transpose(2, 0, 1).reshape(rows.shape[1], -1)


def likeliest(
    rows: _FLOAT,
    values: _FLOAT,
    features: _FLOAT,
    kernel: str,
    known: _FLOAT | None,
    priors: Priors | None,
    starts: list[Settings],
    least_noise: float,
    warped: bool = False,
) -> Settings:
    """The settings of largest posterior density, or likelihood, found from some starts.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
    values : ndarray of shape (n,)
        Standardised.
    features : ndarray of shape (n, k)
        A column of ones, and features whose weighted sum is the mean.
    kernel : str
        A key of `CORRELATIONS`.
    known : ndarray of shape (n,) or None
        Variances of the noise; learnt where None.
    priors : Priors or None
    starts : list of Settings
    least_noise : float
        Below which noise is not looked for.
    warped : bool, default=False
        Whether powers are learnt that bend the columns.

    Notes
    -----
    Cost: O(n³ + d n²) a step, up to 100 steps a start; memory d n² numbers.
    """
    density = _Density(rows, values, features, kernel, known, priors, warped)
    limits = [_LENGTHS] * rows.shape[1] + [_POWERS] * (2 * rows.shape[1] * warped) + [_SCALES] * density.scaled
    limits += [(math.log(least_noise), 5.0)] * density.noisy + [(-np.inf, np.inf)] * features.shape[1]
    best: tuple[float, _FLOAT] | None = None
    for start in starts:
        first = [np.log(start.lengths), np.zeros(2 * rows.shape[1] * warped)]
        if density.scaled:
            first.append(np.array([math.log(start.scale)]))
        if density.noisy:
            first.append(np.array([math.log(start.noise or least_noise)]))
        at = np.concatenate([*first, start.mean])
        # Matrices of tens of rows: threads gain nothing, and on a busy machine wait for one another for seconds.
        with threadpool_limits(1, user_api="blas"):
            ended = minimize(density, at, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": _STEPS})
        if best is None or ended.fun < best[0]:
            best = float(ended.fun), ended.x
    assert best is not None
    lengths, powers, scale, noise, mean = density.split(best[1])
    found = math.exp(noise) if density.noisy else None
    return Settings(np.exp(lengths), math.exp(scale), found, mean, np.exp(powers) if warped else None)
