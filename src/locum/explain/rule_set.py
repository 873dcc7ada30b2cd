"""A rule set that stands in for a black box.

IF this ADD that, for every rule that holds: reasons for and against, in any order. Rules are found one at a time, each the
best for what the others leave to explain once their values may follow; then each in turn is exchanged for a better one.
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
from locum.explain._rules import Clause, RuleSearch, first_few, first_least
from locum.explain._sums import fit_values, standardised

__all__ = ["RuleSetClassifier", "RuleSetRegressor"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_BOOL = NDArray[np.bool_]
# Shares of the constant's loss: what one more rule must remove, what an exchange must, and below which all is explained.
_LEAST_GAIN = 1e-4
_SLACK = 1e-6
_NOTHING = 1e-12
# Classes whose scores a search may start with: those with most left to explain.
_CLASSES = 3
# A search starts with half the step that typical rows want. With the whole of it, rules that help many rows a little lose to
# rules that help few (1.1 points of fidelity on nine tables); and no row wants more than the longest step.
_SHARE_OF_STEP = 0.5
_LONGEST_STEP = 4.0
# Starting points a step, how many of the best places reached from them have their values fitted, and how often place and
# value are adapted to one another. Fewer find worse sets, more only take longer.
_SEEDS = 2
_SETTLED = 3
_ADAPTATIONS = 4
# What is left of a rule once the others have explained it, below which it says what they say.
_COPY = 1e-6


class RuleSetClassifier(ReadableClassifier):
    r"""Stands in for a classifier: a set of rules, each adding to the scores of the classes.

    A class scores :math:`s_c(x) = b_c + \sum_r v_{rc} [x \in r]`, and its probability is :math:`e^{s_c} / \sum_m e^{s_m}`. A
    rule :math:`r` asks for up to `max_conditions` intervals of numeric columns, sets of categories, or missing values. The
    values minimise the cross-entropy with the black box's probabilities (or labels) plus
    :math:`\lambda/2 \sum_r \pi_r \lVert v_r \rVert^2`, where :math:`\pi_r` is the share of the weight that the rule holds.

    Parameters
    ----------
    max_rules : int, default=8
        Most rules.
    max_conditions : int, default=2
        Most conditions a rule, each on another column.
    min_share : float, default=0.005
        Least share of the weight a rule holds.
    sweeps : int, default=2
        Most passes in which each rule may be exchanged for a better one; 0 leaves the set as it grew.
    ridge : float, default=0.0001
        The penalty :math:`\lambda`; it keeps separable data finite.
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
        The rules, those that the loss would miss most first.
    classes_ : ndarray of shape (k,)

    Notes
    -----
    With residuals :math:`g_i` and curvatures :math:`c_i` of the loss at the present scores, a rule with indicator :math:`h`
    removes :math:`\lVert g^\top h \rVert^2 / 2 (h^\top C h - h^\top C X (X^\top C X + \Lambda)^{-1} X^\top C h)` to second
    order, with the values of the rules that are there, in :math:`X`, free to follow. For a given value of the rule the
    bracket is concave in :math:`h` but for its first term, and so lies below its tangent; what that leaves is a sum over
    rows, whose best rule on one column is found exactly. Rule and value are adapted to one another in this way.

    Cost: 5,000 rows of 15 columns and 8 rules take about 0.6 seconds for two classes, 1.2 for six.

    **Departures**: RuleFit picks its rules from an ensemble of trees with the lasso; here each is searched for, and none is
    shrunk. Orthogonal gradient boosting divides by the length of what :math:`h` adds to :math:`X`, without curvature, and
    searches conjunctions of one-sided thresholds with a beam or branch and bound; it does not exchange rules.

    References
    ----------
    Friedman and Popescu, *Predictive learning via rule ensembles*, Annals of Applied Statistics 2, 2008. Yang, Le Bodic,
    Kamp and Boley, *Orthogonal gradient boosting for simpler additive rule ensembles*, arXiv 2402.15691.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).integers(0, 10, size=(600, 3))
    >>> black_box = lambda X: 1 / (1 + np.exp(1 - 2.0 * ((X[:, 0] > 4) & (X[:, 1] > 2)) + 1.0 * (X[:, 2] > 6)))
    >>> p = black_box(X)
    >>> print(RuleSetClassifier(ridge=1e-6).fit(X, np.column_stack([1 - p, p])).text_)
    start at -1 to 1
    IF x0 > 4.5 and x1 > 2.5 ADD +2 to 1
    IF x2 > 6.5 ADD -1 to 1
    """

    papers = ("rulefit", "orthogonal-gradient-boosting")

    def __init__(
        self,
        max_rules: int = 8,
        *,
        max_conditions: int = 2,
        min_share: float = 0.005,
        sweeps: int = 2,
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
        terms, base = _fit(self, Z, Y, weights, domain, soft=True)
        return self._program(domain, "softmax", "sum", terms, base)


class RuleSetRegressor(ReadableRegressor):
    r"""Stands in for a predictor of real values: a set of rules, each adding to the value.

    The value is :math:`b + \sum_r v_r [x \in r]`; see `RuleSetClassifier` for the rules, for how they are found, and for the
    sources. The loss is half the squared error of answers with mean zero and spread one.

    Parameters
    ----------
    max_rules : int, default=8
        Most rules.
    max_conditions : int, default=2
        Most conditions a rule, each on another column.
    min_share : float, default=0.005
        Least share of the weight a rule holds.
    sweeps : int, default=2
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
        The rules, those that the loss would miss most first.

    Notes
    -----
    Cost: 5,000 rows of 15 columns and 8 rules take about half a second.

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
        sweeps: int = 2,
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
        terms, base = _fit(self, Z, scaled, weights, domain, soft=False)
        terms = [Rule(term.conditions, tuple(spread * v for v in term.value), term.n) for term in terms]
        return self._program(domain, "identity", "sum", terms, spread * base + mean)


