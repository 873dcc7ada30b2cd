"""Containers of rows: arrays, structured arrays and frames, taken apart into columns and put together again."""

from __future__ import annotations

import ast
import importlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v1 as nw
import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData

__all__ = ["CONTAINERS", "Opened", "check_names", "is_declared", "named", "opened", "put_together", "some"]

CONTAINERS = ("array", "object", "structured", "pandas", "polars")
_SAMPLE_OF_NAMES = 5
_WHOLE = {"bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}


@dataclass(frozen=True)
class Opened:
    """Rows as columns.

    Attributes
    ----------
    container : {"array", "object", "structured", "pandas", "polars"}
    names : list of str
    values : list of ndarray of shape (n,)
        Numbers, or objects, or text of fixed width.
    dtypes : list of str
        The dtype of each column as text; after ``category``, pandas' categories as JSON.
    """

    container: str
    names: list[Any]
    values: list[NDArray[Any]]
    dtypes: list[str]


def named(container: str) -> bool:
    """Whether rows in such a container carry the names of their columns."""
    return container in ("pandas", "polars", "structured")


def is_declared(dtype: str) -> bool:
    """Whether a frame's own dtype says that a column holds categories."""
    return dtype.startswith(("category", "Categorical", "Enum"))


# ---------------------------------------------------------------------- taking apart
def opened(X: Any) -> Opened:
    """Rows taken apart.

    Raises
    ------
    InvalidData
        No rows of numbers or text, or names that are not text or not different.
    """
    if isinstance(X, np.ndarray) and X.dtype.names:
        return _open_structured(X)
    if nw.dependencies.is_pandas_dataframe(X) or nw.dependencies.is_polars_dataframe(X):
        return _open_frame(X)
    array = _as_array(X)
    if array.ndim != 2:
        hint = "; give one row as [row]" if array.ndim == 1 else ""
        raise InvalidData(f"expected rows as an array of shape (n, d), got {type(X).__name__} of shape {array.shape}{hint}")
    if array.dtype.kind not in "biufOUT":
        raise InvalidData(f"expected numbers or text, got an array of {array.dtype}; convert it first")
    names = [f"x{j}" for j in range(array.shape[1])]
    if array.dtype.kind in "OUT":
        array = array.astype(object)
        return Opened("object", names, [array[:, j] for j in range(array.shape[1])], ["O"] * array.shape[1])
    return Opened("array", names, [array[:, j] for j in range(array.shape[1])], [array.dtype.str] * array.shape[1])


def _as_array(X: Any) -> NDArray[Any]:
    if isinstance(X, np.ma.MaskedArray):
        raise InvalidData("expected a plain array, got a masked one; fill it first, with NaN or None for what is missing")
    if hasattr(X, "toarray") or hasattr(X, "collect") or nw.dependencies.is_into_dataframe(X):
        raise InvalidData(
            f"expected an array, or a pandas or polars frame, got {type(X).__module__.partition('.')[0]}'s "
            f"{type(X).__name__}; convert it first (a sparse matrix with toarray(), a lazy frame with collect())"
        )
    try:
        array = np.asarray(X)
        # NumPy turns the numbers of mixed lists into text.
        return array if array.dtype.kind != "U" or isinstance(X, np.ndarray) else np.asarray(X, dtype=object)
    except ValueError as error:
        raise InvalidData(f"expected rows of one length, as an array of shape (n, d): {error}") from error


def _open_structured(X: NDArray[Any]) -> Opened:
    names = list(X.dtype.names or ())
    if X.ndim != 1:
        raise InvalidData(f"expected a structured array of shape (n,), got shape {X.shape}")
    wrong = [f"{name!r} ({X.dtype[name]})" for name in names if X.dtype[name].kind not in "biufOU" or X.dtype[name].shape]
    if wrong:
        raise InvalidData(f"expected fields of numbers or text, got {some(wrong)}; convert them first")
    return Opened("structured", names, [X[name] for name in names], [X.dtype[name].str for name in names])


def _open_frame(X: Any) -> Opened:
    # Names are checked on the frame itself, since the common view refuses what pandas allows.
    names = list(X.columns)
    check_names(names)
    if (whole := block(X)) is not None:
        return Opened("pandas", names, list(whole.T), [str(whole.dtype)] * len(names))
    frame = nw.from_native(X, eager_only=True)
    values, dtypes = [], []
    for name in names:
        series = frame[name]
        if series.dtype.is_temporal() or series.dtype == nw.Decimal:
            raise InvalidData(f"column {name!r} holds {series.dtype}; turn it into plain numbers first")
        dtypes.append(_dtype_text(X[name].dtype))
        if series.dtype.is_numeric():
            values.append(series.cast(nw.Float64).to_numpy() if series.is_null().any() else series.to_numpy())
        elif series.dtype == nw.Boolean and not series.is_null().any():
            values.append(series.to_numpy())
        else:
            column = np.empty(len(series), dtype=object)
            column[:] = series.to_list()
            values.append(column)
    kind = "pandas" if nw.dependencies.is_pandas_dataframe(X) else "polars"
    return Opened(kind, names, values, dtypes)


def block(X: Any) -> NDArray[Any] | None:
    """The values (n, d) of a pandas frame whose columns are all float64, or whole numbers of one type; None of another.

    Frames of thousands of columns are read so in one piece, not column by column.
    """
    if not nw.dependencies.is_pandas_dataframe(X) or not len(X.columns):
        return None
    dtypes = X.dtypes.to_numpy()
    first = dtypes[0]
    plain = isinstance(first, np.dtype) and (first == np.float64 or first.kind in "iu")
    return X.to_numpy() if plain and all(one == first for one in dtypes) else None


def _dtype_text(dtype: Any) -> str:
    # A model may read the codes of pandas' categories, so rows given back must have them all, in their order.
    if str(dtype) != "category":
        return str(dtype)
    categories = [value.item() if isinstance(value, np.generic) else value for value in dtype.categories]
    return "category " + json.dumps({"categories": categories, "ordered": bool(dtype.ordered)}, default=str)


def check_names(names: Sequence[Any]) -> None:
    """See that there are names, all of them text and no two alike."""
    if not names:
        raise InvalidData("expected at least one column, got none")
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise InvalidData(f"expected column names to be text, got {some(map(repr, wrong))}; rename the columns first")
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InvalidData(f"expected every column name once, got {some(map(repr, twice))} more than once")


# ---------------------------------------------------------------------- putting together
def put_together(container: str, names: Sequence[str], dtypes: Sequence[str], values: list[NDArray[Any]]) -> Any:
    """Rows from columns, each of shape (n,): floats, or objects with None for what is missing.

    A dtype that cannot hold a value (a missing one among whole numbers, say) gives way to one that can.
    """
    if container == "array":
        numbers = np.column_stack([column.astype(float) for column in values])
        return _exact(np.dtype(dtypes[0]), numbers) if dtypes else numbers
    if container == "object":
        rows = np.empty((len(values[0]), len(values)), dtype=object)
        for j, column in enumerate(values):
            rows[:, j] = column
        return rows
    if container == "structured":
        return _structured(names, [_field(np.dtype(dtype), column) for dtype, column in zip(dtypes, values, strict=True)])
    library = importlib.import_module(container)
    if container == "pandas" and (whole := _uniform(dtypes, values)) is not None:
        return library.DataFrame(whole, columns=list(names))
    made = _pandas_column if container == "pandas" else _polars_column
    columns = zip(names, dtypes, values, strict=True)
    return library.DataFrame({name: made(library, dtype, column) for name, dtype, column in columns})


def _uniform(dtypes: Sequence[str], values: list[NDArray[Any]]) -> NDArray[Any] | None:
    """All columns as one array, where they are numbers of one type of NumPy that holds them all."""
    if not dtypes or dtypes[0] not in ("float64", *_WHOLE) or any(one != dtypes[0] for one in dtypes):
        return None
    numbers = np.column_stack([column.astype(float) for column in values])
    if dtypes[0] == "float64":
        return numbers
    if np.isnan(numbers).any():
        return None
    whole = _exact(np.dtype(dtypes[0]), numbers)
    return whole if whole.dtype == np.dtype(dtypes[0]) else None


def _exact(dtype: np.dtype[Any], values: NDArray[np.float64]) -> NDArray[Any]:
    """Numbers in a dtype, or as they are where it would change them."""
    with np.errstate(invalid="ignore"):
        cast = values.astype(dtype)
    return cast if dtype.kind == "f" or (cast == values).all() else values


def _field(dtype: np.dtype[Any], values: NDArray[Any]) -> NDArray[Any]:
    if dtype.kind == "U":
        return np.array(["" if value is None else value for value in values], dtype=dtype)
    return values.astype(object) if dtype.kind == "O" else _exact(dtype, values.astype(float))


def _structured(names: Sequence[str], columns: list[NDArray[Any]]) -> NDArray[Any]:
    rows = np.empty(len(columns[0]), dtype=[(name, column.dtype) for name, column in zip(names, columns, strict=True)])
    for name, column in zip(names, columns, strict=True):
        rows[name] = column
    return rows


def _in_frame(dtype: str, values: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """A column for a frame, and whether the dtype can hold it."""
    name = dtype.lower().replace("boolean", "bool")
    if name.startswith("float"):
        return values.astype(float), True
    if name not in _WHOLE:
        return values, True
    numbers = values.astype(float)
    absent = np.isnan(numbers)
    nullable = name != dtype  # NumPy's own whole numbers have no way to be missing
    return numbers, (nullable or not absent.any()) and _exact(np.dtype(name), numbers[~absent]).dtype.kind != "f"


def _pandas_column(pandas: Any, dtype: str, values: NDArray[Any]) -> Any:
    if is_declared(dtype):
        return pandas.Categorical(values, **json.loads(dtype.partition(" ")[2]))
    values, held = _in_frame(dtype, values)
    series = pandas.Series(values, dtype=object if dtype == "object" else None)
    try:
        return series.astype(dtype) if held else series
    except TypeError:  # pandas cannot make every dtype again from its text
        return series


def _polars_column(polars: Any, dtype: str, values: NDArray[Any]) -> Any:
    name, _, inside = dtype.partition("(")
    kind = getattr(polars, name)
    if name == "Enum":
        kind = kind(ast.literal_eval(inside.removeprefix("categories=")[:-1]))
    values, held = _in_frame(dtype, values)
    if values.dtype == object:
        return polars.Series(values.tolist(), dtype=kind)
    series = polars.Series(values, nan_to_null=True)
    return series.cast(kind) if held else series


# ---------------------------------------------------------------------- words
def some(names: Iterable[Any]) -> str:
    """A few names, and how many more there are."""
    names = [str(name) for name in names]
    more = f" and {len(names) - _SAMPLE_OF_NAMES} more" if len(names) > _SAMPLE_OF_NAMES else ""
    return ", ".join(names[:_SAMPLE_OF_NAMES]) + more
