"""Engineering formulas: closed forms in physical units, for users whose simulator takes hours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.domain import Column, Domain
from locum.core.errors import InvalidData

__all__ = ["Formula", "formula"]


@dataclass(frozen=True, eq=False)
class Formula:
    """A physical quantity in closed form, on a box of inputs.

    Parameters
    ----------
    name : str
    quantity, unit : str
        What is answered, and in which unit.
    domain : Domain
        The inputs with their usual ranges.
    units : mapping of str to str
        The unit of each input; empty text for a pure number.
    equation : callable
        Takes one array of shape (n,) an input, in order; gives the quantity, shape (n,).

    Examples
    --------
    >>> from locum.problems import borehole
    >>> problem = borehole()
    >>> problem.quantity, problem.unit, problem.answer(problem.sample(3)).shape
    ('flow of water', 'm³/year', (3,))
    """

    name: str
    quantity: str
    unit: str
    domain: Domain
    units: Mapping[str, str]
    equation: Callable[..., NDArray[np.float64]] = field(repr=False)

    def sample(self, n: int, seed: int = 0) -> NDArray[np.float64]:
        """Rows drawn uniformly and independently from the box of inputs, shape (n, d)."""
        if n < 1:
            raise InvalidData(f"expected to sample at least one row, got n={n}")
        low = np.array([column.low for column in self.domain.columns])
        high = np.array([column.high for column in self.domain.columns])
        return low + (high - low) * np.random.default_rng(seed).random((n, len(low)))

    def answer(self, X: Any) -> NDArray[np.float64]:
        """The quantity for rows of shape (n, d), shape (n,).

        Raises
        ------
        InvalidData
            Another number of columns, or values for which the formula has no finite answer.
        """
        Z = self.domain.encode(X)
        with np.errstate(all="ignore"):
            out = np.asarray(self.equation(*Z.T), dtype=float)
        wrong = np.flatnonzero(~np.isfinite(out))
        if wrong.size:
            raise InvalidData(
                f"{self.name} has no finite answer for {wrong.size} of {len(Z)} rows, first row {wrong[0]}; keep to the ranges "
                "of its domain"
            )
        return out


def formula(
    name: str, quantity: str, unit: str, inputs: Mapping[str, tuple[float, float, str]], equation: Callable[..., Any]
) -> Formula:
    """A formula from its inputs: name, lowest and highest usual value, and unit."""
    columns = tuple(Column(key, "numeric", float(low), float(high)) for key, (low, high, _) in inputs.items())
    domain = Domain(columns, "array", ("<f8",) * len(columns))
    units = MappingProxyType({key: unit for key, (_, _, unit) in inputs.items()})
    return Formula(name, quantity, unit, domain, units, equation)
