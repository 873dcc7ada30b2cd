"""A formula, and the numbers it makes of a table in which some columns are predictions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, need
from locum.infer._first_stage import Labels

__all__ = ["Formula", "as_frame"]

Array = NDArray[np.float64]

_MOST_COMBINATIONS = 200


def as_frame(data: Any) -> Any:
    """A pandas table of the rows given: a table of any kind, or a mapping of columns."""
    pandas = need("pandas", "a regression from a formula", "infer")
    if isinstance(data, pandas.DataFrame):
        return data.reset_index(drop=True)
    if isinstance(data, Mapping):
        return pandas.DataFrame(dict(data))
    import narwhals

    try:
        return narwhals.from_native(data, eager_only=True).to_pandas()
    except TypeError as error:
        raise InvalidData(f"expected a table or a mapping of columns, got {type(data).__name__}") from error


class Formula:
    """What a formula makes of rows.

    Parameters
    ----------
    formula : str
        Outcome ~ terms, in the syntax of formulaic.
    frame : DataFrame of N rows
        With no missing values: where a label is missing, any other label of that column.

    Attributes
    ----------
    outcomes, terms : tuple of str
    used, outcome_used : frozenset of str
        Columns that the formula reads, and those that its left side reads.
    """

    def __init__(self, formula: str, frame: Any) -> None:
        self._formulaic = need("formulaic", "a regression from a formula", "infer")
        try:
            made = self._formulaic.model_matrix(formula, frame, context={}, na_action="raise")
            left, right = made.lhs, made.rhs
        except AttributeError as error:
            raise InvalidData(f"expected a formula such as 'Y ~ x1 + x2', got {formula!r}") from error
        except (ValueError, TypeError, NameError, KeyError, self._formulaic.errors.FormulaicError) as error:
            raise InvalidData(f"the formula {formula!r} cannot be read with these columns: {error}") from error
        self._left, self._right = left.model_spec, right.model_spec
        self.outcomes = tuple(map(str, left.columns))
        self.terms = tuple(map(str, right.columns))
        if not self.terms:
            raise InvalidData(f"expected at least one term on the right of {formula!r}; '1' is the mean")
        self.outcome_used = frozenset(map(str, self._left.required_variables))
        self.used = self.outcome_used | frozenset(map(str, self._right.required_variables))

    def evaluate(
        self, frame: Any, predictions: Mapping[str, Array] | None = None, labels: Mapping[str, Labels] | None = None
    ) -> tuple[Array, Array]:
        """The columns of the terms (n, p) and of the outcomes (n, k).

        Predicted numbers take the place of a column. Predicted probabilities of categories average what the formula makes of
        each category.
        """
        numbers = {name: values for name, values in (predictions or {}).items() if values.ndim == 1}
        shares = {name: values for name, values in (predictions or {}).items() if values.ndim == 2}
        frame = frame.assign(**numbers)
        if not shares:
            return self._matrices(frame)
        levels = {name: (labels or {})[name].levels for name in shares}
        if np.prod([values.shape[1] for values in shares.values()]) > _MOST_COMBINATIONS:
            raise InvalidData(f"expected at most {_MOST_COMBINATIONS} combinations of predicted categories: merge rare ones")
        X, Y = np.zeros((len(frame), len(self.terms))), np.zeros((len(frame), len(self.outcomes)))
        for chosen in itertools.product(*(range(values.shape[1]) for values in shares.values())):
            at = dict(zip(shares, chosen, strict=True))
            weight = np.prod([shares[name][:, level] for name, level in at.items()], axis=0)[:, None]
            x, y = self._matrices(frame.assign(**{name: levels[name][level] for name, level in at.items()}))  # type: ignore[index]
            X += weight * x
            Y += weight * y
        return X, Y

    def _matrices(self, frame: Any) -> tuple[Array, Array]:
        out = []
        for spec in (self._right, self._left):
            table = np.asarray(spec.get_model_matrix(frame, context={}), dtype=float)
            if not np.isfinite(table).all():
                raise InvalidData(
                    "a term of the formula is not finite on some rows, such as the log of zero: look at its columns"
                )
            out.append(table)
        return out[0], out[1]
