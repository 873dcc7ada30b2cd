"""What is to be made best: the objective itself, or a weighted mean of it over rows that a decision stands for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData
from locum.optimize.space import Point, Space

__all__ = ["Aim", "Goal", "Objective"]

_FLOAT = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Aim:
    """A goal in a space: the goal at a row is a weighted mean of the objective over copies of it with some columns set.

    Parameters
    ----------
    columns : ndarray of shape (c,)
        Columns of the encoding that are set.
    settings : ndarray of shape (k, c)
        What each of k copies has there.
    weights : ndarray of shape (k,)
    placed : bool, default=False
        Whether evaluations may lie at these settings alone.
    cost : callable or None, default=None
        Rows of shape (n, width) to what evaluating each costs, shape (n,); alike where None.
    """

    columns: NDArray[np.intp]
    settings: _FLOAT
    weights: _FLOAT
    placed: bool = False
    cost: Callable[[_FLOAT], _FLOAT] | None = None

    @property
    def plain(self) -> bool:
        """Whether the goal at a row is the objective there."""
        return not len(self.columns)

    def expand(self, X: Any) -> Any:
        """Copies of rows: a tensor of shape (..., width) to one of shape (..., k, width)."""
        out = X.unsqueeze(-2).expand(*X.shape[:-1], len(self.weights), X.shape[-1]).clone()
        if len(self.columns):
            out[..., self.columns.tolist()] = X.new_tensor(self.settings)
        return out

    def mean(self, values: Any) -> Any:
        """Weighted mean over the copies: a tensor of shape (..., k) to one of shape (...)."""
        return values @ values.new_tensor(self.weights)

    def place(self, rows: _FLOAT, rng: np.random.Generator) -> _FLOAT:
        """Rows of shape (n, width) moved to where evaluations may lie, each to one of the settings at random."""
        if not self.placed:
            return rows
        out = rows.copy()
        out[:, self.columns] = self.settings[rng.integers(len(self.settings), size=len(rows))]
        return out


class Goal(ABC):
    """What is to be made best."""

    @abstractmethod
    def on(self, space: Space) -> Aim:
        """The goal in a space.

        Raises
        ------
        InvalidData
            The space lacks what the goal names.
        """

    @abstractmethod
    def decision(self, point: Point) -> Point:
        """What of an evaluated point is decided, as it is recommended."""


@final
class Objective(Goal):
    """The objective itself, at the point evaluated."""

    def on(self, space: Space) -> Aim:
        return Aim(np.zeros(0, dtype=np.intp), np.zeros((1, 0)), np.ones(1))

    def decision(self, point: Point) -> Point:
        return dict(point)


def settings_of(space: Space, points: Sequence[Mapping[str, Any]], what: str) -> tuple[NDArray[np.intp], _FLOAT]:
    """Columns and encoded settings of some parameters.

    Parameters
    ----------
    space : Space
    points : sequence of mappings
        Each names the same parameters of the space.
    what : str
        For the error.
    """
    names = tuple(points[0])
    places = {one.name: (one, at) for one, at in zip(space.parameters, space.columns, strict=True)}
    strange = [name for name in names if name not in places or places[name][0].when is not None]
    if strange or not names:
        raise InvalidData(f"expected {what} to name parameters of the space that always matter, got {strange or 'none'}")
    if len(names) == len(space):
        raise InvalidData(f"expected parameters beside {', '.join(names)}: nothing is left to decide")
    columns = np.concatenate([np.arange(places[name][1].start, places[name][1].stop) for name in names])
    return columns, np.hstack([places[name][0].encode([point[name] for point in points]) for name in names])
