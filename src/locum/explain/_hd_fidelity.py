"""How well an imitation of a black box on a few columns follows it, beside the cheapest rivals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.fidelity import Fidelity
from locum.core.measures import measure
from locum.core.rivals import Rival

__all__ = ["HighDimFidelity", "compare", "defined"]

_FLOAT = NDArray[np.float64]


@dataclass(frozen=True)
class HighDimFidelity:
    """How well an imitation on k columns follows the black box on fresh rows, beside the cheapest rivals.

    Attributes
    ----------
    k : int
    r2 : Fidelity or None
        Of all probabilities together, each class weighing as its variance; None where they are the same on all rows.
    agreement : Fidelity
        Share of rows with the same class.
    rivals : tuple of Rival
        A constant, one split and a linear model on the same columns, with r2 (where defined) and agreement.
    random : tuple of Fidelity
        R2 (where defined) and agreement of the same imitation on as many columns picked at random.
    """

    k: int
    r2: Fidelity | None
    agreement: Fidelity
    rivals: tuple[Rival, ...]
    random: tuple[Fidelity, ...]

    def text(self) -> str:
        """One line a figure."""
        undefined = "r2 is undefined: the black box's probabilities are the same on all these rows"
        lines = [f"{self.k} columns: {self.r2 or undefined}", f"{self.k} columns: {self.agreement}"]
        lines += [f"beside it, {rival.name}: {found}" for rival in self.rivals for found in rival.fidelity]
        return "\n".join(lines + [f"beside it, {self.k} columns at random: {found}" for found in self.random])

    def __str__(self) -> str:
        return self.text()


def compare(P: _FLOAT, said: _FLOAT, *, groups: Any, random_state: int) -> tuple[Fidelity | None, Fidelity]:
    """R2, where it is defined, and agreement of what is said with the black box's probabilities, both of shape (n, classes)."""
    settings: dict[str, Any] = {"groups": groups, "region": "rows given", "random_state": random_state}
    # A label that came up after the fit only is none of the classes, and agrees with none.
    labels = np.where(P.any(axis=1), P.argmax(axis=1), -1), said.argmax(axis=1)
    constant = (np.ptp(P, axis=0) <= 1e-12).all()
    r2 = None if constant else measure("r2").fidelity(P, said, **settings)
    return r2, measure("agreement").fidelity(*labels, **settings)


def defined(found: Iterable[Fidelity | None]) -> tuple[Fidelity, ...]:
    """Those that are defined."""
    return tuple(one for one in found if one is not None)
