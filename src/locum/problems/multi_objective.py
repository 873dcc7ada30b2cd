"""Problems of several objectives: closed forms on a box, with reference points and what is known of their fronts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, require_whole

__all__ = ["MultiObjective", "dtlz2", "f2", "re21", "re33", "re36", "re37", "vlmop2", "zdt1", "zdt2", "zdt3"]

_FLOAT = NDArray[np.float64]
_CURVE = 20_001  # points of a curve, of which the front is a part


@dataclass(frozen=True, eq=False)
class MultiObjective:
    """Objectives in closed form on a box; all are to be small.

    Parameters
    ----------
    name : str
    bounds : tuple of (low, high)
        One an input.
    objectives : tuple of str
        What each of the m objectives is.
    equation : callable
        Takes rows of shape (n, d), gives objectives of shape (n, m).
    reference_point : tuple of float
        What hypervolumes are measured to; points that reach beyond it count nothing.
    source : str
        How the front, or its hypervolume, was got.
    curve : callable or None, default=None
        Takes a number n, gives about n points of the front, shape (k, m); None where there is no closed form.
    best_hypervolume : float or None, default=None
        Of the best front known, where there is no closed form.

    Examples
    --------
    >>> from locum.problems.multi_objective import zdt1
    >>> problem = zdt1()
    >>> problem.answer(problem.sample(3)).shape, problem.front(100).shape
    ((3, 2), (100, 2))
    """

    name: str
    bounds: tuple[tuple[float, float], ...]
    objectives: tuple[str, ...]
    equation: Callable[[_FLOAT], _FLOAT] = field(repr=False)
    reference_point: tuple[float, ...]
    source: str
    curve: Callable[[int], _FLOAT] | None = field(default=None, repr=False)
    best_hypervolume: float | None = None

    def sample(self, n: int, seed: int = 0) -> _FLOAT:
        """Rows drawn uniformly and independently from the box, shape (n, d)."""
        require_whole(1, n=n)
        low, high = np.array(self.bounds).T
        return low + (high - low) * np.random.default_rng(seed).random((n, len(low)))

    def answer(self, X: ArrayLike) -> _FLOAT:
        """The objectives for rows of shape (n, d), shape (n, m).

        Raises
        ------
        InvalidData
            Another number of columns, numbers outside the box, or a row for which there is no finite answer.
        """
        rows = np.asarray(X, dtype=float)
        if rows.ndim != 2 or rows.shape[1] != len(self.bounds):
            raise InvalidData(f"expected rows of {len(self.bounds)} columns for {self.name}, got shape {rows.shape}")
        low, high = np.array(self.bounds).T
        inside = ((rows >= low - 1e-9 * (high - low)) & (rows <= high + 1e-9 * (high - low))).all(axis=1)
        if not inside.all():
            raise InvalidData(f"row {int(np.argmin(inside))} lies outside the box of {self.name}; keep to problem.bounds")
        with np.errstate(all="ignore"):
            out = self.equation(np.clip(rows, low, high))
        wrong = np.flatnonzero(~np.isfinite(out).all(axis=1))
        if wrong.size:
            raise InvalidData(f"{self.name} has no finite answer for row {wrong[0]}; move it a little")
        return out

    def front(self, n: int = 1000) -> _FLOAT:
        """About n points of the true front, shape (k, m).

        Raises
        ------
        InvalidData
            It has no closed form; `best_hypervolume` says what was reached, and `source` how.
        """
        require_whole(2, n=n)
        if self.curve is None:
            raise InvalidData(f"the front of {self.name} has no closed form; best_hypervolume was got by {self.source}")
        return self.curve(n)


def _pair(f1: Any, f2: Any) -> _FLOAT:
    return np.column_stack([f1, f2])


# ---------------------------------------------------------------------- two objectives, in closed form
def zdt1(n_inputs: int = 20) -> MultiObjective:
    """A convex front; all inputs but the first are to be 0.

    Parameters
    ----------
    n_inputs : int, default=20

    References
    ----------
    Zitzler, Deb and Thiele, *Comparison of multiobjective evolutionary algorithms*, Evolutionary Computation 8 (2000).
    """
    return _zdt("ZDT1", n_inputs, lambda f, g: g * (1 - np.sqrt(f / g)), 6.0576)


def zdt2(n_inputs: int = 20) -> MultiObjective:
    """As `zdt1`, with a concave front.

    Parameters
    ----------
    n_inputs : int, default=20
    """
    return _zdt("ZDT2", n_inputs, lambda f, g: g * (1 - (f / g) ** 2), 6.8960)


def zdt3(n_inputs: int = 20) -> MultiObjective:
    """As `zdt1`, with a front of five pieces.

    Parameters
    ----------
    n_inputs : int, default=20
    """
    return _zdt("ZDT3", n_inputs, lambda f, g: g * (1 - np.sqrt(f / g) - (f / g) * np.sin(10 * np.pi * f)), 6.0571)


def _zdt(name: str, n_inputs: int, second: Callable[[Any, Any], Any], worst: float) -> MultiObjective:
    require_whole(2, n_inputs=n_inputs)

    def equation(X: _FLOAT) -> _FLOAT:
        return _pair(X[:, 0], second(X[:, 0], 1 + 9 * X[:, 1:].mean(axis=1)))

    def curve(n: int) -> _FLOAT:
        f = np.linspace(0, 1, _CURVE)
        values = second(f, 1.0)
        before = np.concatenate([[np.inf], np.minimum.accumulate(values)[:-1]])
        kept = np.flatnonzero(values < before)
        some = kept[np.linspace(0, len(kept) - 1, min(n, len(kept))).round().astype(int)]
        return _pair(f[some], values[some])

    bounds = ((0.0, 1.0),) * n_inputs
    return MultiObjective(name, bounds, ("f1", "f2"), equation, (0.9994, worst), "its closed form", curve)


def vlmop2(n_inputs: int = 6) -> MultiObjective:
    """Two hollows in a plain: far from either, both objectives are 1 and say nothing of the way.

    Parameters
    ----------
    n_inputs : int, default=6

    References
    ----------
    Van Veldhuizen and Lamont, *Multiobjective evolutionary algorithm test suites*, 1999.
    """
    require_whole(1, n_inputs=n_inputs)
    centre = 1 / math.sqrt(n_inputs)

    def equation(X: _FLOAT) -> _FLOAT:
        return _pair(*(1 - np.exp(-((X - at) ** 2).sum(axis=1)) for at in (centre, -centre)))

    def curve(n: int) -> _FLOAT:
        return equation(np.linspace(centre, -centre, n)[:, None] * np.ones(n_inputs))

    bounds = ((-2.0, 2.0),) * n_inputs
    return MultiObjective("VLMOP2", bounds, ("f1", "f2"), equation, (1.1, 1.1), "its closed form", curve)


def f2(n_inputs: int = 6) -> MultiObjective:
    """A front that of `zdt1`, for designs on a curve: the i-th input is a power of the first, and no two powers are alike.

    Parameters
    ----------
    n_inputs : int, default=6
        Of 3 or more.

    References
    ----------
    Lin, Yang, Zhang and Zhang, *Pareto set learning for expensive multi-objective optimization*, arXiv 2210.08495.
    """
    require_whole(3, n_inputs=n_inputs)
    powers = 0.5 * (1 + 3 * np.arange(n_inputs - 1) / (n_inputs - 2))

    def equation(X: _FLOAT) -> _FLOAT:
        first = X[:, 0]
        away = (X[:, 1:] - first[:, None] ** powers) ** 2
        odd, even = (1 + away[:, start::2].mean(axis=1) for start in (1, 0))  # the second input comes first, and is even
        return _pair(odd * first, even * (1 - np.sqrt(first / even)))

    def curve(n: int) -> _FLOAT:
        f = np.linspace(0, 1, n) ** 2
        return _pair(f, 1 - np.sqrt(f))

    bounds = ((0.0, 1.0),) * n_inputs
    return MultiObjective("F2", bounds, ("f1", "f2"), equation, (1.1, 1.1), "its closed form", curve)


# ---------------------------------------------------------------------- three objectives
def dtlz2(n_inputs: int = 5, n_objectives: int = 3) -> MultiObjective:
    """A front that is a part of the sphere; all inputs from the last angle on are to be 0.5.

    Parameters
    ----------
    n_inputs : int, default=5
    n_objectives : int, default=3

    References
    ----------
    Deb, Thiele, Laumanns and Zitzler, *Scalable test problems for evolutionary multiobjective optimization*, 2005.
    """
    require_whole(2, n_objectives=n_objectives)
    require_whole(n_objectives, n_inputs=n_inputs)

    def equation(X: _FLOAT) -> _FLOAT:
        angles = 0.5 * np.pi * X[:, : n_objectives - 1]
        far = 1 + ((X[:, n_objectives - 1 :] - 0.5) ** 2).sum(axis=1)
        cosines = np.cumprod(np.column_stack([np.ones(len(X)), np.cos(angles)]), axis=1)[:, ::-1]
        sines = np.column_stack([np.ones(len(X)), np.sin(angles)[:, ::-1]])
        return far[:, None] * cosines * sines

    def curve(n: int) -> _FLOAT:
        steps = 1
        while math.comb(steps + n_objectives, n_objectives - 1) <= n:
            steps += 1
        bars = np.array(list(combinations(range(steps + n_objectives - 1), n_objectives - 1)))
        edges = np.column_stack([np.full(len(bars), -1), bars, np.full(len(bars), steps + n_objectives - 1)])
        shares = np.diff(edges, axis=1) - 1.0
        return shares / np.linalg.norm(shares, axis=1, keepdims=True)

    names = tuple(f"f{i + 1}" for i in range(n_objectives))
    worst = (2.8390, 2.9011, 2.8575) if n_objectives == 3 else (2.9,) * n_objectives
    return MultiObjective("DTLZ2", ((0.0, 1.0),) * n_inputs, names, equation, worst, "its closed form", curve)


# ---------------------------------------------------------------------- engineering
def re21() -> MultiObjective:
    """A truss of four bars: its volume, and how far the joint moves, by the cross sections of the bars.

    The third bar is best as thin as may be, and the rest is convex, so that weighted sums give the whole front.

    References
    ----------
    RE21 of Tanabe and Ishibuchi, arXiv 2009.12867; Cheng and Li, 1999.
    """
    root = math.sqrt(2)
    bounds = ((1.0, 3.0), (root, 3.0), (root, 3.0), (1.0, 3.0))

    def equation(X: _FLOAT) -> _FLOAT:
        a, b, c, d = X.T
        return _pair(200 * (2 * a + root * b + np.sqrt(c) + d), 0.01 * (2 / a + 2 * root / b - 2 * root / c + 2 / d))

    def curve(n: int) -> _FLOAT:
        s = np.linspace(1 / root, 3, n)  # each bar where its own part of the weighted sum is least, or at its limit
        best = np.column_stack([s, root * s, np.full(n, root), root * s])
        return equation(np.clip(best, *np.array(bounds).T))

    names = ("volume", "displacement")
    point = (2886.3695604236013, 0.04)
    return MultiObjective("RE21", bounds, names, equation, point, "its closed form", curve)


def re33() -> MultiObjective:
    """A disc brake: its mass, the time to stop, and by how much four limits are broken in all.

    Inputs are the inner and outer radius, the force, and the number of surfaces. Where the radii are nearly equal the third
    objective grows without bound.

    References
    ----------
    RE33 of Tanabe and Ishibuchi, arXiv 2009.12867; Ray and Liew, 2002.
    """

    def equation(X: _FLOAT) -> _FLOAT:
        inner, outer, force, surfaces = X.T
        ring = outer**2 - inner**2
        reach = (outer**2 + outer * inner + inner**2) / (outer + inner)  # the difference of cubes over that of squares
        limits = [
            outer - inner - 20,
            0.4 - force / (3.14 * ring),
            1 - 2.22e-3 * force * reach / ring,
            2.66e-2 * force * surfaces * reach - 900,
        ]
        broken = sum(np.maximum(-one, 0) for one in limits)
        return np.column_stack([4.9e-5 * ring * (surfaces - 1), 9.82e6 / (force * surfaces * reach), broken])

    bounds = ((55.0, 80.0), (75.0, 110.0), (1000.0, 3000.0), (11.0, 20.0))
    names = ("mass", "stopping time", "limits broken")
    point = (5.3067, 3.12833430979, 25.0)
    return MultiObjective("RE33", bounds, names, equation, point, _LONG_RUN, best_hypervolume=_RE33)


def re36() -> MultiObjective:
    """A gear train: how far its ratio is from the one wanted, its largest wheel, and by how much a limit is broken.

    Numbers of teeth are taken as real numbers, as in the paper's code. The limit depends on the first objective alone, so that
    the front is a curve.

    References
    ----------
    RE36 of Tanabe and Ishibuchi, arXiv 2009.12867; Deb and Srinivasan, 2006.
    """
    wanted, least = 6.931, 12.0

    def equation(X: _FLOAT) -> _FLOAT:
        off = np.abs(wanted - X[:, 2] * X[:, 3] / (X[:, 0] * X[:, 1]))
        return np.column_stack([off, X.max(axis=1), np.maximum(off / wanted - 0.5, 0)])

    def curve(n: int) -> _FLOAT:
        size = np.linspace(least, least * math.sqrt(wanted), n)
        return equation(np.column_stack([np.full(n, least), np.full(n, least), size, size]))

    point = (5.931, 56.0, 0.355720675227)
    names = ("error of the ratio", "largest wheel", "limit broken")
    return MultiObjective("RE36", ((least, 60.0),) * 4, names, equation, point, "its closed form", curve)


def re37() -> MultiObjective:
    """An injector of a rocket: the heat of its face, the length of its flame, and the heat of its tip, by its shape.

    References
    ----------
    RE37 of Tanabe and Ishibuchi, arXiv 2009.12867; Vaidyanathan, Tucker, Papila and Shyy, 2003.
    """

    def equation(X: _FLOAT) -> _FLOAT:
        return np.column_stack([_polynomial(terms, X) for terms in _INJECTOR])

    names = ("heat of the face", "length of the flame", "heat of the tip")
    point = (0.98949120096, 0.956587924661, 0.987530948586)
    return MultiObjective("RE37", ((0.0, 1.0),) * 4, names, equation, point, _LONG_RUN, best_hypervolume=_RE37)


def _polynomial(terms: Sequence[tuple[float, str]], X: _FLOAT) -> _FLOAT:
    """Coefficients of products of inputs, each input by a letter."""
    columns = dict(zip("ahop", X.T, strict=True))
    return sum((c * np.prod([columns[one] for one in product], axis=0) for c, product in terms), np.zeros(len(X)))


_INJECTOR: tuple[tuple[tuple[float, str], ...], ...] = (
    (
        (0.692, ""), (0.477, "a"), (-0.687, "h"), (-0.080, "o"), (-0.0650, "p"), (-0.167, "aa"), (-0.0129, "ha"),
        (0.0796, "hh"), (-0.0634, "oa"), (-0.0257, "oh"), (0.0877, "oo"), (-0.0521, "pa"), (0.00156, "ph"),
        (0.00198, "po"), (0.0184, "pp"),
    ),
    (
        (0.153, ""), (-0.322, "a"), (0.396, "h"), (0.424, "o"), (0.0226, "p"), (0.175, "aa"), (0.0185, "ha"),
        (-0.0701, "hh"), (-0.251, "oa"), (0.179, "oh"), (0.0150, "oo"), (0.0134, "pa"), (0.0296, "ph"), (0.0752, "po"),
        (0.0192, "pp"),
    ),
    (
        (0.370, ""), (-0.205, "a"), (0.0307, "h"), (0.108, "o"), (1.019, "p"), (-0.135, "aa"), (0.0141, "ha"),
        (0.0998, "hh"), (0.208, "oa"), (-0.0301, "oh"), (-0.226, "oo"), (0.353, "pa"), (-0.0497, "po"), (-0.423, "pp"),
        (0.202, "haa"), (-0.281, "oaa"), (-0.342, "hha"), (-0.245, "hho"), (0.281, "ooh"), (-0.184, "ppa"),
        (-0.281, "hao"),
    ),
)  # fmt: skip
# Objectives were cut off at the reference point, since what lies beyond counts nothing.
_LONG_RUN = "three runs of NSGA-II together, each with 1,000 designs and 200,000 evaluations"
_RE33 = 215.53423535812627
_RE37 = 0.7564236075990455
