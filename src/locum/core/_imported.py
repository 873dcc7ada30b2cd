"""What a text such as "module:function" names, and where an installed package lies."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import reduce
from pathlib import Path
from typing import Any

from locum.core.errors import InvalidData

__all__ = ["imported", "package_folder"]


def imported(path: str, folder: Path | None = None) -> Any:
    """The object that a text names, its module found in a folder too.

    Parameters
    ----------
    path : str
        Such as ``"module:name"`` or ``"package.module:Class.method"``.
    folder : Path or None, default=None
        The working folder where None.

    Raises
    ------
    InvalidData
        Another kind of text, or no such module or object.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise InvalidData(f"expected 'module:function', got {path!r}")
    here = str((Path.cwd() if folder is None else folder).resolve())
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
        return reduce(getattr, name.split("."), found)
    except AttributeError as error:
        where = getattr(found, "__file__", "Python itself")
        raise InvalidData(f"module {module!r} has no {name!r}; it is read from {where}") from error


def package_folder(name: str) -> Path | None:
    """The folder of an installed package, found without importing it; None where it is not installed.

    Parameters
    ----------
    name : str
    """
    spec = importlib.util.find_spec(name)
    return None if spec is None or not spec.submodule_search_locations else Path(spec.submodule_search_locations[0])
