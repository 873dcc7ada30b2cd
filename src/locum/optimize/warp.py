"""A power transform of an objective's values, so that a Gaussian process of them is nearer to the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import minimize_scalar
from sklearn.base import BaseEstimator

from locum.core.errors import InvalidData

__all__ = ["Power", "PowerWarp"]

_FLOAT = NDArray[np.float64]
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_SAME = 1e-9  # of a power, to one where the formula has its limit
_FEWEST = 4


@final
@dataclass(frozen=True)
class Power:
    """Values less a centre, divided by a scale, under the transform of Yeo and Johnson; it keeps their order.

    Parameters
    ----------
    centre : float, default=0.0
    scale : float, default=1.0
    power : float, default=1.0
        1 changes nothing; 0 takes logarithms of what is above the centre, 2 of what is below.

    Examples
    --------
    >>> import numpy as np
    >>> far = Power(0.0, 1.0, 2.0)
    >>> bool(np.allclose(far.inverse(far(np.array([-1e6, 0.0, 2.0]))), [-1e6, 0.0, 2.0]))
    True
    """

    centre: float = 0.0
    scale: float = 1.0
    power: float = 1.0

    def __call__(self, values: ArrayLike) -> _FLOAT:
        """Values, warped."""
        z = (np.asarray(values, dtype=float) - self.centre) / self.scale
        return np.where(z >= 0, _bent(np.maximum(z, 0), self.power), -_bent(np.maximum(-z, 0), 2 - self.power))

    def inverse(self, warped: ArrayLike) -> _FLOAT:
        """What would give those warped values."""
        w = np.asarray(warped, dtype=float)
        z = np.where(w >= 0, _straight(np.maximum(w, 0), self.power), -_straight(np.maximum(-w, 0), 2 - self.power))
        return self.centre + self.scale * z

    def moments(self, mean: ArrayLike, sd: ArrayLike) -> tuple[_FLOAT, _FLOAT]:
        """Mean and standard deviation of values whose warped ones are normal, by Gauss-Hermite quadrature with 32 nodes."""
        values = self.inverse(np.asarray(mean)[..., None] + np.asarray(sd)[..., None] * _NODES)
        first = values @ _WEIGHTS
        return first, np.sqrt(((values - first[..., None]) ** 2) @ _WEIGHTS)

    def stretch(self, mean: float, sd: float, best: float) -> float:
        """Expected improvement of values over that of warped ones, both over `best`, which is warped."""
        if self.power == 1.0 or sd <= 0:
            return self.scale
        # Above the best alone, so that no node is spent where nothing is gained.
        shares = (np.arange(64) + 0.5) / 64
        above = stats.norm.sf((best - mean) / sd)
        if above < 1e-300:
            return self.scale
        w = np.maximum(mean + sd * stats.norm.isf(above * shares), best)
        gained = float((w - best).mean())
        return float((self.inverse(w) - self.inverse(best)).mean()) / gained if gained > 0 else self.scale


@final
class PowerWarp(BaseEstimator):
    r"""Fits a power transform to values by maximum likelihood.

    Values are taken relative to the median, in units of the distance from it to the best, and the power lies between 0 and 2,
    so that every number has an inverse: objectives that rise by orders of magnitude away from the optimum are compressed there
    to their logarithm at most. The order of values, and so the optimum, stays.

    Notes
    -----
    Cost: some tens of passes over the values.

    References
    ----------
    Yeo and Johnson, *A new family of power transformations to improve normality or symmetry*, Biometrika 87 (2000). For
    Bayesian optimisation: Cowen-Rivers et al., arXiv 2012.03826, section 4.1, which fits it to standardised values.

    Examples
    --------
    >>> import numpy as np
    >>> warp = PowerWarp().fit(-np.exp(np.linspace(0, 12, 30)))
    >>> warp.power > 1.5
    True
    """

    def fit(self, values: ArrayLike) -> Power:
        """The transform of largest likelihood; larger values are the better ones.

        Parameters
        ----------
        values : array-like of shape (n,)
            Finite. With fewer than four different ones nothing is changed.
        """
        found = np.asarray(values, dtype=float)
        if found.ndim != 1 or not np.isfinite(found).all():
            raise InvalidData(f"expected finite values of shape (n,), got shape {found.shape}, or NaN or infinity")
        if len(np.unique(found)) < _FEWEST:
            return Power()
        centre = float(np.median(found))
        scale = float(found.max() - centre) or float(found.std())
        z = (found - centre) / scale
        logs = float((np.sign(z) * np.log1p(np.abs(z))).sum())

        def unlikely(power: float) -> float:
            return 0.5 * len(z) * math.log(max(float(Power(0.0, 1.0, power)(z).var()), 1e-300)) - (power - 1.0) * logs

        return Power(centre, scale, float(minimize_scalar(unlikely, bounds=(0.0, 2.0), method="bounded").x))


def _bent(z: _FLOAT, power: float) -> _FLOAT:
    """((1 + z)^power - 1) / power for z of 0 or more."""
    logs = np.log1p(z)
    return logs if abs(power) < _SAME else np.asarray(np.expm1(power * logs) / power)


def _straight(w: _FLOAT, power: float) -> _FLOAT:
    """The inverse of `_bent`; very large numbers stay finite."""
    logs = w if abs(power) < _SAME else np.log1p(power * w) / power
    return np.asarray(np.expm1(np.minimum(logs, 600.0)))
