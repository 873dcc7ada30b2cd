"""The cheapest rivals: what a constant, one split and a linear model make of the same answers.

A fidelity says little alone: a constant agrees with a lopsided classifier on nine rows in ten. So every stand-in of a table
carries its rivals, fitted on the very rows, answers and weights it was fitted on, and they are measured where it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.domain import Domain
from locum.core.errors import FormatError
from locum.core.fidelity import Fidelity
from locum.core.program import Condition, Levels, Linear, Program, Rule, Term

__all__ = ["Rival", "Standardised", "grown_rules", "linear_program", "rivals"]

_FLOAT = NDArray[np.float64]
_CLIP = 8.0  # deviations; a linear model must not follow one wild value
_RIDGE = 1e-3
_MOST_ROWS = 4000
_FAINT = 0.01  # a class a row has with less probability teaches a linear model nothing, and costs as much as the others


@dataclass(frozen=True)
class Rival:
    """A cheap model that any stand-in worth its name has to beat.

    Parameters
    ----------
    name : str
    program : Program
    fidelity : tuple of Fidelity, default=()
        On the rows the stand-in was measured on.
    """

    name: str
    program: Program
    fidelity: tuple[Fidelity, ...] = field(default=())

    def answers(self, Z: _FLOAT, output: str) -> NDArray[Any]:
        """What it says of encoded rows (n, d): probabilities (n, k) where the target gives those, else as `Program.predict`."""
        return self.program.values(Z) if output == "probability" else self.program.predict(Z)

    def measured(self, *found: Fidelity) -> Rival:
        """The same rival with more fidelities."""
        return replace(self, fidelity=self.fidelity + found)

    def to_dict(self) -> dict[str, Any]:
        """The rival as JSON-ready values."""
        return {"name": self.name, "program": self.program.to_dict(), "fidelity": [f.to_dict() for f in self.fidelity]}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Rival:
        """The rival that `to_dict` described."""
        try:
            found = tuple(Fidelity.from_dict(one) for one in record["fidelity"])
            return cls(record["name"], Program.from_dict(record["program"]), found)
        except (KeyError, TypeError) as error:
            raise FormatError(f"this is not a rival: {error!r} while reading it") from error


def rivals(domain: Domain, Z: _FLOAT, y: NDArray[Any], weights: _FLOAT, classes: Any) -> tuple[Rival, ...]:
    """A constant, one split and a linear model.

    Parameters
    ----------
    domain : Domain
    Z : ndarray of shape (n, d)
        Encoded rows.
    y : ndarray of shape (n,) or (n, k)
        Labels, probabilities, or values.
    weights : ndarray of shape (n,)
    classes : sequence or None
        Labels in the order of the probabilities; None for values.

    Returns
    -------
    tuple of Rival
        None at all for answers of several values a row.

    Notes
    -----
    Cost: a stump on all rows, and a linear fit on at most 4,000 of them.
    """
    Y = _numbers(np.asarray(y), classes)
    if classes is None and Y.shape[1] > 1:
        return ()
    return (
        Rival("constant", _program(domain, classes, "rules", (), _mean(Y, weights))),
        Rival("one split", _one_split(domain, Z, Y, weights, classes)),
        Rival("linear model", linear_program(domain, Z, Y, weights, classes)),
    )


def _numbers(y: NDArray[Any], classes: Any) -> _FLOAT:
    """Answers as numbers, shape (n, k): an indicator a class, or the value."""
    if y.ndim == 2:
        return y.astype(float)
    if classes is None:
        return y.astype(float)[:, None]
    return (y[:, None] == np.asarray(classes)).astype(float)


def _mean(Y: _FLOAT, weights: _FLOAT) -> tuple[float, ...]:
    return tuple(float(v) for v in weights @ Y / weights.sum())


def _program(domain: Domain, classes: Any, body: Any, terms: tuple[Term, ...], base: tuple[float, ...], **rest: Any) -> Program:
    labels = None if classes is None else tuple(np.asarray(classes).tolist())
    link = "softmax" if body == "sum" and labels is not None else "identity"
    kind = "value" if labels is None else "class"
    return Program(domain.columns, kind, labels, link, body, terms, base, **rest)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- few splits
def _one_split(domain: Domain, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, classes: Any) -> Program:
    """The best split in two."""
    rules = grown_rules(domain, Z, Y, weights, leaves=2)
    if len(rules) == 1:
        return _program(domain, classes, "rules", (), rules[0].value)
    return _program(domain, classes, "rules", rules, _mean(Y, weights), exhaustive=True)


def grown_rules(domain: Domain, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, *, leaves: int, min_rows: int = 1) -> tuple[Rule, ...]:
    """A greedy tree of few leaves as rules, each answering with the mean of its rows; without a split, one that always holds.

    The levels of a categorical column are ordered by their mean answer, which finds the best split of one answer exactly.

    Parameters
    ----------
    domain : Domain
    Z : ndarray of shape (n, d)
        Encoded rows.
    Y : ndarray of shape (n, k)
    weights : ndarray of shape (n,)
    leaves : int
        Most rules.
    min_rows : int, default=1
        Least rows of a rule.
    """
    from sklearn.tree import DecisionTreeRegressor

    table, orders = Z.copy(), {}
    lead = Y[:, int(np.argmax(Y.var(axis=0)))]
    for j in np.flatnonzero(domain.categorical).tolist():
        levels = len(domain.columns[j].levels)
        code = np.where(Z[:, j] >= 0, Z[:, j], levels).astype(int)
        size = np.bincount(code, weights, levels + 1)[:levels]
        mean = np.bincount(code, weights * lead, levels + 1)[:levels] / np.where(size > 0, size, 1.0)
        orders[j] = np.argsort(np.where(size > 0, mean, np.inf), kind="stable")
        table[:, j] = np.append(np.argsort(orders[j]).astype(float), np.nan)[code]
    model = DecisionTreeRegressor(max_leaf_nodes=leaves, min_samples_leaf=min_rows, random_state=0)
    tree = model.fit(table, Y[:, 0] if Y.shape[1] == 1 else Y, sample_weight=weights).tree_
    out: list[Rule] = []

    def walk(node: int, rows: NDArray[np.intp], held: dict[int, Condition]) -> None:
        if tree.children_left[node] < 0:
            conditions = tuple(held[j] for j in sorted(held))
            out.append(Rule(conditions, _mean(Y[rows], weights[rows]), float(weights[rows].sum())))
            return
        j, cut, missing_left = int(tree.feature[node]), float(tree.threshold[node]), bool(tree.missing_go_to_left[node])
        x = table[rows, j]
        if not np.isnan(x).any():  # what never came goes with the weightier side, not, as in scikit-learn, with more rows
            missing_left = bool(weights[rows] @ (x <= cut) >= weights[rows].sum() / 2)
        left = np.asarray(np.where(np.isnan(x), missing_left, x <= cut), dtype=bool)
        for is_left, child in ((True, tree.children_left[node]), (False, tree.children_right[node])):
            one = _side(domain, j, orders.get(j), cut, is_left, missing_left == is_left)
            both = _both(held[j], one, domain) if j in held else one
            walk(int(child), rows[left == is_left], {**held, j: both})

    walk(0, np.arange(len(Z)), {})
    return tuple(out)


def _side(domain: Domain, j: int, order: Any, cut: float, is_left: bool, missing: bool) -> Condition:
    if order is not None:
        levels = sorted(int(level) for rank, level in enumerate(order) if (rank <= cut) == is_left)
        return Condition(j, levels=tuple(levels), missing=missing)
    if math.isinf(cut):  # known on the left; on the right missing values alone, which no interval says
        return Condition(j) if is_left else Condition(j, levels=(), missing=True)
    return Condition(j, None if is_left else cut, cut if is_left else None, missing=missing)


def _both(one: Condition, other: Condition, domain: Domain) -> Condition:
    """Both conditions on the same column as one."""
    if () in (one.levels, other.levels):
        return Condition(one.column, levels=(), missing=one.missing and other.missing)
    return one.and_(other, domain.columns)


# ---------------------------------------------------------------------- linear
class Standardised:
    """Encoded rows as a table that linear models and distances can use.

    A numeric column is centred, scaled and clipped at eight deviations, with an indicator of missing values where there are
    any; a categorical one is an indicator a level. What is missing or unknown is zero.

    Parameters
    ----------
    domain : Domain
    Z : ndarray of shape (n, d)
        Encoded rows that say where the middle is.
    weights : ndarray of shape (n,) or None, default=None
        All the same where None.
    """

    def __init__(self, domain: Domain, Z: _FLOAT, weights: _FLOAT | None = None) -> None:
        self.domain = domain
        self.center, self.spread = np.zeros(Z.shape[1]), np.ones(Z.shape[1])
        self.holes: NDArray[np.bool_] = np.asarray(np.isnan(Z).any(axis=0))
        for j in np.flatnonzero(~domain.categorical):
            there = ~np.isnan(Z[:, j])
            known, counts = Z[there, j], None if weights is None else weights[there]
            if known.size:
                self.center[j] = np.average(known, weights=counts)
            if known.size and known.min() < known.max():  # rounding gives a constant column a spread
                self.spread[j] = np.sqrt(np.average((known - self.center[j]) ** 2, weights=counts))

    def __call__(self, Z: _FLOAT) -> _FLOAT:
        """The table, shape (n, e)."""
        parts = []
        for j, column in enumerate(self.domain.columns):
            z = Z[:, j]
            absent = np.isnan(z)
            if column.kind == "categorical":
                parts.append(np.equal(z[:, None], np.arange(len(column.levels))))
                continue
            scaled = np.clip((z - self.center[j]) / self.spread[j], -_CLIP, _CLIP)
            parts.append(np.where(absent, 0.0, scaled)[:, None])
            if self.holes[j]:
                parts.append(absent[:, None])
        return np.hstack(parts).astype(float)


def linear_program(domain: Domain, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, classes: Any) -> Program:
    """Ridge regression, or multinomial logistic regression on soft labels, of all columns, as a sum of terms.

    Parameters
    ----------
    domain : Domain
    Z : ndarray of shape (n, d)
        Encoded rows; 4,000 of them, picked at random, where there are more.
    Y : ndarray of shape (n, k)
        A value, or probabilities of the classes.
    weights : ndarray of shape (n,)
    classes : sequence or None
        Labels in the order of the probabilities; None for values.
    """
    if len(Z) > _MOST_ROWS:
        picked = np.random.default_rng(0).choice(len(Z), _MOST_ROWS, replace=False)
        Z, Y, weights = Z[picked], Y[picked], weights[picked]
    table = Standardised(domain, Z, weights)
    X = table(Z)
    slopes, base = _ridge(X, Y, weights) if classes is None else _logistic(X, Y, weights)
    k, terms, at = Y.shape[1], list[Term](), 0
    none = (0.0,) * k
    for j, column in enumerate(domain.columns):
        if column.kind == "categorical":
            width = len(column.levels)
            terms.append(Levels(j, tuple(tuple(float(v) for v in slopes[at + i]) for i in range(width)), none, none))
            at += width
            continue
        slope = tuple(float(v) for v in slopes[at] / table.spread[j])
        missing = tuple(float(v) for v in slopes[at + 1]) if table.holes[j] else none
        terms.append(Linear(j, slope, float(table.center[j]), missing))
        at += 1 + int(table.holes[j])
    return _program(domain, classes, "sum", tuple(terms), tuple(float(v) for v in base))


def _ridge(X: _FLOAT, Y: _FLOAT, weights: _FLOAT) -> tuple[_FLOAT, _FLOAT]:
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=_RIDGE * len(X)).fit(X, Y, weights / weights.mean())
    return np.asarray(model.coef_).reshape(Y.shape[1], -1).T, np.asarray(model.intercept_).reshape(-1)


def _logistic(X: _FLOAT, Y: _FLOAT, weights: _FLOAT) -> tuple[_FLOAT, _FLOAT]:
    """A soft label is a row a class, weighted by its probability."""
    from sklearn.linear_model import LogisticRegression

    row, label = np.nonzero(_FAINT < Y)
    present = np.unique(label)
    k = Y.shape[1]
    slopes, base = np.zeros((X.shape[1], k)), np.full(k, -30.0)
    if len(present) == 1:
        base[present] = 0.0
        return slopes, base
    soft = Y[row, label] * weights[row] / weights.mean()
    model = LogisticRegression(C=1.0 / (_RIDGE * len(X)), max_iter=500, tol=1e-5).fit(X[row], label, soft)
    if len(present) == 2:  # one column of log-odds stands for both
        slopes[:, present[1]], base[present[0]], base[present[1]] = model.coef_[0], 0.0, model.intercept_[0]
    else:
        slopes[:, present], base[present] = model.coef_.T, model.intercept_
    return slopes, base
