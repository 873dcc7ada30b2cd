"""A sparse linear model that stands in for a black box: few slopes, few groups of categories.

Terms are chosen by how much they lower the loss with everything already chosen free to follow, one after the other; then
each is taken out in turn, and something better put in its place, until nothing better is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.domain import Column, Domain
from locum.core.errors import InvalidData
from locum.core.program import Levels, Linear, Program
from locum.explain._readable import ReadableClassifier, ReadableRegressor
from locum.explain._sums import Fitted, fit_values, leading_direction, pieces, standardised

__all__ = ["SparseLinearClassifier", "SparseLinearRegressor"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
# Gains that differ by less are ties, and the first wins: the same sums in another order differ in the last digits.
_SLACK = 1e-7
# What is left of a column once the others have explained it, below which it is a copy of theirs.
_COPY = 1e-6
_SWAPS = 20


class SparseLinearClassifier(ReadableClassifier):
    r"""Stands in for a classifier: a linear model with few terms.

    A class scores :math:`s_c(x) = b_c + \sum_{j \in J} \beta_{jc} (x_j - m_j) + \sum_{j \in G} g_{jc}(x_j)`, and its
    probability is :math:`e^{s_c} / \sum_m e^{s_m}`. :math:`J` holds few numeric columns, with slopes in their own units and
    centred at their means :math:`m_j`; :math:`G` holds few categorical columns, with one value for each of few groups of
    categories. A missing value has its own; an unknown category adds nothing.

    Parameters
    ----------
    max_terms : int, default=8
        Most statements: a slope is one, and so is each group of categories of a categorical column.
    min_gain : float, default=0.0001
        Least share of the constant's loss that a statement must remove.
    ridge : float, default=0.0001
        Penalty on the squared slopes of standardised columns; it keeps separable data finite.
    classes : sequence or None, default=None
        The labels, where not all occur or probabilities are given.
    domain : Domain or None, default=None
        How rows are read; inferred from the rows where None.
    random_state : int, default=0
        Changes nothing, since nothing here is drawn by chance.

    Attributes
    ----------
    program_ : Program
        The terms.
    classes_ : ndarray of shape (k,)

    Notes
    -----
    Cost: a step takes O(n d k) time; 10,000 rows of 20 columns take about a tenth of a second.

    **Departures**: the lasso bounds the sum of the absolute slopes, and so shrinks those it keeps; here their number is
    bounded, and they are fitted without shrinking but for a small ridge. Terms are found by forward selection and exchange
    rather than along the lasso's path.

    References
    ----------
    Tibshirani, *Regression shrinkage and selection via the lasso*, JRSS B 58, 1996.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(500, 6))
    >>> black_box = lambda X: 2 * X[:, 1] - X[:, 4] > 0.5
    >>> model = SparseLinearClassifier(max_terms=3).fit(X, black_box(X))
    >>> float((model.predict(X) == black_box(X)).mean()) > 0.98
    True
    """

    papers = ("lasso",)

    def __init__(
        self,
        max_terms: int = 8,
        *,
        min_gain: float = 1e-4,
        ridge: float = 1e-4,
        classes: Any = None,
        domain: Domain | None = None,
        random_state: int = 0,
    ) -> None:
        self.max_terms = max_terms
        self.min_gain = min_gain
        self.ridge = ridge
        self.classes = classes
        self.domain = domain
        self.random_state = random_state

    def _learn(self, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, domain: Domain) -> Program:
        base, terms = _sum_of_terms(self, Z, Y, weights, domain, soft=True)
        return self._program(domain, "softmax", "sum", terms, base)


class SparseLinearRegressor(ReadableRegressor):
    r"""Stands in for a predictor of real values: a linear model with few terms.

    The value is :math:`b + \sum_{j \in J} \beta_j (x_j - m_j) + \sum_{j \in G} g_j(x_j)`; see `SparseLinearClassifier` for
    the terms, for how they are found, and for the source.

    Parameters
    ----------
    max_terms : int, default=8
        Most statements: a slope is one, and so is each group of categories of a categorical column.
    min_gain : float, default=0.0001
        Least share of the constant's loss that a statement must remove.
    ridge : float, default=0.000001
        Penalty on the squared slopes of standardised columns.
    domain : Domain or None, default=None
        How rows are read; inferred from the rows where None.
    random_state : int, default=0
        Changes nothing, since nothing here is drawn by chance.

    Attributes
    ----------
    program_ : Program
        The terms.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(200, 4))
    >>> model = SparseLinearRegressor(max_terms=2).fit(X, 3 * X[:, 0] - X[:, 2])
    >>> [model.program_.columns[j].name for j in model.program_.used]
    ['x0', 'x2']
    >>> [round(term.slope[0], 2) for term in model.program_.terms]
    [3.0, -1.0]
    """

    papers = ("lasso",)

    def __init__(
        self,
        max_terms: int = 8,
        *,
        min_gain: float = 1e-4,
        ridge: float = 1e-6,
        domain: Domain | None = None,
        random_state: int = 0,
    ) -> None:
        self.max_terms = max_terms
        self.min_gain = min_gain
        self.ridge = ridge
        self.domain = domain
        self.random_state = random_state

    def _learn(self, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, domain: Domain) -> Program:
        scaled, mean, spread = standardised(Y, weights)
        base, terms = _sum_of_terms(self, Z, scaled, weights, domain, soft=False)
        return self._program(domain, "identity", "sum", [_times(term, spread) for term in terms], spread * base + mean)


# ---------------------------------------------------------------------- columns
@dataclass(frozen=True)
class _Feature:
    """A column as it enters the sum: standardised values, or the level of each row (-1 where it has none)."""

    column: Column
    values: _FLOAT
    hole: NDArray[np.bool_]  # missing values
    center: float = 0.0
    unit: float = 1.0

    @classmethod
    def of(cls, column: Column, z: _FLOAT, weights: _FLOAT) -> _Feature | None:
        """None for a column that holds one value only."""
        hole = np.isnan(z)
        if column.kind == "categorical":
            return cls(column, np.where(hole, -1, z), hole)
        if hole.all():
            return None
        scaled, center, unit = standardised(z[~hole, None], weights[~hole])
        if np.ptp(scaled) == 0:
            return None
        values = np.zeros(len(z))
        values[~hole] = scaled[:, 0]
        return cls(column, values, hole, center, unit)

    @cached_property
    def level(self) -> _INT:
        """Level of each row of a categorical column, with one more for rows that have none."""
        return np.where(self.values < 0, len(self.column.levels), self.values).astype(np.intp)

    def block(self, group: _INT | None) -> _FLOAT:
        """What stands for the column in the design, missing values last if there are any, shape (n, m)."""
        if group is None:
            block = self.values[:, None]
        else:
            block = np.eye(group.max() + 2)[np.append(group, group.max() + 1)[self.level]][:, :-1]
        return np.column_stack([block, self.hole]) if self.hole.any() else block


@dataclass(frozen=True)
class _Choice:
    """Which columns are in the sum, in the order of their adding, each with the group of every level (None: a slope)."""

    groups: dict[int, _INT | None]

    @property
    def statements(self) -> int:
        return sum(1 if group is None else int(group.max()) + 1 for group in self.groups.values())

    def with_(self, column: int, group: _INT | None) -> _Choice:
        return _Choice({**self.groups, column: group})

    def without(self, column: int) -> _Choice:
        return _Choice({j: group for j, group in self.groups.items() if j != column})


# ---------------------------------------------------------------------- the search
@dataclass(frozen=True)
class _Task:
    """Features by column; weights sum to one."""

    settings: Any
    features: dict[int, _Feature]
    Y: _FLOAT
    weights: _FLOAT
    soft: bool
    least: float  # gain that a statement must bring

    def design(self, choice: _Choice) -> _FLOAT:
        return np.hstack([np.ones((len(self.Y), 1)), *(self.features[j].block(g) for j, g in choice.groups.items())])

    def places(self, choice: _Choice) -> dict[int, slice]:
        """Where each column's values stand among the parameters."""
        ends = np.cumsum([1, *(self.features[j].block(g).shape[1] for j, g in choice.groups.items())])
        return {j: slice(int(a), int(b)) for j, a, b in zip(choice.groups, ends[:-1], ends[1:], strict=True)}

    def fit(self, choice: _Choice) -> Fitted:
        X = self.design(choice)
        return fit_values(X, self.Y, self.weights, self.settings.ridge * (self.weights @ X**2), soft=self.soft)


