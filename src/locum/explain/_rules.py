"""Conjunctions of intervals and level sets: the search that rule lists and rule sets share.

Whatever a rule is for, once its answer is fixed each row has a *gain*, negative where the rule helps, and the best rule is
the conjunction whose rows have the least sum of gains. On one column that is found exactly: with prefix sums for an
interval, by sign for a set of levels. Two columns at a time are scanned on a coarse grid, so that pairs which mean nothing
alone are seen; what is found there is then moved to full resolution, one condition at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.tree import DecisionTreeRegressor

from locum.core.domain import Column
from locum.core.program import Condition
from locum.explain._bins import Bins

__all__ = ["Clause", "RuleSearch", "RuleSearchAmong", "first_few", "first_least"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_BOOL = NDArray[np.bool_]
# Sums that differ by less are ties, and the first wins: the same sums in another order differ in the last digits.
_SLACK = 1e-9
_CELLS = 6
_MOST_ENTRIES = 2_500_000  # in the table of pairs; with more rows, fewer columns are paired
_MOVES = 12
# Over all columns: with thousands of them, intervals as fine as the rows allow are many enough to fit by chance, and slow.
_MOST_BINS = 160_000
_LEAST_BINS = 8
_BLOCK = 2_000_000  # entries counted at once
_MOST_COLUMNS = 1_000  # searched; of more, those that tell most by themselves


@dataclass(frozen=True)
class Clause:
    """Conditions that hold together: for each column named, which of its codes pass.

    Attributes
    ----------
    columns : tuple of int
        Ascending, each once.
    masks : tuple of ndarray
        For each column a bool a code, then one for missing and one, always False, for an unknown category.
    """

    columns: tuple[int, ...]
    masks: tuple[_BOOL, ...]

    def without(self, column: int) -> Clause:
        """The clause less its condition on a column."""
        kept = [i for i, one in enumerate(self.columns) if one != column]
        return Clause(tuple(self.columns[i] for i in kept), tuple(self.masks[i] for i in kept))

    def with_(self, column: int, mask: _BOOL) -> Clause:
        """The clause with its condition on a column added or replaced."""
        rest = self.without(column)
        pairs = sorted([*zip(rest.columns, rest.masks, strict=True), (column, mask)], key=lambda pair: pair[0])
        return Clause(tuple(c for c, _ in pairs), tuple(m for _, m in pairs))


def first_least(values: _FLOAT, slack: float) -> int:
    """The first position whose value is within `slack` of the least."""
    return int(np.argmax(values <= values.min() + slack))


class RuleSearch:
    """Encoded rows laid out so that the best conjunction for given gains is found fast.

    Parameters
    ----------
    columns : sequence of Column
    Z : ndarray of shape (n, d)
    Y : ndarray of shape (n, k)
        Answers; they order the levels of categorical columns and pick the columns that are paired.
    weights : ndarray of shape (n,)
    max_conditions : int
    max_bins : int
        Of a column; fewer where the table has more than 600 columns, 16 with 10,000.
    least : float
        Least weight of the rows a rule holds.

    Attributes
    ----------
    usable : tuple of int
        Columns that conditions may name: those that tell rows apart, and not in the very way an earlier one does; of more than
        1,000, those that by themselves explain most of the answers.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        Z: _FLOAT,
        Y: _FLOAT,
        weights: _FLOAT,
        *,
        max_conditions: int,
        max_bins: int,
        least: float,
    ) -> None:
        self.bins = Bins.of(columns, Z, Y, weights, min(max_bins, max(_LEAST_BINS, _MOST_BINS // len(columns))))
        self.counts = self.bins.counts
        self.weights = weights
        self.max_conditions = max_conditions
        self.least = max(least, 1e-300) - _SLACK * float(weights.sum())
        self.categorical = np.array([column.kind == "categorical" for column in columns])
        codes = self.bins.codes(Z)
        # Bins count an unknown category as missing; a rule never holds it, so here it has a code of its own.
        codes = np.where(self.categorical & (Z == -1), self.counts + 1, codes)
        self.codes = np.ascontiguousarray(codes.T.astype(np.min_scalar_type(int(self.counts.max()) + 1)))
        self.seen = [np.bincount(code, weights, c + 2) > 0 for code, c in zip(self.codes, self.counts, strict=True)]
        distinct = {code.tobytes(): j for j, code in reversed(list(enumerate(self.codes))) if code.min() < code.max()}
        self.usable = tuple(sorted(distinct.values()))
        if len(self.usable) > _MOST_COLUMNS:
            self.usable = self._screened(Y)
        self._pair(Y)

    def among(self, rows: _INT) -> RuleSearchAmong:
        """The search over some of the rows."""
        return RuleSearchAmong(self, rows, self.codes[:, rows], self.weights[rows])

    def holds(self, clause: Clause) -> _BOOL:
        """Which rows satisfy the clause, shape (n,)."""
        return _holds(clause, self.codes)

    def conditions(self, clause: Clause) -> tuple[Condition, ...]:
        """The clause as conditions of a program."""
        out = []
        for column, mask in zip(clause.columns, clause.masks, strict=True):
            count, missing = self.counts[column], bool(mask[-2])
            inside = np.flatnonzero(mask[:count])
            if self.categorical[column]:
                levels = tuple(sorted(int(level) for level in self.bins.order[column][inside]))
                out.append(Condition(column, levels=levels, missing=missing))
            elif not inside.size:  # missing only; no interval is empty, an empty set of levels is
                out.append(Condition(column, levels=(), missing=True))
            else:
                out.append(self.bins.condition(column, int(inside[0]), int(inside[-1]), missing=missing))
        return tuple(out)

    def tidy(self, clause: Clause) -> Clause:
        """The clause less conditions that every row passes."""
        for column, mask in zip(clause.columns, clause.masks, strict=True):
            if mask[self.seen[column]].all():
                clause = clause.without(column)
        return clause

    def _screened(self, Y: _FLOAT) -> tuple[int, ...]:
        """The usable columns whose bins by themselves explain most of the variance of the answers."""
        centred = (Y - np.average(Y, axis=0, weights=self.weights)) * self.weights[:, None]
        explained = np.empty(len(self.usable))
        for i, j in enumerate(self.usable):
            size = np.maximum(np.bincount(self.codes[j], self.weights), 1e-300)
            explained[i] = sum(float((np.bincount(self.codes[j], one) ** 2 / size).sum()) for one in centred.T)
        best = np.argsort(-explained, kind="stable")[:_MOST_COLUMNS]
        return tuple(sorted(self.usable[i] for i in best))

    # ------------------------------------------------------------------ two columns at a time
    def _pair(self, Y: _FLOAT) -> None:
        """Lay out a coarse grid over each pair of columns: `_grid` says which rows lie in which cell of which pair."""
        n = self.codes.shape[1]
        chosen = list(self.usable)
        most = int((1 + np.sqrt(1 + 8 * _MOST_ENTRIES / n)) / 2)
        if len(chosen) > most:
            order = np.argsort(-self._importance(Y), kind="stable")[:most]
            chosen = sorted(chosen[i] for i in order)
        self.pairs = list(combinations(chosen, 2)) if self.max_conditions > 1 else []
        if not self.pairs:
            return
        self._cell = {j: self._coarse(j) for j in chosen}
        self._width = 1 + max(int(cell.max()) for cell in self._cell.values())
        held = {j: self._cell[j][self.codes[j]] for j in chosen}
        index = np.concatenate([(p * self._width + held[i]) * self._width + held[j] for p, (i, j) in enumerate(self.pairs)])
        shape = (len(self.pairs) * self._width**2, n)
        self._grid = sparse.csr_array((np.ones(len(index)), (index, np.tile(np.arange(n), len(self.pairs)))), shape=shape)
        ends = [(a, b) for a in range(self._width) for b in range(a, self._width)]
        self._ends = np.array(ends)
        self._within = np.array([[a <= c <= b for c in range(self._width)] for a, b in ends], dtype=float)

    def _coarse(self, column: int) -> _INT:
        """Cell of each code of a column: equal shares of the weight, and a cell of its own for missing where it occurs."""
        count = self.counts[column]
        size = np.bincount(self.codes[column], self.weights, count + 2)
        known = size[:count]
        middle = np.cumsum(known) - known / 2
        cell = np.minimum((middle / max(known.sum(), 1e-300) * _CELLS + _SLACK).astype(np.intp), _CELLS - 1)
        last = _CELLS if self.seen[column][count] else _CELLS - 1
        return np.concatenate([cell, [last, last]])

    def _importance(self, Y: _FLOAT) -> _FLOAT:
        """How much each usable column matters to a tree of the answers, shape (len(usable),)."""
        tree = DecisionTreeRegressor(max_leaf_nodes=64, min_weight_fraction_leaf=0.002, random_state=0)
        return tree.fit(self.codes[list(self.usable)].T, Y, sample_weight=self.weights).feature_importances_

    def best_pairs(self, rows: _INT, gains: _FLOAT, most: int, slack: float) -> list[list[Clause]]:
        """The rectangles of least summed gain on the coarse grid, from different pairs of columns, for each gain."""
        width, q = self._width, gains.shape[1]
        everyone = np.zeros((len(self.weights), q))
        everyone[rows] = gains
        sums = np.asarray(self._grid @ everyone).reshape(len(self.pairs), width, width * q)
        sums = (self._within @ sums).reshape(len(self.pairs), len(self._ends), width, q)
        sums = np.ascontiguousarray(sums.transpose(3, 0, 1, 2)) @ self._within.T  # (q, pairs, intervals, intervals)
        out = []
        for one in sums.reshape(q, len(self.pairs), -1):
            found: list[Clause] = []
            for pair in first_few(one.min(axis=1), most, slack):
                ends = divmod(first_least(one[pair], slack), len(self._ends))
                clause = Clause((), ())
                for column, position in zip(self.pairs[pair], ends, strict=True):
                    first, last = self._ends[position]
                    mask = (self._cell[column] >= first) & (self._cell[column] <= last)
                    mask[-1] = False
                    clause = clause.with_(column, mask)
                found.append(clause)
            out.append(found)
        return out


# ---------------------------------------------------------------------- some of the rows
@dataclass(frozen=True)
class RuleSearchAmong:
    """The search over r rows.

    Attributes
    ----------
    search : RuleSearch
    rows : ndarray of shape (r,)
    codes : ndarray of shape (d, r)
    weights : ndarray of shape (r,)
    """

    search: RuleSearch
    rows: _INT
    codes: _INT
    weights: _FLOAT

    def holds(self, clause: Clause) -> _BOOL:
        """Which of the rows satisfy the clause, shape (r,)."""
        return _holds(clause, self.codes)

    def seeds(self, gains: _FLOAT, most: int, *, pairs: bool) -> list[list[Clause]]:
        """For each column of `gains` (r, q), `most` clauses of one condition and, coarsely, as many of two."""
        columns = self.search.usable
        if not columns:
            return [[] for _ in range(gains.shape[1])]
        slack = _SLACK * float(np.abs(gains).sum(axis=0).max(initial=0.0))
        found = self._columns(gains, None, columns)
        out = [
            [Clause((columns[i],), (found.mask(i, q),)) for i in first_few(found.scores[:, q], most, slack)]
            for q in range(gains.shape[1])
        ]
        if pairs and self.search.pairs:
            for q, two in enumerate(self.search.best_pairs(self.rows, gains, most, slack)):
                out[q] += two
        return [[self.search.tidy(clause) for clause in clauses] for clauses in out]

    def polish(self, clause: Clause, gain: _FLOAT) -> Clause:
        """The clause moved, one condition at a time, to the least `score` it can reach so."""
        slack = _SLACK * float(np.abs(gain).sum())
        score = self.score(clause, gain)
        best_given_others: set[int] = set()
        for _ in range(_MOVES):
            moves = self._moves(clause, gain, best_given_others)
            if not moves:
                break
            then, column, other = moves[first_least(np.array([then for then, _, _ in moves]), slack)]
            if then < score - slack:
                clause, score, best_given_others = other, then, {column}
            elif best_given_others.issuperset(clause.columns):
                break  # not even one condition more helps
            else:
                best_given_others.update(clause.columns)
        for column in clause.columns if len(clause.columns) > 1 else ():
            wider = self.score(clause.without(column), gain)
            if wider <= score + slack:
                clause, score = clause.without(column), wider
        return self.search.tidy(clause)

    def _moves(self, clause: Clause, gain: _FLOAT, settled: set[int]) -> list[tuple[float, int, Clause]]:
        """Score, column and outcome of replacing each condition that is not settled; when all are, of adding the best one."""
        search = self.search
        stale = [j for j in clause.columns if j not in settled]
        free = [j for j in search.usable if j not in clause.columns]
        if stale:
            options = [(clause.without(j), [j]) for j in stale]
        elif free and len(clause.columns) < search.max_conditions:
            options = [(clause, free)]
        else:
            return []
        out = []
        for others, columns in options:
            found = self._columns(gain[:, None], self.holds(others), columns)
            at = first_least(found.scores[:, 0], _SLACK * float(np.abs(gain).sum()))
            score = float(found.scores[at, 0])
            out.append((score, columns[at], others.with_(columns[at], found.mask(at, 0)) if score < np.inf else clause))
        return out

    def score(self, clause: Clause, gain: _FLOAT) -> float:
        """Sum of gains of the rows held; infinite where the rows weigh too little."""
        held = self.holds(clause)
        if not clause.columns or self.weights[held].sum() < self.search.least:
            return np.inf
        return float(gain[held].sum())

    def _columns(self, gains: _FLOAT, held: _BOOL | None, columns: Sequence[int]) -> _Found:
        """The best single condition on each column for the rows held and each of q gains."""
        search = self.search
        inside = None if held is None or held.all() else np.flatnonzero(held)
        weight, gain = self.weights, gains.T
        if inside is not None:
            weight, gain = weight[inside], gain[:, inside]
        chosen = np.asarray(columns)
        counts = search.counts[chosen]
        most = int(counts.max())
        size = np.empty((len(counts), most + 1))
        sums = np.empty((len(gain), len(counts), most + 1))
        step = max(1, _BLOCK // max(len(weight), 1))
        for start in range(0, len(chosen), step):
            block = slice(start, start + step)
            codes = self.codes[chosen[block]]
            if inside is not None:
                codes = codes[:, inside]
            place = codes + np.arange(len(codes))[:, None] * (most + 2)
            for values, out in zip((weight, *gain), (size, *sums), strict=True):
                table = np.bincount(place.ravel(), np.tile(values, len(codes)), len(codes) * (most + 2))
                out[block] = _missing_last(np.asarray(table, float).reshape(len(codes), -1), counts[block])
        slack = _SLACK * float(np.abs(gain).sum(axis=1).max(initial=0.0))
        return _Found.of(sums, size, counts, search.categorical[list(columns)], search.least, slack)


def _missing_last(table: _FLOAT, counts: _INT) -> _FLOAT:
    """Sums by code, (c, b + 2), as sums by known code and then for missing, (c, b + 1); zero beyond a column's own codes."""
    missing = table[np.arange(len(table)), counts]
    table[np.arange(table.shape[1]) >= counts[:, None]] = 0.0
    table[:, -2] = missing
    return table[:, :-1]


def _holds(clause: Clause, codes: _INT) -> _BOOL:
    passed = np.ones(codes.shape[1], dtype=bool)
    for column, mask in zip(clause.columns, clause.masks, strict=True):
        passed &= mask[codes[column]]
    return passed


# ---------------------------------------------------------------------- one column
@dataclass(frozen=True)
class _Found:
    """The best condition on each of c columns for each of q gains.

    Attributes
    ----------
    scores : ndarray of shape (c, q)
        Least sums; infinite where no condition holds enough weight.
    last, absent : ndarray of shape (c, q)
        Last code of the best interval, and whether it takes missing values too (2: those alone). Unused for a categorical
        column.
    sums : ndarray of shape (q, c, b + 1)
        Gains by code, missing last.
    size : ndarray of shape (c, b + 1)
    """

    scores: _FLOAT
    last: _INT
    absent: _INT
    sums: _FLOAT
    size: _FLOAT
    counts: _INT
    categorical: _BOOL
    least: float
    slack: float

    @classmethod
    def of(cls, sums: _FLOAT, size: _FLOAT, counts: _INT, categorical: _BOOL, least: float, slack: float) -> _Found:
        q, c, most = len(sums), len(size), size.shape[1] - 1
        none = np.zeros((c, q), dtype=np.intp)
        out = cls(np.full((c, q), np.inf), none, none.copy(), sums, size, counts, categorical, least, slack)
        if not categorical.all():
            total = np.zeros((q, c, most + 1))
            np.cumsum(sums[:, :, :-1], axis=2, out=total[:, :, 1:])
            weight = np.zeros((c, most + 1))
            np.cumsum(size[:, :-1], axis=1, out=weight[:, 1:])
            top = np.maximum.accumulate(total, axis=2)
            for absent in (0, 1) if size[:, -1].any() else (0,):
                start = _latest(weight, weight[:, 1:] + absent * size[:, -1:] - least)
                found = total[:, :, 1:] - top[:, np.arange(c)[:, None], np.maximum(start, 0)]
                found[:, start < 0] = np.inf
                found[:, np.arange(most) >= counts[:, None]] = np.inf  # beyond the column's own codes
                if absent:
                    found += sums[:, :, -1:]
                lowest = found.min(axis=2)
                last = np.argmax(found <= lowest[:, :, None] + slack, axis=2)
                out._keep(lowest, last, absent)
            if size[:, -1].any():
                alone = np.where(size[:, -1] >= least, sums[:, :, -1], np.inf)
                out._keep(alone, np.zeros((q, c), dtype=np.intp), 2)
        for i in np.flatnonzero(categorical):
            for which in range(q):
                out.scores[i, which] = out._levels(int(i), which)[0]
        return out

    def _keep(self, scores: _FLOAT, last: _INT, absent: int) -> None:
        limit = self.scores - self.slack
        better = limit > scores.T
        self.scores[better] = scores.T[better]
        self.last[better] = last.T[better]
        self.absent[better] = absent

    def mask(self, i: int, q: int) -> _BOOL:
        """Which codes the best condition takes, shape (count + 2,)."""
        if self.categorical[i]:
            return self._levels(i, q)[1]
        out = np.zeros(self.counts[i] + 2, dtype=bool)
        out[-2] = self.absent[i, q] > 0
        if self.absent[i, q] < 2:
            first, last = self._interval(i, q)
            out[first : last + 1] = True
        return out

    def _interval(self, i: int, q: int) -> tuple[int, int]:
        """First and last code, each end half-way into the codes that no row has, or open."""
        count, last = int(self.counts[i]), int(self.last[i, q])
        size, total = self.size[i, :count], np.concatenate([[0.0], np.cumsum(self.sums[q, i, :count])])
        weight = np.concatenate([[0.0], np.cumsum(size)])
        wanted = weight[last + 1] + (self.absent[i, q] > 0) * self.size[i, -1] - self.least
        start = total[: min(int(np.searchsorted(weight, wanted, side="right")), last + 1)]
        wide = int(np.argmax(start >= start.max() - self.slack))
        rows = np.flatnonzero(size > 0)
        inside = rows[rows >= wide]
        before = rows[rows < wide]
        first = 0
        if wide and before.size:
            tight = int(inside[0]) if inside.size else wide
            first = (int(before[-1]) + 2 + tight) // 2
        after = rows[rows > last]
        if not after.size or abs(total[-1] - total[last + 1]) <= self.slack:
            return first, count - 1
        return first, (last + int(after[0]) - 1) // 2

    def _levels(self, i: int, q: int) -> tuple[float, _BOOL]:
        """Least sum over sets of levels, and the set: those that gain, and more of them until they weigh enough."""
        count = self.counts[i]
        place = np.append(np.arange(count), -1)
        gain, size = self.sums[q, i, place], self.size[i, place]
        order = np.argsort(gain, kind="stable")
        order = order[size[order] > 0]
        out = np.zeros(count + 2, dtype=bool)
        if not order.size or size.sum() < self.least:
            return np.inf, out
        total = np.where(np.cumsum(size[order]) >= self.least, np.cumsum(gain[order]), np.inf)
        best = first_least(total, self.slack)
        out[order[: best + 1]] = True
        # Levels without rows here go with the majority, so that "is not red" stays short.
        levels = size[:count] > 0
        if out[:count].sum() * 2 > levels.sum():
            out[:count] |= ~levels
        return float(total[best]), out


def _latest(weight: _FLOAT, wanted: _FLOAT) -> _INT:
    """For each row the last position, up to its own, whose cumulated weight is at most what is wanted; -1 for none."""
    c, size = weight.shape
    offset = np.arange(c)[:, None] * (weight.max() + 1.0)
    wanted = np.clip(wanted, -0.5, weight[:, -1:])
    found = np.searchsorted((weight + offset).ravel(), (wanted + offset).ravel(), side="right").reshape(wanted.shape)
    return np.minimum(found - np.arange(c)[:, None] * size - 1, np.arange(wanted.shape[1]))


def first_few(values: _FLOAT, most: int, slack: float) -> list[int]:
    """Positions of the `most` least finite values, ties by position."""
    left = values.copy()
    out: list[int] = []
    while len(out) < most and np.isfinite(left).any():
        out.append(first_least(left, slack))
        left[out[-1]] = np.inf
    return out
