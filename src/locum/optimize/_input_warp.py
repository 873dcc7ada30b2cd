"""Columns bent by the distribution of Kumaraswamy: a stationary process of them may change faster at one end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["bent", "with_slopes"]

_FLOAT = NDArray[np.float64]
_EDGE = 1e-6  # where slopes in the powers, or in the rows, would have no end


def bent(rows: Any, powers: Any) -> Any:
    """1 - (1 - x^a)^b of rows (..., d) in [0, 1], for powers (d, 2): arrays, or tensors."""
    inner = (_EDGE + (1 - 2 * _EDGE) * rows) ** powers[:, 0]
    return 1 - (1 - inner) ** powers[:, 1]


def with_slopes(rows: _FLOAT, powers: _FLOAT) -> tuple[_FLOAT, _FLOAT]:
    """What `bent` gives (n, d), and its slopes in the logarithms of the powers, (n, d, 2)."""
    x, (a, b) = _EDGE + (1 - 2 * _EDGE) * rows, powers.T
    inner = x**a
    outer = (1 - inner) ** b
    slopes = [b * outer / (1 - inner) * inner * np.log(x) * a, -outer * np.log1p(-inner) * b]
    return 1 - outer, np.stack(slopes, axis=-1)
