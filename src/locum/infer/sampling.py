"""Which rows an expert should label: drawn at random, with the probability of each row known exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData
from locum.core.target import Target
from locum.infer._folds import codes_of

__all__ = ["LabelDesign", "sample_labels"]


@dataclass(frozen=True)
class LabelDesign:
    """Rows to have labelled, and the probability with which each row of the table was drawn.

    Attributes
    ----------
    rows : ndarray of shape (n,)
        Positions of the rows drawn, sorted.
    sampling_prob : ndarray of shape (N,)
        Of every row, drawn or not; all above 0.
    labeled : ndarray of bool, shape (N,)
        True for the rows drawn.
    """

    rows: NDArray[np.intp]
    sampling_prob: NDArray[np.float64]
    labeled: NDArray[np.bool_]

    def ask(self, target: Target, X: Any) -> NDArray[np.float64]:
        """Have the rows drawn labelled by a target, with the purpose "fit"; what was paid before is not paid again.

        Parameters
        ----------
        target : Target
            The expert, who answers with numbers.
        X : array of shape (N, d) or table
            What the expert is shown.

        Returns
        -------
        ndarray of shape (N,)
            Labels, NaN for the rows that were not drawn.

        Raises
        ------
        InvalidData
            Another number of rows than were drawn from, or answers that are not one number a row.
        BudgetExhausted, TargetError
        """
        if len(X) != len(self.labeled):
            raise InvalidData(f"expected the {len(self.labeled)} rows that were drawn from, got {len(X)}")
        answers = target.query(X.iloc[self.rows] if hasattr(X, "iloc") else np.asarray(X)[self.rows], "fit")
        if answers.ndim != 1 or answers.dtype.kind not in "biuf":
            raise InvalidData(
                f"expected one number a row from the expert, got answers of shape {answers.shape}, {answers.dtype}"
            )
        out = np.full(len(self.labeled), np.nan)
        out[self.rows] = answers
        return out


def sample_labels(
    data: Any, n: int, *, strata: Any = None, rates: Mapping[Any, float] | None = None, groups: Any = None, seed: int = 0
) -> LabelDesign:
    """Draw rows for experts to label: a fixed number in each stratum, at random within it.

    Parameters
    ----------
    data : table or array of N rows
    n : int
        Rows to draw; with `groups`, groups.
    strata : str or array of shape (N,), default=None
        Column, or values, within which the numbers are fixed; such as the surrogate label.
    rates : mapping of stratum to number, default=None
        How often a row of each stratum is drawn, against the others; 5 for a rare stratum draws its rows five times as
        often. All alike where None.
    groups : str or array of shape (N,), default=None
        Whole groups are drawn. The stratum must not vary within one.
    seed : int, default=0

    Raises
    ------
    InvalidData
        More rows than there are, fewer than strata, a stratum without a rate, or strata that cut through groups.

    Notes
    -----
    Cost: O(N log N); no query. In a stratum of N rows of which n are drawn, each has probability n / N, exactly.

    Examples
    --------
    >>> design = sample_labels(np.zeros((10, 1)), 4, strata=[0] * 8 + [1] * 2, rates={0: 1, 1: 4})
    >>> design.sampling_prob.round(2).tolist()
    [0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 1.0, 1.0]
    >>> len(design.rows)
    4
    """
    total = len(next(iter(data.values()))) if isinstance(data, Mapping) else len(data)
    level, names = (np.zeros(total, dtype=np.intp), np.array([""])) if strata is None else _codes(data, strata, total, "strata")
    unit, _ = (np.arange(total), None) if groups is None else _codes(data, groups, total, "groups")
    units = int(unit.max()) + 1
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= units:
        raise InvalidData(
            f"expected n= between 1 and the {units} {'rows' if groups is None else 'groups'} there are, got {n!r}"
        )
    of_unit = np.zeros(units, dtype=np.intp)
    of_unit[unit] = level
    if (of_unit[unit] != level).any():
        raise InvalidData(
            "expected strata that do not vary within a group, got groups with several: draw rows, or other strata"
        )
    sizes = np.bincount(of_unit, minlength=len(names))
    drawn = _shares(int(n), sizes, _rates(rates, names))
    rng = np.random.default_rng(seed)
    chosen = np.zeros(units, dtype=bool)
    for stratum, count in enumerate(drawn):
        chosen[rng.choice(np.flatnonzero(of_unit == stratum), size=count, replace=False)] = True
    labeled = chosen[unit]
    return LabelDesign(np.flatnonzero(labeled), (drawn / sizes)[level], labeled)


def _codes(data: Any, given: Any, total: int, what: str) -> tuple[NDArray[np.intp], NDArray[Any]]:
    try:
        values = np.asarray(data[given]) if isinstance(given, str) else np.asarray(given)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise InvalidData(f"expected {what}= to be a column of the data or values, got {given!r}") from error
    if values.shape != (total,):
        raise InvalidData(f"expected {what}= with one value for each of {total} rows, got shape {values.shape}")
    return codes_of(values)


def _rates(rates: Mapping[Any, float] | None, names: NDArray[Any]) -> NDArray[np.float64]:
    if rates is None:
        return np.ones(len(names))
    known = {str(key): value for key, value in rates.items()}
    absent = [str(name) for name in names if str(name) not in known]
    if absent:
        raise InvalidData(f"expected a rate for each stratum, got none for {', '.join(absent)}")
    out = np.array([float(known[str(name)]) for name in names])
    if not (np.isfinite(out) & (out > 0)).all():
        raise InvalidData(
            f"expected rates above 0, got {dict(rates)}: rows that can never be drawn have no expert counterpart, and nothing "
            "could correct the surrogate there"
        )
    return out


def _shares(n: int, sizes: NDArray[np.intp], rates: NDArray[np.float64]) -> NDArray[np.intp]:
    """How many of each stratum: at least one, at most all, otherwise in proportion to size times rate."""
    if n < len(sizes):
        raise InvalidData(f"expected n= of at least one row a stratum, {len(sizes)} in all, got {n}: merge strata")
    low, high = 0.0, n / float((rates * sizes).min()) + 1.0
    for _ in range(200):  # the factor at which the strata, cut at their ends, hold n in all
        middle = (low + high) / 2.0
        low, high = (middle, high) if np.clip(middle * rates * sizes, 1.0, sizes).sum() < n else (low, middle)
    wanted = np.clip(high * rates * sizes, 1.0, sizes)
    out = np.floor(wanted + 1e-9).astype(np.intp)
    for stratum in np.argsort(out - wanted, kind="stable")[: n - out.sum()]:
        out[stratum] += 1
    return out
