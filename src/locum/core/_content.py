"""Rows and answers as content: one key a row, bytes and back, and what tells one target from another."""

from __future__ import annotations

import dis
import functools
import importlib
import inspect
import json
import math
import types
from collections.abc import Callable, Iterable
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import xxhash
from numpy.lib.recfunctions import repack_fields
from numpy.typing import NDArray

from locum.core._containers import block
from locum.core.errors import InvalidData, LedgerError

__all__ = [
    "KEY_BYTES", "Rows", "fingerprint_of", "join", "name_of", "opened", "pack", "sealed", "split_keys", "text_or_numbers",
    "unpack",
]  # fmt: skip

KEY_BYTES = 16
_SEAL = 8
_DAMAGED = "a record does not match its checksum, so the ledger is damaged; restore it from a copy"
_CHUNK_BYTES = 1 << 26
_EXACT = 1 << 53  # whole numbers up to here are exact in float64
_digest = xxhash.xxh3_128_digest


def sealed(blob: bytes) -> bytes:
    """Bytes with a checksum."""
    return blob + xxhash.xxh3_64_digest(blob)


def opened(blob: bytes) -> bytes:
    """The bytes that were sealed; a LedgerError where one has changed."""
    if xxhash.xxh3_64_digest(blob[:-_SEAL]) != blob[-_SEAL:]:
        raise LedgerError(_DAMAGED)
    return blob[:-_SEAL]


def split_keys(blob: bytes) -> list[bytes]:
    """The keys that were joined into one blob."""
    return np.frombuffer(blob, dtype=f"V{KEY_BYTES}").tolist()


class Rows:
    """Rows as they were given, and one content key a row.

    Two rows have the same key when they hold the same values: 1, 1.0 and ``np.float32(1)`` agree, so do 0.0 and -0.0, all
    NaNs and None; whole numbers too large for a float64 stay exact; text is its UTF-8. Columns with names count with them.

    Parameters
    ----------
    X : array of shape (n, ...) of numbers or text, structured array of shape (n,), pandas or polars frame, or nested lists

    Attributes
    ----------
    data : ndarray or frame
    n : int
    """

    def __init__(self, X: Any) -> None:
        self._frame: Any = None
        if not isinstance(X, np.ndarray) and hasattr(X, "shape") and hasattr(X, "columns"):
            self._frame = _as_frame(X)
            self.data = X
        else:
            self.data = _as_array(X)
        self.n = len(self.data)
        if self.n == 0:
            raise InvalidData("expected at least one row, got none")

    @property
    def names(self) -> list[str] | None:
        """The names of the columns, where they have names."""
        if self._frame is not None:
            return list(self._frame.columns)
        return list(self.data.dtype.names) if self.data.dtype.names else None

    def take(self, positions: NDArray[np.intp]) -> Any:
        """A copy of some rows, in the container they came in."""
        if self._frame is None:
            return self.data[positions]
        return self._frame[positions.tolist()].to_native()

    @cached_property
    def batch(self) -> bytes | None:
        """One key for all rows as they stand, where their bytes lie in one piece: equal keys, equal rows."""
        X = self.data
        if self._frame is not None or X.dtype.hasobject or X.dtype.kind == "T" or not X.flags.c_contiguous:
            return None
        return _digest(X.reshape(-1).view(np.uint8)) + f"{X.dtype}{X.shape}".encode()

    @cached_property
    def keys(self) -> list[bytes]:
        """The content key of each row."""
        if self._frame is None and self.data.dtype.kind in "biuf":
            flat = self.data.reshape(self.n, -1)
            if flat.shape[1] == 0:
                raise InvalidData(f"expected rows with at least one value, got an array of shape {self.data.shape}")
            if flat.dtype.itemsize < 8 or flat.dtype.kind == "f" or not _beyond(flat).any():
                return _number_keys(flat, self._seed)
        return _mixed_keys(self._columns, self._seed)

    @property
    def _seed(self) -> int:
        names = self.names
        if names is not None:
            kind = json.dumps(names)
        elif self.data.ndim != 2:
            kind = json.dumps(self.data.shape[1:])
        else:
            return 0
        return xxhash.xxh3_64_intdigest(kind.encode())

    @property
    def _columns(self) -> list[NDArray[Any]]:
        if self._frame is not None:
            return _frame_values(self._frame)
        if self.data.dtype.names:
            return [self.data[name] for name in self.data.dtype.names]
        return list(self.data.reshape(self.n, -1).T)

    def pack(self, positions: NDArray[np.intp]) -> bytes:
        """Some rows as bytes that `unpack` reads."""
        if self._frame is not None:
            frame = self._frame[positions.tolist()]
            dtypes = [str(dtype) for dtype in self.data.dtypes]
            columns = _frame_values(frame)
            kind = str(frame.implementation).rsplit(".", 1)[-1].lower()
            return _pack_columns({"frame": kind, "names": list(frame.columns), "dtypes": dtypes}, columns)
        return pack(self.data[positions])


