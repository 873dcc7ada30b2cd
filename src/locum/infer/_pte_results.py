"""What comes out of `SurrogatePTE`: the transformation, curves, a trial's score, and the error where there is no effect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.bounds import Interval
from locum.core.errors import LocumError

__all__ = ["NoEffectError", "PTECurve", "SurvivalCurves", "Transformation", "TrialScore"]

_FLOAT = NDArray[np.float64]


class NoEffectError(LocumError, ValueError):
    """The interval of the effect holds 0, so there is no effect of which a share could be told.

    Parameters
    ----------
    delta : float
        The effect of arm 1 over arm 0 on the outcome.
    interval : Interval
        Of the effect.
    """

    def __init__(self, delta: float, interval: Interval) -> None:
        super().__init__(
            f"expected a treatment effect to explain, got {delta:.3g} [{interval.lower:.3g}, {interval.upper:.3g}] at "
            f"{100 * interval.level:g} %: a share of it means nothing; use more rows, another t, or another comparison"
        )
        self.delta = delta
        self.interval = interval


@dataclass(frozen=True, eq=False)
class Transformation:
    """g: what an early surrogate time stands for.

    Parameters
    ----------
    time : ndarray of shape (m,)
        Surrogate times, ascending up to t0.
    value, lower, upper : ndarray of shape (m,)
        g there, with pointwise intervals.
    later, later_lower, later_upper : float
        g of those alive at t0 whose disease has not progressed.
    level : float
    """

    time: _FLOAT
    value: _FLOAT
    lower: _FLOAT
    upper: _FLOAT
    later: float
    later_lower: float
    later_upper: float
    level: float

    def __call__(self, surrogate_time: ArrayLike) -> _FLOAT:
        """g at surrogate times up to t0: that of the nearest point of the grid.

        Parameters
        ----------
        surrogate_time : array-like of any shape
        """
        asked = np.asarray(surrogate_time, dtype=float)
        if len(self.time) == 1:
            return np.full(asked.shape, self.value[0])
        return self.value[np.searchsorted((self.time[1:] + self.time[:-1]) / 2.0, asked)]


@dataclass(frozen=True, eq=False)
class SurvivalCurves:
    """Survival in either arm.

    Parameters
    ----------
    time : ndarray of shape (m,)
    value, lower, upper : ndarray of shape (2, m)
        Arm 0 and arm 1, with pointwise intervals.
    level : float
    """

    time: _FLOAT
    value: _FLOAT
    lower: _FLOAT
    upper: _FLOAT
    level: float


@dataclass(frozen=True)
class TrialScore:
    """What a trial's data up to t0 say about its effect at t.

    Parameters
    ----------
    delta_g : float
        Effect on the transformation of the early outcome.
    lower, upper, level : float
        Its interval, from the rows of this trial and of those g was learnt from. Not what other trials differ by.
    n : int
        Rows of this trial.
    """

    delta_g: float
    lower: float
    upper: float
    level: float
    n: int

    def __str__(self) -> str:
        interval = f"[{self.lower:.3f}, {self.upper:.3f}]"
        return f"effect on the early outcome {self.delta_g:.3f} {interval} at {100 * self.level:g} %, n={self.n}"


@dataclass(frozen=True, eq=False)
class PTECurve:
    """The share explained at each of several early times.

    Parameters
    ----------
    t0 : ndarray of shape (m,)
    pte, alive_only : ndarray of shape (m,)
        Share explained, and that of being alive at t0.
    lower, upper : ndarray of shape (m,)
        A band that holds all of them at once with probability `level`.
    t, level : float
    """

    t0: _FLOAT
    pte: _FLOAT
    alive_only: _FLOAT
    lower: _FLOAT
    upper: _FLOAT
    t: float
    level: float

    def earliest(self, threshold: float) -> float | None:
        """The earliest t0 from which on the whole band lies above a threshold, None where there is none.

        Parameters
        ----------
        threshold : float
        """
        below = np.flatnonzero(self.lower <= threshold)
        first = 0 if not len(below) else int(below[-1]) + 1
        return float(self.t0[first]) if first < len(self.t0) else None
