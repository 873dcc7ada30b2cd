"""A black box that is a sum of shape functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from locum.core.errors import InvalidData
from locum.core.program import Levels, Program, Steps
from locum.problems._planted import Draft, Output, Planted, balanced, plant

__all__ = ["planted_additive"]


def planted_additive(
    random_state: int = 0,
    *,
    pieces: int = 4,
    output: Output = "class",
    classes: Sequence[str] = ("no", "yes"),
    numeric: int = 6,
    categorical: int = 3,
    relevant: int = 4,
    missing: float = 0.1,
) -> Planted:
    """A sum of piecewise constant functions of one column each, with a value of its own for missing.

    Parameters
    ----------
    random_state : int, default=0
        Draws the manifold and the functions.
    pieces : int, default=4
        Pieces of the function of a numeric column; a categorical one has a value a level.
    output : {"class", "probability", "value"}, default="class"
        Probabilities are the softmax of the sums.
    classes : sequence of str, default=("no", "yes")
    numeric, categorical : int, default=6, 3
        Columns of each kind.
    relevant : int, default=4
        Columns in the sum; the others only go along with them.
    missing : float, default=0.1
        Share of missing values, in every other column.

    Examples
    --------
    >>> problem = planted_additive(random_state=0, output="value")
    >>> problem.truth.body, len(problem.relevant)
    ('sum', 4)
    """

    def program(draft: Draft) -> Program:
        terms = tuple(_term(draft, int(column), pieces) for column in draft.relevant)
        base = balanced(terms, draft)
        if draft.classes is None:
            return Program(draft.columns, "value", None, "identity", "sum", terms, base)
        return Program(draft.columns, output, draft.classes, "softmax", "sum", terms, base)

    if pieces < 2:
        raise InvalidData(f"expected pieces= of at least two, got {pieces}")
    return plant(
        "planted_additive", program, random_state, output=output, classes=classes, numeric=numeric, categorical=categorical,
        relevant=relevant, missing=missing,
    )  # fmt: skip


def _term(draft: Draft, column: int, pieces: int) -> Steps | Levels:
    if draft.columns[column].kind == "categorical":
        values = tuple(draft.offsets(1.5) for _ in draft.columns[column].levels)
        return Levels(column, values, draft.offsets(1.5), tuple(0.0 for _ in values[0]))
    shares = (np.arange(1, pieces) + draft.rng.uniform(-0.3, 0.3, pieces - 1)) / pieces
    cuts = {draft.cut(column, float(share), draft.pilot[:, column]) for share in shares}
    edges = tuple(sorted(cuts))
    return Steps(column, edges, tuple(draft.offsets(1.5) for _ in range(len(edges) + 1)), draft.offsets(1.5))
