"""A fitted emulator as one file of arrays and JSON (npz): written whole or not at all, and nothing in it is run."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import FormatError
from locum.core.export import write_atomically

__all__ = ["kind_of", "read_packed", "write_packed"]


def write_packed(path: Any, model: object, version: int, record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write JSON-ready values and arrays.

    Parameters
    ----------
    path : path
    model : object
        Whose class the file names.
    version : int
        Of the format.
    record, arrays : mapping
    """
    packed = io.BytesIO()
    text = np.array(json.dumps({"kind": type(model).__name__, "format": version, **record}))
    np.savez(packed, record=text, **arrays)  # type: ignore[arg-type]
    write_atomically(path, packed.getvalue())


def read_packed(path: Any, version: int, what: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What `write_packed` wrote.

    Parameters
    ----------
    path : path
    version : int
    what : str
        What the file should hold, for errors.

    Raises
    ------
    FormatError
        Another kind of file, or of another format.
    """
    try:
        with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
        record = json.loads(str(arrays.pop("record")))
    except OSError:
        raise
    except Exception as error:
        raise FormatError(f"{path} is no {what} ({error})") from error
    record.pop("kind", None)
    if record.pop("format", None) != version:
        raise FormatError(f"{path} is not of format {version}: update Locum to read it")
    return record, arrays


def kind_of(path: Any) -> str:
    """Name of the class whose model a file holds.

    Raises
    ------
    FormatError
        No file that `write_packed` wrote.
    """
    try:
        with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as held:
            return str(json.loads(str(held["record"]))["kind"])
    except OSError:
        raise
    except Exception as error:
        raise FormatError(f"{path} is no saved emulator ({error})") from error
