"""Equations of the dysts package, read from its own file and run on what this folder gives them.

Of dysts, only the file of equations and the table of parameters are used: the rest of the package imports gluonts, which holds
pandas back, and reseeds NumPy's global generator. That file needs three names, which `base` defines.
"""

from __future__ import annotations

import importlib.util
import json
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from locum.core.errors import need

__all__ = ["equations", "records"]


@lru_cache(maxsize=1)
def equations() -> ModuleType:
    """The module of dysts that has a class for each system."""
    spec = importlib.util.spec_from_file_location(f"{__name__}.flows", _folder() / "flows.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=1)
def records() -> dict[str, dict[str, Any]]:
    """What dysts knows of each system, by name."""
    found: dict[str, dict[str, Any]] = json.loads((_folder() / "data" / "chaotic_attractors.json").read_text(encoding="utf-8"))
    return found


def _folder() -> Path:
    package = need("dysts", "a chaotic system", "chaos")
    return Path(package.__file__).parent
