"""One file of arrays and JSON (npz), written whole or not at all, and read without running anything in it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import FormatError
from locum.core.export import write_atomically

__all__ = ["read_arrays", "write_arrays"]

_FORMAT = 1


def write_arrays(path: Any, record: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Write JSON-ready values, and arrays by name."""
    packed = io.BytesIO()
    np.savez(packed, record=np.array(json.dumps({"format": _FORMAT, **record})), **arrays)  # type: ignore[arg-type]
    write_atomically(path, packed.getvalue())


def read_arrays(path: Any) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What `write_arrays` wrote.

    Raises
    ------
    FormatError
        Another kind of file, or of a newer format.
    """
    try:
        with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
        record = json.loads(str(arrays.pop("record")))
    except OSError:
        raise
    except Exception as error:
        raise FormatError(f"{path} is no saved model of dynamics ({error})") from error
    if record.pop("format", None) != _FORMAT:
        raise FormatError(f"{path} is not of format {_FORMAT}: update Locum to read it")
    return record, arrays
