"""A two-arm trial with censored times, and the weights that make up for the censoring.

Conventions are those of lifelines and scikit-survival: a time of follow-up and whether it ended in the event. At equal times
the event comes before the censoring, so a row censored at u is known to be alive at u.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData

__all__ = ["CensoringWeights", "Trial"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_BOOL = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Trial:
    """Rows of a trial in an order that their content sets: by cell (stratum and arm), time, event first, surrogate time.

    Attributes
    ----------
    time : ndarray of shape (n,)
        Follow-up, in any one unit.
    event : ndarray of bool, shape (n,)
        Whether it ended in death.
    arm : ndarray of shape (n,)
        0 or 1.
    surrogate : ndarray of shape (n,)
        When the intermediate event was seen; NaN where it was not.
    cell : ndarray of shape (n,)
        Twice the number of the stratum, plus the arm.
    start, end : ndarray of shape (cells,)
        First row of each cell, and the row after its last.
    strata : ndarray of shape (strata,)
        Labels.
    """

    time: _FLOAT
    event: _BOOL
    arm: _INT
    surrogate: _FLOAT
    cell: _INT
    start: _INT
    end: _INT
    strata: NDArray[Any]

    @classmethod
    def of(
        cls, time: ArrayLike, event: ArrayLike, arm: ArrayLike, surrogate_time: ArrayLike, strata: ArrayLike | None = None
    ) -> Trial:
        """Check what is given and put it in order.

        Raises
        ------
        InvalidData
            Anything that is not a trial with two arms (in every stratum), times from 0 on, and surrogate times above 0 that
            are NaN where the event was not seen by the end of follow-up.
        """
        x, d, s = follow_up(time, event, surrogate_time)
        a = _zero_one(arm, "arm", len(x))
        if not d.any():
            raise InvalidData("expected some deaths, got none: every time is censored; use longer follow-up")
        labels, codes = _strata(strata, len(x))
        cell = 2 * codes + a
        counts = np.bincount(cell, minlength=2 * len(labels))
        if counts.min() < 2:
            where = int(np.argmin(counts))
            there = "" if len(labels) == 1 else f" of stratum {labels[where // 2]}"
            raise InvalidData(
                f"expected rows in both arms, 0 and 1{' in every stratum' if there else ''}, got {counts[where]} in arm "
                f"{where % 2}{there}: give a randomised comparison, or merge or leave out that stratum"
            )
        order = np.lexsort((s, ~d, x, cell))
        end = np.cumsum(counts)
        return cls(x[order], d[order], a[order].astype(np.intp), s[order], cell[order], end - counts, end, labels)

    def __len__(self) -> int:
        return len(self.time)

    def alive(self, u: float) -> _BOOL:
        """Who is known to live beyond u."""
        return (self.time > u) | ((self.time == u) & ~self.event)

    def cut(self, u: float) -> Trial:
        """What was known at u."""
        seen = np.where(self.surrogate <= u, self.surrogate, np.nan)
        event = self.event & (self.time <= u)
        time = np.minimum(self.time, u)
        order = np.lexsort((seen, ~event, time, self.cell))
        return Trial(time[order], event[order], self.arm, seen[order], self.cell, self.start, self.end, self.strata)

    def name(self, cell: int) -> str:
        """A cell in words."""
        return f"arm {cell % 2}" + ("" if len(self.strata) == 1 else f" of stratum {self.strata[cell // 2]}")


class CensoringWeights:
    r"""Inverse probability of censoring weights, one line for each vector of multipliers.

    In each cell :math:`G(u) = \exp(-\sum_{c < u} dN(c) / R(c))`, with dN the multiplier of who is censored at c and R of those
    under observation then. At equal times the dead leave first, then the others one after another, in the order of the rows:
    where a whole trial ends on one day, a single step of dN / R would take a third of its rows for uncensored. A row whose
    state at u is known weighs :math:`1/G(X)` where it died by u, and :math:`1/G(u)` where it lives; times its multiplier, and
    over the share of its arm in its stratum.

    Parameters
    ----------
    trial : Trial
    multipliers : ndarray of shape (B, n)
        Positive; ones for the estimate itself.

    Notes
    -----
    Cost: O(B n) once, and O(B n) for each time asked about.
    """

    def __init__(self, trial: Trial, multipliers: _FLOAT) -> None:
        self.trial, cell, n = trial, trial.cell, len(trial)
        seen = _sums(multipliers)
        fresh = np.ones(n, dtype=bool)
        fresh[1:] = (np.diff(cell) != 0) | (np.diff(trial.time) != 0) | (trial.event[1:] != trial.event[:-1])
        first = np.maximum.accumulate(np.where(fresh, np.arange(n), 0))
        at_risk = seen[:, trial.end[cell]] - seen[:, :-1]
        self._hazard = _sums(np.where(trial.event, 0.0, multipliers) / at_risk)
        size = seen[:, trial.end] - seen[:, trial.start]
        strata = np.repeat(size[:, 0::2] + size[:, 1::2], 2, axis=1)
        self._mass = multipliers * (strata / size)[:, cell]
        lost = self._hazard[:, first] - self._hazard[:, trial.start[cell]]
        self._dead = np.where(trial.event, self._mass * np.exp(lost), 0.0)

    def uncensored(self, u: float) -> _FLOAT:
        """G(u) in each cell, shape (B, cells)."""
        trial = self.trial
        inside = zip(trial.start, trial.end, strict=True)
        reached = np.array([a + np.searchsorted(trial.time[a:b], u, side="left") for a, b in inside], dtype=np.intp)
        return np.exp(self._hazard[:, trial.start] - self._hazard[:, reached])

    def alive(self, u: float) -> _FLOAT:
        """Weights of those alive at u, 0 for the others, shape (B, n)."""
        return np.where(self.trial.alive(u), self._mass / self.uncensored(u)[:, self.trial.cell], 0.0)

    def known(self, u: float) -> _FLOAT:
        """Weights of those whose state at u is known, 0 for the others, shape (B, n)."""
        return np.where(self.trial.event & (self.trial.time <= u), self._dead, self.alive(u))

    def survival(self, times: _FLOAT) -> _FLOAT:
        """Share alive in either arm, shape (times, B, 2)."""
        trial, mass, dead, out = self.trial, _sums(self._mass), _sums(self._dead), []
        for u in times:
            first = trial.start + np.add.reduceat(~trial.alive(u), trial.start, dtype=np.intp)  # who lives comes last
            lives = (mass[:, trial.end] - mass[:, first]) / self.uncensored(u)
            died = dead[:, first] - dead[:, trial.start]
            lives, died = (np.stack([one[:, a::2].sum(axis=1) for a in (0, 1)], axis=1) for one in (lives, died))
            out.append(lives / (lives + died))
        return np.array(out)


# ---------------------------------------------------------------------- reading
def follow_up(time: ArrayLike, event: ArrayLike, surrogate_time: ArrayLike) -> tuple[_FLOAT, _BOOL, _FLOAT]:
    """Time, event and surrogate time as arrays of shape (n,), checked."""
    x = _column(time, "time")
    if not np.isfinite(x).all() or (x < 0).any():
        row = int(np.argmax(~np.isfinite(x) | (x < 0)))
        raise InvalidData(f"expected finite times of 0 or more, got {x[row]:g} in row {row}")
    d = _zero_one(event, "event", len(x)).astype(bool)
    s = _column(surrogate_time, "surrogate_time", len(x))
    early = (s <= 0) | np.isinf(s)
    if early.any():
        row = int(np.argmax(early))
        raise InvalidData(f"expected surrogate times above 0, or NaN where none was seen, got {s[row]:g} in row {row}")
    late = s > x
    if late.any():
        row = int(np.argmax(late))
        raise InvalidData(
            f"expected no surrogate event after the end of follow-up, got {s[row]:g} after {x[row]:g} in row {row} and "
            f"{int(late.sum()) - 1} more: what was not seen before death or censoring is NaN"
        )
    return x, d, s


def _column(values: ArrayLike, name: str, n: int | None = None) -> _FLOAT:
    try:
        column = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise InvalidData(f"expected {name} to be numbers, got {np.asarray(values, dtype=object).ravel()[:3]!r}") from None
    if column.ndim != 1 or not len(column) or (n is not None and len(column) != n):
        raise InvalidData(f"expected {name} of shape ({'n' if n is None else n},), got shape {column.shape}")
    return column


def _zero_one(values: ArrayLike, name: str, n: int) -> _INT:
    column = _column(values, name, n)
    strange = ~np.isin(column, (0.0, 1.0))
    if strange.any():
        row = int(np.argmax(strange))
        raise InvalidData(f"expected {name} to be 0 or 1, got {column[row]:g} in row {row}")
    return column.astype(np.intp)


def _strata(strata: ArrayLike | None, n: int) -> tuple[NDArray[Any], _INT]:
    if strata is None:
        return np.array([""]), np.zeros(n, dtype=np.intp)
    labels = np.asarray(strata)
    if labels.shape != (n,):
        raise InvalidData(f"expected one stratum a row, shape ({n},), got shape {labels.shape}")
    if any(one is None or one != one for one in labels.tolist()):
        raise InvalidData("expected a stratum for every row, got a missing one")
    names, codes = np.unique(labels.astype(str) if labels.dtype == object else labels, return_inverse=True)
    return names, codes.astype(np.intp)


def _sums(values: _FLOAT) -> _FLOAT:
    """Sums of the columns before each, shape (B, n + 1)."""
    out = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=out[:, 1:])
    return out