def _sum_of_terms(
    settings: Any, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, domain: Domain, *, soft: bool
) -> tuple[_FLOAT, list[Linear | Levels]]:
    if settings.max_terms < 1 or not 0 <= settings.min_gain < 1 or not 0 < settings.ridge < np.inf:
        raise InvalidData(
            "expected max_terms >= 1, 0 <= min_gain < 1 and ridge > 0, got "
            f"{settings.max_terms}, {settings.min_gain} and {settings.ridge}"
        )
    weights = weights / weights.sum()
    features = {j: _Feature.of(column, Z[:, j], weights) for j, column in enumerate(domain.columns)}
    task = _Task(settings, {j: f for j, f in features.items() if f is not None}, Y, weights, soft, 0.0)
    constant = task.fit(_Choice({})).loss
    task = _Task(settings, task.features, Y, weights, soft, max(2 * settings.min_gain, 1e-9) * constant)
    choice, fitted = _grow(task, _Choice({}))
    for _ in range(_SWAPS):
        better = _exchange(task, choice, fitted)
        if better is None:
            break
        choice, fitted = better
    return _terms(task, choice, fitted)


def _grow(task: _Task, choice: _Choice) -> tuple[_Choice, Fitted]:
    """Add the best term, fit, and so on while the budget allows and it pays."""
    while True:
        fitted = task.fit(choice)
        left = task.settings.max_terms - choice.statements
        best, top = None, task.least
        for gain, column, group in _candidates(task, choice, fitted, left):
            if gain > top * (1 + _SLACK):
                best, top = choice.with_(column, group), gain
        if best is None:
            return choice, fitted
        choice = best


