"""Columns cut into few bins: what every readable learner searches its thresholds in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from locum.core.domain import Column
from locum.core.program import Condition

__all__ = ["Bins"]


@dataclass(frozen=True)
class Bins:
    """Encoded rows as small whole numbers, column by column, with the way back to conditions.

    Numeric columns are cut at weighted quantiles, half-way between neighbouring values. The levels of a categorical column
    are put in the order of the answers' leading direction, in which the best split of a level set is a threshold (exactly
    so for one output, Breiman et al. 1984; approximately for several). A missing value has the last code of its column.

    Attributes
    ----------
    columns : tuple of Column
    edges : tuple of ndarray
        Thresholds of each numeric column, ascending; code c holds ``edges[c-1] < x <= edges[c]``. Empty for categorical ones.
    order : tuple of ndarray
        Level indices of each categorical column, in code order. Empty for numeric ones.
    """

    columns: tuple[Column, ...]
    edges: tuple[NDArray[np.float64], ...]
    order: tuple[NDArray[np.intp], ...]

    @classmethod
    def of(
        cls,
        columns: Sequence[Column],
        Z: NDArray[np.float64],
        Y: NDArray[np.float64],
        weights: NDArray[np.float64],
        max_bins: int = 255,
    ) -> Bins:
        """Bins for encoded rows (n, d), answers (n, k) and weights (n,), with at most `max_bins` bins a column."""
        direction = _leading(Y, weights)
        edges, order = [], []
        for j, column in enumerate(columns):
            known = ~np.isnan(Z[:, j])
            z, w = Z[known, j], weights[known]
            if column.kind == "numeric":
                edges.append(_edges(z, w, max_bins))
                order.append(np.empty(0, dtype=np.intp))
            else:
                edges.append(np.empty(0))
                seen = z >= 0
                level = z[seen].astype(np.intp)
                count = np.bincount(level, w[seen], len(column.levels))
                total = np.bincount(level, w[seen] * direction[known][seen], len(column.levels))
                # A level that never occurred goes where the average goes.
                mean = np.where(count > 0, total / np.where(count > 0, count, 1), np.average(direction, weights=weights))
                order.append(np.argsort(mean, kind="stable"))
        return cls(tuple(columns), tuple(edges), tuple(order))

    @cached_property
    def counts(self) -> NDArray[np.intp]:
        """Number of codes a column, the one for missing not counted, shape (d,)."""
        return np.array([len(o) if len(o) else len(e) + 1 for e, o in zip(self.edges, self.order, strict=True)], dtype=np.intp)

    def codes(self, Z: NDArray[np.float64]) -> NDArray[np.intp]:
        """Code of each value, shape (n, d). Unknown categories count as missing."""
        out = np.empty(Z.shape, dtype=np.intp)
        for j, (edges, order) in enumerate(zip(self.edges, self.order, strict=True)):
            absent = np.isnan(Z[:, j])
            if self.columns[j].kind == "categorical":
                rank = np.empty(len(order), dtype=np.intp)
                rank[order] = np.arange(len(order))
                absent |= Z[:, j] < 0
                code = rank[np.where(absent, 0, np.nan_to_num(Z[:, j])).astype(np.intp)]
                out[:, j] = np.where(absent, len(order), code)
            else:
                out[:, j] = np.where(absent, len(edges) + 1, np.searchsorted(edges, Z[:, j], side="left"))
        return out

    def condition(self, column: int, first: int, last: int, *, missing: bool) -> Condition:
        """The condition that the codes from `first` to `last`, both included, and perhaps missing satisfy."""
        if self.columns[column].kind == "categorical":
            levels = tuple(sorted(int(level) for level in self.order[column][first : last + 1]))
            return Condition(column, levels=levels, missing=missing)
        if first > last:  # missing alone; no interval is empty, an empty set of levels is
            return Condition(column, levels=(), missing=missing)
        edges = self.edges[column]
        low = None if first <= 0 else float(edges[first - 1])
        high = None if last >= len(edges) else float(edges[last])
        return Condition(column, low, high, missing=missing)


def _leading(Y: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Answers along their leading principal direction, shape (n,)."""
    if Y.shape[1] == 1:
        return Y[:, 0]
    centred = Y - np.average(Y, axis=0, weights=weights)
    _, vectors = np.linalg.eigh((centred * weights[:, None]).T @ centred)
    leading = vectors[:, -1]
    return centred @ (leading * np.sign(leading[np.argmax(np.abs(leading))]))


def _edges(z: NDArray[np.float64], weights: NDArray[np.float64], max_bins: int) -> NDArray[np.float64]:
    values, index = np.unique(z, return_inverse=True)
    if len(values) < 2:
        return np.empty(0)
    between = values[:-1] + (values[1:] - values[:-1]) / 2
    # Half-way can round up to the upper value, which would then fall below its own threshold.
    between = np.where(between >= values[1:], values[:-1], between)
    if len(values) <= max_bins:
        return between
    mass = np.cumsum(np.bincount(index, weights))
    wanted = np.arange(1, max_bins) / max_bins * mass[-1]
    # The same sums in another order differ in the last digits; the slack keeps the cuts where they were.
    cut = np.searchsorted(mass[:-1], wanted * (1 - 1e-12), side="left")
    return between[np.unique(np.minimum(cut, len(between) - 1))]
