"""A target that is only known by rows and their answers: no access to the model at all."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core._content import Rows
from locum.core.errors import InvalidData
from locum.core.target import Target

__all__ = ["read_csv", "recorded"]

_MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "None", "?"})

_EXACT = 1 << 53  # whole numbers below are exact as floats


class RecordedAnswers:
    """Answers rows from a table.

    Parameters
    ----------
    rows : container of n rows
    answers : array of shape (n, ...)
    """

    def __init__(self, rows: Any, answers: Any) -> None:
        self.keys = Rows(rows).keys
        try:
            self.answers = np.asarray(answers)
        except ValueError as error:
            raise InvalidData(f"expected answers that make an array of shape (n, ...): {error}") from error
        if self.answers.ndim == 0 or len(self.answers) != len(self.keys):
            raise InvalidData(
                f"expected an answer for each of the {len(self.keys)} rows, got an array of shape {self.answers.shape}"
            )
        self._place = {key: i for i, key in reversed(list(enumerate(self.keys)))}

    def __call__(self, X: Any) -> NDArray[Any]:
        return self.answers[[self._place[key] for key in Rows(X).keys]]

    def contradiction(self) -> tuple[int, int] | None:
        """Two equal rows with different answers, where there are any."""
        for i, key in enumerate(self.keys):
            first = self._place[key]
            if i != first and not _same(self.answers[i], self.answers[first]):
                return first, i
        return None


def _same(answer: Any, other: Any) -> bool:
    return np.array_equal(answer, other, equal_nan=np.asarray(answer).dtype.kind == "f")


def recorded(rows: Any, answers: Any, *, repeated: str = "refuse", **settings: Any) -> Target:
    """A target from rows and the answers that were recorded for them; nothing else can be asked of it.

    Parameters
    ----------
    rows : array of shape (n, ...), structured array of shape (n,), or frame
    answers : array of shape (n, ...)
    repeated : {"refuse", "first"}, default="refuse"
        What to do where a row comes twice with different answers: refuse the table, or take the first.
    **settings
        Of `Target`.

    Raises
    ------
    InvalidData
        Not one answer a row, or equal rows with different answers.

    Examples
    --------
    >>> import numpy as np
    >>> table = recorded(np.array([[0.0], [1.0]]), ["no", "yes"])
    >>> table.query(np.array([[1.0]]))
    array(['yes'], dtype='<U3')
    >>> table.recorded
    True
    """
    if repeated not in ("refuse", "first"):
        raise InvalidData(f"expected repeated= to be 'refuse' or 'first', got {repeated!r}")
    table = RecordedAnswers(rows, answers)
    clash = table.contradiction() if repeated == "refuse" else None
    if clash is not None:
        raise InvalidData(
            f"rows {clash[0]} and {clash[1]} are equal, but their answers are {table.answers[clash[0]]} and "
            f"{table.answers[clash[1]]}; drop one, or say repeated='first'"
        )
    return Target(table, rows=rows, **{"name": "recorded answers", **settings})


def read_csv(
    path: Any,
    answer: str | None = None,
    *,
    drop: Iterable[str] = (),
    delimiter: str = ",",
    encoding: str = "utf-8-sig",
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Read rows, and one column of answers where it is named, from a CSV file with a header.

    A column of numbers, some perhaps missing, is numeric; any other is text. Missing are: an empty field, NA, N/A, NaN, null,
    None and a question mark. They become NaN among numbers and ``""`` among text.

    Parameters
    ----------
    path : path
    answer : str or None, default=None
        Name of the column of answers, which must be complete.
    drop : iterable of str, default=()
        Columns to leave out.
    delimiter : str, default=","
    encoding : str, default="utf-8-sig"

    Returns
    -------
    rows : structured ndarray of shape (n,)
        One field a column.
    answers : ndarray of shape (n,) or None
        Whole numbers, numbers or text.

    Raises
    ------
    InvalidData
        No such file, not text, no header, repeated names, a line of another length, no such column, no column left, or
        missing answers.
    """
    path = Path(path)
    names, lines = _read_lines(path, delimiter, encoding)
    strange = [name for name in (*(() if answer is None else (answer,)), *drop) if name not in names]
    if strange:
        raise InvalidData(f"{path.name} has no column {strange[0]!r}; its columns are {', '.join(names)}")
    columns = {name: _typed([line[j] for line in lines]) for j, name in enumerate(names) if name not in set(drop)}
    said = None if answer is None else _answers(path, answer, columns, [line[names.index(answer)] for line in lines])
    if not columns or not lines:
        raise InvalidData(f"expected {path.name} to have columns of rows, and at least one row below the header")
    rows = np.empty(len(lines), dtype=[(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    return rows, said


def _answers(path: Path, answer: str, columns: dict[str, NDArray[Any]], fields: list[str]) -> NDArray[Any]:
    """Take the answers out of the columns; numbers without a decimal point are whole."""
    said = columns.pop(answer, np.empty(0))
    absent = np.isnan(said) if said.dtype.kind == "f" else said == ""
    if absent.any():
        raise InvalidData(f"{path.name}: row {int(np.argmax(absent))} has no answer in column {answer!r}; drop it")
    whole = said.dtype.kind == "f" and all(field.strip().lstrip("+-").isdecimal() for field in fields)
    whole = whole and bool((np.abs(said) < _EXACT).all())
    return said.astype(np.int64) if whole else said


def _read_lines(path: Path, delimiter: str, encoding: str) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(newline="", encoding=encoding) as file:
            table = [line for line in csv.reader(file, delimiter=delimiter, strict=True) if line]
    except (OSError, UnicodeDecodeError, LookupError, csv.Error) as error:
        raise InvalidData(f"cannot read {path}: {error}") from error
    if not table:
        raise InvalidData(f"{path} is empty; expected a header of column names, then one line a row")
    names = [name.strip() for name in table[0]]
    if len(set(names)) < len(names) or "" in names:
        raise InvalidData(f"expected {path.name} to name each column once in its first line, got {', '.join(names)}")
    for number, line in enumerate(table[1:]):
        if len(line) != len(names):
            raise InvalidData(f"{path.name}: row {number} has {len(line)} fields, the header has {len(names)}")
    return names, table[1:]


def _typed(fields: list[str]) -> NDArray[Any]:
    fields = ["" if field.strip() in _MISSING else field.strip() for field in fields]
    try:
        if not any("_" in field for field in fields):  # to Python, 1_2 is a number
            return np.array([float(field) if field else np.nan for field in fields])
    except ValueError:
        pass
    return np.array(fields)
