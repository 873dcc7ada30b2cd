"""Settings and inputs that more than one emulator takes, refused in the same words."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData
from locum.emulate.trajectories import Trajectories

__all__ = ["inputs_of", "is_number", "require_rates"]

Array = NDArray[np.floating[Any]]


def is_number(value: Any) -> bool:
    """Whether it is a real number, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def require_rates(pair: Any) -> None:
    """Refuse what is no pair of learning rates, at the start and the end."""
    if not isinstance(pair, tuple) or len(pair) != 2 or not all(is_number(one) and 0 < one < np.inf for one in pair):
        raise InvalidData(f"expected lr= as two positive numbers, at the start and the end, got {pair!r}")


def inputs_of(runs: Trajectories, given: Any, what: str, width: str, dtype: Any = float) -> Array | None:
    """A row of inputs for each row of the runs, one run after another; None where none are given.

    Parameters
    ----------
    runs : Trajectories
    given : array-like of shape (T, k), or one a run, or None
    what, width : str
        What errors call them, and their number.
    dtype : dtype, default=float
    """
    if given is None:
        return None
    found = [np.asarray(one, dtype=dtype) for one in (given if isinstance(given, list | tuple) else [given])]
    shapes = [one.shape for one in found]
    if [shape[:1] for shape in shapes] != [(n,) for n in runs.lengths] or any(len(shape) != 2 for shape in shapes):
        raise InvalidData(f"expected {what} of shape (T, {width}) for runs of {runs.lengths} rows, got shapes {shapes}")
    joined = np.concatenate(found)
    if not np.isfinite(joined).all():
        raise InvalidData(f"expected finite {what}, got NaN or infinity")
    return joined
