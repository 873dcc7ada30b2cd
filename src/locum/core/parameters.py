"""Settings of a simulator by name: what users write, as rows of numbers in one order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData

__all__ = ["parameter_rows"]


def parameter_rows(parameters: Any, names: Sequence[str]) -> NDArray[np.float64]:
    """Parameters as rows (n, d), in the order of `names`.

    Parameters
    ----------
    parameters : array-like of shape (n, d) or (d,), or mapping of name to numbers that broadcast
    names : sequence of str

    Raises
    ------
    InvalidData
        Other names, shapes that do not broadcast, or numbers that are not finite.

    Examples
    --------
    >>> parameter_rows({"b": 3, "a": [1, 2]}, ["a", "b"]).tolist()
    [[1.0, 3.0], [2.0, 3.0]]
    """
    try:
        if isinstance(parameters, Mapping):
            if set(parameters) != set(names):
                given = ", ".join(map(str, parameters)) or "none"
                raise InvalidData(f"expected the parameters {', '.join(names)}, got {given}")
            columns = np.broadcast_arrays(*(np.asarray(parameters[name], dtype=float) for name in names))
            rows = np.stack([column.ravel() for column in columns], axis=1)
        else:
            rows = np.atleast_2d(np.asarray(parameters, dtype=float))
    except (ValueError, TypeError) as error:
        if isinstance(error, InvalidData):
            raise
        raise InvalidData(f"expected numbers for {', '.join(names)} that broadcast to one length: {error}") from error
    if rows.ndim != 2 or rows.shape[1] != len(names):
        raise InvalidData(f"expected parameters of shape (n, {len(names)}), for {', '.join(names)}, got {rows.shape}")
    if not np.isfinite(rows).all():
        raise InvalidData("expected finite parameters, got NaN or infinity")
    return rows