def _fit(settings: Any, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, domain: Domain, *, soft: bool) -> tuple[list[Rule], _FLOAT]:
    _check(settings)
    search = RuleSearch(
        domain.columns, Z, Y, weights,
        max_conditions=settings.max_conditions, max_bins=settings.max_bins, least=settings.min_share * weights.sum(),
    )  # fmt: skip
    learner = _Learner(search, Y, weights / weights.sum(), settings.ridge, soft)
    grown = learner.grown(learner.none, settings.max_rules)
    return learner.rules(learner.exchanged(grown, settings.max_rules, settings.sweeps))


def _check(settings: Any) -> None:
    bounds = {
        "max_rules": settings.max_rules >= 1,
        "max_conditions": settings.max_conditions >= 1,
        "min_share": 0 <= settings.min_share < 0.5,
        "sweeps": settings.sweeps >= 0,
        "ridge": 0 < settings.ridge < np.inf,
    }
    wrong = [f"{name}={getattr(settings, name)}" for name, fine in bounds.items() if not fine]
    if wrong:
        raise InvalidData(
            "expected max_rules >= 1, max_conditions >= 1, 0 <= min_share < 0.5, sweeps >= 0 and ridge > 0, got "
            f"{', '.join(wrong)}"
        )


# ---------------------------------------------------------------------- a set and its values
@dataclass(frozen=True)
class _Set:
    """A rule set with its values fitted, and what the loss looks like around them.

    Rows in the same rules are in the same cell, and alike to everything but their own answers.

    Attributes
    ----------
    clauses : tuple of Clause
        m of them.
    holds : ndarray of shape (m, n)
    cell : ndarray of shape (n,)
    design : ndarray of shape (cells, m + 1)
        One, and which clauses hold.
    theta : ndarray of shape (m + 1, k)
        The base and the value of each rule.
    inverse, own : ndarray of shape (m + 1, m + 1)
        Of the penalised Hessian in the values, and of the second moments of the design.
    residual : ndarray of shape (n, k)
        Minus the weighted slope of the loss in the scores.
    curvature : ndarray of shape (n,)
        Its weighted curvature.
    loss : float
    """

    clauses: tuple[Clause, ...]
    holds: _BOOL
    cell: _INT
    design: _FLOAT
    theta: _FLOAT
    inverse: _FLOAT
    own: _FLOAT
    residual: _FLOAT
    curvature: _FLOAT
    loss: float


