"""Settings of a learner of Pareto sets, and where it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from locum.core.errors import InvalidData
from locum.optimize.space import Real, Space

__all__ = ["check_numbers", "latin", "names_of", "reals"]


def latin(n: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A Latin hypercube of n rows in [0, 1]; n may be 0."""
    return np.asarray(qmc.LatinHypercube(width, rng=rng).random(n)) if n else np.zeros((0, width))


def reals(space: Space | Sequence[tuple[float, float]]) -> Space:
    """The space, where a network can answer in it."""
    found = space if isinstance(space, Space) else Space.box(space)
    other = [one.name for one in found.parameters if not isinstance(one, Real) or one.when is not None]
    if other:
        raise InvalidData(f"expected a space of real numbers that always matter, but {other[0]} is none; relax it to a Real")
    return found


def names_of(names: Sequence[str] | None, n_obj: int) -> tuple[str, ...]:
    """Names of the objectives."""
    found = tuple(f"f{j + 1}" for j in range(n_obj)) if names is None else tuple(names)
    if len(set(found)) != n_obj or len(found) != n_obj or not all(isinstance(one, str) and one for one in found):
        raise InvalidData(f"expected {n_obj} different names of objectives, got {found!r}")
    return found


def check_numbers(positive: dict[str, Any], least_zero: dict[str, Any]) -> None:
    """Refuse settings that are not finite numbers above 0, or of 0 or more."""
    for name, value in {**positive, **least_zero}.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < 0 or (value == 0 and name in positive):
            least = "above 0" if name in positive else "of 0 or more"
            raise InvalidData(f"expected {name}= to be a number {least}, got {value!r}")
