"""Where an acquisition function is largest: many points tried, the best of them followed uphill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from locum.optimize.goal import Aim
from locum.optimize.space import Point, Space, text_of

__all__ = ["best_point", "threads_for"]

_FOLLOWED, _STEPS = 6, 60
_SPREADS = (0.2, 0.05, 0.01)
_FEW = 400


def threads_for(n: int) -> threadpool_limits:
    """Few rows are worked on by one thread: more gain nothing, and wait for one another where the machine is busy."""
    return threadpool_limits(1 if n <= _FEW else None, user_api="openmp")


def best_point(
    space: Space,
    value: Callable[[Any], Any],
    leaders: list[Point],
    known: set[str],
    rng: np.random.Generator,
    aim: Aim,
    tries: int,
) -> tuple[Point, float]:
    """The best point found that is not known, and its value.

    Parameters
    ----------
    space : Space
    value : callable
        Rows of shape (b, 1, width) to values of shape (b,), as tensors.
    leaders : list of Point
        Evaluated points near which points are tried as well, the best first.
    known : set of str
        Keys of points that are not to be proposed again.
    rng : numpy Generator
    aim : Aim
        Columns that it sets are tried, and not followed.
    tries : int
        Points tried, half of them near the leaders; all there are, in a space with no more of them.
    """
    if space.size <= tries:
        tried = space.points()
    else:
        tried = [*space.sample(tries - tries // 2, rng), *_neighbours(space, leaders, tries // 2, rng)]
    if aim.placed:
        tried = space.decode(aim.place(space.encode(tried), rng))
    tried = _distinct(tried, known) or _distinct(space.points(), known)  # where all but a few are known
    rows = space.encode(tried)
    with torch.no_grad():
        worth = value(torch.as_tensor(rows)[:, None]).numpy()
    worth = np.where(np.isnan(worth), -np.inf, worth)
    first = np.argsort(-worth, kind="stable")[:_FOLLOWED]
    found = [(tried[i], float(worth[i])) for i in first]
    free = np.setdiff1d(np.flatnonzero(space.continuous), aim.columns)
    if len(free) and np.isfinite(worth[first]).all():
        found += [pair for pair in _followed(space, value, rows[first], free) if text_of(pair[0]) not in known]
    return max(found, key=lambda pair: pair[1])


def _followed(
    space: Space, value: Callable[[Any], Any], rows: NDArray[np.float64], free: NDArray[np.intp]
) -> list[tuple[Point, float]]:
    """Uphill from each row along the columns that are free; the others stay."""

    def falls(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        # All rows at once: their values add up, and none has to do with another.
        moved = torch.as_tensor(rows.copy())
        moved[:, free] = torch.as_tensor(flat.reshape(len(rows), -1))
        moved.requires_grad_()
        total = -value(moved[:, None]).sum()
        (slope,) = torch.autograd.grad(total, moved)
        return float(total.detach()), slope[:, free].numpy().ravel()

    limits = [(0.0, 1.0)] * (len(rows) * len(free))
    ended = minimize(falls, rows[:, free].ravel(), jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": _STEPS})
    ends = rows.copy()
    ends[:, free] = ended.x.reshape(len(rows), -1)
    points = space.decode(ends)
    with torch.no_grad():  # a point is worth what it is as it will be evaluated
        worth = value(torch.as_tensor(space.encode(points))[:, None]).numpy()
    return [(point, float(w)) for point, w in zip(points, worth, strict=True) if np.isfinite(w)]


def _neighbours(space: Space, leaders: list[Point], n: int, rng: np.random.Generator) -> list[Point]:
    """Points near the leaders: some parameters moved a little, or chosen anew."""
    if not leaders:
        return []
    base = space.encode(leaders)[rng.integers(len(leaders), size=n)]
    fresh = space.encode(space.sample(n, rng))
    steps = rng.normal(size=base.shape) * rng.choice(_SPREADS, size=(n, 1))
    # In many columns few move at once, else no point is near.
    share = min(1.0, max(0.2, 3 / len(space)))
    out = base.copy()
    for one, at in zip(space.parameters, space.columns, strict=True):
        moved = rng.random(n) < share
        if one.width > 1:
            out[moved, at] = fresh[moved, at]
        else:
            out[moved, at] = np.clip(base[moved, at] + steps[moved, at], 0, 1)
    # A choice that has come to matter has no value yet.
    for one, at in zip(space.parameters, space.columns, strict=True):
        empty = out[:, at].sum(axis=1) == 0 if one.width > 1 else np.zeros(n, dtype=bool)
        out[empty, at] = np.eye(one.width)[rng.integers(one.width, size=int(empty.sum()))] if one.width > 1 else out[empty, at]
    return space.decode(out)


def _distinct(points: list[Point], known: set[str]) -> list[Point]:
    out: dict[str, Point] = {}
    for point in points:
        key = text_of(point)
        if key not in known:
            out.setdefault(key, point)
    return list(out.values())
