"""Domain and region: what a row is made of, and where a stand-in was checked."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import narwhals.stable.v1 as nw
import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData

__all__ = ["Column", "Domain", "Level"]

Level = str | float | int | bool
_SAMPLE_OF_NAMES = 5


@dataclass(frozen=True)
class Column:
    """One column of the rows a target takes.

    Parameters
    ----------
    name : str
    kind : {"numeric", "categorical"}
    low, high : float or None, default=None
        Smallest and largest value, in the column's own unit (numeric columns).
    integer : bool, default=False
        Whether only whole numbers occur.
    levels : tuple of str, float, int or bool, default=()
        The categories, in a fixed order; an encoded row holds the index.
    missing : bool, default=False
        Whether values may be missing.
    """

    name: str
    kind: Literal["numeric", "categorical"] = "numeric"
    low: float | None = None
    high: float | None = None
    integer: bool = False
    levels: tuple[Level, ...] = ()
    missing: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The column as JSON-ready values."""
        if self.kind == "categorical":
            return {"name": self.name, "kind": self.kind, "levels": list(self.levels), "missing": self.missing}
        return {
            "name": self.name,
            "kind": self.kind,
            "low": self.low,
            "high": self.high,
            "integer": self.integer,
            "missing": self.missing,
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Column:
        """The column that `to_dict` described."""
        return cls(**{**record, "levels": tuple(record.get("levels", ()))})


@dataclass(frozen=True)
class Domain:
    """The columns of a table of rows, and the way between those rows and numbers.

    Rows come as a float array of shape (n, d), an object array of shape (n, d), a structured array of shape (n,), or a
    pandas or polars frame. Inside Locum they are one float matrix of shape (n, d): a numeric value is itself, a category
    the index of its level, an unknown category -1, and anything missing NaN.

    Parameters
    ----------
    columns : tuple of Column
    container : {"array", "object", "structured", "pandas", "polars"}, default="array"
        What `decode` gives back.
    dtypes : tuple of str, default=()
        The dtype of each column in that container, as text.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.array([[1.5, "red"], [2.5, "blue"], [0.5, "red"]], dtype=object)
    >>> domain = Domain.of(rows, names=["size", "colour"])
    >>> [column.kind for column in domain.columns]
    ['numeric', 'categorical']
    >>> domain.encode(rows)
    array([[1.5, 1. ],
           [2.5, 0. ],
           [0.5, 1. ]])
    >>> domain.decode(domain.encode(rows)).tolist() == rows.tolist()
    True
    """

    columns: tuple[Column, ...]
    container: str = "array"
    dtypes: tuple[str, ...] = field(default=(), repr=False)

    # ------------------------------------------------------------------ making one
    @classmethod
    def of(
        cls,
        X: Any,
        *,
        names: Sequence[str] | None = None,
        categorical: Iterable[str | int] = (),
        fixed: Iterable[str | int] = (),
        max_levels: int = 1000,
    ) -> Domain:
        """Read the domain off rows.

        Parameters
        ----------
        X : array of shape (n, d), structured array of shape (n,), or a pandas or polars frame
            At least two rows.
        names : sequence of str or None, default=None
            Column names for an array; ``x0, x1, ...`` where none are given.
        categorical : iterable of str or int, default=()
            Columns of numbers that are codes of categories.
        fixed : iterable of str or int, default=()
            Columns known to hold one value only; any other constant column is refused.
        max_levels : int, default=1000
            More categories than this look like an identifier, and are refused.

        Raises
        ------
        InvalidData
            No rows or one, no columns, duplicate or non-string names, infinities, object columns of mixed type, constant
            columns, too many categories.
        """
        container, found, values, dtypes = _open(X)
        n = len(values[0]) if values else 0
        if n < 2:
            raise InvalidData(f"expected at least two rows, got {n}")
        if names is not None:
            if len(names) != len(values):
                raise InvalidData(f"expected a name for each of the {len(values)} columns, got {len(names)} names")
            if container in ("pandas", "polars", "structured") and list(names) != list(found):
                raise InvalidData("the rows carry their own column names; leave out names=, or give the same ones")
            found = list(names)
        _check_names(found)
        coded, held = _positions(categorical, found, "categorical"), _positions(fixed, found, "fixed")
        columns = tuple(
            _read_column(name, column, j in coded, max_levels)
            for j, (name, column) in enumerate(zip(found, values, strict=True))
        )
        _refuse_constant([c for j, c in enumerate(columns) if j not in held])
        return cls(columns, container, tuple(dtypes))

    # ------------------------------------------------------------------ facts
    @property
    def names(self) -> tuple[str, ...]:
        """The column names, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def categorical(self) -> NDArray[np.bool_]:
        """Which columns are categorical, shape (d,)."""
        return np.array([column.kind == "categorical" for column in self.columns], dtype=bool)

    def __len__(self) -> int:
        return len(self.columns)

    # ------------------------------------------------------------------ to numbers and back
    def encode(self, X: Any) -> NDArray[np.float64]:
        """Rows as numbers, shape (n, d).

        Raises
        ------
        InvalidData
            Columns missing, in excess, in another order or of another type than the domain's, or an infinite value.
        """
        container, found, values, _ = _open(X)
        if container in ("pandas", "polars", "structured") and self.container in ("pandas", "polars", "structured"):
            _check_same_columns(list(self.names), found)
        elif len(values) != len(self.columns):
            raise InvalidData(f"expected rows of {len(self.columns)} columns ({_some(self.names)}), got {len(values)}")
        n = len(values[0])
        encoded = np.empty((n, len(self.columns)))
        for j, (column, raw) in enumerate(zip(self.columns, values, strict=True)):
            encoded[:, j] = _encode_column(column, raw)
        return encoded

    def decode(self, Z: NDArray[np.float64]) -> Any:
        """Encoded rows of shape (n, d) in the container the domain was read from."""
        Z = np.asarray(Z, dtype=float)
        if Z.ndim != 2 or Z.shape[1] != len(self.columns):
            raise InvalidData(f"expected encoded rows of shape (n, {len(self.columns)}), got {Z.shape}")
        if self.container == "array":
            out = Z.copy()
            for j, column in enumerate(self.columns):
                if column.kind == "categorical":  # a column of codes
                    out[:, j] = [np.nan if math.isnan(z) else float(column.levels[int(z)]) for z in Z[:, j]]
            return out.astype(self.dtypes[0]) if self.dtypes and not np.isnan(out).any() else out
        decoded = [_decode_column(column, Z[:, j]) for j, column in enumerate(self.columns)]
        if self.container == "object":
            out = np.empty(Z.shape, dtype=object)
            for j, values in enumerate(decoded):
                out[:, j] = values
            return out
        if self.container == "structured":
            record = np.empty(len(Z), dtype=[(c.name, d) for c, d in zip(self.columns, self.dtypes, strict=True)])
            for column, values in zip(self.columns, decoded, strict=True):
                record[column.name] = ["" if v is None else v for v in values] if column.kind == "categorical" else values
            return record
        return _frame(self, decoded)

    def fill(self, Z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Encoded rows made admissible: clipped to the ranges, whole where the column is, levels that exist."""
        out = np.array(Z, dtype=float)
        for j, column in enumerate(self.columns):
            if column.kind == "categorical":
                out[:, j] = np.clip(np.round(out[:, j]), 0, len(column.levels) - 1)
                continue
            if column.integer:
                out[:, j] = np.round(out[:, j])
            out[:, j] = np.clip(out[:, j], column.low, column.high)
        return out

    def to_dict(self) -> dict[str, Any]:
        """The domain as JSON-ready values."""
        return {
            "columns": [column.to_dict() for column in self.columns],
            "container": self.container,
            "dtypes": list(self.dtypes),
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Domain:
        """The domain that `to_dict` described."""
        return cls(
            tuple(Column.from_dict(column) for column in record["columns"]),
            record["container"],
            tuple(record["dtypes"]),
        )

    def of_range(self, Z: NDArray[np.float64]) -> Domain:
        """The same columns with the ranges and the missing values of these encoded rows, shape (n, d)."""
        columns = []
        for j, column in enumerate(self.columns):
            z = Z[:, j][~np.isnan(Z[:, j])]
            missing = bool(np.isnan(Z[:, j]).any())
            if column.kind == "numeric" and z.size:
                column = replace(column, low=float(z.min()), high=float(z.max()))
            columns.append(replace(column, missing=missing))
        return replace(self, columns=tuple(columns))


# ---------------------------------------------------------------------- reading containers
def _open(X: Any) -> tuple[str, list[Any], list[NDArray[Any]], list[str]]:
    """Container, names, one array a column, and the dtypes of rows."""
    if isinstance(X, np.ndarray) and X.dtype.names:
        if X.ndim != 1:
            raise InvalidData(f"expected a structured array of shape (n,), got shape {X.shape}")
        names = list(X.dtype.names)
        return "structured", names, [X[name] for name in names], [X.dtype[name].str for name in names]
    if not isinstance(X, np.ndarray) and hasattr(X, "columns") and hasattr(X, "shape"):
        return _open_frame(X)
    array = np.asarray(X)
    if array.ndim != 2:
        hint = "; give one row as [row]" if array.ndim == 1 else ""
        raise InvalidData(f"expected rows as an array of shape (n, d), got shape {array.shape}{hint}")
    if array.dtype.kind not in "biufOSU":
        raise InvalidData(f"expected numbers or text, got an array of {array.dtype}")
    names = [f"x{j}" for j in range(array.shape[1])]
    if array.dtype.kind in "OSU":
        array = array.astype(object)
        return "object", names, [array[:, j] for j in range(array.shape[1])], ["O"] * array.shape[1]
    return "array", names, [array[:, j] for j in range(array.shape[1])], [array.dtype.str] * array.shape[1]


def _open_frame(X: Any) -> tuple[str, list[Any], list[NDArray[Any]], list[str]]:
    # Names are checked on the frame itself, since the common view refuses what pandas allows.
    names = list(X.columns)
    _check_names(names)
    frame = nw.from_native(X, eager_only=True)
    kind = str(frame.implementation).rsplit(".", 1)[-1].lower()
    if kind not in ("pandas", "polars"):
        raise InvalidData(f"expected a pandas or polars frame, got a {kind} one; convert it first")
    values, dtypes = [], []
    for name in names:
        series = frame[name]
        if series.dtype.is_temporal():
            raise InvalidData(f"column {name!r} holds {series.dtype}; turn dates and times into numbers first")
        dtypes.append(str(X[name].dtype))
        if series.dtype.is_numeric():
            values.append(series.cast(nw.Float64).to_numpy() if series.is_null().any() else series.to_numpy())
        elif series.dtype == nw.Boolean and not series.is_null().any():
            values.append(series.to_numpy())
        else:
            column = np.empty(len(series), dtype=object)
            column[:] = series.to_list()
            values.append(column)
    return kind, names, values, dtypes


def _check_names(names: Sequence[Any]) -> None:
    if not names:
        raise InvalidData("expected at least one column, got none")
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise InvalidData(f"expected column names to be text, got {_some(map(repr, wrong))}; rename the columns first")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise InvalidData(f"expected every column name once, got {_some(map(repr, twice))} more than once")


def _check_same_columns(expected: list[str], got: list[str]) -> None:
    if expected == got:
        return
    lost, extra = [n for n in expected if n not in got], [n for n in got if n not in expected]
    if lost or extra:
        parts = [
            f"missing {_some(map(repr, lost))}" if lost else "",
            f"not expected {_some(map(repr, extra))}" if extra else "",
        ]
        raise InvalidData("the columns differ from those of the fit: " + "; ".join(part for part in parts if part))
    raise InvalidData(f"the columns come in another order than in the fit; reorder them to {_some(expected)}")


def _positions(wanted: Iterable[str | int], names: Sequence[str], what: str) -> set[int]:
    found = set()
    for item in wanted:
        if isinstance(item, str) and item in names:
            found.add(list(names).index(item))
        elif isinstance(item, int | np.integer) and 0 <= item < len(names):
            found.add(int(item))
        else:
            raise InvalidData(f"{what}= names column {item!r}, which is not among {_some(names)}")
    return found


def _read_column(name: str, raw: NDArray[Any], coded: bool, max_levels: int) -> Column:
    values, missing = _present(name, raw)
    if not len(values):
        raise InvalidData(f"column {name!r} holds nothing but missing values; drop it")
    if values.dtype.kind in "biuf" and not coded:
        numbers = values.astype(float)
        if np.isinf(numbers).any():
            raise InvalidData(f"column {name!r} holds infinite values; replace them by missing or by a bound")
        whole = bool((numbers == np.round(numbers)).all())
        return Column(name, "numeric", float(numbers.min()), float(numbers.max()), whole, (), missing)
    levels = tuple(_plain(level) for level in np.unique(values))
    if len(levels) > max_levels:
        raise InvalidData(
            f"column {name!r} has {len(levels)} categories, more than {max_levels}: it looks like an identifier; "
            "drop it, group its categories, or raise max_levels="
        )
    return Column(name, "categorical", levels=levels, missing=missing)


def _present(name: str, raw: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """The values of a column that are there, as one plain dtype, and whether any are missing."""
    if raw.dtype.kind == "f":
        absent = np.isnan(raw)
        return (raw[~absent], True) if absent.any() else (raw, False)
    if raw.dtype.kind in "biu":
        return raw, False
    if raw.dtype.kind in "US":
        text = raw.astype(str)
        empty = text == ""
        return text[~empty], bool(empty.any())
    kept = [value for value in raw if not _is_missing(value)]
    kinds = {"text" if isinstance(v, str) else "number" if isinstance(v, _NUMBERS) else type(v).__name__ for v in kept}
    if len(kinds) > 1 or not kinds <= {"text", "number"}:
        raise InvalidData(f"column {name!r} mixes or holds {' and '.join(sorted(kinds))}; give it numbers only, or text only")
    return np.array(kept, dtype=str if kinds == {"text"} else float), len(kept) < len(raw)


_NUMBERS = (bool, int, float, np.integer, np.floating, np.bool_)


def _is_missing(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, float | np.floating):
        return bool(math.isnan(value))
    return type(value).__name__ in ("NAType", "NaTType")


def _refuse_constant(columns: Sequence[Column]) -> None:
    constant = [
        column.name
        for column in columns
        if not column.missing and (column.low == column.high if column.kind == "numeric" else len(column.levels) == 1)
    ]
    if constant:
        raise InvalidData(
            f"column {_some(map(repr, constant))} holds one value only, so nothing can be learnt of what it does; drop it, "
            "or name it in fixed= to hold the region to that value"
        )


def _encode_column(column: Column, raw: NDArray[Any]) -> NDArray[np.float64]:
    if column.kind == "numeric":
        if raw.dtype.kind in "OUS":
            values, _ = _present(column.name, raw)
            if values.dtype.kind not in "biuf":
                raise InvalidData(f"column {column.name!r}: expected numbers, got text such as {str(values[0])!r}")
            raw = np.array([np.nan if _is_missing(value) else value for value in raw], dtype=float)
        numbers = raw.astype(float)
        if np.isinf(numbers).any():
            raise InvalidData(f"column {column.name!r} holds infinite values; replace them by missing or by a bound")
        return numbers
    index: dict[Any, int] = {level: position for position, level in enumerate(column.levels)}
    if raw.dtype.kind in "US":
        return np.array([np.nan if value == "" else index.get(value, -1) for value in raw.astype(str).tolist()], float)
    return np.array([np.nan if _is_missing(value) else index.get(_plain(value), -1) for value in raw.tolist()], float)


def _decode_column(column: Column, z: NDArray[np.float64]) -> Any:
    if column.kind == "numeric":
        return z
    return [None if math.isnan(value) else column.levels[int(value)] for value in z]


def _frame(domain: Domain, decoded: list[Any]) -> Any:
    library = importlib.import_module(domain.container)
    if domain.container == "polars":
        data = {
            c.name: [None if _is_missing(v) else v for v in values] for c, values in zip(domain.columns, decoded, strict=True)
        }
        return library.DataFrame(data, strict=False)
    data = {}
    for column, dtype, values in zip(domain.columns, domain.dtypes, decoded, strict=True):
        if dtype == "category":
            data[column.name] = library.Categorical(values, categories=list(column.levels))
        elif column.kind == "numeric" and np.isnan(values).any():
            data[column.name] = values
        else:
            data[column.name] = library.Series(values).astype(dtype)
    return library.DataFrame(data, columns=list(domain.names))


def _plain(value: Any) -> Level:
    value = value.item() if isinstance(value, np.generic) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _some(names: Iterable[Any]) -> str:
    names = [str(name) for name in names]
    more = f" and {len(names) - _SAMPLE_OF_NAMES} more" if len(names) > _SAMPLE_OF_NAMES else ""
    return ", ".join(names[:_SAMPLE_OF_NAMES]) + more
