"""A target from a function of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from locum.core._imported import imported
from locum.core.errors import InvalidData
from locum.core.target import Target

__all__ = ["from_callable"]


def from_callable(function: Callable[[Any], Any] | str, **settings: Any) -> Target:
    """A target from a function that takes rows and gives one answer a row.

    Parameters
    ----------
    function : callable or str
        ``"module:function"`` is imported, from the working folder too.
    **settings
        Of `Target`.

    Raises
    ------
    InvalidData
        No such module or function.

    Examples
    --------
    >>> from_callable("numpy:ravel").query([[1.5], [2.5]])
    array([1.5, 2.5])
    """
    if isinstance(function, str):
        settings = {"name": function, **settings}
        function = _imported(function)
    return Target(function, **settings)


def _imported(path: str) -> Callable[[Any], Any]:
    function = imported(path)
    if not callable(function):
        raise InvalidData(f"expected {path!r} to be a function of rows, it is {type(function).__name__}")
    return function