def _as_frame(X: Any) -> Any:
    import narwhals.stable.v1 as nw

    names = list(X.columns)
    if type(X).__module__.partition(".")[0] not in ("pandas", "polars"):
        raise InvalidData(f"expected a pandas or polars frame or an array, got {type(X).__name__}; convert it first")
    if any(not isinstance(name, str) for name in names) or len(set(names)) < len(names) or not names:
        raise InvalidData(f"expected at least one column, each with a text name of its own, got {names[:5]}; rename them first")
    return nw.from_native(X, eager_only=True)


def _frame_values(frame: Any) -> list[NDArray[Any]]:
    whole = block(frame.to_native())
    return list(whole.T) if whole is not None else [_series_values(frame[name]) for name in frame.columns]


def _series_values(series: Any) -> NDArray[Any]:
    if series.dtype.is_temporal():
        raise InvalidData(f"column {series.name!r} holds {series.dtype}; turn dates and times into numbers first")
    number = series.dtype.is_numeric() or str(series.dtype) == "Boolean"
    if number and not series.is_null().any():
        return series.to_numpy()
    if number and series.dtype.is_float():
        return series.to_numpy().astype(float)
    values = np.empty(len(series), dtype=object)
    values[:] = [None if _missing(value) else value for value in series.to_list()]
    return values


def _as_array(X: Any) -> NDArray[Any]:
    if hasattr(X, "toarray"):
        raise InvalidData("expected dense rows, got a sparse matrix; use .toarray()")
    try:
        array = np.asarray(X)
        if array.dtype.kind == "U" and not isinstance(X, np.ndarray):
            # NumPy turns the numbers of mixed lists into text.
            exact = np.asarray(X, dtype=object)
            array = array if all(isinstance(value, str) for value in exact.ravel()) else exact
    except ValueError as error:
        raise InvalidData(f"expected rows that make an array of shape (n, ...), got {type(X).__name__}: {error}") from error
    if array.ndim == 0:
        raise InvalidData(f"expected rows as an array of shape (n, ...), got {X!r}")
    dtypes = [array.dtype[name] for name in array.dtype.names] if array.dtype.names else [array.dtype]
    for dtype in dtypes:
        if dtype.kind not in "biufUSTO" or dtype.subdtype or (dtype.kind == "f" and dtype.itemsize > 8):
            raise InvalidData(f"expected rows of numbers or text, got {dtype}; convert them first")
    if array.dtype.names and array.ndim != 1:
        raise InvalidData(f"expected a structured array of shape (n,), got shape {array.shape}")
    return array


# ---------------------------------------------------------------------- keys
def _beyond(values: NDArray[Any]) -> NDArray[np.bool_]:
    return (values > _EXACT) | (values < -_EXACT) if values.dtype.kind == "i" else values > _EXACT


