"""An objective as a target: a function of a point, asked point by point, with every answer kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData
from locum.core.target import Target
from locum.optimize.space import Integer, Point, Space

__all__ = ["objective", "rows_of"]


def objective(function: Callable[[Point], float], space: Space, **settings: Any) -> Target:
    """A target that answers points of a space.

    Parameters
    ----------
    function : callable
        Takes a point, a dict with a value for each parameter that matters in it; gives a number. NaN, or an exception, says
        that the evaluation failed.
    space : Space
    **settings
        Of `Target`: ``name``, ``ledger``, ``price``, ``budget``, ``timeout``, ``executor`` and so on.

    Returns
    -------
    Target
        One call a point, so that what was answered is kept whatever happens to the next.

    Examples
    --------
    >>> from locum.optimize import Space
    >>> space = Space.box([(-1, 1), (0, 5)])
    >>> target = objective(lambda point: point["x0"] ** 2 + point["x1"], space, name="bowl")
    >>> target.query(rows_of(space, [{"x0": 0.5, "x1": 2.0}]), "fit").tolist()
    [2.25]
    """
    if not callable(function):
        raise InvalidData(f"expected a function of a point, got {type(function).__name__}")

    def answer(rows: Any) -> NDArray[np.float64]:
        return np.array([_number(function(point_of(space, row))) for row in rows])

    name = settings.pop("name", None) or getattr(function, "__name__", type(function).__name__)
    fingerprint = settings.pop("fingerprint", None)
    # A ledger of another space is another objective's.
    mark = f"{fingerprint or name} on {space.digest}"
    usual = {"output": "value", "batch_size": 1, "failures": "isolate", "allow_nan": True, "fingerprint": mark}
    return Target(answer, name=name, **{**usual, **settings})


def rows_of(space: Space, points: Sequence[Mapping[str, Any]]) -> NDArray[Any]:
    """Points as rows that a target takes: an array of floats, or of objects where there are choices or conditions.

    Parameters
    ----------
    space : Space
    points : sequence of points

    Returns
    -------
    ndarray of shape (n, parameters)
        None where a parameter does not matter.
    """
    checked = [space.check(point) for point in points]
    cells = [[point.get(name) for name in space.names] for point in checked]
    plain = all(one.width == 1 and one.when is None for one in space.parameters)
    out = np.empty((len(cells), len(space)), dtype=float if plain else object)
    for i, row in enumerate(cells):
        out[i] = row
    return out


def point_of(space: Space, row: Any) -> Point:
    """The point of a row that `rows_of` made."""
    point = {name: value for name, value in zip(space.names, row, strict=True) if value is not None}
    for one in space.parameters:
        if one.name in point and one.width == 1:
            point[one.name] = int(point[one.name]) if isinstance(one, Integer) else float(point[one.name])
    return point


def _number(value: Any) -> float:
    found = np.asarray(value, dtype=float)
    if found.size != 1:
        raise InvalidData(f"expected one number from the objective, got shape {found.shape}")
    return float(found.reshape(()))
