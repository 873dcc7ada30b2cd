"""Tables of recorded answers: Parquet, Arrow, Feather and CSV files, and DuckDB queries."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, need
from locum.targets._rows import named_columns, some
from locum.targets.recorded import read_csv

__all__ = ["read_table"]

_QUERY = "duckdb:"
_FILES = (".parquet", ".arrow", ".feather", ".csv")


def read_table(
    table: Any, answer: str | Sequence[str], *, columns: Sequence[str] | None = None, database: Any = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read rows and their answers from a table, for `recorded`.

    A column of numbers or truth values keeps its type, and becomes one of floats where some are missing (NaN); decimals become
    floats, or whole numbers where they are; text is text, ``""`` where missing.

    Parameters
    ----------
    table : path or str
        A file ending in ``.parquet``, ``.arrow``, ``.feather`` or ``.csv``, the latter as `read_csv` reads it; a folder of
        Parquet files whose name ends so; or ``"duckdb:SELECT ..."``, which can read files too.
    answer : str or sequence of str
        The column that holds the answers, which must be complete; or several of numbers, such as the probabilities of classes.
    columns : sequence of str or None, default=None
        The columns that make a row, in order; all others where None.
    database : path or None, default=None
        A DuckDB database that the query reads from.

    Returns
    -------
    rows : structured ndarray of shape (n,)
        One field a column.
    answers : ndarray of shape (n,), or (n, k) for k columns of answers

    Raises
    ------
    InvalidData
        No such file, not a table, no such column, columns of times or of nested values, missing answers, or a query that fails
        or does more than select.
    MissingExtra
        pyarrow or duckdb is not installed.

    Notes
    -----
    Cost: text takes four bytes for each letter of the longest in its column. A query without ``ORDER BY`` may give its rows in
    another order each time.

    Examples
    --------
    >>> rows, answers = read_table("duckdb:SELECT range AS x, range * range AS y FROM range(4)", "y")
    >>> rows["x"], answers
    (array([0, 1, 2, 3]), array([0, 1, 4, 9]))
    """
    text = os.fspath(table)
    said = [answer] if isinstance(answer, str) else list(answer)
    if not said or len(set(said)) < len(said):
        raise InvalidData(f"expected answer= to name one column, or several once each, got {answer!r}")
    if text.startswith(_QUERY):
        title, found = "the query", _from_arrow(_queried(text.removeprefix(_QUERY), database), "the query")
    elif database is not None:
        raise InvalidData("database= is for queries, 'duckdb:SELECT ...'")
    else:
        title, found = Path(text).name, _from_file(Path(text), said[0])
    lost = [name for name in (*said, *(columns or ())) if name not in found]
    if lost:
        raise InvalidData(f"{title} has no column {lost[0]!r}; its columns are {some(list(found))}")
    kept = [name for name in found if name not in said] if columns is None else list(columns)
    if not kept or set(kept) & set(said) or len(set(kept)) < len(kept):
        raise InvalidData(f"expected rows of at least one column, each once and none an answer, got {some(kept) or 'none'}")
    answers = _answers(title, {name: found[name] for name in said})
    rows = np.empty(len(answers), dtype=[(name, found[name].dtype) for name in kept])
    for name in kept:
        rows[name] = found[name]
    return rows, answers if len(said) > 1 else answers[:, 0]


def _answers(title: str, columns: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Complete columns side by side, shape (n, k)."""
    for name, values in columns.items():
        absent = np.isnan(values) if values.dtype.kind == "f" else values == "" if values.dtype.kind == "U" else np.zeros(0)
        if absent.any():
            raise InvalidData(f"{title}: row {int(np.argmax(absent))} has no answer in column {name!r}; leave it out")
        if len(columns) > 1 and values.dtype.kind not in "biuf":
            raise InvalidData(f"expected several columns of answers to be numbers, column {name!r} is text")
    return np.column_stack(list(columns.values()))


def _from_file(path: Path, answer: str) -> dict[str, NDArray[Any]]:
    suffix = path.suffix.lower()
    if suffix not in _FILES:
        raise InvalidData(f"expected a table ending in {', '.join(_FILES)}, or 'duckdb:SELECT ...', got {path.name}")
    if suffix == ".csv":
        rows, said = read_csv(path, answer)
        columns = named_columns(rows) or {}
        columns[answer] = np.asarray(said)
        return columns
    if not path.exists():
        raise InvalidData(f"cannot read the table {path}: there is no such file")
    arrow = need("pyarrow", f"a {suffix} file", "tables")
    try:
        return _from_arrow(_read_parquet(path) if suffix == ".parquet" else _read_ipc(arrow, path), path.name)
    except (arrow.ArrowException, OSError) as error:
        raise InvalidData(f"cannot read {path}: {str(error).splitlines()[0]}") from error


def _read_parquet(path: Path) -> Any:
    from pyarrow import parquet

    return parquet.read_table(path)


def _read_ipc(arrow: Any, path: Path) -> Any:
    """A table in Arrow's file format, which is Feather's too, or in its stream format."""
    with arrow.memory_map(str(path)) as file:
        if file.read(6) == b"ARROW1":
            return arrow.ipc.open_file(file).read_all()
        file.seek(0)
        return arrow.ipc.open_stream(file).read_all()


def _queried(query: str, database: Any) -> Any:
    need("pyarrow", "a DuckDB query", "tables")
    duckdb = need("duckdb", "a DuckDB query", "tables")
    if database is not None and not Path(database).is_file():
        raise InvalidData(f"cannot read the database {database}: there is no such file")
    try:
        statements = duckdb.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise InvalidData(f"expected one SELECT after 'duckdb:', got {query!r}; run anything else in DuckDB itself")
        with duckdb.connect(database or ":memory:", read_only=database is not None) as connection:
            return connection.sql(query).to_arrow_table()
    except duckdb.Error as error:
        raise InvalidData(f"DuckDB cannot run {query!r}: {error}") from error


# ---------------------------------------------------------------------- Arrow to NumPy
def _from_arrow(table: Any, title: str) -> dict[str, NDArray[Any]]:
    names = table.column_names
    twice = [name for name in names if names.count(name) > 1 or not name]
    if twice:
        raise InvalidData(f"expected {title} to name each column once, got {some(twice)} twice or without a name")
    if len(names) < 2 or not table.num_rows:
        raise InvalidData(f"expected {title} to have at least two columns and one row, got {len(names)} and {table.num_rows}")
    return {name: _from_column(name, table.column(name)) for name in names}


def _from_column(name: str, column: Any) -> NDArray[Any]:
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return np.array(["" if value is None else value for value in column.to_pylist()], dtype=str)
    if types.is_decimal(kind):
        return _from_decimals(column)
    if not (types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)):
        what = "turn times into numbers" if types.is_temporal(kind) else "take numbers or text out of it"
        raise InvalidData(f"column {name!r} holds {kind}, which is no number and no text; {what} first, or leave it out")
    if column.null_count:
        return np.array([np.nan if value is None else value for value in column.to_pylist()], dtype=float)
    return column.to_numpy()


def _from_decimals(column: Any) -> NDArray[Any]:
    values = [np.nan if value is None else float(value) for value in column.to_pylist()]
    numbers = np.array(values)
    whole = not column.null_count and column.type.scale == 0 and np.abs(numbers).max() < 2**53
    return numbers.astype(np.int64) if whole else numbers
