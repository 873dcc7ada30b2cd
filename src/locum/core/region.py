"""Region: where a stand-in was checked, and how sure one is that a row lies outside."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.domain import Domain
from locum.core.errors import InvalidData

__all__ = ["Region"]

_NEIGHBOURS = 5
_REFERENCE_ROWS = 256
_CALIBRATION_ROWS = 4096
_FEWEST_ROWS = 40


@dataclass(frozen=True)
class Region:
    r"""The part of a domain that the rows of a fit cover: ranges, categories, and a conformal novelty score.

    A row is outside when a value leaves its column's range, a category was never seen, a value is missing in a column that
    was complete, or the row is *novel*: its distance to the fifth nearest of a set of reference rows exceeds a threshold
    :math:`q`. Numeric columns are centred and scaled robustly, two different categories are one unit apart, and distances
    add up over columns. :math:`q` is the :math:`\lceil (m+1)(1-\alpha) \rceil`-th smallest distance of :math:`m` held-out
    rows, so a new row from the same source is called novel with probability at most :math:`\alpha`, whatever its
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
    reference : ndarray of shape (m, e)
        Embedded reference rows.
    center, scale : ndarray of shape (d,)
        Of the numeric columns.

    Notes
    -----
    Cost: one distance to each of at most 256 reference rows a row.

    References
    ----------
    Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World*, 2005.
    """

    domain: Domain
    false_alarm_rate: float
    threshold: float
    reference: NDArray[np.float64]
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
        covered = domain.of_range(Z)
        ranges = _range_rate(covered, Z)
        alpha = max(false_alarm_rate - ranges, false_alarm_rate / 5)
        order = np.random.default_rng(random_state).permutation(n)
        half = n // 2
        numeric = ~domain.categorical
        center, scale = _robust(Z, numeric)
        reference = _embed(covered, center, scale, Z[order[: min(half, _REFERENCE_ROWS)]])
        held = Z[order[half : half + _CALIBRATION_ROWS]]
        rank = math.ceil((len(held) + 1) * (1 - alpha))
        if n < _FEWEST_ROWS or rank > len(held):
            threshold, alpha = math.inf, 0.0
        else:
            threshold = float(np.sort(_distance(reference, _embed(covered, center, scale, held)))[rank - 1])
        return cls(covered, min(1.0, ranges + alpha), threshold, reference, center, scale, name)

    def __str__(self) -> str:
        return f"{self.name} ({len(self.domain)} columns, false alarms at most {self.false_alarm_rate:.1%})"

    def inside(self, X: Any) -> NDArray[np.bool_]:
        """Which rows lie inside, shape (n,)."""
        Z = self.domain.encode(X)
        return self._in_range(Z).all(axis=1) & (self._novelty(Z) <= self.threshold)

    def in_range(self, X: Any) -> NDArray[np.bool_]:
        """Which rows keep to the ranges and levels, whatever their novelty, shape (n,)."""
        return self._in_range(self.domain.encode(X)).all(axis=1)

    def novelty(self, X: Any) -> NDArray[np.float64]:
        """Distance of each row to its fifth nearest reference row, shape (n,), in scaled units; compare with `threshold`."""
        return self._novelty(self.domain.encode(X))

    def reasons(self, X: Any) -> list[tuple[str, ...]]:
        """Why each row lies outside; an empty tuple for a row inside."""
        Z = self.domain.encode(X)
        inside, novelty = self._in_range(Z), self._novelty(Z)
        out = []
        for i, row in enumerate(Z):
            found = [_reason(column, row[j]) for j, column in enumerate(self.domain.columns) if not inside[i, j]]
            if not found and novelty[i] > self.threshold:
                found = [f"unlike the rows seen: distance {novelty[i]:.3g} to them, threshold {self.threshold:.3g}"]
            out.append(tuple(found))
        return out

    def _in_range(self, Z: NDArray[np.float64]) -> NDArray[np.bool_]:
        inside = np.empty(Z.shape, dtype=bool)
        for j, column in enumerate(self.domain.columns):
            absent = np.isnan(Z[:, j])
            low, high = (0.0, np.inf) if column.kind == "categorical" else (column.low, column.high)
            with np.errstate(invalid="ignore"):
                inside[:, j] = np.where(absent, column.missing, (Z[:, j] >= low) & (Z[:, j] <= high))
        return inside

    def _novelty(self, Z: NDArray[np.float64]) -> NDArray[np.float64]:
        return _distance(self.reference, _embed(self.domain, self.center, self.scale, Z))

    def to_dict(self) -> dict[str, Any]:
        """The region as JSON-ready values."""
        return {
            "domain": self.domain.to_dict(),
            "false_alarm_rate": self.false_alarm_rate,
            "threshold": self.threshold if math.isfinite(self.threshold) else None,
            "neighbours": min(_NEIGHBOURS, len(self.reference)),
            "reference": self.reference.tolist(),
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
            np.array(record["reference"], dtype=float),
            np.array(record["center"], dtype=float),
            np.array(record["scale"], dtype=float),
            record["name"],
        )


def _range_rate(domain: Domain, Z: NDArray[np.float64]) -> float:
    """Share of the rows that would lie outside the ranges and levels of all the others (leave one out)."""
    alone = np.zeros(len(Z), dtype=bool)
    for j, column in enumerate(domain.columns):
        z = Z[:, j]
        if column.kind == "numeric":
            # Where an extreme value is shared, the others still reach it.
            extremes: list[float | None] = [column.low, column.high]
        else:
            counts = np.bincount(z[z >= 0].astype(int), minlength=len(column.levels))
            extremes = list(np.flatnonzero(counts == 1))
        for value in extremes:
            holders = z == value
            alone |= holders if holders.sum() == 1 else False
        absent = np.isnan(z)
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


def _embed(
    domain: Domain, center: NDArray[np.float64], scale: NDArray[np.float64], Z: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Rows in the space of the novelty distance.

    A numeric column gives its scaled value and whether it is missing; a categorical one half a unit for each level, for
    missing and for unknown, so that two different categories are one unit apart in city-block distance.
    """
    parts = []
    for j, column in enumerate(domain.columns):
        z, absent = Z[:, j], np.isnan(Z[:, j])
        if column.kind == "numeric":
            parts.append(np.where(absent, 0.0, (z - center[j]) / scale[j])[:, None])
            parts.append(absent.astype(float)[:, None])
        else:
            width = len(column.levels)
            slot = np.where(absent, width, np.where(z < 0, width + 1, np.nan_to_num(z))).astype(int)
            parts.append(np.eye(width + 2)[slot] / 2)
    return np.hstack(parts)


def _distance(reference: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial.distance import cdist

    k = min(_NEIGHBOURS, len(reference)) - 1
    out = np.empty(len(rows))
    for start in range(0, len(rows), 4096):
        block = slice(start, start + 4096)
        out[block] = np.partition(cdist(rows[block], reference, "cityblock"), k, axis=1)[:, k]
    return out


def _reason(column: Any, value: float) -> str:
    if math.isnan(value):
        return f"{column.name} is missing"
    if column.kind == "categorical":
        return f"{column.name} is a category never seen"
    if value < column.low:
        return f"{column.name} = {value:g} is below {column.low:g}, the lowest seen"
    return f"{column.name} = {value:g} is above {column.high:g}, the highest seen"