def _canonical(values: NDArray[Any]) -> NDArray[np.float64]:
    """Float64 with one zero and one NaN, in C order."""
    out = np.add(values, 0.0, dtype=np.float64, order="C")
    absent = np.isnan(out)
    if absent.any():
        out[absent] = np.nan
    return out


def _hashed(matrix: NDArray[Any], seed: int) -> list[bytes]:
    return list(map(_digest, matrix)) if seed == 0 else [_digest(row, seed) for row in matrix]


def _number_keys(flat: NDArray[Any], seed: int) -> list[bytes]:
    step = max(1, _CHUNK_BYTES // (8 * flat.shape[1]))
    keys: list[bytes] = []
    for start in range(0, len(flat), step):
        keys += _hashed(_canonical(flat[start : start + step]), seed)
    return keys


def _mixed_keys(columns: list[NDArray[Any]], seed: int) -> list[bytes]:
    """Rows of numbers only are keyed as such; any other row by 16 bytes a value: the number, or a digest of the text."""
    n, d = len(columns[0]), len(columns)
    numbers = np.empty((n, d))
    codes = np.zeros((n, d, KEY_BYTES), dtype=np.uint8)
    text = np.zeros((n, d), dtype=bool)
    for j, column in enumerate(columns):
        numbers[:, j], text[:, j], digests = _column_codes(column)
        if digests:
            codes[text[:, j], j] = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, KEY_BYTES)
    numbers = _canonical(numbers)
    if not text.any():
        return _hashed(numbers, seed)
    codes[:, :, 8:][~text] = numbers.view(np.uint8).reshape(n, d, 8)[~text]
    worded = text.any(axis=1)
    out = np.empty(n, dtype=object)
    out[~worded] = _hashed(numbers[~worded], seed)
    out[worded] = _hashed(codes[worded].reshape(int(worded.sum()), -1), seed)
    return out.tolist()


def _column_codes(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[bytes]]:
    """Each value as a number; which are text; and the digests of those that are, in order."""
    if values.dtype.kind in "bf" or (values.dtype.kind in "iu" and not _beyond(values).any()):
        return values.astype(float), np.zeros(len(values), dtype=bool), []
    listed = values.tolist()
    kinds = set(map(type, listed))
    if kinds == {str}:
        return np.full(len(listed), np.nan), np.ones(len(listed), dtype=bool), [_text_digest(value) for value in listed]
    if kinds == {float}:
        return np.array(listed), np.zeros(len(listed), dtype=bool), []
    numbers, text, digests = np.full(len(listed), np.nan), np.zeros(len(listed), dtype=bool), []
    for i, value in enumerate(listed):
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, int) and int(float(value) if abs(value) < 1 << 1000 else 0) != value:
            value = f"\0integer {value}"
        if isinstance(value, str) or (isinstance(value, bytes) and values.dtype.kind == "S"):
            text[i] = True
            digests.append(_text_digest(value))
        elif isinstance(value, int | float):
            numbers[i] = value
        elif not _missing(value):
            raise InvalidData(f"expected numbers, text or None in row {i}, got {type(value).__name__}: {value!r}")
    return numbers, text, digests


def _text_digest(value: str | bytes) -> bytes:
    return _digest(value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value)


def _missing(value: Any) -> bool:
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or type(value).__name__ in ("NAType", "NaTType")


# ---------------------------------------------------------------------- bytes and back
def pack(array: NDArray[Any]) -> bytes:
    """An array as bytes with a checksum: numbers as they lie in memory, text and mixed values as JSON."""
    if array.dtype.names and array.dtype.hasobject:
        names = list(array.dtype.names)
        record = {"frame": "structured", "names": names, "dtypes": [array.dtype[name].str for name in names]}
        return _pack_columns(record, [array[name] for name in names])
    if array.dtype.kind in "UTO":
        listed = [value.item() if isinstance(value, np.generic) else value for value in array.ravel().tolist()]
        listed = [None if _missing(value) else value for value in listed]
        kind = "object" if array.dtype.kind == "O" or None in listed else "text"
        return _headed({kind: array.shape}, json.dumps(listed).encode())
    if array.dtype.names:
        array = repack_fields(array, recurse=True)
    return _headed({"dtype": np.lib.format.dtype_to_descr(array.dtype), "shape": array.shape}, array.tobytes())


