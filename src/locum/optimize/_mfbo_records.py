"""What was asked of which level, and what it gave, sorted as surrogates take it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, require_whole
from locum.optimize.space import Point, Space

__all__ = ["Evaluation", "best_designs", "by_level", "constraint_count", "first_counts", "since_better"]

_FLOAT = NDArray[np.float64]
_FEWEST = 3  # designs at the truth, without which neither ρ nor what it adds is known
_GAIN = 1e-6  # of the range of values, what counts as better: rounding does not
_LEADERS = 3  # of the best designs of each level
_MOST_RATIO = 4.0  # of the counts of two levels in the first design


class Evaluation(NamedTuple):
    """A design, and the level to evaluate it at.

    Parameters
    ----------
    point : Point
    level : int
    """

    point: Point
    level: int


def first_counts(space: Space, cost: _FLOAT, initial: Sequence[int] | None) -> tuple[int, ...]:
    """Designs at each level of the first design; see `MultiFidelityOptimizer`."""
    if initial is None:
        out = [max(_FEWEST, math.ceil((len(space) + 1) / 2))]
        for low, high in reversed(list(pairwise(cost))):
            out.insert(0, math.ceil(out[0] * min(_MOST_RATIO, max(1.0, math.sqrt(high / low)))))
        return tuple(int(min(one, space.size)) for one in out)
    counts = tuple(initial)
    require_whole(2, **{f"initial[{k}]": one for k, one in enumerate(counts)})
    if len(counts) != len(cost) or any(a < b for a, b in pairwise(counts)):
        raise InvalidData(f"expected initial= to fall over {len(cost)} levels, truth last, got {counts}")
    return counts


def by_level(
    space: Space, evaluations: Sequence[Evaluation], values: Sequence[float], count: int, nested: bool
) -> tuple[list[_FLOAT], list[_FLOAT]]:
    """Encoded designs and values of each level, the first evaluation of a design counts.

    Parameters
    ----------
    space : Space
    evaluations : sequence of Evaluation
    values : sequence of float
        Left out where NaN.
    count : int
        Of levels.
    nested : bool
        Whether designs are left out that the level below does not have.
    """
    rows: list[list[Point]] = [[] for _ in range(count)]
    found: list[list[float]] = [[] for _ in range(count)]
    there: list[set[str]] = [set() for _ in range(count)]
    for i in sorted(range(len(values)), key=lambda i: evaluations[i].level):  # stable: levels below come first
        point, level = evaluations[i]
        key = space.key(point)
        if math.isfinite(values[i]) and key not in there[level] and (not nested or not level or key in there[level - 1]):
            there[level].add(key)
            rows[level].append(point)
            found[level].append(values[i])
    return [space.encode(one) for one in rows], [np.array(one) for one in found]


def constraint_count(values: Sequence[Any], constraints: Sequence[_FLOAT]) -> int | None:
    """How many constraints there are, by the evaluations that did not fail; None where all did."""
    pairs = zip(values, constraints, strict=True)
    return next((len(limit) for value, limit in pairs if np.isfinite(value).all()), None)


def best_designs(space: Space, designs: Sequence[_FLOAT], values: Sequence[_FLOAT]) -> list[Point]:
    """The best designs at the truth, and of each level below; larger values are better."""
    best = [X[np.argsort(-y, kind="stable")[:_LEADERS]] for X, y in zip(designs, values, strict=True)]
    return space.decode(np.concatenate(best[::-1]))


def since_better(levels: Sequence[int], heights: Sequence[float], cost: _FLOAT, first: float) -> float:
    """Cost spent since a value at the truth was better by a millionth of the range there, or since the first design.

    Parameters
    ----------
    levels : sequence of int
    heights : sequence of float
        Larger is better; minus infinity or NaN for what does not count.
    cost : ndarray of shape (L,)
    first : float
        Cost of the first design.
    """
    best, at, spent = -math.inf, 0.0, 0.0
    there = [height for level, height in zip(levels, heights, strict=True) if level == len(cost) - 1 and math.isfinite(height)]
    least = _GAIN * (max(there) - min(there)) if there else 0.0
    for level, height in zip(levels, heights, strict=True):
        spent += float(cost[level])
        if level == len(cost) - 1 and height > best + least:
            best, at = height, spent
    return spent - max(at, first)
