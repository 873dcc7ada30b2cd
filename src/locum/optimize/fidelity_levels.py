"""Cheaper levels of an objective: the goal is the level that counts, and what an evaluation teaches is weighed by its cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData
from locum.optimize.goal import Aim, Goal, settings_of
from locum.optimize.space import Point, Space

__all__ = ["FidelityLevels"]


@final
class FidelityLevels(Goal):
    r"""The objective at one level of a parameter, learnt from evaluations at all levels, each at its cost.

    .. math:: \max_x f(x, s_0), \qquad \text{value of evaluating } (x, s) \text{ divided by } c(s)

    Parameters
    ----------
    name : str
        The parameter of the space that is the level: mesh size, training rows, simulator.
    target : object
        The level that counts.
    cost : callable
        Takes a level, gives what an evaluation at it costs, above 0.

    Raises
    ------
    InvalidData
        Settings that cannot be used, or a space without such a parameter.

    Notes
    -----
    Expected improvement says nothing at other levels than the target: they cannot improve on what was seen there.
    `KnowledgeGradient` and `EntropySearch` count what is learnt about the target.

    References
    ----------
    Frazier, arXiv 1807.02811, section 5; Poloczek, Wang and Frazier, arXiv 1603.00389.

    Examples
    --------
    >>> from locum.optimize import FidelityLevels, KnowledgeGradient, Optimizer, Real, Space
    >>> space = Space([Real("x", 0.0, 1.0), Real("mesh", 0.0, 1.0)])
    >>> goal = FidelityLevels("mesh", target=1.0, cost=lambda mesh: 0.05 + mesh**2)
    >>> optimizer = Optimizer(space, acquisition=KnowledgeGradient(), goal=goal, direction="minimize")
    >>> for _ in range(9):
    ...     points = optimizer.ask()
    ...     optimizer.tell(points, [(p["x"] - 0.3) ** 2 + 0.1 * (1 - p["mesh"]) * p["x"] for p in points])
    >>> found = optimizer.recommend("best_mean")
    >>> abs(found["x"] - 0.3) < 0.15, found["mesh"]
    (True, 1.0)
    """

    def __init__(self, name: str, target: Any, cost: Callable[[Any], float]) -> None:
        if not callable(cost):
            raise InvalidData(f"expected cost= to be a function of a level, got {type(cost).__name__}")
        self.name, self.target, self.cost = name, target, cost
        self._paid(target)

    def _paid(self, level: Any) -> float:
        paid = float(self.cost(level))
        if not 0 < paid < np.inf:
            raise InvalidData(f"expected costs above 0, got {paid!r} at level {level!r}")
        return paid

    def on(self, space: Space) -> Aim:
        columns, settings = settings_of(space, [{self.name: self.target}], "the level")
        level = space.parameters[space.names.index(self.name)]

        def paid(rows: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.array([self._paid(value) for value in level.decode(rows[:, columns])])

        return Aim(columns, settings, np.ones(1), cost=paid)

    def decision(self, point: Point) -> Point:
        return {**point, self.name: self.target}
