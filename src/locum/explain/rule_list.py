"""A rule list that stands in for a black box.

IF this THEN that, ELSE IF ... OTHERWISE: the first rule that holds answers. Grown greedily at both ends, then improved as a
whole: each rule in turn is replaced by the best one given the rules before it and what the rest of the list would answer
in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
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
_TIE_BREAK = 0.1
# Losses that differ by a smaller share of the constant's are ties: the same sums in another order differ in the last digits.
_SLACK = 1e-9
# Answers for which the best rule is sought: so many classes, those that cost most now; or these quantiles of the values.
_CLASSES = 3
_QUANTILES = (0.1, 0.5, 0.9)
# Starting points an answer, and how many of the best places reached from them get their answer adapted. Fewer find worse
# lists (0.4 points of fidelity on nine tables with one of each), more only take longer.
_SEEDS = 2
_SETTLED = 2
_ADAPTATIONS = 3
# How far a list may outgrow its budget before its least useful rules go again; this gets it out of local optima. Leaving out
# neighbours and growing anew gets it out of a few more, for three times the time and no measurable fidelity.
_LEAST_EXCESS = 2
_EXCESS_SHARE = 1 / 3


class RuleListClassifier(ReadableClassifier):
    r"""Stands in for a classifier: rules in order, of which the first that holds answers.

    A rule asks for up to `max_conditions` intervals of numeric columns, sets of categories, or missing values, and answers
    with probabilities :math:`p`. With labels :math:`y_i`, weights :math:`w_i` and :math:`r(i)` the first rule that row i
    satisfies, the list minimises :math:`\sum_i w_i ([y_i \ne \arg\max p_{r(i)}] + 0.1 \lVert p_{r(i)} - P_i \rVert^2 / 2)`,
    where :math:`P_i` holds the black box's probabilities (or the label as 0 and 1). A rule answers with the mean of its
    :math:`P_i`; where that would name another class than most of its rows do, with the shares of their labels.

    Parameters
    ----------
    max_rules : int, default=8
        Most rules, the last one ("otherwise") included.
    max_conditions : int, default=2
        Most conditions a rule, each on another column.
    min_share : float, default=0.002
        Least share of the weight a rule holds when it is found.
    sweeps : int, default=10
        Most rounds of improvement; 0 leaves the list as it was grown.
    max_bins : int, default=255
        Most candidate thresholds a column, plus one.
    classes : sequence or None, default=None
        The labels, where not all occur or probabilities are given.
    domain : Domain or None, default=None
        How rows are read; inferred from the rows where None.
    random_state : int, default=0
        Changes nothing, since nothing here is drawn by chance.

    Attributes
    ----------
    program_ : Program
        The rules.
    classes_ : ndarray of shape (k,)

    Notes
    -----
    Cost: a search takes O(n d) time for each column tried, and O(n d^2) once a rule where pairs of columns are scanned;
    5,000 rows of 15 columns and 8 rules take about a second in all.

    **Departures**: Rivest's lists are learnt without error, and CORELS proves its lists best over rules that are given; here
    rules are found as they are needed, nothing is proved, and thousands of rows with hundreds of thresholds are no trouble.
    Alternating optimisation was published for the splits of a tree; a list is the tree in which every left child is a leaf,
    and its splits here are conjunctions. Rules also change places, and a round lets the list outgrow its budget and shrink.

    References
    ----------
    Rivest, *Learning decision lists*, Machine Learning 2, 1987. Angelino, Larus-Stone, Alabi, Seltzer and Rudin, *Learning
    certifiably optimal rule lists for categorical data*, arXiv 1704.01701. Carreira-Perpinan and Tavallali, *Alternating
    optimization of decision trees*, NeurIPS 2018, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).integers(0, 10, size=(500, 3))
    >>> black_box = lambda X: np.where((X[:, 0] > 6) & (X[:, 1] > 4), "a", np.where(X[:, 2] > 7, "b", "c"))
    >>> model = RuleListClassifier(max_rules=3).fit(X, black_box(X))
    >>> print(model.text_)
    IF x0 > 6.5 and x1 > 4.5 THEN a (1)
    IF x2 > 7.5 THEN b (1)
    OTHERWISE c (1)
    """

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
    r"""Stands in for a predictor of real values: rules in order, of which the first that holds answers.

    Minimises the weighted squared error :math:`\sum_i w_i (y_i - v_{r(i)})^2`, where :math:`r(i)` is the first rule that row
    i satisfies; see `RuleListClassifier` for how, for what sets it apart, and for the sources.

    Parameters
    ----------
    max_rules : int, default=8
        Most rules, the last one ("otherwise") included.
    max_conditions : int, default=2
        Most conditions a rule, each on another column.
    min_share : float, default=0.002
        Least share of the weight a rule holds when it is found.
    sweeps : int, default=10
        Most rounds of improvement; 0 leaves the list as it was grown.
    max_bins : int, default=255
        Most candidate thresholds a column, plus one.
    domain : Domain or None, default=None
        How rows are read; inferred from the rows where None.
    random_state : int, default=0
        Changes nothing, since nothing here is drawn by chance.

    Attributes
    ----------
    program_ : Program
        The rules.

    Notes
    -----
    Cost: 5,000 rows of 15 columns and 8 rules take about a second.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).integers(0, 10, size=(500, 3))
    >>> y = np.where((X[:, 0] > 6) & (X[:, 1] > 4), 5.0, 1.0 * (X[:, 2] > 7))
    >>> print(RuleListRegressor(max_rules=3).fit(X, y).text_)
    IF x0 > 6.5 and x1 > 4.5 THEN 5
    IF x2 > 7.5 THEN 1
    OTHERWISE 0
    """

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
        domain.columns,
        Z,
        Y,
        weights,
        max_conditions=settings.max_conditions,
        max_bins=settings.max_bins,
        least=settings.min_share * weights.sum(),
    )
    learner = _Learner(search, Y, weights, labels, most=settings.max_rules - 1)
    return learner.rules(learner.improved(learner.grown(), settings.sweeps))


# ---------------------------------------------------------------------- a list and its loss
@dataclass(frozen=True)
class _List:
    """A list over n rows.

    Attributes
    ----------
    clauses : tuple of Clause
        In order; m of them.
    holds : ndarray of shape (m, n)
    fired : ndarray of shape (n,)
        Position of the first clause that holds each row, m where none does.
    values : ndarray of shape (m + 1, k)
        The answer of each clause, and the one of the rest.
    loss : float
    """

    clauses: tuple[Clause, ...]
    holds: _BOOL
    fired: _INT
    values: _FLOAT
    loss: float


class _Learner:
    """Makes and improves lists of at most `most` clauses for one set of rows."""

    def __init__(self, search: RuleSearch, Y: _FLOAT, weights: _FLOAT, labels: _INT | None, most: int) -> None:
        self.search = search
        self.Y = Y
        self.weights = weights
        self.labels = labels
        self.most = most
        everyone = np.arange(len(Y))
        self.slack = _SLACK * float(weights @ self.losses(everyone, self.value(everyone)))

    def value(self, rows: _INT) -> _FLOAT:
        """The best answer for rows, shape (k,)."""
        return leaf_value(self.Y[rows], self.weights[rows], None if self.labels is None else self.labels[rows])

    def losses(self, rows: _INT, answers: _FLOAT) -> _FLOAT:
        """Loss of each row for answers of shape (k,) or (len(rows), k)."""
        squared = ((self.Y[rows] - answers) ** 2).sum(axis=1)
        if self.labels is None:
            return squared
        return (answers.argmax(axis=-1) != self.labels[rows]) + _TIE_BREAK / 2 * squared

    def of(self, clauses: tuple[Clause, ...], holds: _BOOL) -> _List:
        """The list of these clauses with the best answers; clauses that answer no row are left out."""
        fired = np.argmax(np.vstack([holds, np.ones((1, len(self.Y)), dtype=bool)]), axis=0)
        used = np.bincount(fired, minlength=len(clauses) + 1) > 0
        if not used[:-1].all():
            kept = np.flatnonzero(used[:-1])
            return self.of(tuple(clauses[i] for i in kept), holds[kept])
        if not used[-1]:  # the last clause answers all that is left
            return self.of(clauses[:-1], holds[:-1])
        values = np.array([self.value(np.flatnonzero(fired == i)) for i in range(len(clauses) + 1)])
        loss = float(self.weights @ self.losses(np.arange(len(fired)), values[fired]))
        return _List(clauses, holds, fired, values, loss)

    def inserted(self, one: _List, place: int, clause: Clause) -> _List:
        """The list with a clause put before the one at a place."""
        return self._spliced(one, place, place, clause)

    def replaced(self, one: _List, place: int, clause: Clause) -> _List:
        """The list with a clause in the stead of the one at a place."""
        return self._spliced(one, place, place + 1, clause)

    def _spliced(self, one: _List, place: int, after: int, clause: Clause) -> _List:
        clauses = (*one.clauses[:place], clause, *one.clauses[after:])
        return self.of(clauses, np.vstack([one.holds[:place], self.search.holds(clause)[None], one.holds[after:]]))

    def picked(self, one: _List, order: list[int]) -> _List:
        """The list of the clauses at these places, in this order."""
        return self.of(tuple(one.clauses[i] for i in order), one.holds[order])

    def rules(self, one: _List) -> tuple[list[Rule], _FLOAT]:
        """The rules of a list, and the answer of the rest."""
        size = np.bincount(one.fired, self.weights, len(one.values))
        terms = [
            Rule(self.search.conditions(clause), tuple(float(v) for v in value), float(n))
            for clause, value, n in zip(one.clauses, one.values[:-1], size[:-1], strict=True)
        ]
        return terms, one.values[-1]

    # ------------------------------------------------------------------ one clause
    def best_inserted(self, one: _List, place: int) -> _List:
        """The list with the best clause put before the one at a place, or as it was where none helps."""
        clause = self._best(one, place, one.fired, None)
        return one if clause is None else self._better(one, self.inserted(one, place, clause))

    def best_replaced(self, one: _List, place: int) -> _List:
        """The list with the best clause in the stead of the one at a place, or as it was where none is better."""
        freed, at = self._freed(one, place)
        later = np.vstack([freed.holds[at + 1 :], np.ones((1, len(freed.fired)), dtype=bool)])
        clause = self._best(freed, at, at + 1 + np.argmax(later, axis=0), freed.clauses[at])
        other = freed if clause is None else self._better(freed, self.replaced(freed, at, clause))
        return one if other is freed else other

    def _freed(self, one: _List, place: int) -> tuple[_List, int]:
        """The list with later clauses put before the one at a place, where that costs nothing; and its new place.

        They then keep their rows, and it may grow over them.
        """
        m, fired = len(one.clauses), one.fired.copy()
        first: list[int] = []
        behind = np.zeros(m + 1, dtype=bool)  # clauses from the place on that stay there
        for later in range(place + 1, m):
            behind[later - 1] = later - 1 not in first
            taken = np.flatnonzero(one.holds[later] & behind[fired])
            cost = self.losses(taken, one.values[later]) - self.losses(taken, one.values[fired[taken]])
            if self.weights[taken] @ cost <= self.slack:
                fired[taken] = later
                first.append(later)
        if not first:
            return one, place
        other = self.picked(one, [*range(place), *first, *(i for i in range(place, m) if i not in first)])
        if len(other.clauses) < m or other.loss > one.loss + self.slack:
            return one, place
        return other, place + len(first)

    def _best(self, one: _List, place: int, rest: _INT, now: Clause | None) -> Clause | None:
        """The best clause at a place, given the clauses before it and which later one answers a row otherwise."""
        rows = np.flatnonzero(one.fired >= place)
        without = self.losses(rows, one.values[rest[rows]])
        answers = self._answers(rows, without)
        gains = np.column_stack([self.weights[rows] * (self.losses(rows, answer) - without) for answer in answers])
        part = self.search.among(rows)
        # A clause that has been found once only moves on; it is for a new one that pairs of columns are scanned.
        seeds = part.seeds(gains, _SEEDS, pairs=now is None)
        found = [part.polish(start, gains[:, q]) for q, starts in enumerate(seeds) for start in starts]
        changes = np.array([self._change(clause, part, without) for clause in found])
        ends = [self._adapted(found[i], part, without) for i in first_few(changes, _SETTLED, self.slack)]
        if now is not None:
            ends.append(self._adapted(now, part, without))
        ends = [(clause, change) for clause, change in ends if clause.columns]
        if not ends:
            return None
        return ends[first_least(np.array([change for _, change in ends]), self.slack)][0]

    def _change(self, clause: Clause, part: RuleSearchAmong, without: _FLOAT) -> float:
        """By how much the clause changes the loss of rows that is `without` it."""
        held = np.flatnonzero(part.holds(clause))
        rows = part.rows[held]
        if not clause.columns or self.weights[rows].sum() < self.search.least:
            return np.inf
        return float(part.weights[held] @ (self.losses(rows, self.value(rows)) - without[held]))

    def _adapted(self, clause: Clause, part: RuleSearchAmong, without: _FLOAT) -> tuple[Clause, float]:
        """A clause moved for the answer its rows want, until neither moves; with the change of the loss."""
        change = self._change(clause, part, without)
        for _ in range(_ADAPTATIONS if change < np.inf else 0):
            answer = self.value(part.rows[part.holds(clause)])
            moved = part.polish(clause, part.weights * (self.losses(part.rows, answer) - without))
            then = self._change(moved, part, without)
            if not then < change - self.slack:
                break
            clause, change = moved, then
        return clause, change

    def _answers(self, rows: _INT, without: _FLOAT) -> list[_FLOAT]:
        """Answers that a clause might give, each of shape (k,)."""
        Y, weights = self.Y[rows], self.weights[rows]
        if self.labels is None:
            order = np.argsort(Y[:, 0], kind="stable")
            mass = np.cumsum(weights[order])
            # The slack keeps a quantile that falls on a row's end there, whatever the last digits say.
            return [Y[order[np.searchsorted(mass, share * mass[-1] * (1 - 1e-12))]] for share in _QUANTILES]
        labels = self.labels[rows]
        lost = np.bincount(labels, weights * without, Y.shape[1]).astype(float)
        lost[np.bincount(labels, minlength=Y.shape[1]) == 0] = -np.inf
        out = []
        for label in first_few(-lost, _CLASSES, self.slack):
            mine = labels == label
            out.append(weights[mine] @ Y[mine] / weights[mine].sum())
        return out

    # ------------------------------------------------------------------ the whole list
    def grown(self) -> _List:
        """A list grown greedily."""
        none = self.of((), np.zeros((0, len(self.Y)), dtype=bool))
        return self._grow(none, self.most)

    def improved(self, one: _List, sweeps: int) -> _List:
        """A list settled, then let grow beyond its budget, settled and shrunk again, for as long as that helps."""
        if self.most < 1 or sweeps < 1:
            return one
        one = self._settle(one, self.most)
        for _ in range(sweeps):
            longer = self._grow(one, self.most + max(_LEAST_EXCESS, int(self.most * _EXCESS_SHARE)))
            longer = self._settle(longer, len(longer.clauses))
            other = self._better(one, self._settle(self._shrunk(longer), self.most))
            if other is one:
                break
            one = other
        return one

    def _grow(self, one: _List, most: int) -> _List:
        while len(one.clauses) < most:
            longer = self._longer(one)
            if longer is one:
                break
            one = longer
        return one

    def _longer(self, one: _List) -> _List:
        """One clause more: at the end (a rule for what is left) or the start (an exception), else wherever one helps."""
        m = len(one.clauses)
        found = one
        for place in dict.fromkeys([m, 0]):
            found = self._better(found, self.best_inserted(one, place))
        for place in range(m - 1, 0, -1):
            if found is not one:
                break
            found = self.best_inserted(one, place)
        return found

    def _settle(self, one: _List, most: int) -> _List:
        """Replace clauses in turn, then swap neighbours and add clauses, until nothing moves or each had its turn."""
        turns = most
        while turns > 0:
            place = still = 0
            while still < len(one.clauses) and turns > 0:
                place %= len(one.clauses)
                other = self.best_replaced(one, place)
                still = still + 1 if other is one else 1
                one, place, turns = other, place + 1, turns - 1
            other = self._grow(self._swapped(one), most)
            if other is one:
                break
            one = other
        return one

    def _swapped(self, one: _List) -> _List:
        """Neighbours in the other order, wherever that is better."""
        for place in range(len(one.clauses) - 1):
            order = list(range(len(one.clauses)))
            order[place : place + 2] = [place + 1, place]
            other = self._better(one, self.picked(one, order))
            if len(other.clauses) < len(one.clauses):
                return other
            one = other
        return one

    def _shrunk(self, one: _List) -> _List:
        """The list less its least useful clauses, one at a time, down to the budget."""
        while len(one.clauses) > self.most:
            m = len(one.clauses)
            others = [self.picked(one, [i for i in range(m) if i != out]) for out in range(m)]
            one = others[first_least(np.array([other.loss for other in others]), self.slack)]
        return one

    def _better(self, one: _List, other: _List) -> _List:
        return other if other.loss < one.loss - self.slack else one
