"""Region: where a stand-in was checked, and how sure one is that a row lies outside."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.domain import Column, Domain
from locum.core.errors import InvalidData

__all__ = ["Region"]

_NEIGHBOURS = 5
_REFERENCE_ROWS = 256
_CALIBRATION_ROWS = 4096
_FEWEST_ROWS = 40
_BLOCK = 1024
# A row as far away as the threshold must stay inside in whichever order its distance is summed.
_SLACK = 1 + 1e-9


@dataclass(frozen=True)
class Region:
    r"""The part of a domain that the rows of a fit cover: ranges, categories, and a conformal novelty score.

    A row is outside when a value leaves its column's range, a category was never seen, a value is missing in a column that
    was complete, or the row is *novel*: its distance to the fifth nearest of a set of reference rows exceeds a threshold
    :math:`q`. Numeric columns are centred and scaled robustly, two different categories are one unit apart, so are a missing
    value and one that is there, and distances add up over columns. :math:`q` is the
    :math:`\lceil (m+1)(1-\alpha) \rceil`-th smallest distance of :math:`m` rows that neither the reference nor the scales
    were taken from, so a new row from the same source is called novel with probability at most :math:`\alpha`, whatever its
    distribution (split conformal prediction).

    Attributes
    ----------
    domain : Domain
        The columns, with the ranges and levels that were covered.
    false_alarm_rate : float
        Share of new rows *from the same source* that are called outside: :math:`\alpha`, which is a bound, plus the
        leave-one-out share of rows outside the ranges and levels of all the others, which is unbiased.
    threshold : float
        :math:`q` above; infinite where fewer than 40 rows were given, and novelty is then not judged.
    rows : ndarray of shape (m, d)
        Encoded reference rows.
    center, scale : ndarray of shape (d,)
        Of the numeric columns.
    name : str, default="region of the data"
        How fidelity lines call it.

    Notes
    -----
    Cost: one distance to each of at most 256 reference rows a row; 100,000 rows of 30 numbers take half a second.

    References
    ----------
    Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World*, 2005.
    """

    domain: Domain
    false_alarm_rate: float
    threshold: float
    rows: NDArray[np.float64]
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    name: str = "region of the data"

    @classmethod
    def of(
        cls,
        domain: Domain,
        X: Any,
        *,
        false_alarm_rate: float = 0.05,
        random_state: int = 0,
        name: str = "region of the data",
    ) -> Region:
        """The region that rows cover.

        Parameters
        ----------
        domain : Domain
        X : rows that `domain` encodes
        false_alarm_rate : float, default=0.05
            Wanted share of rows from the same source that are called outside. The ranges take their share
            first and novelty gets the rest, but never less than a fifth; `false_alarm_rate` of the result says what holds.
        random_state : int, default=0
            Picks the reference rows.
        name : str, default="region of the data"
            How fidelity lines call it.
        """
        if not 0 < false_alarm_rate < 1:
            raise InvalidData(f"expected a false-alarm rate between 0 and 1, got {false_alarm_rate}")
        Z = domain.encode(X)
        n = len(Z)
        if n < 2:
            raise InvalidData(f"expected at least two rows to make a region of, got {n}")
        covered = domain.of_range(Z)
        ranges = _range_rate(covered, Z)
        alpha = max(false_alarm_rate - ranges, false_alarm_rate / 5)
        order = np.random.default_rng(random_state).permutation(n)
        half = n // 2
        center, scale = _robust(Z[order[:half]], ~domain.categorical)
        rows, held = Z[order[: min(half, _REFERENCE_ROWS)]], Z[order[half : half + _CALIBRATION_ROWS]]
        region = cls(covered, min(1.0, ranges + alpha), math.inf, rows, center, scale, name)
        rank = math.ceil((len(held) + 1) * (1 - alpha))
        if n < _FEWEST_ROWS or rank > len(held):
            return replace(region, false_alarm_rate=ranges)
        return replace(region, threshold=float(np.sort(region._novelty(held))[rank - 1]) * _SLACK)

    @classmethod
    def of_ranges(cls, X: Any, low: Any = None, high: Any = None, *, name: str = "region of the data") -> Region:
        """The region between two ends of each column, whatever lies between: for rows that were chosen rather than drawn.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Numbers; novelty, which is told and not judged, is distance to these.
        low, high : array-like of shape (d,) or None, default=None
            Ends, both included; those of `X` where None.
        name : str, default="region of the data"
            How fidelity lines call it.
        """
        rows = np.asarray(X, dtype=float)
        ends = (rows.min(axis=0) if low is None else low, rows.max(axis=0) if high is None else high)
        columns = tuple(Column(f"p{j}", low=float(a), high=float(b)) for j, (a, b) in enumerate(zip(*ends, strict=True)))
        spread = rows.std(axis=0)
        return cls(Domain(columns), 0.0, math.inf, rows, rows.mean(axis=0), np.where(spread > 0, spread, 1.0), name)

    def __str__(self) -> str:
        return f"{self.name} ({len(self.domain)} columns, false alarms at most {self.false_alarm_rate:.1%})"

    def inside(self, X: Any) -> NDArray[np.bool_]:
        """Which rows lie inside, shape (n,)."""
        Z = self.domain.encode(X)
        return np.all(self._in_range(Z), axis=1) & (self._novelty(Z) <= self.threshold)

    def in_range(self, X: Any) -> NDArray[np.bool_]:
        """Which rows keep to the ranges and levels, whatever their novelty, shape (n,)."""
        return np.all(self._in_range(self.domain.encode(X)), axis=1)

    def novelty(self, X: Any) -> NDArray[np.float64]:
        """Distance of each row to its fifth nearest reference row, shape (n,), in scaled units; compare with `threshold`."""
        return self._novelty(self.domain.encode(X))

    def reasons(self, X: Any) -> list[tuple[str, ...]]:
        """Why each row lies outside; an empty tuple for a row inside."""
        Z = self.domain.encode(X)
        inside, novelty = self._in_range(Z), self._novelty(Z)
        out: list[tuple[str, ...]] = [()] * len(Z)
        for i in np.flatnonzero(~inside.all(axis=1) | (novelty > self.threshold)):
            found = [_reason(self.domain.columns[j], Z[i, j]) for j in np.flatnonzero(~inside[i])]
            unlike = f"unlike the rows seen: distance {novelty[i]:.3g} to them, threshold {self.threshold:.3g}"
            out[i] = tuple(found or [unlike])
        return out

    def _in_range(self, Z: NDArray[np.float64]) -> NDArray[np.bool_]:
        columns = self.domain.columns
        low = np.array([0.0 if column.low is None else column.low for column in columns])
        high = np.array([math.inf if column.high is None else column.high for column in columns])
        inside = (low <= Z) & (high >= Z)
        for j, column in enumerate(columns):
            if column.unseen:
                inside[:, j] &= ~np.isin(Z[:, j], column.unseen)
        optional = np.array([column.missing for column in columns])
        inside[:, optional] |= np.isnan(Z[:, optional])
        return inside

    def _novelty(self, Z: NDArray[np.float64]) -> NDArray[np.float64]:
        from scipy.spatial.distance import cdist

        near = min(_NEIGHBOURS, len(self.rows)) - 1
        numeric = ~self.domain.categorical
        holes = numeric & (np.isnan(self.rows).any(axis=0) | np.isnan(Z).any(axis=0))
        (numbers, labels), (known_numbers, known_labels) = (self._parts(z, numeric, holes) for z in (Z, self.rows))
        out = np.empty(len(Z))
        for start in range(0, len(Z), _BLOCK):
            block = slice(start, start + _BLOCK)
            distance = np.zeros((len(numbers[block]), len(self.rows)))
            if numeric.any():
                distance += cdist(numbers[block], known_numbers, "cityblock")
            if labels.shape[1]:
                distance += labels.shape[1] * cdist(labels[block], known_labels, "hamming")
            out[block] = np.partition(distance, near, axis=1)[:, near]
        return out

    def _parts(
        self, Z: NDArray[np.float64], numeric: NDArray[np.bool_], holes: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scaled numbers with zero for what is missing; and labels: categories, and whether a number is missing."""
        numbers = (Z[:, numeric] - self.center[numeric]) / self.scale[numeric]
        labels = np.column_stack([np.where(np.isnan(Z[:, ~numeric]), -2.0, Z[:, ~numeric]), np.isnan(Z[:, holes])])
        return (np.nan_to_num(numbers) if holes.any() else numbers), labels

    def to_dict(self) -> dict[str, Any]:
        """The region as JSON-ready values."""
        return {
            "domain": self.domain.to_dict(),
            "false_alarm_rate": self.false_alarm_rate,
            "threshold": self.threshold if math.isfinite(self.threshold) else None,
            "neighbours": min(_NEIGHBOURS, len(self.rows)),
            "rows": [[None if math.isnan(value) else value for value in row] for row in self.rows.tolist()],
            "center": self.center.tolist(),
            "scale": self.scale.tolist(),
            "name": self.name,
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Region:
        """The region that `to_dict` described."""
        return cls(
            Domain.from_dict(record["domain"]),
            float(record["false_alarm_rate"]),
            math.inf if record["threshold"] is None else float(record["threshold"]),
            np.array(record["rows"], dtype=float),
            np.array(record["center"], dtype=float),
            np.array(record["scale"], dtype=float),
            record["name"],
        )


def _range_rate(domain: Domain, Z: NDArray[np.float64]) -> float:
    """Share of the rows that would lie outside the ranges and levels of all the others (leave one out)."""
    alone = np.zeros(len(Z), dtype=bool)
    for j, column in enumerate(domain.columns):
        z, absent = Z[:, j], np.isnan(Z[:, j])
        if column.kind == "categorical":
            counts = np.bincount(z[z >= 0].astype(np.intp), minlength=len(column.levels))
            alone |= (z < 0) | np.isin(z, np.flatnonzero(counts == 1))
        else:
            for extreme in (column.low, column.high):  # where one is shared, the others still reach it
                holders = z == extreme
                alone |= holders if holders.sum() == 1 else False
        alone |= absent if absent.sum() == 1 else False
    return float(alone.mean())


def _robust(Z: NDArray[np.float64], numeric: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    center, scale = np.zeros(Z.shape[1]), np.ones(Z.shape[1])
    for j in np.flatnonzero(numeric):
        z = Z[:, j][~np.isnan(Z[:, j])]
        if not z.size:
            continue
        low, center[j], high = np.quantile(z, [0.25, 0.5, 0.75])
        spread = (high - low) / 1.349 or z.std()
        scale[j] = spread or 1.0
    return center, scale


def _reason(column: Any, value: float) -> str:
    if math.isnan(value):
        return f"{column.name} is missing"
    if column.kind == "categorical":
        return f"{column.name} is a category never seen"
    if value < column.low:
        return f"{column.name} = {value:g} is below {column.low:g}, the lowest seen"
    return f"{column.name} = {value:g} is above {column.high:g}, the highest seen"
