"""A target from a function of rows."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

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
    module, _, name = path.partition(":")
    if not module or not name:
        raise InvalidData(f"expected 'module:function', got {path!r}")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except Exception as error:  # a module can raise anything while it is read
        raise InvalidData(
            f"cannot import {module!r} for {path!r} ({type(error).__name__}: {error}); run where it can be imported from"
        ) from error
    finally:
        sys.path.remove(here)
    try:
        function = reduce(getattr, name.split("."), found)
    except AttributeError as error:
        where = getattr(found, "__file__", "Python itself")
        raise InvalidData(f"module {module!r} has no {name!r}; it is read from {where}") from error
    if not callable(function):
        raise InvalidData(f"expected {path!r} to be a function of rows, it is {type(function).__name__}")
    return function
