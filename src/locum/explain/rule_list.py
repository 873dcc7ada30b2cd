"""A rule list that stands in for a black box.

IF this THEN that, ELSE IF ... ELSE: the first rule that holds answers. Grown greedily, then improved as a whole: each rule
in turn is replaced by the best one given the rules before it and what the rest of the list would answer in its place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.program import Program, Rule
from locum.explain._readable import ReadableClassifier, ReadableRegressor, leaf_value
from locum.explain._rules import Clause, RuleSearch, RuleSearchAmong, first_few, first_least

__all__ = ["RuleListClassifier", "RuleListRegressor"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_BOOL = NDArray[np.bool_]
# Disagreement of labels is what counts; a little of the squared error breaks its many ties towards better probabilities.
import os as _os
_TIE_BREAK = float(_os.environ.get("TB","0.1"))
_SLACK = 1e-9
_ANSWERS = 3
import os
S0=int(os.environ.get('S0','1'));S1=int(os.environ.get('S1','1'));EX=int(os.environ.get('EX','1'));PAIRS=int(os.environ.get('PA','0'));SHAPES=int(os.environ.get("SH","1")); MOST=int(os.environ.get("MO","2")); SETTLE=int(os.environ.get("SE","2")); BOUND=float(os.environ.get("BO","0")); LEAST=float(os.environ.get("LE","0"))


class RuleListClassifier(ReadableClassifier):
    papers = ("rivest-decision-lists", "corels", "tree-alternating-optimization")

    def __init__(
        self,
        max_rules: int = 8,
        *,
        max_conditions: int = 2,
        min_share: float = 0.002,
        sweeps: int = 10,
        max_bins: int = 255,
        classes: Any = None,
        domain: Domain | None = None,
        random_state: int = 0,
    ) -> None:
        self.max_rules = max_rules
        self.max_conditions = max_conditions
        self.min_share = min_share
        self.sweeps = sweeps
        self.max_bins = max_bins
        self.classes = classes
        self.domain = domain
        self.random_state = random_state

    def _learn(self, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, domain: Domain) -> Program:
        terms, base = _fit(self, Z, Y, weights, domain, Y.argmax(axis=1))
        return self._program(domain, "identity", "rules", terms, base)


class RuleListRegressor(ReadableRegressor):
    papers = ("rivest-decision-lists", "corels", "tree-alternating-optimization")

    def __init__(
        self,
        max_rules: int = 8,
        *,
        max_conditions: int = 2,
        min_share: float = 0.002,
        sweeps: int = 10,
        max_bins: int = 255,
        domain: Domain | None = None,
        random_state: int = 0,
    ) -> None:
        self.max_rules = max_rules
        self.max_conditions = max_conditions
        self.min_share = min_share
        self.sweeps = sweeps
        self.max_bins = max_bins
        self.domain = domain
        self.random_state = random_state

    def _learn(self, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, domain: Domain) -> Program:
        terms, base = _fit(self, Z, Y, weights, domain, None)
        return self._program(domain, "identity", "rules", terms, base)


def _fit(
    settings: Any, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, domain: Domain, labels: _INT | None
) -> tuple[list[Rule], _FLOAT]:
    if min(settings.max_rules, settings.max_conditions) < 1 or settings.sweeps < 0 or not 0 <= settings.min_share < 0.5:
        raise InvalidData(
            "expected max_rules >= 1, max_conditions >= 1, sweeps >= 0 and 0 <= min_share < 0.5, got "
            f"{settings.max_rules}, {settings.max_conditions}, {settings.sweeps} and {settings.min_share}"
        )
    search = RuleSearch(
        domain.columns, Z, Y, weights, max_conditions=settings.max_conditions, max_bins=settings.max_bins,
        least=(L:=max(settings.min_share, LEAST/len(np.unique(Z,axis=0))) * weights.sum()), bound=BOUND * (1.0 if labels is not None else float(os.environ.get('RU','0.1'))*float(np.average((Y-np.average(Y,axis=0,weights=weights))**2,axis=0,weights=weights)[0])),
    )
    learner = _Learner(search, Y, weights, labels)
    best = learner.grown(settings.max_rules - 1)
    if settings.sweeps:
        best = learner.improved(best, settings.max_rules - 1, settings.sweeps)
    return learner.rules(best)


# ---------------------------------------------------------------------- a list and its loss
@dataclass(frozen=True)
class _List:
    """Clauses in order, the rows each holds (m, n), the answer of each and of the rest (m + 1, k), and the loss."""

    clauses: tuple[Clause, ...]
    holds: _BOOL
    fired: _INT
    values: _FLOAT
    loss: float


class _Learner:
    """Makes and improves lists for one set of rows."""

    def __init__(self, search: RuleSearch, Y: _FLOAT, weights: _FLOAT, labels: _INT | None) -> None:
        self.search = search
        self.Y = Y
        self.weights = weights
        self.labels = labels
        self.slack = _SLACK * float(weights @ self.losses(np.arange(len(Y)), self.value(np.arange(len(Y)))))

    def value(self, rows: Any) -> _FLOAT:
        return leaf_value(self.Y[rows], self.weights[rows], None if self.labels is None else self.labels[rows])

    def losses(self, rows: Any, answers: _FLOAT) -> _FLOAT:
        """Loss of each row for answers of shape (k,) or (len(rows), k)."""
        squared = ((self.Y[rows] - answers) ** 2).sum(axis=1)
        if self.labels is None:
            return squared
        return (answers.argmax(axis=-1) != self.labels[rows]) + _TIE_BREAK / 2 * squared

    def of(self, clauses: tuple[Clause, ...], holds: _BOOL) -> _List:
        """The list of these clauses with the best answers; rules that hold no row are left out."""
        fired = np.argmax(np.vstack([holds, np.ones((1, len(self.Y)), dtype=bool)]), axis=0)
        used = np.bincount(fired, minlength=len(clauses) + 1) > 0
        if not used[:-1].all():
            kept = np.flatnonzero(used[:-1])
            return self.of(tuple(clauses[i] for i in kept), holds[kept])
        if not used[-1]:  # the last rule answers all that is left
            return self.of(clauses[:-1], holds[:-1])
        values = np.array([self.value(np.flatnonzero(fired == i)) for i in range(len(clauses) + 1)])
        loss = float(self.weights @ self.losses(np.arange(len(fired)), values[fired]))
        loss += self.search.bound * sum(self.search.bounds(clause) for clause in clauses)
        return _List(clauses, holds, fired, values, loss)

    def put(self, one: _List, place: int, clause: Clause, *, replace: bool) -> _List:
        """The list with a clause at a place, in the stead of the one there or before it."""
        after = place + replace
        clauses = (*one.clauses[:place], clause, *one.clauses[after:])
        return self.of(clauses, np.vstack([one.holds[:place], self.search.holds(clause)[None], one.holds[after:]]))

    def reordered(self, one: _List, order: list[int]) -> _List:
        return self.of(tuple(one.clauses[i] for i in order), one.holds[order])

    # ------------------------------------------------------------------ one rule
    def best(self, one: _List, place: int, *, replace: bool) -> Clause | None:
        """The best clause at a place, given the rules before it and the answers of the rest."""
        rows = np.flatnonzero(one.fired >= place)
        rest = one.fired[rows]
        if replace:
            later = np.vstack([one.holds[place + 1 :, rows], np.ones((1, len(rows)), dtype=bool)])
            rest = place + 1 + np.argmax(later, axis=0)
        now = self.losses(rows, one.values[rest])
        answers = self._answers(rows, now)
        gains = np.column_stack([self.weights[rows] * (self.losses(rows, answer) - now) for answer in answers])
        part = self.search.among(rows)
        seeds = part.seeds(gains, MOST, pairs=PAIRS or not replace)
        found = [part.polish(start, gains[:, q]) for q, starts in enumerate(seeds) for start in starts]
        starts = [self._scored(clause, part, now) for clause in found]
        ends = [self._settled(starts[i][0], part, now) for i in first_few(np.array([s for _, s in starts]), SETTLE, self.slack)]
        if replace:
            ends.append(self._settled(one.clauses[place], part, now))
        ends = [(clause, score) for clause, score in ends if clause.columns]
        if not ends:
            return None
        return ends[first_least(np.array([score for _, score in ends]), self.slack)][0]

    def _scored(self, clause: Clause, part: RuleSearchAmong, now: _FLOAT) -> tuple[Clause, float]:
        """The clause and the change of the loss that it brings."""
        held = np.flatnonzero(part.holds(clause))
        rows = part.rows[held]
        if not clause.columns or self.weights[rows].sum() < self.search.least:
            return clause, np.inf
        change = part.weights[held] @ (self.losses(rows, self.value(rows)) - now[held])
        return clause, float(change) + self.search.bound * self.search.bounds(clause)

    def _settled(self, clause: Clause, part: RuleSearchAmong, now: _FLOAT) -> tuple[Clause, float]:
        """A clause moved for the answer its rows want, until neither moves; with the change of the loss."""
        score = self._scored(clause, part, now)[1]
        for _ in range(3):
            if not score < np.inf:
                break
            answer = self.value(part.rows[part.holds(clause)])
            moved = part.polish(clause, part.weights * (self.losses(part.rows, answer) - now))
            then = self._scored(moved, part, now)[1]
            if not then < score - self.slack:
                break
            clause, score = moved, then
        return clause, score

    def _answers(self, rows: _INT, now: _FLOAT) -> list[_FLOAT]:
        Y, weights = self.Y[rows], self.weights[rows]
        if self.labels is None:
            order = np.argsort(Y[:, 0], kind="stable")
            mass = np.cumsum(weights[order])
            out = []
            for share in (0.1, 0.5, 0.9):
                out.append(Y[order[np.searchsorted(mass, share * mass[-1] * (1 - 1e-12))]])
            return out
        labels = self.labels[rows]
        lost = np.bincount(labels, weights * now, Y.shape[1])
        out = []
        for _ in range(min(_ANSWERS, Y.shape[1])):
            label = first_least(-lost, self.slack)
            if lost[label] < 0:
                break
            mine = labels == label
            if mine.any():
                out.append(weights[mine] @ Y[mine] / weights[mine].sum())
            lost[label] = -np.inf
        return out

    # ------------------------------------------------------------------ the whole list
    def grown(self, most: int) -> _List:
        none = self.of((), np.zeros((0, len(self.Y)), dtype=bool))
        return self._grow(none, most)

    def _grow(self, one: _List, most: int) -> _List:
        while len(one.clauses) < most:
            longer = self._longer(one)
            if longer is one:
                break
            one = longer
        return one

    def _longer(self, one):
        m = len(one.clauses)
        GR = os.environ.get("GR", "end")
        places = {"end": [m], "ends": [m, 0], "all": list(range(m, -1, -1)), "fall": list(range(m,-1,-1))}[GR]
        found = one
        for place in places:
            clause = self.best(one, place, replace=False)
            if clause is not None:
                found = self._better(found, self.put(one, place, clause, replace=False))
            if GR == "fall" and found is not one:
                break
        return found

    def _settle(self, one: _List, most: int, sweeps: int) -> _List:
        """Replace rules in turn, then swap neighbours and add rules, until nothing moves."""
        tries = sweeps * most
        while tries > 0:
            place = still = 0
            while still < len(one.clauses) and tries > 0:
                place %= len(one.clauses)
                other = self._replaced(one, place)
                still = still + 1 if other is one else 1
                one, place, tries = other, place + 1, tries - 1
            other = self._grow(self._swapped(one), most)
            if other is one:
                break
            one = other
        return one

    def _replaced(self, one: _List, place: int) -> _List:
        clause = self.best(one, place, replace=True)
        return one if clause is None else self._better(one, self.put(one, place, clause, replace=True))

    def _swapped(self, one: _List) -> _List:
        for place in range(len(one.clauses) - 1):
            order = list(range(len(one.clauses)))
            order[place : place + 2] = [place + 1, place]
            other = self._better(one, self.reordered(one, order))
            if len(other.clauses) < len(one.clauses):
                return other
            one = other
        return one

    def _better(self, one: _List, other: _List) -> _List:
        return other if other.loss < one.loss - self.slack else one

    def _shrunk(self, one: _List, most: int) -> _List:
        while len(one.clauses) > most:
            m = len(one.clauses)
            others = [self.reordered(one, [i for i in range(m) if i != out]) for out in range(m)]
            one = others[first_least(np.array([other.loss for other in others]), self.slack)]
        return one

    def improved(self, one: _List, most: int, sweeps: int) -> _List:
        if most < 1:
            return one
        one = self._settle(one, most, S0)
        for _ in range(sweeps):
            longer = self._grow(one, most + max(2, most // 3))
            longer = self._settle(longer, len(longer.clauses), EX)
            other = self._better(one, self._settle(self._shrunk(longer, most), most, S1))
            if other is one:
                break
            one = other
        return one

    def rules(self, one: _List) -> tuple[list[Rule], _FLOAT]:
        size = np.bincount(one.fired, self.weights, len(one.values))
        terms = [
            Rule(self.search.conditions(clause), tuple(float(v) for v in value), float(n))
            for clause, value, n in zip(one.clauses, one.values[:-1], size[:-1], strict=True)
        ]
        return terms, one.values[-1]
