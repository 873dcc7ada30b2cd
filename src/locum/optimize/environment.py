"""Conditions that are not chosen in use: the goal is the mean of the objective over them, and each evaluation buys one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike

from locum.core.errors import InvalidData
from locum.optimize.goal import Aim, Goal, settings_of
from locum.optimize.space import Point, Space

__all__ = ["Environment"]


@final
class Environment(Goal):
    r"""The mean of the objective over conditions, of which one evaluation sees one.

    .. math:: F(x) = \sum_w p(w) f(x, w)

    F is a Gaussian process where f is one, so what an evaluation at (x, w) says about F everywhere is known in closed form. The
    conditions are parameters of the space: weather, load cases, folds of a cross-validation or tasks.

    Parameters
    ----------
    points : sequence of mappings
        The conditions, each with a value for the same parameters of the space. Evaluations lie at these alone.
    weights : array-like of shape (k,) or None, default=None
        p(w), which sums to 1; all alike where None.

    Raises
    ------
    InvalidData
        No conditions, conditions with other names, or weights that are no distribution.

    Notes
    -----
    Expected improvement says nothing here: no single evaluation shows F. `KnowledgeGradient` and `EntropySearch` do.

    References
    ----------
    Frazier, arXiv 1807.02811, section 5; Toscano-Palmerin and Frazier, arXiv 1803.08661.

    Examples
    --------
    >>> from locum.optimize import Categorical, KnowledgeGradient, Optimizer, Real, Space
    >>> space = Space([Real("x", 0.0, 1.0), Categorical("load", ("light", "heavy"))])
    >>> goal = Environment([{"load": "light"}, {"load": "heavy"}], [0.25, 0.75])
    >>> optimizer = Optimizer(space, acquisition=KnowledgeGradient(), goal=goal, direction="minimize", initial=6)
    >>> for _ in range(8):
    ...     points = optimizer.ask()
    ...     best = {"light": 0.0, "heavy": 0.8}
    ...     optimizer.tell(points, [(point["x"] - best[point["load"]]) ** 2 for point in points])
    >>> found = optimizer.recommend("best_mean")
    >>> round(found["x"], 1), "load" in found
    (0.6, False)
    """

    def __init__(self, points: Sequence[Mapping[str, Any]], weights: ArrayLike | None = None) -> None:
        self.points = [dict(point) for point in points]
        if not self.points or any(set(point) != set(self.points[0]) for point in self.points):
            raise InvalidData(f"expected one or more conditions with the same names, got {self.points!r}")
        k = len(self.points)
        self.weights = np.full(k, 1 / k) if weights is None else np.asarray(weights, dtype=float)
        right = self.weights.shape == (k,) and np.isfinite(self.weights).all() and (self.weights >= 0).all()
        if not right or abs(self.weights.sum() - 1) > 1e-8:
            raise InvalidData(f"expected {k} weights of 0 or more that sum to 1, got {self.weights.tolist()}")

    def on(self, space: Space) -> Aim:
        columns, settings = settings_of(space, self.points, "the conditions")
        return Aim(columns, settings, self.weights, placed=True)

    def decision(self, point: Point) -> Point:
        return {name: value for name, value in point.items() if name not in self.points[0]}
