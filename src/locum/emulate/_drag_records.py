"""What a stand-in for drag tells about itself: where drag comes from, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.fidelity import Fidelity

__all__ = ["ClassAudit", "DragAudit", "Saliency"]

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Saliency:
    """What each place of a picture adds to the drag that is predicted, against a baseline.

    Attributes
    ----------
    maps : ndarray of shape (views, size, size)
        Drag coefficient; summed over the channels that the branch reads.
    by_view : dict of str to float
        Sums of the maps.
    by_kind : dict of str to float
        Sums over depth, normals or silhouettes.
    value, base : float
        Drag predicted for the picture, and for the baseline.
    gap : float
        What the sum of all maps misses of ``value - base``; integrated gradients are complete where it is 0.
    steps : int
        Of the path.
    """

    maps: Array
    by_view: dict[str, float]
    by_kind: dict[str, float]
    value: float
    base: float
    gap: float
    steps: int


@dataclass(frozen=True)
class ClassAudit:
    """One class of shapes.

    Attributes
    ----------
    n : int
    r2 : Fidelity
        Within the class.
    coverage : Fidelity
        Share of drags within the bound.
    flagged : bool
        Whether the coverage is below the level that was promised, beyond chance.
    """

    n: int
    r2: Fidelity
    coverage: Fidelity
    flagged: bool


@dataclass(frozen=True, eq=False)
class DragAudit:
    """How far predictions can be trusted on shapes that were neither learned from nor calibrated on.

    Attributes
    ----------
    r2, within, mae : Fidelity
        R² over all, R² against the means of the classes, and mean absolute error. `within` is `r2` without classes.
    coverage : Fidelity
        Share of drags within `half`.
    half : float
        Half width of the bound.
    level : float
        That it was promised to hold with.
    classes : dict of str to ClassAudit
    ceiling : float or None
        R² of a perfect stand-in, given the spread of the labels.
    outside : float
        Share of pictures outside the region that was learned from.
    """

    r2: Fidelity
    within: Fidelity
    mae: Fidelity
    coverage: Fidelity
    half: float
    level: float
    classes: dict[str, ClassAudit]
    ceiling: float | None
    outside: float

    @property
    def flagged(self) -> tuple[str, ...]:
        """Classes on which the bound does not hold."""
        return tuple(name for name, one in self.classes.items() if one.flagged)

    def __str__(self) -> str:
        lines = [
            f"{self.r2}", f"within classes: {self.within}", f"{self.mae}",
            f"±{self.half:.4g} at {self.level:.0%}: {self.coverage}",
        ]  # fmt: skip
        for name, one in self.classes.items():
            mark = "  BOUND DOES NOT HOLD" if one.flagged else ""
            lines.append(f"{name}: n={one.n}, r2 {one.r2.value:.3f}, covered {one.coverage.value:.3f}{mark}")
        if self.ceiling is not None:
            lines.append(f"r2 of a perfect stand-in for labels with this spread: {self.ceiling:.3f}")
        return "\n".join([*lines, f"outside what was learned from: {self.outside:.1%}"])
