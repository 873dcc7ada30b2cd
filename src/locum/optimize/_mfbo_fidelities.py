"""Levels of an objective, each with what it costs: the cheapest first, the truth last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData
from locum.core.target import Target
from locum.optimize._mfbo_surrogates import positions_of
from locum.optimize.objective import point_of
from locum.optimize.space import Point, Space

__all__ = ["ContinuousFidelity", "Fidelities"]

_FLOAT = NDArray[np.float64]


class Fidelities:
    """An objective at several levels, each with what an evaluation costs.

    Parameters
    ----------
    levels : sequence of Target or callable
        The cheapest first, the truth last. A callable takes a point and gives a number, or a sequence of the number and of
        constraints, which are 0 or more where kept; a target answers `rows_of` points so.
    cost : sequence of float
        Above 0, and none below the one before.
    **settings
        Of each `Target` that is made: ``timeout``, ``executor`` and so on.

    Raises
    ------
    InvalidData
        Levels or costs that cannot be used.

    Examples
    --------
    >>> levels = Fidelities([lambda point: point["x0"], lambda point: point["x0"] ** 2], cost=[1.0, 10.0])
    >>> len(levels), levels.cost.tolist()
    (2, [1.0, 10.0])
    """

    def __init__(self, levels: Sequence[Target | Callable[[Point], Any]], cost: Sequence[float], **settings: Any) -> None:
        self.levels, self.cost, self.settings = tuple(levels), np.asarray(cost, dtype=float), settings
        if not self.levels or self.cost.shape != (len(self.levels),):
            raise InvalidData(f"expected a cost for each of {len(self.levels)} levels, got shape {self.cost.shape}")
        if not ((self.cost > 0) & np.isfinite(self.cost)).all() or (np.diff(self.cost) < 0).any():
            raise InvalidData(f"expected costs above 0 that rise from level to level, truth last, got {self.cost.tolist()}")
        strange = [one for one in self.levels if not (isinstance(one, Target) or callable(one))]
        if strange:
            raise InvalidData(f"expected levels to be targets or functions of a point, got {type(strange[0]).__name__}")

    def __len__(self) -> int:
        return len(self.levels)

    def targets(self, space: Space) -> list[Target]:
        """A target for each level, whose price is its cost."""
        return [
            level if isinstance(level, Target) else _target(level, space, self._name(k), float(cost), self.settings)
            for k, (level, cost) in enumerate(zip(self.levels, self.cost, strict=True))
        ]

    def leaves_too_little(self, level: int, left: float) -> bool:
        """Whether an evaluation below the truth, of what is left to spend, would leave less than one of the truth costs."""
        return level < len(self) - 1 and bool(left < (self.cost[level] + self.cost[-1]) * (1 - 1e-9))

    def _name(self, level: int) -> str:
        return f"level {level}"


@final
class ContinuousFidelity(Fidelities):
    """An objective with a dial s in [0, 1], the truth at 1, evaluated at some positions of it.

    Parameters
    ----------
    function : callable
        Takes a point and a position; gives what a level of `Fidelities` gives.
    cost : callable
        Takes a position, gives what an evaluation there costs; it rises with the position.
    positions : sequence of float, default=(0.25, 0.5, 0.75, 1.0)
        Rising, the last is 1.
    **settings
        As for `Fidelities`.

    Examples
    --------
    >>> dial = ContinuousFidelity(lambda point, s: (point["x0"] - s) ** 2, cost=lambda s: s**3)
    >>> dial.cost.round(3).tolist()
    [0.016, 0.125, 0.422, 1.0]
    """

    def __init__(
        self,
        function: Callable[[Point, float], Any],
        cost: Callable[[float], float],
        positions: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        **settings: Any,
    ) -> None:
        if not (callable(function) and callable(cost)):
            raise InvalidData("expected a function of a point and a position, and a cost of a position")
        at = positions_of(positions).tolist()
        super().__init__([_At(function, s) for s in at], [float(cost(s)) for s in at], **settings)
        self.positions = tuple(at)

    def _name(self, level: int) -> str:
        return f"position {self.positions[level]:g}"


class _At:
    """A function with its dial at a position."""

    def __init__(self, function: Callable[[Point, float], Any], position: float) -> None:
        self.function, self.position = function, position

    def __call__(self, point: Point) -> Any:
        return self.function(point, self.position)


def _target(function: Callable[[Point], Any], space: Space, name: str, cost: float, settings: dict[str, Any]) -> Target:
    usual = {"output": "value", "batch_size": 1, "failures": "isolate", "allow_nan": True}
    mark = f"{getattr(function, '__name__', type(function).__name__)}, {name} on {space.digest}"
    answer = partial(_answers, function, space)
    return Target(answer, name=name, price=cost, currency="cost", **{**usual, "fingerprint": mark, **settings})


def _answers(function: Callable[[Point], Any], space: Space, rows: Any) -> _FLOAT:
    told = [np.asarray(function(point_of(space, row)), dtype=float).ravel() for row in rows]
    if any(not one.size for one in told):
        raise InvalidData("expected a number from each level, or a number and constraints, got none")
    return np.array(told)
