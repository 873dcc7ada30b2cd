"""One answer of a black box explained by the rule of its tree that fires, and by a change that leads to another rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.fidelity import Fidelity
from locum.core.program import Condition, Program, Rule
from locum.explain._neighbourhood import Background
from locum.explain.attribution import Attribution, Axis, plain_answer, plain_value
from locum.explain.counterfactual import Change

__all__ = ["LocalExplanation", "RuleCounterfactual", "Tree", "explained_locally"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_TRIED = 20  # candidates of each kind that the black box is asked about, a row
_DONORS = 10
_WIDER = (2, 4, 8)  # times the columns of the tree, where changes of those do not move the black box
_FEW_DONORS = 5
_STEPS = 64
_MOST_CONDITIONS = 10  # whose orders are all gone through


@dataclass(frozen=True)
class RuleCounterfactual:
    """A change of a row that leads it to a rule with another answer, asked of the black box.

    Attributes
    ----------
    changes : tuple of Change
    row : ndarray of shape (d,)
        The changed row.
    rule : str
        The rule that it fires.
    expected : label
        What the rule answers.
    answer : label
        What the black box answers for it.
    before, after : tuple of float
        The black box's probabilities of the classes for the row and for the changed row.
    cost : float
        Sum of the changes in standard deviations of their columns.
    valid_on_black_box : bool
        Whether the black box changes its answer; where it does not, no change that was tried made it.
    """

    changes: tuple[Change, ...]
    row: _FLOAT
    rule: str
    expected: Any
    answer: Any
    before: tuple[float, ...]
    after: tuple[float, ...]
    cost: float
    valid_on_black_box: bool

    def text(self) -> str:
        """The change in words, and whether the black box goes along."""
        steps = ", ".join(f"{c.column}: {plain_value(c.before)} -> {plain_value(c.after)}" for c in self.changes)
        said = f"the black box then answers {plain_answer(self.answer)}"
        sure = said if self.valid_on_black_box else f"{said} all the same: not a counterfactual of it, of the tree only"
        return f"{steps} (cost {self.cost:.3g}): {sure}"

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True)
class LocalExplanation:
    """Why one row is answered as it is, as far as the tree goes.

    Attributes
    ----------
    answer : label
        What the black box answers.
    probabilities, imitated : tuple of float
        Probabilities of the classes by the black box, and by the tree.
    agrees : bool
        Whether the tree names the class that the black box names; where it does not, the rule explains another answer.
    rule : str
        The rule that fires, in words.
    support : float
        Share of the rows of the fit that fire it.
    attribution : Attribution
        Signed contributions of the columns in the rule to the tree's probability of the answer; they sum to it.
    counterfactual : RuleCounterfactual or None
        None where no rule of the tree has another answer.
    """

    answer: Any
    probabilities: tuple[float, ...]
    imitated: tuple[float, ...]
    agrees: bool
    rule: str
    support: float
    attribution: Attribution
    counterfactual: RuleCounterfactual | None

    def text(self) -> str:
        """The explanation in words."""
        sure = "" if self.agrees else "; the tree answers otherwise here, so its rule does not explain this row"
        lines = [
            f"the black box answers {plain_answer(self.answer)} {plain_answer(self.probabilities)}{sure}",
            f"rule: IF {self.rule} (fires for {self.support:.1%} of the rows)",
            self.attribution.text(),
            f"what if: {self.counterfactual or 'no rule of the tree answers anything else'}",
        ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True)
class Tree:
    """A tree on a few columns of a wide table, with the rows it was fitted to.

    Attributes
    ----------
    program : Program
        On the columns chosen.
    columns : ndarray of shape (k,)
        Their positions in the whole table.
    Z, P : ndarray of shape (n, k) and (n, classes)
        Rows of the fit, those columns only, and what the black box says of them.
    whole : Background
        All columns, and the black box.
    ask : callable
        Encoded rows (m, d) and a purpose to probabilities (m, classes).
    classes : ndarray of shape (classes,)
    order : ndarray of shape (d,)
        All columns, best first; those of the tree are the first of them.
    """

    program: Program
    columns: _INT
    Z: _FLOAT
    P: _FLOAT
    whole: Background
    ask: Any
    classes: NDArray[Any]
    order: _INT

    @cached_property
    def fired(self) -> _INT:
        """Which rule each row of the fit fires, shape (n,)."""
        return self.program.fired(self.Z)

    @cached_property
    def said(self) -> _INT:
        """The class the tree names for each row of the fit, by position, shape (n,)."""
        return np.asarray(self.program.values(self.Z).argmax(axis=1))

    @cached_property
    def spread(self) -> _FLOAT:
        """Standard deviation of each column; 1 for a constant one."""
        spread = self.Z.std(axis=0)
        return np.where(self.Z.min(axis=0) < self.Z.max(axis=0), spread, 1.0)

    def rule(self, position: int) -> Rule:
        """The rule at a position; one that always holds where none fired."""
        terms: tuple[Any, ...] = self.program.terms
        return terms[position] if position < len(terms) else Rule((), self.program.base)


def explained_locally(tree: Tree, rows: _FLOAT, fidelity: Fidelity | None) -> list[LocalExplanation]:
    """Explanations of encoded rows of shape (m, d)."""
    said = tree.ask(rows, "use")
    near = rows[:, tree.columns]
    fired = tree.program.fired(near)
    imitated = tree.program.values(near)
    changed = _counterfactuals(tree, rows, said)
    out = []
    for i, position in enumerate(fired):
        rule, c = tree.rule(int(position)), int(said[i].argmax())
        out.append(
            LocalExplanation(
                tree.classes[c].item(),
                tuple(said[i].tolist()),
                tuple(imitated[i].tolist()),
                bool(imitated[i].argmax() == c),
                rule.text(tree.program.columns),
                float(rule.holds(tree.Z).mean()),
                _attribution(tree, rule, near[i], c, fidelity),
                changed[i],
            )
        )
    return out


# ---------------------------------------------------------------------- contributions
def _attribution(tree: Tree, rule: Rule, z: _FLOAT, c: int, fidelity: Fidelity | None) -> Attribution:
    base, parts = _contributions([condition.holds(tree.Z) for condition in rule.conditions], tree.P[:, c])
    values = np.zeros(len(tree.columns))
    values[[condition.column for condition in rule.conditions]] = parts
    unknown = np.full(len(values), np.nan)
    label = tree.classes[c].item()
    return Attribution(
        values, unknown, unknown, (Axis("column", tuple(column.name for column in tree.program.columns)),),
        base=base, row=tuple(z.tolist()), answer=label, output=f"the tree's probability of {label}",
        baseline=f"{len(tree.Z)} rows of the fit", method="Shapley values of the conditions of a rule",
        meaning="share of the probability above the base that its condition adds", fidelity=fidelity,
        random_state=tree.whole.random_state,
    )  # fmt: skip


def _contributions(holds: Sequence[NDArray[np.bool_]], p: _FLOAT) -> tuple[float, _FLOAT]:
    """Mean of p over all rows, and the Shapley value of each condition in the mean over the rows that all conditions hold.

    Exact for up to ten conditions; of more, those after the tenth share equally what the first ten leave.
    """
    m = min(len(holds), _MOST_CONDITIONS)
    worth: dict[tuple[int, ...], float] = {(): float(p.mean())}
    for size in range(1, m + 1):
        for some in combinations(range(m), size):
            mask = np.logical_and.reduce([holds[i] for i in some])
            worth[some] = float(p[mask].mean())
    out = np.zeros(len(holds))
    for some, value in worth.items():
        for i in range(m):
            sign, size = (1, len(some) - 1) if i in some else (-1, len(some))
            out[i] += sign * value / (m * comb(m - 1, size))
    if len(holds) > m:
        rest = float(p[np.logical_and.reduce(holds)].mean()) - worth[tuple(range(m))]
        out[m:] = rest / (len(holds) - m)
    return worth[()], out


# ---------------------------------------------------------------------- counterfactuals
@dataclass(frozen=True)
class _Candidates:
    """Changed rows, only the columns of the tree, shape (m, k), the cheapest first."""

    near: _FLOAT
    cost: _FLOAT


def _counterfactuals(tree: Tree, rows: _FLOAT, said: _FLOAT) -> list[RuleCounterfactual | None]:
    found = [_candidates(tree, z[tree.columns], int(p.argmax())) for z, p in zip(rows, said, strict=True)]
    answers = _ask_each(tree, rows, [one.near for one in found])
    best: list[int | None] = []
    shorter: list[_FLOAT] = []
    for one, z, p, own in zip(found, rows, answers, said, strict=True):
        flipped = np.flatnonzero(p.argmax(axis=1) != own.argmax()) if len(p) else np.empty(0, dtype=int)
        best.append(int(flipped[0]) if flipped.size else None)
        shorter.append(
            _given_back(tree, z[tree.columns], one.near[flipped[0]], int(own.argmax())) if flipped.size else one.near[:0]
        )
    again = _ask_each(tree, rows, shorter)
    out: list[RuleCounterfactual | None] = []
    for i, (one, at) in enumerate(zip(found, best, strict=True)):
        if not len(one.near):
            out.append(None)
            continue
        near, after = one.near[at or 0], answers[i][at or 0]
        kept = np.flatnonzero(again[i].argmax(axis=1) != said[i].argmax()) if len(again[i]) else np.empty(0, dtype=int)
        if kept.size:  # the fewest changes that still do
            cheapest = kept[np.argmin(_cost(tree, shorter[i][kept], rows[i][tree.columns]))]
            near, after = shorter[i][cheapest], again[i][cheapest]
        out.append(_record(tree, rows[i], _whole(tree, rows[i], near), after, said[i]))
    return _widened(tree, rows, said, out)


def _whole(tree: Tree, row: _FLOAT, near: _FLOAT) -> _FLOAT:
    changed = row.copy()
    changed[tree.columns] = near
    return changed


def _elsewhere(tree: Tree, z: _FLOAT, c: int, most: int) -> _INT:
    """The nearest rows of the fit that both the black box and the tree answer otherwise."""
    real = np.flatnonzero((tree.P.argmax(axis=1) != c) & (tree.said != c))
    return real[np.argsort(_cost(tree, tree.Z[real], z), kind="stable")[:most]]


def _widened(tree: Tree, rows: _FLOAT, said: _FLOAT, found: list[RuleCounterfactual | None]) -> list[RuleCounterfactual | None]:
    """What was found, with cells of near real rows in more columns, best first, where the black box did not go along."""
    stuck = [i for i, one in enumerate(found) if one is not None and not one.valid_on_black_box]
    tried = [_copies(tree, rows[i], int(said[i].argmax())) for i in stuck]
    wide = _first_flipped(tree, tried, said[stuck])
    shorter = [
        rows[:0] if one is None else _undone(tree, rows[i], one[0], int(said[i].argmax()))
        for i, one in zip(stuck, wide, strict=True)
    ]
    less = _first_flipped(tree, shorter, said[stuck])
    for i, one, other in zip(stuck, wide, less, strict=True):
        if one is not None:
            found[i] = _record(tree, rows[i], *(other or one), said[i])
    return found


def _copies(tree: Tree, row: _FLOAT, c: int) -> _FLOAT:
    """The row with the cells of near real rows in ever more columns."""
    made = []
    for times in _WIDER:
        columns = tree.order[: times * len(tree.columns)]
        for donor in _elsewhere(tree, row[tree.columns], c, _FEW_DONORS):
            one = row.copy()
            one[columns] = tree.whole.rows[donor, columns]
            made.append(one)
    return np.array(made).reshape(-1, len(row))


def _undone(tree: Tree, row: _FLOAT, changed: _FLOAT, c: int) -> _FLOAT:
    """The changed row with ever fewer of its changes undone, the least important columns first."""
    at = tree.order[(changed != row)[tree.order]][::-1]
    made = []
    for r in np.unique(np.linspace(1, len(at) - 1, _STEPS).astype(int))[::-1]:
        one = changed.copy()
        one[at[:r]] = row[at[:r]]
        made.append(one)
    whole = np.array(made).reshape(-1, len(row))
    return whole[tree.program.values(whole[:, tree.columns]).argmax(axis=1) != c]


def _first_flipped(tree: Tree, tried: Sequence[_FLOAT], said: _FLOAT) -> list[tuple[_FLOAT, _FLOAT] | None]:
    """The first of each row's candidates that changes the black box's answer, and what it then says."""
    if not sum(map(len, tried)):
        return [None] * len(tried)
    answers = np.split(tree.ask(np.concatenate(tried), "use"), np.cumsum([len(one) for one in tried])[:-1])
    out: list[tuple[_FLOAT, _FLOAT] | None] = []
    for made, after, own in zip(tried, answers, said, strict=True):
        flipped = np.flatnonzero(after.argmax(axis=1) != own.argmax())
        out.append((made[flipped[0]], after[flipped[0]]) if flipped.size else None)
    return out


def _candidates(tree: Tree, z: _FLOAT, c: int) -> _Candidates:
    """Ways into the leaves of other classes: the least change into each, and the cells of near real rows there."""
    terms: tuple[Any, ...] = tree.program.terms
    others = [rule for rule in terms if int(np.argmax(rule.value)) != c and not rule.holds(z[None])[0]]
    if not others:
        return _Candidates(np.empty((0, len(z))), np.empty(0))
    entered = np.array([_entered(tree, rule, z) for rule in others])
    real = _elsewhere(tree, z, c, _DONORS)
    partly = np.array([_cells(z, tree.Z[i], terms[tree.fired[i]].conditions) for i in real]).reshape(-1, len(z))
    kinds = []
    for made in (entered, partly, tree.Z[real]):
        lands = tree.program.values(made).argmax(axis=1) != c if len(made) else np.empty(0, dtype=bool)
        made = made[lands & (made != z).any(axis=1)]
        kinds.append(made[np.argsort(_cost(tree, made, z), kind="stable")[:_TRIED]])
    near = np.concatenate(kinds)
    cost = _cost(tree, near, z)
    order = np.argsort(cost, kind="stable")
    return _Candidates(near[order], cost[order])


def _entered(tree: Tree, rule: Rule, z: _FLOAT) -> _FLOAT:
    """The row moved just so far that the rule holds, to values that occur where there are any."""
    out = z.copy()
    for condition in rule.conditions:
        if not condition.holds(out[None])[0]:
            out[condition.column] = _nearest(condition, tree.Z[:, condition.column], z[condition.column])
    return out


def _nearest(condition: Condition, seen: _FLOAT, now: float) -> float:
    inside = seen[condition.holds(_column(condition.column, seen))]
    if inside.size:
        return float(inside[np.abs(inside - now).argmin()])
    return float(condition.high) if condition.high is not None else float(np.nextafter(condition.low or 0.0, np.inf))


def _column(position: int, values: _FLOAT) -> _FLOAT:
    """Rows of which one column is known."""
    rows = np.zeros((len(values), position + 1))
    rows[:, position] = values
    return rows


def _cells(z: _FLOAT, donor: _FLOAT, conditions: Sequence[Condition]) -> _FLOAT:
    """The row with the cells of another in the columns that the conditions name."""
    out = z.copy()
    at = [condition.column for condition in conditions]
    out[at] = donor[at]
    return out


def _given_back(tree: Tree, z: _FLOAT, changed: _FLOAT, c: int) -> _FLOAT:
    """The changed row with its r largest, or r smallest, changes undone, for each r, where the tree still differs."""
    at = np.flatnonzero(changed != z)
    gaps = np.abs(changed - z)[at] / tree.spread[at]
    made = []
    for order in (at[np.argsort(-gaps, kind="stable")], at[np.argsort(gaps, kind="stable")]):
        for r in range(1, len(order)):
            one = changed.copy()
            one[order[:r]] = z[order[:r]]
            made.append(one)
    if not made:
        return np.empty((0, len(z)))
    rows = np.array(made)
    return rows[tree.program.values(rows).argmax(axis=1) != c]


def _cost(tree: Tree, near: _FLOAT, z: _FLOAT) -> _FLOAT:
    return np.asarray((np.abs(near - z) / tree.spread).sum(axis=1))


def _ask_each(tree: Tree, rows: _FLOAT, near: Sequence[_FLOAT]) -> list[_FLOAT]:
    """What the black box says of each row's candidates, all in one query."""
    sizes = [len(one) for one in near]
    if not sum(sizes):
        return [np.empty((0, len(tree.classes))) for _ in near]
    whole = np.repeat(rows, sizes, axis=0)
    whole[:, tree.columns] = np.concatenate([one for one in near if len(one)])
    return np.split(tree.ask(whole, "use"), np.cumsum(sizes)[:-1])


def _record(tree: Tree, row: _FLOAT, changed: _FLOAT, after: _FLOAT, before: _FLOAT) -> RuleCounterfactual:
    at = tree.order[(changed != row)[tree.order]]
    names, spread = tree.whole.domain.names, tree.whole.rows[:, at].std(axis=0)
    cost = float((np.abs(changed - row)[at] / np.where(spread > 0, spread, 1.0)).sum())
    rule = tree.rule(int(tree.program.fired(changed[None, tree.columns])[0]))
    return RuleCounterfactual(
        tuple(Change(names[j], float(row[j]), float(changed[j])) for j in at),
        changed,
        rule.text(tree.program.columns),
        tree.classes[int(np.argmax(rule.value))].item(),
        tree.classes[int(after.argmax())].item(),
        tuple(before.tolist()),
        tuple(after.tolist()),
        cost,
        bool(after.argmax() != before.argmax()),
    )
