"""Rows as model files take them: columns by name, numbers, text, and what to refuse before anything is paid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals.stable.v1 as nw
import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData

__all__ = ["as_numbers", "as_text", "cast", "check_columns", "column_names", "named_columns", "some"]

_SAMPLE = 5


def column_names(X: Any) -> list[str]:
    """The names of the columns of a frame or a structured array; none for rows without names."""
    return list(X.dtype.names or ()) if isinstance(X, np.ndarray) else [str(name) for name in getattr(X, "columns", ())]


def named_columns(X: Any) -> dict[str, NDArray[Any]] | None:
    """The columns of a frame or a structured array by name, each of shape (n,); None for rows without names."""
    if isinstance(X, np.ndarray):
        return {name: X[name] for name in X.dtype.names} if X.dtype.names else None
    if not (hasattr(X, "columns") and hasattr(X, "shape")):
        return None
    frame = nw.from_native(X, eager_only=True)
    return {name: _values(frame[name]) for name in frame.columns}


def _values(series: Any) -> NDArray[Any]:
    if series.dtype.is_numeric() or series.dtype == nw.Boolean:
        return (series.cast(nw.Float64) if series.is_null().any() else series).to_numpy()
    values = np.empty(len(series), dtype=object)
    values[:] = series.to_list()
    return values


def as_numbers(X: Any) -> NDArray[Any]:
    """Rows as an array of numbers of shape (n, ...); None becomes NaN.

    Raises
    ------
    InvalidData
        Text, or anything else that is no number.
    """
    columns = named_columns(X)
    if columns is None:
        return _numbers(np.asarray(X), "")
    return np.column_stack([_numbers(values, f" in column {name!r}") for name, values in columns.items()])


def _numbers(values: NDArray[Any], where: str) -> NDArray[Any]:
    if values.dtype.kind in "biuf":
        return values
    words = [value for value in values.ravel().tolist() if isinstance(value, str | bytes)]
    if words:
        raise InvalidData(f"this model takes numbers only, got text such as {words[0]!r}{where}; turn it into numbers first")
    try:
        return values.astype(float)
    except (TypeError, ValueError) as error:
        raise InvalidData(f"this model takes numbers only, got {values.dtype}{where}: {error}") from error


def as_text(values: Any, where: str) -> NDArray[np.object_]:
    """Text of any shape as an object array.

    Raises
    ------
    InvalidData
        A value that is not text, or is missing.
    """
    array = np.asarray(values)
    text = (array.astype(str) if array.dtype.kind in "US" else array).astype(object)
    other = [value for value in text.ravel().tolist() if not isinstance(value, str)]
    if other:
        raise InvalidData(f"this model takes text{where}, got {other[0]!r}; turn it into text first, missing values too")
    return text


def cast(numbers: NDArray[Any], dtype: Any, where: str = "") -> NDArray[Any]:
    """Numbers as the dtype that a model takes.

    Raises
    ------
    InvalidData
        Fractions, missing values or too large numbers for a dtype of whole numbers.
    """
    dtype = np.dtype(dtype)
    if dtype.kind in "biu" and numbers.dtype != dtype:
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        with np.errstate(invalid="ignore"):
            wrong = ~((numbers == np.floor(numbers)) & (numbers >= low) & (numbers <= high))
        if wrong.any():
            raise InvalidData(
                f"this model takes whole numbers from {low} to {high} ({dtype}){where}, got {numbers[wrong].ravel()[0]}"
            )
    return numbers.astype(dtype)


def check_columns(X: Any, count: int | None, names: Sequence[str] | None) -> None:
    """See that rows have the columns a model was made for.

    Parameters
    ----------
    X : n rows
    count : int or None
        Number of columns; any where None.
    names : sequence of str or None
        Their names in order; any where None. Rows without names go by position.

    Raises
    ------
    InvalidData
        Other columns.
    """
    given = column_names(X)
    if names is not None and given and given != list(names):
        raise InvalidData(f"the model takes the columns {some(names)}, and got {some(given)}; give it the same, in order")
    shape = (len(X), len(given)) if given else np.shape(X)
    if count is not None and (len(shape) != 2 or shape[1] != count):
        raise InvalidData(f"the model takes rows of {count} columns, shape (n, {count}), and got shape {tuple(shape)}")


def some(names: Sequence[Any]) -> str:
    """The first few names as text."""
    more = f" and {len(names) - _SAMPLE} more" if len(names) > _SAMPLE else ""
    return ", ".join(map(str, list(names)[:_SAMPLE])) + more