def _pack_columns(record: dict[str, Any], columns: list[NDArray[Any]]) -> bytes:
    packed = [pack(column) for column in columns]
    return _headed({**record, "sizes": [len(part) for part in packed]}, b"".join(packed))


def _headed(record: dict[str, Any], body: bytes) -> bytes:
    return sealed(json.dumps(record).encode() + b"\n" + body)


def unpack(blob: bytes) -> Any:
    """What `pack` or `Rows.pack` wrote; a LedgerError where a byte has changed."""
    head, _, body = opened(blob).partition(b"\n")
    try:
        record = json.loads(head)
        return _unpack_columns(record, body) if "frame" in record else _unpack_array(record, body)
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(_DAMAGED) from error


def _unpack_array(record: dict[str, Any], body: bytes) -> NDArray[Any]:
    if "dtype" in record:
        dtype = np.lib.format.descr_to_dtype(_descr(record["dtype"]))
        return np.frombuffer(body, dtype=dtype).reshape(record["shape"])
    values = json.loads(body)
    if "text" in record:
        return np.array(values, dtype=str).reshape(record["text"])
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out.reshape(record["object"])


def _descr(written: Any) -> Any:
    """A dtype as NumPy describes it, from JSON, which has no tuples."""
    if isinstance(written, str):
        return written
    return [
        (tuple(name) if isinstance(name, list) else name, _descr(kind), *map(tuple, shape)) for name, kind, *shape in written
    ]


def _unpack_columns(record: dict[str, Any], body: bytes) -> Any:
    ends = np.cumsum([0, *record["sizes"]])
    columns = [unpack(body[a:b]) for a, b in pairwise(ends.tolist())]
    named = dict(zip(record["names"], columns, strict=True))
    dtypes = dict(zip(record["names"], record["dtypes"], strict=True))
    if record["frame"] == "structured":
        out = np.empty(len(columns[0]), dtype=list(dtypes.items()))
        for name, values in named.items():
            out[name] = values
        return out
    if record["frame"] == "pandas":
        library = importlib.import_module("pandas")
        return library.DataFrame({name: library.Series(values, dtype=dtypes[name]) for name, values in named.items()})
    library = importlib.import_module("polars")
    lists = {name: values.tolist() if values.dtype.kind == "O" else values for name, values in named.items()}
    return library.DataFrame(lists, schema={name: getattr(library, dtype, None) for name, dtype in dtypes.items()})


def join(parts: list[Any]) -> Any:
    """Arrays, or frames of one kind, one below the other."""
    if len(parts) == 1:
        return parts[0]
    forms = {_form(part) for part in parts}
    if len(forms) > 1:
        raise LedgerError(
            f"these rows were asked in forms that do not go together: {' and '.join(sorted(forms))}; read one purpose at a "
            "time, or use one form for all that is asked"
        )
    if isinstance(parts[0], np.ndarray):
        # Of text and numbers, NumPy would make text.
        mixed = len({part.dtype.kind in "US" for part in parts}) > 1
        return np.concatenate([part.astype(object) for part in parts] if mixed else parts)
    library = type(parts[0]).__module__.partition(".")[0]
    how: dict[str, Any] = {"ignore_index": True} if library == "pandas" else {"how": "vertical_relaxed"}
    return importlib.import_module(library).concat(parts, **how)


def _form(rows: Any) -> str:
    if isinstance(rows, np.ndarray) and not rows.dtype.names:
        return f"arrays of shape (n, {', '.join(map(str, rows.shape[1:]))})" if rows.ndim > 1 else "arrays of shape (n,)"
    names = rows.dtype.names if isinstance(rows, np.ndarray) else rows.columns
    return f"{type(rows).__module__.partition('.')[0]} rows with the columns {', '.join(map(repr, names))}"


