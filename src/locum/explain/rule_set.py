"""A rule set that stands in for a black box.

IF this ADD that, for every rule that holds: reasons for and against, in any order. Rules are found one at a time, each the
best for what the others leave to explain; after each, the values of all of them are fitted together; and at the end rules are
exchanged for better ones until nothing is gained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.program import Program, Rule
from locum.explain._readable import ReadableClassifier, ReadableRegressor
from locum.explain._rules import Clause, RuleSearch
from locum.explain._sums import Fitted, fit_values, standardised

__all__ = ["RuleSetClassifier", "RuleSetRegressor"]

_FLOAT = NDArray[np.float64]
_BOOL = NDArray[np.bool_]
_SEEDS = 2  # conditions a direction that a search starts from
_SETTLE = 4  # times that a rule and its value are fitted to one another
_LEAST_GAIN = 1e-4  # of the constant's loss that a rule, or an exchange of one, must remove
_DIRECTIONS = 3


class RuleSetClassifier(ReadableClassifier):
    r"""Stands in for a classifier: a set of rules, each adding to the scores of the classes.

    A class scores :math:`s_c(x) = b_c + \sum_r v_{rc} [x \in r]`, and its probability is :math:`e^{s_c} / \sum_m e^{s_m}`. A
    rule :math:`r` is a conjunction of few intervals and sets of categories. The values minimise the cross-entropy with the
    black box's probabilities (or labels), with a small ridge penalty; all of them are fitted together after every change.

    Parameters
    ----------
    max_rules : int, default=8
        Most rules.
    max_conditions : int, default=2
        Most conditions in a rule.
    min_share : float, default=0.005
        Least share of the weight that a rule holds.
    sweeps : int, default=1
        Most passes in which each rule may be exchanged for a better one; 0 leaves the set as it grew.
    ridge : float, default=0.0001
        Penalty on the squared values, each counted by the share of the weight its rule holds.
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
    Cost: a rule takes a few scans of the table, O(n d) each; 5,000 rows of 15 columns and 8 rules take about a second.

    **Departures**: RuleFit takes its rules from an ensemble of trees and selects among them by the lasso; here each is searched
    for directly, by the second-order expansion of the loss at the scores so far, and none is shrunk. Orthogonal gradient
    boosting scores a rule by what it adds beyond the rules that are there; here that is what the corrective fit after each
    rule, and the exchange at the end, see to.

    References
    ----------
    Friedman and Popescu, *Predictive learning via rule ensembles*, Annals of Applied Statistics 2, 2008. Yang, Le Bodic,
    Kamp and Boley, *Orthogonal gradient boosting for simpler additive rule ensembles*, arXiv 2402.15691.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).uniform(size=(600, 3))
    >>> black_box = lambda X: (X[:, 0] > 0.5).astype(int) + (X[:, 1] > 0.7) - (X[:, 2] > 0.6) > 0
    >>> model = RuleSetClassifier(max_rules=3, max_conditions=1).fit(X, black_box(X))
    >>> float((model.predict(X) == black_box(X)).mean()) > 0.97
    True
    """

    papers = ("rulefit", "orthogonal-gradient-boosting")

    def __init__(
        self,
        max_rules: int = 8,
        *,
        max_conditions: int = 2,
        min_share: float = 0.005,
        sweeps: int = 1,
        ridge: float = 1e-4,
        max_bins: int = 255,
        classes: Any = None,
        domain: Domain | None = None,
        random_state: int = 0,
    ) -> None:
        self.max_rules = max_rules
        self.max_conditions = max_conditions
        self.min_share = min_share
        self.sweeps = sweeps
        self.ridge = ridge
        self.max_bins = max_bins
        self.classes = classes
        self.domain = domain
        self.random_state = random_state

    def _learn(self, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, domain: Domain) -> Program:
        terms, base = _rules(self, Z, Y, weights, domain, soft=True)
        return self._program(domain, "softmax", "sum", terms, base)


class RuleSetRegressor(ReadableRegressor):
    r"""Stands in for a predictor of real values: a set of rules, each adding to the value.

    The value is :math:`b + \sum_r v_r [x \in r]`; see `RuleSetClassifier` for the rules, for how they are found, and for the
    sources.

    Parameters
    ----------
    max_rules : int, default=8
        Most rules.
    max_conditions : int, default=2
        Most conditions in a rule.
    min_share : float, default=0.005
        Least share of the weight that a rule holds.
    sweeps : int, default=1
        Most passes in which each rule may be exchanged for a better one; 0 leaves the set as it grew.
    ridge : float, default=0.000001
        Penalty on the squared values, each counted by the share of the weight its rule holds.
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

    Examples
    --------
    >>> import numpy as np
    >>> X = np.linspace(0, 1, 200)[:, None]
    >>> model = RuleSetRegressor(max_rules=1).fit(X, np.where((X[:, 0] > 0.25) & (X[:, 0] <= 0.5), 3.0, 1.0))
    >>> print(model.text_)
    start at +1
    IF 0.2487 < x0 <= 0.5 ADD +2
    """

    papers = ("rulefit", "orthogonal-gradient-boosting")

    def __init__(
        self,
        max_rules: int = 8,
        *,
        max_conditions: int = 2,
        min_share: float = 0.005,
        sweeps: int = 1,
        ridge: float = 1e-6,
        max_bins: int = 255,
        domain: Domain | None = None,
        random_state: int = 0,
    ) -> None:
        self.max_rules = max_rules
        self.max_conditions = max_conditions
        self.min_share = min_share
        self.sweeps = sweeps
        self.ridge = ridge
        self.max_bins = max_bins
        self.domain = domain
        self.random_state = random_state

    def _learn(self, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, domain: Domain) -> Program:
        scaled, mean, spread = standardised(Y, weights)
        terms, base = _rules(self, Z, scaled, weights, domain, soft=False)
        terms = [Rule(t.conditions, tuple(spread * v for v in t.value), t.n) for t in terms]
        return self._program(domain, "identity", "sum", terms, spread * base + mean)


def _rules(
    settings: Any, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, domain: Domain, *, soft: bool
) -> tuple[list[Rule], _FLOAT]:
    if min(settings.max_rules, settings.max_conditions) < 1 or settings.sweeps < 0 or not 0 <= settings.min_share < 0.5:
        raise InvalidData(
            "expected max_rules >= 1, max_conditions >= 1, sweeps >= 0 and 0 <= min_share < 0.5, got "
            f"{settings.max_rules}, {settings.max_conditions}, {settings.sweeps} and {settings.min_share}"
        )
    if not 0 < settings.ridge < np.inf:
        raise InvalidData(f"expected ridge > 0, got {settings.ridge}")
    share = weights / weights.sum()
    search = RuleSearch(
        domain.columns, Z, Y, share, max_conditions=settings.max_conditions, max_bins=settings.max_bins,
        least=settings.min_share,
    )  # fmt: skip
    learner = _Learner(search, Y, share, settings.ridge, soft)
    best = learner.grown(learner.of((), np.zeros((0, len(Y)), dtype=bool)), settings.max_rules)
    for _ in range(settings.sweeps):
        other = learner.exchanged(best, settings.max_rules)
        if other is best:
            break
        best = other
    size = best.holds @ weights
    terms = [
        Rule(search.conditions(clause), tuple(float(v) for v in value), float(n))
        for clause, value, n in zip(best.clauses, best.fitted.theta[1:], size, strict=True)
    ]
    return terms, best.fitted.theta[0]


@dataclass(frozen=True)
class _Set:
    """Clauses, the rows each holds (m, n), and all values fitted together."""

    clauses: tuple[Clause, ...]
    holds: _BOOL
    fitted: Fitted


class _Learner:
    """Makes and improves rule sets for one set of rows; weights sum to one."""

    def __init__(self, search: RuleSearch, Y: _FLOAT, weights: _FLOAT, ridge: float, soft: bool) -> None:
        self.search, self.Y, self.weights, self.ridge, self.soft = search, Y, weights, ridge, soft
        self.least = _LEAST_GAIN * self.of((), np.zeros((0, len(Y)), dtype=bool)).fitted.loss

    def of(self, clauses: tuple[Clause, ...], holds: _BOOL) -> _Set:
        """The set of these clauses with the best values."""
        X = np.vstack([np.ones((1, len(self.Y))), holds]).T
        return _Set(clauses, holds, fit_values(X, self.Y, self.weights, self.ridge * (self.weights @ X), soft=self.soft))

    def with_(self, one: _Set, clause: Clause) -> _Set:
        return self.of((*one.clauses, clause), np.vstack([one.holds, self.search.holds(clause)[None]]))

    def without(self, one: _Set, place: int) -> _Set:
        kept = [i for i in range(len(one.clauses)) if i != place]
        return self.of(tuple(one.clauses[i] for i in kept), one.holds[kept])

    # ------------------------------------------------------------------ one rule
    def best(self, one: _Set, start: Clause | None = None) -> Clause | None:
        """The clause whose rule removes most of the loss, to second order, given the scores so far."""
        residual, curvature = one.fitted.residual, one.fitted.curvature
        part = self.search.among(np.arange(len(self.Y)))
        gains = np.column_stack([self._gain(residual, curvature, value) for value in self._values(residual, curvature)])
        seeds = part.seeds(gains, _SEEDS, pairs=True)
        tries = [(clause, gains[:, q]) for q, found in enumerate(seeds) for clause in found]
        if start is not None:
            tries.append((start, self._gain(residual, curvature, self._value(self.search.holds(start), residual, curvature))))
        best, least = None, 0.0
        for clause, gain in tries:
            settled, score = self._settled(part.polish(clause, gain), part, residual, curvature)
            if settled.columns and score < least - 1e-12:
                best, least = settled, score
        return best

    def _values(self, residual: _FLOAT, curvature: _FLOAT) -> list[_FLOAT]:
        """Directions to try: up and down in the outputs with most left to explain, as far as typical rows want."""
        wanted = residual / np.maximum(curvature, 1e-12)[:, None]
        order = np.argsort(-np.abs(residual).sum(axis=0), kind="stable")[:_DIRECTIONS]
        out = []
        for j in order:
            for sign in (1.0, -1.0):
                side = sign * residual[:, j] > 0
                if side.any():
                    value = np.zeros(residual.shape[1])
                    value[j] = np.average(np.clip(wanted[side, j], -4.0, 4.0), weights=np.abs(residual[side, j]))
                    out.append(value)
        return out or [np.zeros(residual.shape[1])]

    @staticmethod
    def _gain(residual: _FLOAT, curvature: _FLOAT, value: _FLOAT) -> _FLOAT:
        """Change of the loss for each row if it got `value` more."""
        return -(residual @ value) + 0.5 * curvature * float(value @ value)

    def _value(self, held: _BOOL, residual: _FLOAT, curvature: _FLOAT) -> _FLOAT:
        mass = float(curvature[held].sum()) + self.ridge * float(self.weights[held].sum())
        return residual[held].sum(axis=0) / max(mass, 1e-300)

    def _settled(self, clause: Clause, part: Any, residual: _FLOAT, curvature: _FLOAT) -> tuple[Clause, float]:
        """Clause and value fitted to one another, and the change of the loss."""
        score = np.inf
        for _ in range(_SETTLE):
            held = self.search.holds(clause)
            value = self._value(held, residual, curvature)
            gain = self._gain(residual, curvature, value)
            then = float(gain[held].sum())
            if not then < score - 1e-12:
                break
            score = then
            moved = part.polish(clause, gain)
            if moved.same(clause):
                break
            if self.weights[self.search.holds(moved)].sum() < self.search.least:
                break
            clause = moved
        held = self.search.holds(clause)
        return clause, float(self._gain(residual, curvature, self._value(held, residual, curvature))[held].sum())

    # ------------------------------------------------------------------ the whole set
    def grown(self, one: _Set, most: int) -> _Set:
        """Rules added one at a time while they pay."""
        while len(one.clauses) < most:
            clause = self.best(one)
            longer = one if clause is None else self.with_(one, clause)
            if not longer.fitted.loss < one.fitted.loss - self.least:
                return one
            one = longer
        return one

    def exchanged(self, one: _Set, most: int) -> _Set:
        """Each rule in turn, the least useful first, exchanged for a better one if there is one; the same set where none is."""
        losses = [self.without(one, place).fitted.loss for place in range(len(one.clauses))]
        for clause in [one.clauses[place] for place in np.argsort(losses, kind="stable")]:
            fewer = self.without(one, next(place for place, own in enumerate(one.clauses) if own is clause))
            other = self.best(fewer, clause)
            if other is None:
                continue
            changed = self.grown(self.with_(fewer, other), most)
            if changed.fitted.loss < one.fitted.loss - self.least:
                one = changed
        return one
