"""A box about the best design, in which alone is looked: for many parameters, where most of the space is far from all data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, require_whole
from locum.optimize.space import Point, Real, Space

__all__ = ["TrustRegion", "Window"]

_FLOAT = NDArray[np.float64]


class Window:
    """A part of a space: numbers that can take any value lie in a box, others are free.

    Parameters
    ----------
    space : Space
    centre : Point
    side : float
        Of the box, in units of the encoding, cut where the space ends.

    Attributes
    ----------
    space : Space
        The part.
    low, high : ndarray of shape (width,)
        Its ends in the encoding of the whole.
    """

    def __init__(self, space: Space, centre: Point, side: float) -> None:
        middle, free = space.encode([centre])[0], space.continuous
        self.low = np.where(free, np.clip(middle - side / 2, 0, 1), 0.0)
        self.high = np.where(free, np.clip(middle + side / 2, 0, 1), 1.0)
        parts = []
        for one, at in zip(space.parameters, space.columns, strict=True):
            if isinstance(one, Real):
                low, high = one.decode(np.array([self.low[at], self.high[at]]))
                one = replace(one, low=low, high=high)
            parts.append(one)
        self.space = Space(parts)
        self._encode = space.encode

    def holds(self, point: Point) -> bool:
        """Whether a point of the whole space lies in this part."""
        row = self._encode([point])[0]
        return bool(((row >= self.low - 1e-12) & (row <= self.high + 1e-12)).all())


@final
class TrustRegion:
    """A box about the best design at the truth; it grows after successes in a row, and shrinks after failures in a row.

    Parameters
    ----------
    length : float, default=0.8
        First side of the box, in units of the encoding, where the space has side 1.
    least : float, default=0.01
        Side below which it starts again at the first.
    successes : int, default=3
        Evaluations of the truth in a row that improve on the best, after which the side doubles.
    failures : int or None, default=None
        Evaluations of the truth in a row that do not, after which it halves; the number of parameters, 4 or more, where None.

    Notes
    -----
    The side follows from what was told alone. Departures: one region, whose sides are all alike; a restart keeps the surrogate.

    References
    ----------
    Eriksson et al., *Scalable global optimization via local Bayesian optimization*, arXiv 1910.01739.

    Examples
    --------
    >>> TrustRegion(failures=2).side([5.0, 4.0, 4.5, 3.0], first=1, width=2)
    0.4
    """

    def __init__(self, length: float = 0.8, least: float = 0.01, successes: int = 3, failures: int | None = None) -> None:
        if not 0 < least < length <= 2:
            raise InvalidData(f"expected 0 < least= < length= <= 2, got {least!r} and {length!r}")
        require_whole(1, successes=successes, **({} if failures is None else {"failures": failures}))
        self.length, self.least, self.successes, self.failures = float(length), float(least), successes, failures

    def side(self, values: Sequence[float], first: int, width: int) -> float:
        """Side of the box after some evaluations of the truth.

        Parameters
        ----------
        values : sequence of float
            Larger is better; NaN where it failed.
        first : int
            How many of them belong to the first design.
        width : int
            Parameters.
        """
        most = max(4, width) if self.failures is None else self.failures
        side, won, lost = self.length, 0, 0
        best = max((v for v in values[:first] if v == v), default=-np.inf)
        for value in values[first:]:
            won, lost = (won + 1, 0) if value > best else (0, lost + 1)
            best = max(best, value) if value == value else best
            if won == self.successes:
                side, won = min(2 * side, 2.0), 0
            elif lost == most:
                side, lost = side / 2, 0
            if side < self.least:
                side = self.length
        return side
