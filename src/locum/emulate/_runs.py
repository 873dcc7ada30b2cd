"""Split conformal prediction with the run as the unit that is exchangeable (Lee, Barber and Willett, arXiv 2306.06342)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData

__all__ = ["quantile_over_runs", "require_runs"]

Array = NDArray[np.floating[Any]]


def require_runs(n: int, level: float) -> None:
    """Refuse fewer runs than a band of that level takes to set."""
    if not 0 < level < 1:
        raise InvalidData(f"expected level= between 0 and 1, got {level!r}")
    if (n + 1) * (1 - level) < 1 - 1e-9:
        least = int(np.ceil(1 / (1 - level) - 1e-9)) - 1
        raise InvalidData(f"expected {least} runs or more for level={level:g}, got {n}")


def quantile_over_runs(errors: Array, of: NDArray[np.intp], n: int, level: float) -> Array:
    """Smallest value of each column below which the runs' weights add up to the level; what is missing to 1 lies at infinity.

    Parameters
    ----------
    errors : ndarray of shape (windows, ...)
    of : ndarray of int, shape (windows,)
        The run of each; a run weighs as much as another, whatever its windows.
    n : int
        Runs.
    level : float
    """
    weights = 1.0 / np.bincount(of)[of] / (n + 1)
    flat = errors.reshape(len(errors), -1)
    order = np.argsort(flat, axis=0)
    total = np.cumsum(weights[order], axis=0)
    at = np.argmax(total >= level - 1e-12, axis=0)
    return np.take_along_axis(flat, np.take_along_axis(order, at[None], axis=0), axis=0)[0].reshape(errors.shape[1:])
