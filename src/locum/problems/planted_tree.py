"""A black box that is a decision tree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from locum.core.errors import InvalidData
from locum.core.program import Condition, Program, Rule
from locum.problems._planted import Draft, Output, Planted, plant

__all__ = ["planted_tree"]

_LEAST_SIDE = 0.2  # of a node's rows, on either side of its split
_TRIES = 50


def planted_tree(
    random_state: int = 0,
    *,
    leaves: int = 8,
    output: Output = "class",
    classes: Sequence[str] = ("no", "yes"),
    numeric: int = 6,
    categorical: int = 3,
    relevant: int = 4,
    missing: float = 0.1,
) -> Planted:
    """A decision tree with axis-aligned splits, on numeric and categorical columns with missing values.

    Its splits are drawn at random, so a greedy learner has no reason to find the first of them first.

    Parameters
    ----------
    random_state : int, default=0
        Draws the manifold and the tree.
    leaves : int, default=8
    output : {"class", "probability", "value"}, default="class"
    classes : sequence of str, default=("no", "yes")
        Leaves that come of the same split name different ones.
    numeric, categorical : int, default=6, 3
        Columns of each kind.
    relevant : int, default=4
        Columns that the splits test; the others only go along with them.
    missing : float, default=0.1
        Share of missing values, in every other column.

    Examples
    --------
    >>> problem = planted_tree(random_state=1)
    >>> problem.truth.exhaustive, len(problem.truth.terms)
    (True, 8)
    """

    def program(draft: Draft) -> Program:
        nodes: list[tuple[dict[int, Condition], np.ndarray]] = [({}, np.arange(len(draft.pilot)))]
        while len(nodes) < leaves:
            largest = max(range(len(nodes)), key=lambda i: len(nodes[i][1]))
            nodes[largest : largest + 1] = _halves(draft, *nodes[largest])
        terms = tuple(Rule(tuple(found.values()), draft.answer(i)) for i, (found, _) in enumerate(nodes))
        kind = "value" if draft.classes is None else output
        return Program(draft.columns, kind, draft.classes, "identity", "rules", terms, draft.answer(0), exhaustive=True)

    if leaves < 2:
        raise InvalidData(f"expected leaves= of at least two, got {leaves}")
    return plant(
        "planted_tree", program, random_state, output=output, classes=classes, numeric=numeric, categorical=categorical,
        relevant=relevant, missing=missing,
    )  # fmt: skip


def _halves(draft: Draft, found: dict[int, Condition], rows: np.ndarray) -> list[tuple[dict[int, Condition], np.ndarray]]:
    """Both sides of a random split of a node's rows."""
    for _ in range(_TRIES):
        one = draft.condition(draft.column(), rows)
        share = one.holds(draft.pilot[rows]).mean() if rows.size else 0.5
        if _LEAST_SIDE <= share <= 1 - _LEAST_SIDE:
            break
    sides = []
    for condition in (one, _opposite(draft, one)):
        known = found.get(one.column)
        both = condition if known is None else known.and_(condition, draft.columns)
        sides.append(({**found, one.column: both}, rows[condition.holds(draft.pilot[rows])]))
    return sides


def _opposite(draft: Draft, one: Condition) -> Condition:
    """What holds where `one` does not."""
    missing = draft.columns[one.column].missing and not one.missing
    if one.levels is not None:
        rest = [i for i in range(len(draft.columns[one.column].levels)) if i not in one.levels]
        return Condition(one.column, levels=tuple(rest), missing=missing)
    return Condition(one.column, low=one.high, high=one.low, missing=missing)
