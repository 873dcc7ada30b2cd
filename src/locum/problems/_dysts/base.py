"""The three names that the equations of dysts are written with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DynSys", "DynSysDelay", "staticjit"]

staticjit = staticmethod


class DynSys:
    """Parameters as attributes, and the right-hand side with all of them."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        values = {name: np.asarray(one, dtype=float)[()] for name, one in sorted(parameters.items())}
        self.__dict__.update(values)
        self._values = tuple(values.values())

    def rhs(self, X: NDArray[np.float64], t: float) -> Any:
        """Derivative of the state X (d,) at time t."""
        return self._rhs(*X, t, *self._values)  # type: ignore[attr-defined]

    def jac(self, X: NDArray[np.float64], t: float) -> Any:
        """Derivative of `rhs` with respect to X, where the equations come with it."""
        return self._jac(*X, t, *self._values)  # type: ignore[attr-defined]


class DynSysDelay(DynSys):
    """The derivative of x also depends on x a time `tau` before."""