@dataclass(frozen=True)
class _Step:
    """A rule to second order: the loss it removes, the value (k,) it takes, and what its value squared costs each row (n,)."""

    gain: float
    value: _FLOAT
    cost: _FLOAT


class _Learner:
    """Makes and improves sets for one set of rows; weights sum to one."""

    def __init__(self, search: RuleSearch, Y: _FLOAT, weights: _FLOAT, ridge: float, soft: bool) -> None:
        self.search = search
        self.part = search.among(np.arange(len(Y)))
        self.Y = Y
        self.weights = weights
        self.ridge = ridge
        self.soft = soft
        self.none = self.of((), np.zeros((0, len(Y)), dtype=bool))
        self.least = max(_LEAST_GAIN * self.none.loss, _NOTHING)
        self.slack = max(_SLACK * self.none.loss, _NOTHING)

    def of(self, clauses: tuple[Clause, ...], holds: _BOOL) -> _Set:
        """The set of these clauses with the best values, fitted to the mean answer of each cell."""
        cell = _cells(holds)
        mass = np.bincount(cell, self.weights).astype(float)
        mean = np.stack([np.bincount(cell, self.weights * y) for y in self.Y.T], axis=1) / mass[:, None]
        design = np.ones((len(mass), len(holds) + 1))
        design[cell, 1:] = holds.T
        fitted = fit_values(design, mean, mass, self.ridge * (mass @ design), soft=self.soft)
        answers = mean - fitted.residual / mass[:, None]
        # The cross-entropy is linear in the answers; the squared error also counts how they differ within a cell.
        spread = 0.0 if self.soft else float(self.weights @ ((self.Y - mean[cell]) ** 2).sum(axis=1)) / 2
        return _Set(
            clauses, holds, cell, design, fitted.theta, fitted.inverse,
            np.linalg.pinv(design.T @ (mass[:, None] * design), hermitian=True).astype(float),
            self.weights[:, None] * (self.Y - answers[cell]),
            self.weights * (fitted.curvature / mass)[cell],
            fitted.loss + spread,
        )  # fmt: skip

    def picked(self, one: _Set, order: list[int]) -> _Set:
        """The set of the clauses at these places."""
        return self.of(tuple(one.clauses[i] for i in order), one.holds[order])

    def rules(self, one: _Set) -> tuple[list[Rule], _FLOAT]:
        """The rules of a set, the most useful first, and the base."""
        values = one.theta[1:]
        missed = (values**2).sum(axis=1) / np.diag(one.inverse)[1:]
        size = one.holds @ self.search.weights
        terms = [
            Rule(self.search.conditions(one.clauses[i]), tuple(float(v) for v in values[i]), float(size[i]))
            for i in np.argsort(-missed, kind="stable")
        ]
        return terms, one.theta[0]

    # ------------------------------------------------------------------ one rule
    def longer(self, one: _Set, known: Clause | None = None) -> _Set:
        """The set with the best clause added, last, or as it was where none helps; the search also starts from a known one."""
        steps = self._steps(one)
        if not steps:
            return one
        gains = np.column_stack([self._gains(one, value, one.curvature) for value in steps])
        # Where a clause is known, the set was complete but for it; it is for a new one that pairs of columns are scanned.
        seeds = self.part.seeds(gains, _SEEDS, pairs=known is None)
        found = [self.part.polish(start, gains[:, q]) for q, starts in enumerate(seeds) for start in starts]
        least = np.array([-self._step(one, clause).gain for clause in found])
        ends = [self._adapted(one, found[i]) for i in first_few(least, _SETTLED, self.slack)]
        if known is not None:
            ends.append(self._adapted(one, known))
        sets = [self._with(one, clause) for clause in ends if self._step(one, clause).gain > 0]
        return sets[first_least(np.array([other.loss for other in sets]), self.slack)] if sets else one

    def _with(self, one: _Set, clause: Clause) -> _Set:
        return self.of((*one.clauses, clause), np.vstack([one.holds, self.search.holds(clause)[None]]))

    def _steps(self, one: _Set) -> list[_FLOAT]:
        """Values that a rule might have, each of shape (k,): up and down for the outputs with most left to explain."""
        k = one.residual.shape[1]
        lost = np.abs(one.residual).sum(axis=0)
        out = []
        # Of two classes one is enough, since the other's scores move against it.
        for j in first_few(-lost, _CLASSES, self.slack) if k > 2 else [k - 1]:
            wanted = one.residual[:, j] / np.maximum(one.curvature, 1e-300)
            direction = (np.arange(k) == j) - (1 / k if self.soft else 0)
            for side in (wanted > 0, wanted < 0):
                if side.any():
                    most = np.clip(wanted[side], -_LONGEST_STEP, _LONGEST_STEP)
                    typical = np.average(most, weights=np.abs(one.residual[side, j]))
                    out.append(_SHARE_OF_STEP * typical * direction / direction[j])
        return out

    def _gains(self, one: _Set, value: _FLOAT, cost: _FLOAT) -> _FLOAT:
        """Change of the loss for each row if it were in a rule of this value, shape (n,)."""
        return float(value @ value) / 2 * cost - one.residual @ value

    def _step(self, one: _Set, clause: Clause) -> _Step:
        """What the clause would bring as a rule; see the notes of `RuleSetClassifier`."""
        held = self.search.holds(clause)
        slope = one.residual[held].sum(axis=0)
        share = float(self.weights[held].sum())
        shared = one.design.T @ np.bincount(one.cell[held], self.weights[held], len(one.design))
        copied = share - float(shared @ one.own @ shared) <= _COPY * share
        if not clause.columns or copied or self.search.weights[held].sum() < self.search.least:
            return _Step(-np.inf, slope, one.curvature)
        across = one.design.T @ np.bincount(one.cell[held], one.curvature[held], len(one.design))
        others = one.inverse @ across
        rest = float(one.curvature[held].sum() + self.ridge * share - across @ others)
        tangent = 2 * one.curvature * (one.design @ others)[one.cell]
        return _Step(float(slope @ slope) / (2 * rest), slope / rest, one.curvature + self.ridge * self.weights - tangent)

    def _adapted(self, one: _Set, clause: Clause) -> Clause:
        """A clause moved for the value its rows want, until neither moves."""
        step = self._step(one, clause)
        for _ in range(_ADAPTATIONS if step.gain > -np.inf else 0):
            moved = self.part.polish(clause, self._gains(one, step.value, step.cost))
            then = self._step(one, moved)
            if not then.gain > step.gain + self.slack:
                break
            clause, step = moved, then
        return clause

    # ------------------------------------------------------------------ the whole set
    def grown(self, one: _Set, most: int) -> _Set:
        """Rules added one at a time while they pay."""
        while len(one.clauses) < most:
            longer = self.longer(one)
            if not longer.loss < one.loss - self.least:
                break
            one = longer
        return one

    def exchanged(self, one: _Set, most: int, sweeps: int) -> _Set:
        """Each rule in turn, the oldest first, exchanged for a better one, until none is found."""
        still = 0
        for _ in range(sweeps * len(one.clauses)):
            if still == len(one.clauses):
                break
            rest = list(range(1, len(one.clauses)))
            other = self.longer(self.picked(one, rest), one.clauses[0])
            if other.loss < one.loss - self.slack:
                one, still = other, 1
            else:
                one, still = self.picked(one, [*rest, 0]), still + 1
        return self.grown(one, most) if sweeps else one


def _cells(holds: _BOOL) -> _INT:
    """Number of the cell of each row, shape (n,): rows for which the same clauses hold share one."""
    cell = np.zeros(holds.shape[1], dtype=np.intp)
    for held in holds:
        cell = 2 * cell + held
        cell = (np.cumsum(np.bincount(cell) > 0) - 1)[cell]
    return cell
