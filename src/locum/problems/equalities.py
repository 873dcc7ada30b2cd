"""Equality of vectors, two pairs or three: tasks that several algorithms solve alike, each with named values in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, require_whole

__all__ = ["Algorithm", "DistributiveLaw", "HierarchicalEquality"]

_Rows = NDArray[Any]


class Algorithm(NamedTuple):
    """A way to solve a task, as functions of arrays; what a function reads is what its parameters are called.

    Parameters
    ----------
    nodes : dict of str to callable
        Values in between; ``x`` is the input.
    output : callable
        The answer, 0 or 1.
    """

    nodes: Mapping[str, Callable[..., Any]]
    output: Callable[..., Any]


@dataclass(frozen=True)
class HierarchicalEquality:
    """Four vectors: is the first equal to the second just where the third is equal to the fourth?

    Each pair is equal in half of the inputs. Numbers are uniform between -0.5 and 0.5, so vectors that are drawn apart are
    never equal, and no vector of one sample comes again in another.

    Parameters
    ----------
    size : int, default=4
        Numbers in a vector.

    References
    ----------
    Geiger, Carstensen, Frank and Potts, arXiv 2006.07968; Sutter and others, arXiv 2507.08802, section 4.

    Examples
    --------
    >>> task = HierarchicalEquality()
    >>> X, y = task.sample(1000)
    >>> X.shape, sorted(task.algorithms)
    ((1000, 16), ['both equalities', 'left equality'])
    >>> nodes, output = task.algorithms["both equalities"]
    >>> bool((output(nodes["left"](X), nodes["right"](X)) == y).all())
    True
    """

    size: int = 4

    def __post_init__(self) -> None:
        require_whole(1, size=self.size)

    def sample(self, n: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Inputs of shape (n, 4 size), and answers of shape (n,).

        Parameters
        ----------
        n : int
        seed : int, default=0
        """
        rng = np.random.default_rng([seed, 51])
        equal = rng.random((_counted(n), 2)) < 0.5
        return _pairs(equal, self.size, rng), (equal[:, 0] == equal[:, 1]).astype(np.int64)

    @property
    def algorithms(self) -> dict[str, Algorithm]:
        """Ways to solve it, by name."""

        def left(x: _Rows) -> _Rows:
            return _same(x, 0, self.size)

        def right(x: _Rows) -> _Rows:
            return _same(x, 1, self.size)

        return {
            "both equalities": Algorithm({"left": left, "right": right}, lambda left, right: left == right),
            "left equality": Algorithm({"left": left}, lambda x, left: left == right(x)),
        }


@dataclass(frozen=True)
class DistributiveLaw:
    """Six vectors in three pairs a, b and c, each equal or not: (a and b) or (b and c), which is b and (a or c).

    Half of the answers are yes. Numbers are uniform between -0.5 and 0.5.

    Parameters
    ----------
    size : int, default=4
        Numbers in a vector.

    References
    ----------
    Sutter and others, arXiv 2507.08802, appendix.

    Examples
    --------
    >>> X, y = DistributiveLaw().sample(1000)
    >>> X.shape, bool(0.4 < y.mean() < 0.6), sorted(DistributiveLaw().algorithms)
    ((1000, 24), True, ['and-or', 'and-or-and'])
    """

    size: int = 4

    def __post_init__(self) -> None:
        require_whole(1, size=self.size)

    def sample(self, n: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Inputs of shape (n, 6 size), and answers of shape (n,).

        Parameters
        ----------
        n : int
        seed : int, default=0
        """
        rng = np.random.default_rng([seed, 52])
        every = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)], dtype=bool)
        answer = every[:, 1] & (every[:, 0] | every[:, 2])
        wanted = rng.random(_counted(n)) < 0.5
        yes, no = np.flatnonzero(answer), np.flatnonzero(~answer)
        kind = np.where(wanted, yes[rng.integers(len(yes), size=n)], no[rng.integers(len(no), size=n)])
        return _pairs(every[kind], self.size, rng), answer[kind].astype(np.int64)

    @property
    def algorithms(self) -> dict[str, Algorithm]:
        """Ways to solve it, by name."""

        def a(x: _Rows) -> _Rows:
            return _same(x, 0, self.size)

        def b(x: _Rows) -> _Rows:
            return _same(x, 1, self.size)

        def c(x: _Rows) -> _Rows:
            return _same(x, 2, self.size)

        return {
            "and-or-and": Algorithm(
                {"first": lambda x: a(x) & b(x), "second": lambda x: b(x) & c(x)}, lambda first, second: first | second
            ),
            "and-or": Algorithm({"middle": b, "either": lambda x: a(x) | c(x)}, lambda middle, either: middle & either),
        }


def _counted(n: int) -> int:
    require_whole(1, n=n)
    return n


def _pairs(equal: NDArray[np.bool_], size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Pairs of vectors side by side, shape (n, 2 pairs size)."""
    n, pairs = equal.shape
    drawn = rng.uniform(-0.5, 0.5, size=(n, pairs, 2, size)).astype(np.float32)
    drawn[:, :, 1] = np.where(equal[:, :, None], drawn[:, :, 0], drawn[:, :, 1])
    return drawn.reshape(n, -1)


def _same(x: _Rows, pair: int, size: int) -> _Rows:
    """Whether the vectors of a pair are equal, shape (n,)."""
    start = 2 * pair * size
    if x.ndim != 2 or x.shape[1] < start + 2 * size:
        raise InvalidData(f"expected inputs with at least {start + 2 * size} numbers, got shape {x.shape}")
    return (x[:, start : start + size] == x[:, start + size : start + 2 * size]).all(axis=1)
