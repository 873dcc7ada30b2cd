"""Objectives at several levels: analytic pairs whose optimum is known; solvers of several sizes, meshes, and epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData
from locum.problems._packages import holder, lift_over_drag
from locum.problems.cantilever import CANTILEVER_BOUNDS, cantilever
from locum.problems.training import TRAINING_BOUNDS, training_curve

__all__ = [
    "MultiFidelityProblem", "airfoil_levels", "borehole_pair", "branin_pair", "cantilever_levels", "currin_pair",
    "forrester_pair", "hartmann_pair", "park_pair", "training_levels", "wing_levels",
]  # fmt: skip

_FLOAT = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MultiFidelityProblem:
    """An objective at several levels on a box, to be minimised; the cheapest level comes first, the truth last.

    Parameters
    ----------
    name : str
    bounds : ndarray of shape (d, 2)
    levels : tuple of callable
        Each takes designs of shape (n, d) in the units of the box, and gives shape (n,), or (n, 1 + c) with constraints.
    cost : tuple of float
        Of an evaluation at each level.
    optimum : ndarray of shape (d,) or None, default=None
        Where the truth is least; None where that is not known.
    least : float or None, default=None
        The truth there.
    """

    name: str
    bounds: _FLOAT
    levels: tuple[Callable[[_FLOAT], _FLOAT], ...]
    cost: tuple[float, ...]
    optimum: _FLOAT | None = None
    least: float | None = None

    def evaluate(self, X: ArrayLike, level: int = -1) -> _FLOAT:
        """Values of designs at a level, the truth by default.

        Parameters
        ----------
        X : array-like of shape (n, d)
        level : int, default=-1

        Raises
        ------
        InvalidData
            Designs of another shape or outside the box.
        """
        rows, low, high = np.asarray(X, dtype=float), self.bounds[:, 0], self.bounds[:, 1]
        if rows.ndim != 2 or rows.shape[1] != len(low):
            raise InvalidData(f"expected designs of shape (n, {len(low)}), got {rows.shape}")
        slack = 1e-9 * (high - low)
        if not ((rows >= low - slack) & (rows <= high + slack)).all():
            raise InvalidData(f"expected designs within the box of {self.name}, {self.bounds.tolist()}")
        return np.asarray(self.levels[level](np.clip(rows, low, high)), dtype=float)

    def functions(self) -> list[Callable[[dict[str, Any]], Any]]:
        """The levels as functions of a point with x0, x1, ...; see `Space.box`."""
        return [_OfPoint(self, level) for level in range(len(self.levels))]


class _OfPoint:
    """One level as a function of a point."""

    def __init__(self, problem: MultiFidelityProblem, level: int) -> None:
        self.problem, self.level = problem, level
        self.__name__ = problem.name

    def __call__(self, point: dict[str, Any]) -> Any:
        row = [[point[f"x{i}"] for i in range(len(self.problem.bounds))]]
        return self.problem.evaluate(row, self.level)[0]


def _pair(
    name: str, bounds: ArrayLike, low: Callable[[_FLOAT], _FLOAT], high: Callable[[_FLOAT], _FLOAT], at: ArrayLike, ratio: float
) -> MultiFidelityProblem:
    box, best = np.asarray(bounds, dtype=float), np.asarray(at, dtype=float)
    return MultiFidelityProblem(name, box, (low, high), (1.0, ratio), best, float(high(best[None])[0]))


def forrester_pair(ratio: float = 10.0) -> MultiFidelityProblem:
    r"""One input: :math:`(6x - 2)^2 \sin(12x - 4)`, and half of it with a line added.

    Parameters
    ----------
    ratio : float, default=10.0
        Cost of the truth over that of the level below, for all pairs here.

    References
    ----------
    Forrester, Sobester and Keane, *Multi-fidelity optimization via surrogate modelling*, 2007.

    Examples
    --------
    >>> round(forrester_pair().least, 4)
    -6.0207
    """

    def high(X: _FLOAT) -> _FLOAT:
        return (6 * X[:, 0] - 2) ** 2 * np.sin(12 * X[:, 0] - 4)

    def low(X: _FLOAT) -> _FLOAT:
        return 0.5 * high(X) + 10 * (X[:, 0] - 0.5) - 5

    return _pair("forrester", [[0, 1]], low, high, [0.757248757841856], ratio)


def branin_pair(ratio: float = 10.0) -> MultiFidelityProblem:
    """Two inputs: Branin's function tilted so that one minimum is least, and a shrunk and bent copy.

    Parameters
    ----------
    ratio : float, default=10.0

    References
    ----------
    Dong et al., *Multi-fidelity information fusion based on prediction of kriging*, 2015.
    """

    def plain(u: _FLOAT, v: _FLOAT) -> _FLOAT:
        bend = v - 5.1 * u**2 / (4 * np.pi**2) + 5 * u / np.pi - 6
        return bend**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(u) + 10

    def high(X: _FLOAT) -> _FLOAT:
        return plain(X[:, 0], X[:, 1]) - 22.5 * X[:, 1]

    def low(X: _FLOAT) -> _FLOAT:
        u, v = X.T
        return plain(0.7 * u, 0.7 * v) - 15.75 * v + 20 * (0.9 + u) ** 2 - 50

    return _pair("branin", [[-5, 10], [0, 15]], low, high, [-3.786088705282203, 15.0], ratio)


def currin_pair(ratio: float = 10.0) -> MultiFidelityProblem:
    """Two inputs: Currin's exponential function, with its sign turned so that the least is sought, and a mean of neighbours.

    Parameters
    ----------
    ratio : float, default=10.0

    References
    ----------
    Xiong, Qian and Wu, *Sequential design and analysis of high-accuracy and low-accuracy computer codes*, 2013.
    """

    def high(X: _FLOAT) -> _FLOAT:
        u, v = X.T
        fall = np.where(v > 1e-8, 1 - np.exp(-0.5 / np.maximum(v, 1e-8)), 1.0)
        top = ((2300 * u + 1900) * u + 2092) * u + 60
        return -fall * top / (((100 * u + 500) * u + 4) * u + 20)

    def low(X: _FLOAT) -> _FLOAT:
        moved = [X + np.array([a, b]) for a in (-0.05, 0.05) for b in (-0.05, 0.05)]
        return np.mean([high(np.column_stack([one[:, 0], np.maximum(one[:, 1], 0)])) for one in moved], axis=0)

    return _pair("currin", [[0, 1], [0, 1]], low, high, [0.21666666, 0.0], ratio)


def park_pair(ratio: float = 10.0) -> MultiFidelityProblem:
    """Four inputs: Park's first function, and a bent copy.

    Parameters
    ----------
    ratio : float, default=10.0

    References
    ----------
    Park, *Tuning complex computer codes to data and optimal designs*, 1991; levels as in Xiong, Qian and Wu, 2013.
    """

    def high(X: _FLOAT) -> _FLOAT:
        a, b, c, e = X.T
        return a / 2 * (np.sqrt(1 + (b + c**2) * e / a**2) - 1) + (a + 3 * e) * np.exp(1 + np.sin(c))

    def low(X: _FLOAT) -> _FLOAT:
        return (1 + np.sin(X[:, 0]) / 10) * high(X) - 2 * X[:, 0] + X[:, 1] ** 2 + X[:, 2] ** 2 + 0.5

    return _pair("park", [[1e-8, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]], low, high, [1e-8, 0.0, 0.0, 0.0], ratio)


def hartmann_pair(ratio: float = 10.0) -> MultiFidelityProblem:
    """Six inputs: Hartmann's function scaled, and one with other weights and an exponential cut short.

    Parameters
    ----------
    ratio : float, default=10.0

    References
    ----------
    Park, Haftka and Kim, *Remarks on multi-fidelity surrogates*, 2017.
    """
    A = np.array([[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]])
    P = 1e-4 * np.array([
        [1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381],
    ])  # fmt: skip

    def away(X: _FLOAT) -> _FLOAT:
        return -np.einsum("kj,nkj->nk", A, (X[:, None] - P) ** 2)

    def high(X: _FLOAT) -> _FLOAT:
        return -(np.exp(away(X)) @ [1.0, 1.2, 3.0, 3.2] + 2.58) / 1.94

    def low(X: _FLOAT) -> _FLOAT:
        short = (np.exp(-4 / 9) * (1 + (away(X) + 4) / 9)) ** 9
        return -(short @ [0.5, 0.5, 2.0, 4.0] + 2.58) / 1.94

    at = [0.20168952, 0.15001069, 0.47687398, 0.27533243, 0.31165162, 0.65730054]
    return _pair("hartmann", [[0.1, 1]] * 6, low, high, at, ratio)


def borehole_pair(ratio: float = 10.0) -> MultiFidelityProblem:
    """Eight inputs: the flow through a borehole, and one with other constants.

    Parameters
    ----------
    ratio : float, default=10.0

    References
    ----------
    Xiong, Qian and Wu, *Sequential design and analysis of high-accuracy and low-accuracy computer codes*, 2013.
    """

    def flow(X: _FLOAT, a: float, b: float) -> _FLOAT:
        rw, r, Tu, Hu, Tl, Hl, length, Kw = X.T
        reach = np.log(r / rw)
        return a * Tu * (Hu - Hl) / (reach * (b + Tu / Tl) + 2 * length * Tu / (rw**2 * Kw))

    bounds: list[list[float]] = [
        [0.05, 0.15], [100, 50_000], [63_070, 115_600], [990, 1110], [63.1, 116], [700, 820], [1120, 1680], [9855, 12_045]
    ]  # fmt: skip
    at: list[float] = [0.05, 50_000, 63_070, 990, 63.1, 820, 1680, 9855]
    return _pair("borehole", bounds, lambda X: flow(X, 5.0, 1.5), lambda X: flow(X, 2 * np.pi, 1.0), at, ratio)


# ---------------------------------------------------------------------- solvers
_MESHES = ((1, 2), (2, 4), (6, 12))  # chordwise and spanwise panels of half a wing


def wing_levels(cost: tuple[float, float, float] = (1.0, 1.0, 16.0), *, trimmed: bool = False) -> MultiFidelityProblem:
    """A wing by a vortex lattice on three meshes: less its lift over drag, with 0.01 of drag that lift does not cause.

    Taper, sweep in degrees, twist of the tip in degrees and dihedral in degrees of a wing of span 8 and root chord 1, at an
    angle of attack of 5 degrees.

    Parameters
    ----------
    cost : tuple of float, default=(1.0, 1.0, 16.0)
        As of the time that meshes take.
    trimmed : bool, default=False
        Whether a constraint follows each value: 0.05 less the size of the pitching moment about a quarter of the mean chord.

    Raises
    ------
    InvalidData
        AeroSandbox is not installed.

    References
    ----------
    Sharpe, *AeroSandbox: a differentiable framework for aircraft design optimization*, 2021.
    """
    asb = holder("aerosandbox", "wings")
    bounds = np.array([[0.3, 1.0], [0.0, 35.0], [-6.0, 3.0], [-3.0, 8.0]])
    levels = tuple(_Wing(asb, mesh, trimmed) for mesh in _MESHES)
    return MultiFidelityProblem("wing", bounds, levels, cost)


class _Wing:
    """Wings on one mesh."""

    def __init__(self, asb: Any, mesh: tuple[int, int], trimmed: bool) -> None:
        self.asb, self.mesh, self.trimmed = asb, mesh, trimmed

    def __call__(self, X: _FLOAT) -> _FLOAT:
        found = np.array([self._one(*row) for row in X])
        return found if self.trimmed else found[:, 0]

    def _one(self, taper: float, sweep: float, twist: float, dihedral: float) -> list[float]:
        asb, half, (chordwise, spanwise) = self.asb, 4.0, self.mesh
        back, up = half * np.tan(np.deg2rad(sweep)), half * np.tan(np.deg2rad(dihedral))
        foil = asb.Airfoil("naca2412")
        sections = [
            asb.WingXSec(xyz_le=[0, 0, 0], chord=1.0, twist=0.0, airfoil=foil),
            asb.WingXSec(xyz_le=[back, half, up], chord=taper, twist=twist, airfoil=foil),
        ]
        wing = asb.Wing(symmetric=True, xsecs=sections)
        plane = asb.Airplane(xyz_ref=[float(wing.aerodynamic_center()[0]), 0, 0], wings=[wing])
        told = asb.VortexLatticeMethod(
            airplane=plane, op_point=asb.OperatingPoint(velocity=25.0, alpha=5.0), spanwise_resolution=spanwise,
            chordwise_resolution=chordwise,
        ).run()  # fmt: skip
        lift, drag, moment = (float(told[name]) for name in ("CL", "CD", "Cm"))
        return [-lift / (0.01 + drag), 0.05 - abs(moment)]


_SIZES = ("xxsmall", "small", "large", "xxxlarge")


def airfoil_levels(width: int = 8, cost: tuple[float, ...] = (1.0, 2.0, 5.0, 20.0)) -> MultiFidelityProblem:
    """Less the lift over drag of airfoils around NACA 2412 at four degrees, by networks of four sizes.

    Parameters
    ----------
    width : int, default=8
        Weights of upper and lower side that move by up to 0.1, the first of 16.
    cost : tuple of float, default=(1.0, 2.0, 5.0, 20.0)
        Nominal: the networks take far less time than an evaluation stands for.

    Raises
    ------
    InvalidData
        AeroSandbox or NeuralFoil is not installed, or a width outside 1 to 16.

    References
    ----------
    Sharpe and Hansman, arXiv 2503.16323.
    """
    if not 1 <= width <= 16:
        raise InvalidData(f"expected width= from 1 to 16, got {width!r}")
    asb, foils = holder("aerosandbox", "airfoils"), holder("neuralfoil", "lift and drag of airfoils")
    centre = asb.Airfoil("naca2412").to_kulfan_airfoil()
    middle = np.stack([centre.upper_weights, centre.lower_weights], axis=1).ravel()  # sides in turn, from the nose

    def at(size: str) -> Callable[[_FLOAT], _FLOAT]:
        def ratio(X: _FLOAT) -> _FLOAT:
            out = []
            for row in X:
                weights = middle.copy()
                weights[:width] += row
                out.append(-lift_over_drag(foils, centre, weights[1::2], weights[0::2], size))
            return np.array(out)

        return ratio

    bounds = np.repeat([[-0.1, 0.1]], width, axis=0)
    return MultiFidelityProblem("airfoil", bounds, tuple(map(at, _SIZES)), cost)


def cantilever_levels(cells: tuple[int, ...] = (6, 10, 24), cost: tuple[float, ...] | None = None) -> MultiFidelityProblem:
    """A cantilever with a hole on meshes of several sizes; see `cantilever`.

    Parameters
    ----------
    cells : tuple of int, default=(6, 10, 24)
        Rising.
    cost : tuple of float or None, default=None
        Squares of the cells, over the first, where None.
    """
    if any(a >= b for a, b in pairwise(cells)):
        raise InvalidData(f"expected cells= that rise, got {cells}")
    levels = tuple(partial(cantilever, cells=n) for n in cells)
    return MultiFidelityProblem("cantilever", CANTILEVER_BOUNDS, levels, cost or tuple((n / cells[0]) ** 2 for n in cells))


def training_levels(epochs: tuple[int, ...] = (1, 3, 9, 27), cost: tuple[float, ...] | None = None) -> MultiFidelityProblem:
    """A network that is trained for some epochs, by its loss on images that it has not seen; see `training_curve`.

    Parameters
    ----------
    epochs : tuple of int, default=(1, 3, 9, 27)
        Rising.
    cost : tuple of float or None, default=None
        The epochs where None.
    """
    if any(a >= b for a, b in pairwise(epochs)):
        raise InvalidData(f"expected epochs= that rise, got {epochs}")

    def after(n: int) -> Callable[[_FLOAT], _FLOAT]:
        return lambda X: np.array([training_curve(row, n)[-1] for row in X])

    return MultiFidelityProblem("training", TRAINING_BOUNDS, tuple(map(after, epochs)), cost or tuple(map(float, epochs)))
