"""Lyapunov exponents from the matrices that carry small differences from one step to the next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData

__all__ = ["kaplan_yorke", "lyapunov_spectrum"]


def lyapunov_spectrum(
    propagators: Iterable[NDArray[np.floating[Any]]], time_step: float = 1.0, skip: int = 0
) -> NDArray[np.float64]:
    r"""All exponents, largest first: averages of what QR factors of the product of the propagators grow by.

    .. math:: J_t Q_{t-1} = Q_t R_t, \qquad λ_i = \frac{1}{n Δt} \sum_t \log |R_{t,ii}|

    Parameters
    ----------
    propagators : iterable of ndarray of shape (d, d)
        Derivative of the state after a step with respect to the state before it, one a step, in order.
    time_step : float, default=1.0
        Δt; exponents are per unit of it.
    skip : int, default=0
        Steps at the start that only turn the directions.

    Raises
    ------
    InvalidData
        No step is left, or a propagator that is not finite.

    Notes
    -----
    Cost: a QR factorisation of a (d, d) matrix a step. The exponent of a direction that is flattened to
    nothing is minus infinity.
    Reference: Benettin, Galgani, Giorgilli and Strelcyn, Meccanica 15 (1980).

    Examples
    --------
    >>> lyapunov_spectrum([np.diag([0.5, 2.0])] * 30, skip=10).round(3).tolist()
    [0.693, -0.693]
    """
    total: NDArray[np.float64] | None = None
    Q: NDArray[np.float64] | None = None
    steps = 0
    for t, J in enumerate(propagators):
        if not np.isfinite(J).all():
            raise InvalidData(f"expected finite derivatives, got NaN or infinity at step {t}: the trajectory has diverged")
        Q, R = np.linalg.qr(J if Q is None else J @ Q)
        if t >= skip:
            with np.errstate(divide="ignore"):
                grown = np.log(np.abs(np.diag(R)))
            total, steps = grown if total is None else total + grown, steps + 1
    if total is None:
        raise InvalidData(f"expected more than skip={skip} steps to average over")
    return np.sort(total / (steps * time_step))[::-1]


def kaplan_yorke(spectrum: ArrayLike) -> float:
    r"""Kaplan-Yorke dimension, :math:`k + \sum_{i \le k} λ_i / |λ_{k+1}|`, k the most exponents with a sum of 0 or more.

    Parameters
    ----------
    spectrum : array-like of shape (d,)
        Lyapunov exponents in any order.

    Examples
    --------
    >>> round(kaplan_yorke([0.906, 0.0, -14.572]), 3)
    2.062
    """
    found = np.sort(np.asarray(spectrum, dtype=float))[::-1]
    sums = np.cumsum(found)
    k = int(np.sum(np.cumprod(sums >= 0)))
    if k == 0:
        return 0.0
    return float(k if k == len(found) else k + sums[k - 1] / abs(found[k]))
