"""Where a stand-in for drag has seen shapes: coarse pictures near a plane through those learned from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["PictureRegion"]

Array = NDArray[np.floating[Any]]

_BLOCKS = 8  # along either side of a picture
_AXES = 20
_MOST_ROWS = 1000  # that the plane is laid through
_ROUNDING = 1e-4  # distance that adding up in another order may give


@dataclass(frozen=True, eq=False)
class PictureRegion:
    """Pictures whose distance from a plane is no larger than that of nearly all shapes that were learned from.

    The plane goes through one half of these (principal components of block means); the other half says how far shapes of the
    same kind lie from it, so that at most a share `false_alarm_rate` of new ones is called outside (split conformal
    prediction). Size and proportions move a picture along the plane, another kind of body moves it away.

    Attributes
    ----------
    middle : ndarray of shape (d,)
    axes : ndarray of shape (k, d)
    threshold : float
        Infinite where too few shapes were given to judge.
    false_alarm_rate : float
    """

    middle: Array
    axes: Array
    threshold: float
    false_alarm_rate: float

    @classmethod
    def of(cls, pictures: NDArray[Any], false_alarm_rate: float, random_state: int) -> Self:
        """The region that pictures cover."""
        order = np.random.default_rng([random_state, 16]).permutation(len(pictures))
        half = len(order) // 2
        plane, held = _coarse(pictures[order[: min(half, _MOST_ROWS)]]), pictures[order[half:]]
        middle = plane.mean(axis=0) if len(plane) else np.zeros(_coarse(pictures[:1]).shape[1])
        axes = np.linalg.svd(plane - middle, full_matrices=False)[2][: min(_AXES, len(plane) // 2)]
        made = cls(middle, axes, math.inf, false_alarm_rate)
        rank = math.ceil((len(held) + 1) * (1 - false_alarm_rate))
        if rank > len(held):
            return made
        return cls(middle, axes, float(np.sort(made.distance(held))[rank - 1]) + _ROUNDING, false_alarm_rate)

    def distance(self, pictures: NDArray[Any]) -> Array:
        """Of each from the plane, shape (n,)."""
        away = _coarse(pictures) - self.middle
        return np.asarray(np.linalg.norm(away - away @ self.axes.T @ self.axes, axis=1))

    def inside(self, pictures: NDArray[Any]) -> NDArray[np.bool_]:
        """Which lie within the region, shape (n,)."""
        return self.distance(pictures) <= self.threshold


def _coarse(pictures: NDArray[Any]) -> Array:
    """Means of blocks, shape (n, d), of pictures (n, views, channels, size, size)."""
    *front, size, _ = pictures.shape
    step = size // _BLOCKS
    means = pictures.reshape(*front, _BLOCKS, step, _BLOCKS, step).mean(axis=(-3, -1), dtype=np.float32)
    return np.asarray(means.reshape(len(pictures), -1) / (255 if pictures.dtype == np.uint8 else 1), dtype=float)