def _exchange(task: _Task, choice: _Choice, fitted: Fitted) -> tuple[_Choice, Fitted] | None:
    """Take one term out, the least useful first, and grow again; the first that ends better, if any does."""
    costs = {}
    for j, place in task.places(choice).items():
        theta = fitted.theta[place]
        costs[j] = float((theta * np.linalg.solve(fitted.inverse[place, place], theta)).sum())
    for j in sorted(costs, key=costs.__getitem__):
        other, then = _grow(task, choice.without(j))
        if then.loss < fitted.loss * (1 - 1e-6):
            return other, then
    return None


def _candidates(task: _Task, choice: _Choice, fitted: Fitted, left: int) -> Iterator[tuple[float, int, _INT | None]]:
    """Terms that could be added with `left` statements: twice the loss each removes a statement, its column, its groups."""
    if left < 1:
        return
    X, places = task.design(choice), task.places(choice)
    for j, feature in task.features.items():
        now = choice.groups.get(j)
        if feature.column.kind == "numeric":
            if j not in choice.groups:
                yield _gain(task, feature.block(None), X, fitted), j, None
            continue
        had = 0 if now is None else int(now.max()) + 1
        held = None if now is None else fitted.theta[places[j]][now]
        costs, groupings = _groupings(task, feature, fitted, held, had + left)
        for more in range(max(had, 1), len(groupings)):
            group = groupings[more]
            gain = _gain(task, feature.block(group), X, fitted) if now is None else float(costs[had - 1] - costs[more])
            yield gain / (more + 1 - had), j, group


def _groupings(task: _Task, feature: _Feature, fitted: Fitted, held: _FLOAT | None, most: int) -> tuple[_FLOAT, list[_INT]]:
    """The best groups of a column's levels, 1, 2, ... `most` of them, by what Newton's method would give each level alone."""
    count, ridge = len(feature.column.levels), task.settings.ridge

    def by_level(values: _FLOAT) -> _FLOAT:
        return np.bincount(feature.level, values, count + 1)[:count].astype(float)

    share = by_level(task.weights)
    mass = by_level(fitted.curvature) + ridge * share
    slope = np.stack([by_level(residual) for residual in fitted.residual.T], axis=1)
    held = np.zeros_like(slope) if held is None else held
    step = (slope - ridge * share[:, None] * held) / np.where(share > 0, mass, 1.0)[:, None]
    wish = np.where(share[:, None] > 0, held + step, 0.0)
    order = np.argsort(leading_direction(wish, np.maximum(mass, 1e-300)), kind="stable")
    costs, starts = pieces(wish[order], mass[order], share[order], most, 1e-12)
    groups = []
    for cut in starts:
        group = np.empty(count, dtype=np.intp)
        group[order] = np.searchsorted(cut, np.arange(count), side="right") - 1
        groups.append(group)
    return costs, groups


def _gain(task: _Task, block: _FLOAT, X: _FLOAT, fitted: Fitted) -> float:
    """Twice the loss that a block of columns removes, to second order, with all values that are there free to follow."""
    weighted = fitted.curvature[:, None] * block
    across = X.T @ weighted
    whole = block.T @ weighted + np.diag(task.settings.ridge * (task.weights @ block**2))
    rest = whole - across.T @ fitted.inverse @ across
    slope = block.T @ fitted.residual
    values, vectors = np.linalg.eigh((rest + rest.T) / 2)
    own = values > _COPY * max(float(np.diag(whole).max()), 1e-300)
    turned = vectors[:, own].T @ slope
    return float((turned**2 / values[own, None]).sum())


# ---------------------------------------------------------------------- terms
def _terms(task: _Task, choice: _Choice, fitted: Fitted) -> tuple[_FLOAT, list[Linear | Levels]]:
    base = fitted.theta[0]
    found: dict[int, Linear | Levels] = {}
    none = (0.0,) * len(base)
    for j, place in task.places(choice).items():
        feature, group, values = task.features[j], choice.groups[j], fitted.theta[place]
        if group is None:
            missing = _plain(values[1]) if feature.hole.any() else none
            found[j] = Linear(j, _plain(values[0] / feature.unit), feature.center, missing)
            continue
        mean = task.weights @ feature.block(group) @ values
        base = base + mean
        each = [_plain(v) for v in values - mean]
        found[j] = Levels(j, tuple(each[g] for g in group), each[-1] if feature.hole.any() else none, none)
    return base, [found[j] for j in sorted(found)]


def _plain(values: _FLOAT) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _times(term: Linear | Levels, factor: float) -> Linear | Levels:
    def scaled(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(factor * v for v in values)

    if isinstance(term, Linear):
        return Linear(term.column, scaled(term.slope), term.center, scaled(term.missing))
    return Levels(term.column, tuple(scaled(v) for v in term.values), scaled(term.missing), scaled(term.unknown))
