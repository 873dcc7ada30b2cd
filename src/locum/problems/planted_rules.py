"""A black box that is a rule list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from locum.core.errors import InvalidData
from locum.core.program import Condition, Program, Rule
from locum.problems._planted import Draft, Output, Planted, plant

__all__ = ["planted_rules"]

_MOST_CONDITIONS = 2
_SHARE = (0.12, 0.5)  # of the rows that are left, for each rule
_TRIES = 200


def planted_rules(
    random_state: int = 0,
    *,
    rules: int = 4,
    output: Output = "class",
    classes: Sequence[str] = ("no", "yes"),
    numeric: int = 6,
    categorical: int = 3,
    relevant: int = 4,
    missing: float = 0.1,
) -> Planted:
    """A list of rules, the first of which to hold answers, on numeric and categorical columns with missing values.

    Parameters
    ----------
    random_state : int, default=0
        Draws the manifold and the rules.
    rules : int, default=4
        Rules before the last, which holds otherwise; each has one or two conditions.
    output : {"class", "probability", "value"}, default="class"
    classes : sequence of str, default=("no", "yes")
        Neighbouring rules name different ones.
    numeric, categorical : int, default=6, 3
        Columns of each kind.
    relevant : int, default=4
        Columns that occur in the rules; the others only go along with them.
    missing : float, default=0.1
        Share of missing values, in every other column.

    Examples
    --------
    >>> print(planted_rules(random_state=2, rules=2, relevant=2, missing=0.0).truth.text())
    IF x0 <= 0.21 and x5 > 1.18 THEN no (0.99)
    IF x5 > 0.88 THEN yes (0.73)
    OTHERWISE no (0.82)
    """

    def program(draft: Draft) -> Program:
        terms: list[Rule] = []
        left = np.arange(len(draft.pilot))
        for position in range(rules):
            rule = Rule(_conditions(draft, left), draft.answer(position))
            left = left[~rule.holds(draft.pilot[left])]
            terms.append(rule)
        kind = "value" if draft.classes is None else output
        return Program(draft.columns, kind, draft.classes, "identity", "rules", tuple(terms), draft.answer(rules))

    if rules < 1:
        raise InvalidData(f"expected rules= of at least one, got {rules}")
    return plant(
        "planted_rules", program, random_state, output=output, classes=classes, numeric=numeric, categorical=categorical,
        relevant=relevant, missing=missing,
    )  # fmt: skip


def _conditions(draft: Draft, left: np.ndarray) -> tuple[Condition, ...]:
    """Conditions that hold for a fair share of the rows that no rule before has answered."""
    for _ in range(_TRIES):
        count = int(draft.rng.integers(1, _MOST_CONDITIONS + 1))
        columns = draft.rng.permutation(draft.relevant)[:count]
        found = tuple(draft.condition(int(column), left) for column in sorted(columns))
        share = Rule(found, ()).holds(draft.pilot[left]).mean() if left.size else 0.0
        if _SHARE[0] <= share <= _SHARE[1]:
            break
    return found