def text_or_numbers(array: NDArray[Any]) -> NDArray[Any]:
    """An object array as plain text or plain numbers; a ValueError where it is neither."""
    if all(isinstance(value, str) for value in array.flat):
        return array.astype(str)
    if all(isinstance(value, int | float | np.number | np.bool_) for value in array.flat):
        return np.array(array.tolist())
    raise ValueError("the values are neither all text nor all numbers")


# ---------------------------------------------------------------------- identity
def name_of(answer: Any) -> str:
    """What a callable is called: ``module:function``, or its class."""
    if isinstance(answer, functools.partial):
        return name_of(answer.func)
    if inspect.ismethod(answer):
        return f"{type(answer.__self__).__name__}.{answer.__name__}"
    if inspect.isroutine(answer) or inspect.isclass(answer):
        return f"{answer.__module__}:{answer.__qualname__}"
    return type(answer).__name__


def fingerprint_of(answer: Any) -> str | None:
    """A digest of what a callable computes: its code, what that refers to, and its content; None where that cannot be read."""
    parts: list[str] = []
    if not _describe(answer, parts.append, set()):
        return None
    return xxhash.xxh3_128_hexdigest("\n".join(parts).encode("utf-8", "surrogatepass"))


def _describe(thing: Any, note: Callable[[str], None], seen: set[int]) -> bool:
    """Note down what a thing is; False where its content cannot be read."""
    if inspect.ismodule(thing) or inspect.isclass(thing) or inspect.isbuiltin(thing):
        note(f"{getattr(thing, '__module__', '')}:{getattr(thing, '__qualname__', thing.__name__)}")
        return True
    if isinstance(thing, functools.partial):
        return _describe_all([thing.func, *thing.args, *sorted(thing.keywords.items())], note, seen)
    if inspect.ismethod(thing):
        note(thing.__name__)
        return _describe_all([thing.__self__, thing.__func__], note, seen)
    if isinstance(thing, types.FunctionType):
        _describe_function(thing, note, seen)
        return True
    called = inspect.getattr_static(type(thing), "__call__", None)
    if isinstance(called, types.FunctionType):
        _describe_function(called, note, seen)
    return _describe_content(thing, note)


def _describe_all(things: Iterable[Any], note: Callable[[str], None], seen: set[int]) -> bool:
    known = [_describe(thing, note, seen) for thing in things]  # each is noted, whatever became of those before
    return all(known)


def _describe_function(function: types.FunctionType, note: Callable[[str], None], seen: set[int]) -> None:
    note(f"{function.__module__}:{function.__qualname__}")
    if id(function) in seen:
        return
    seen.add(id(function))
    inside = inspect.getmodule(function)
    library = inside is not None and "site-packages" in (getattr(inside, "__file__", None) or "")
    if library:  # its version is its maker's affair
        return
    names = _describe_code(function.__code__, note)
    held = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
    held += [*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())]
    held += [function.__globals__[name] for name in names if name in function.__globals__]
    for value in held:
        if not _describe(value, note, seen):
            note(f"a {type(value).__module__}.{type(value).__qualname__}")


def _describe_code(code: types.CodeType, note: Callable[[str], None]) -> list[str]:
    """Note down what the code does; the global names it reads."""
    note(code.co_code.hex())
    names = sorted({str(step.argval) for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")})
    note(repr((code.co_names, code.co_varnames)))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += _describe_code(constant, note)
        else:
            note(repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant))
    return names


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _describe_content(thing: Any, note: Callable[[str], None]) -> bool:
    import pickle

    import joblib

    try:
        note(joblib.hash(thing))
    except (pickle.PicklingError, TypeError, ValueError, AttributeError, RecursionError, NotImplementedError):
        return False
    return True
