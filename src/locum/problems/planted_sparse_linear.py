"""A black box that is a linear model of few columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from locum.core.program import Levels, Linear, Program
from locum.problems._planted import Draft, Output, Planted, balanced, plant

__all__ = ["planted_sparse_linear"]


def planted_sparse_linear(
    random_state: int = 0,
    *,
    output: Output = "class",
    classes: Sequence[str] = ("no", "yes"),
    numeric: int = 6,
    categorical: int = 3,
    relevant: int = 4,
    missing: float = 0.1,
) -> Planted:
    """A linear model of few columns: slopes, a value a level of a categorical column, and one for missing.

    Parameters
    ----------
    random_state : int, default=0
        Draws the manifold and the slopes.
    output : {"class", "probability", "value"}, default="class"
        Probabilities are the softmax of the sums.
    classes : sequence of str, default=("no", "yes")
    numeric, categorical : int, default=6, 3
        Columns of each kind.
    relevant : int, default=4
        Columns in the model; the others only go along with them.
    missing : float, default=0.1
        Share of missing values, in every other column.

    Examples
    --------
    >>> problem = planted_sparse_linear(random_state=0, categorical=0)
    >>> sorted({type(term).__name__ for term in problem.truth.terms})
    ['Linear']
    """

    def program(draft: Draft) -> Program:
        terms = tuple(_term(draft, int(column)) for column in draft.relevant)
        base = balanced(terms, draft)
        if draft.classes is None:
            return Program(draft.columns, "value", None, "identity", "sum", terms, base)
        return Program(draft.columns, output, draft.classes, "softmax", "sum", terms, base)

    return plant(
        "planted_sparse_linear", program, random_state, output=output, classes=classes, numeric=numeric,
        categorical=categorical, relevant=relevant, missing=missing,
    )  # fmt: skip


def _term(draft: Draft, column: int) -> Linear | Levels:
    if draft.columns[column].kind == "categorical":
        values = tuple(draft.offsets(1.5) for _ in draft.columns[column].levels)
        return Levels(column, values, draft.offsets(1.5), tuple(0.0 for _ in values[0]))
    known = draft.pilot[:, column][~np.isnan(draft.pilot[:, column])]
    slope = tuple(float(f"{offset / known.std():.3g}") for offset in draft.offsets(1.5))
    return Linear(column, slope, round(float(known.mean()), 2), draft.offsets(1.0))
