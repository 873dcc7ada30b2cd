"""A whole run in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from locum.core.target import Budget, Target
from locum.optimize.optimizer import Optimizer
from locum.optimize.result import Result
from locum.optimize.space import Point, Space

__all__ = ["maximize", "minimize"]


def minimize(target: Target | Callable[[Point], float], space: Space, budget: int | Budget, **settings: Any) -> Result:
    """Find where an objective is least.

    Parameters
    ----------
    target : Target or callable
        A callable takes a point, a dict; see `objective`.
    space : Space
    budget : int or Budget
        Evaluations in all; or calls, seconds or money.
    **settings
        Of `Optimizer` and of its `run`.

    Examples
    --------
    >>> from locum.optimize import Space, minimize
    >>> found = minimize(lambda point: (point["x0"] - 1) ** 2, Space.box([(-3, 3)]), budget=12)
    >>> round(found.best["x0"], 1)
    1.0
    """
    return _run("minimize", target, space, budget, settings)


def maximize(target: Target | Callable[[Point], float], space: Space, budget: int | Budget, **settings: Any) -> Result:
    """Find where an objective is largest; see `minimize`.

    Parameters
    ----------
    target : Target or callable
    space : Space
    budget : int or Budget
    **settings
        Of `Optimizer` and of its `run`.
    """
    return _run("maximize", target, space, budget, settings)


def _run(direction: str, target: Any, space: Space, budget: Any, settings: dict[str, Any]) -> Result:
    running = {name: settings.pop(name) for name in ("batch", "least_gain", "progress") if name in settings}
    return Optimizer(space, direction=direction, **settings).run(target, budget, **running)
