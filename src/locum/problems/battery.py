"""A lithium-ion cell as a single-particle model: one sphere an electrode, and a finite-volume solver for many cells at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.linalg import lapack

from locum.core.errors import InvalidData, require_one_of, require_positive, require_whole
from locum.core.parameters import parameter_rows

__all__ = ["Curve", "Discharge", "Electrode", "SingleParticle", "graphite_nmc", "simple_cell"]

Array = NDArray[np.float64]
Property = Callable[[Any], Any]

FARADAY = 96485.3321  # C/mol
GAS = 8.3145  # J/(mol K)
PARAMETERS = ("i0_n", "i0_p", "D_n", "D_p")
_GAMMA = 1.0 - 1.0 / math.sqrt(2.0)


class Curve:
    """A table as a function with a continuous slope and no wiggles (monotone cubics), of NumPy arrays and of torch tensors.

    Parameters
    ----------
    x, y : array-like of shape (m,)
        Rising x.

    Examples
    --------
    >>> bool(Curve([0, 1, 3], [0, 2, 2])(np.array(2.0)) == 2.0)
    True
    """

    def __init__(self, x: ArrayLike, y: ArrayLike) -> None:
        self.x, self.y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        if self.x.ndim != 1 or self.x.shape != self.y.shape or len(self.x) < 2 or not (np.diff(self.x) > 0).all():
            raise InvalidData(f"expected a table of rising x, got shapes {self.x.shape} and {self.y.shape}")
        self._cubic = PchipInterpolator(self.x, self.y)

    def __call__(self, x: Any) -> Any:
        """Values at x; beyond the table the end cubics go on."""
        if isinstance(x, np.ndarray | float | int | np.generic):
            return self._cubic(x)
        import torch

        breaks = torch.as_tensor(self.x[1:-1], dtype=x.dtype, device=x.device)
        at = torch.bucketize(x.detach(), breaks)
        start = torch.as_tensor(self.x, dtype=x.dtype, device=x.device)[at]
        cubics = torch.as_tensor(self._cubic.c, dtype=x.dtype, device=x.device)[:, at]
        step = x - start
        return ((cubics[0] * step + cubics[1]) * step + cubics[2]) * step + cubics[3]


@dataclass(frozen=True, eq=False)
class Electrode:
    """One porous electrode, stood for by one sphere of its active material.

    Parameters
    ----------
    thickness, radius : float
        Of the electrode and of its particles, in m.
    fraction : float
        Share of the volume that is active material.
    capacity : float
        Most lithium that the material holds, in mol/m³.
    start : float
        Share of it that is there at first.
    ocp, diffusivity, exchange : callable
        Open-circuit potential in V, diffusivity in m²/s and density of the exchange current in A/m², each a function of the
        share of lithium, of arrays and of torch tensors alike.
    """

    thickness: float
    radius: float
    fraction: float
    capacity: float
    start: float
    ocp: Property = field(repr=False)
    diffusivity: Property = field(repr=False)
    exchange: Property = field(repr=False)

    def __post_init__(self) -> None:
        names = ("thickness", "radius", "fraction", "capacity", "start")
        require_positive(**{name: getattr(self, name) for name in names})
        if self.start >= 1 or self.fraction > 1:
            raise InvalidData(f"expected shares of at most 1, got start={self.start!r} and fraction={self.fraction!r}")


@dataclass(frozen=True, eq=False)
class Discharge:
    """Discharges of cells with n settings of their parameters.

    Attributes
    ----------
    names : tuple of str
        Of the parameters.
    parameters : ndarray of shape (n, d)
    times : ndarray of shape (T,)
        In s.
    voltage, electrolyte : ndarray of shape (n, T)
        Potential of the positive electrode and of the electrolyte against the negative electrode, in V.
    radii : ndarray of shape (N,)
        Middles of the shells, as shares of the radius of a particle.
    negative, positive : ndarray of shape (n, T, N)
        Share of lithium in the particles.
    negative_surface, positive_surface : ndarray of shape (n, T)
        The same at the surface.
    """

    names: tuple[str, ...]
    parameters: Array
    times: Array
    voltage: Array
    electrolyte: Array
    radii: Array
    negative: Array
    positive: Array
    negative_surface: Array
    positive_surface: Array


@dataclass(frozen=True, eq=False)
class SingleParticle:
    r"""The single-particle model of a cell at constant current and temperature.

    In each particle :math:`\partial_t c = r^{-2} \partial_r(r^2 D(c) \partial_r c)` with no flux in the middle and
    :math:`-D \partial_r c = j` at the surface, where :math:`j = \pm I R / (3 ε F L A)`. Potentials follow from kinetics:
    :math:`φ_e = -U_n - η_n`, :math:`V = U_p + η_p + φ_e`, with :math:`η = R T j / i_0` ("linear") or
    :math:`η = (2RT/F) \,\mathrm{arsinh}(F j / 2 i_0)` ("butler-volmer").

    Parameters
    ----------
    negative, positive : Electrode
    area : float
        Of the electrodes, in m².
    current : float
        Of the discharge, in A.
    duration : float
        Of the discharge, in s.
    temperature : float, default=303.15
    kinetics : {"linear", "butler-volmer"}, default="linear"
    bounds : mapping of str to tuple of float, default={"i0_n": (0.5, 4.0), "D_p": (1.0, 10.0)}
        Parameters that are not known, and their ranges. They are factors of exchange current and diffusivity in the negative
        and positive electrode: "i0_n", "i0_p", "D_n", "D_p".

    Raises
    ------
    InvalidData
        Constants or names that cannot be used.

    References
    ----------
    The cell and its constants: Hassanaly et al., arXiv 2312.17329, and the code published with it.
    """

    negative: Electrode
    positive: Electrode
    area: float
    current: float
    duration: float
    temperature: float = 303.15
    kinetics: str = "linear"
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=lambda: {"i0_n": (0.5, 4.0), "D_p": (1.0, 10.0)})

    def __post_init__(self) -> None:
        require_positive(area=self.area, current=self.current, duration=self.duration, temperature=self.temperature)
        require_one_of(("linear", "butler-volmer"), kinetics=self.kinetics)
        if not self.bounds:
            raise InvalidData("expected bounds= of a parameter or more, got none")
        for name, (low, high) in self.bounds.items():
            require_one_of(PARAMETERS, name=name)
            if not 0 < low < high < math.inf:
                raise InvalidData(f"expected bounds 0 < low < high of {name}, got {(low, high)}")

    # ------------------------------------------------------------------ constants
    @property
    def thermal(self) -> float:
        """RT, in J/mol."""
        return GAS * self.temperature

    @property
    def faraday(self) -> float:
        """In C/mol."""
        return FARADAY

    @property
    def fluxes(self) -> tuple[float, float]:
        """Lithium that leaves the particles of the negative and of the positive electrode, in mol/(m² s)."""
        found = [one.radius / (3 * one.fraction * FARADAY * one.thickness) for one in (self.negative, self.positive)]
        density = self.current / self.area
        return density * found[0], -density * found[1]

    def overpotential(self, flux: Any, exchange: Any) -> Any:
        """η in V, of a flux in mol/(m² s) and the density of the exchange current in A/m²."""
        if self.kinetics == "linear":
            return self.thermal * flux / exchange
        return 2 * self.thermal / FARADAY * np.arcsinh(FARADAY * flux / (2 * exchange))

    # ------------------------------------------------------------------ use
    def sample(self, n: int, seed: int = 0) -> Array:
        """Parameters drawn uniformly and independently within the bounds, shape (n, d)."""
        require_whole(1, n=n)
        low, high = np.array(list(self.bounds.values()), dtype=float).T
        return low + (high - low) * np.random.default_rng(seed).random((n, len(low)))

    def rows(self, parameters: Any) -> Array:
        """Parameters as rows (n, d), in the order of `bounds`.

        Parameters
        ----------
        parameters : array-like of shape (n, d) or (d,), or mapping of name to numbers that broadcast

        Raises
        ------
        InvalidData
            Other names, shapes that do not broadcast, or numbers that are not above 0.
        """
        found = parameter_rows(parameters, tuple(self.bounds))
        if not (found > 0).all():
            raise InvalidData("expected parameters above 0")
        return found

    def solve(self, parameters: Any, times: ArrayLike | None = None, *, shells: int = 64, steps: int = 160) -> Discharge:
        """Solve the equations, with all the profiles.

        Parameters
        ----------
        parameters : array-like of shape (n, d) or (d,), or mapping of name to numbers
        times : array-like of shape (T,), default=None
            Within the discharge, in s, rising; 100 even ones from 10 s to the end where None.
        shells : int, default=64
            Of each particle, of even thickness: second order.
        steps : int, default=160
            In time, at :math:`t_k = T (k/K)^2`, so that the layer at the surface is followed from the start: second order.

        Raises
        ------
        InvalidData
            Parameters or times that cannot be used, or a particle that is empty or full before the end.

        Notes
        -----
        Cost: 0.4 ms a cell in batches of many, 25 ms for one alone; profiles in memory. A parameter that an electrode does not
        depend on costs nothing there. Differences in space are conservative, so lithium is kept to rounding; steps in time
        are of Rosenbrock's kind with two stages (Verwer et al., 1999), one tridiagonal factorisation each. Between steps
        values are splines in the root of time.
        """
        return self._solved(self.rows(parameters), self._times(times), shells, steps, profiles=True)

    def voltage(self, parameters: Any, times: ArrayLike | None = None, *, shells: int = 64, steps: int = 160) -> Array:
        """The voltage alone, shape (n, T), in V; see :meth:`solve`."""
        return self._solved(self.rows(parameters), self._times(times), shells, steps, profiles=False).voltage

    def _times(self, times: ArrayLike | None) -> Array:
        found = np.linspace(10.0, self.duration, 100) if times is None else np.atleast_1d(np.asarray(times, dtype=float))
        if found.ndim != 1 or not len(found) or not np.isfinite(found).all() or (np.diff(found) <= 0).any():
            raise InvalidData("expected finite, rising times of shape (T,)")
        if found[0] < 0 or found[-1] > self.duration * (1 + 1e-9):
            raise InvalidData(f"expected times from 0 to {self.duration:g} s, got {found[0]:g} to {found[-1]:g}")
        return found

    def _solved(self, rows: Array, times: Array, shells: int, steps: int, *, profiles: bool) -> Discharge:
        require_whole(3, shells=shells, steps=steps)
        factor = {name: rows[:, i] for i, name in enumerate(self.bounds)}
        held, surfaces = [], []
        for electrode, flux, name in ((self.negative, self.fluxes[0], "D_n"), (self.positive, self.fluxes[1], "D_p")):
            unique, back = np.unique(factor.get(name, np.ones(len(rows))), return_inverse=True)
            inner, surface = _diffused(electrode, flux, unique, self.duration, times, shells, steps, profiles)
            held.append(inner[back])
            surfaces.append(surface[back])
        one = np.ones((len(rows), 1))
        exchange = [
            electrode.exchange(x) * factor[name][:, None] if name in factor else electrode.exchange(x) * one
            for electrode, x, name in ((self.negative, surfaces[0], "i0_n"), (self.positive, surfaces[1], "i0_p"))
        ]
        electrolyte = -self.negative.ocp(surfaces[0]) - self.overpotential(self.fluxes[0], exchange[0])
        voltage = self.positive.ocp(surfaces[1]) + self.overpotential(self.fluxes[1], exchange[1]) + electrolyte
        radii = (np.arange(shells) + 0.5) / shells
        return Discharge(tuple(self.bounds), rows, times, voltage, electrolyte, radii, held[0], held[1], *surfaces)


# ---------------------------------------------------------------------- diffusion in spheres
def _diffused(
    electrode: Electrode, flux: float, factors: Array, duration: float, times: Array, shells: int, steps: int, profiles: bool
) -> tuple[Array, Array]:
    """Share of lithium (n, T, N) within, empty without `profiles`, and (n, T) at the surface."""
    sphere = _Sphere(electrode, flux, factors, shells)
    grid = duration * (np.arange(steps + 1) / steps) ** 2
    x = np.full((len(factors), shells), electrode.start)
    inner, surface = [x], [sphere.surface(x)]
    for step in np.diff(grid):
        x = sphere.step(x, float(step))
        surface.append(sphere.surface(x))
        if profiles:
            inner.append(x)
        if not ((surface[-1] > 0) & (surface[-1] < 1)).all():
            raise InvalidData(
                f"a particle is empty or full after {grid[len(surface) - 1]:.0f} s of {duration:g} s: take a smaller current "
                "or a shorter discharge"
            )
    surface[0] = np.full(len(factors), electrode.start)  # the flux has not begun
    root, at = np.sqrt(grid / duration), np.sqrt(np.minimum(times / duration, 1.0))
    found = CubicSpline(root, np.stack(surface, axis=1), axis=1)(at)
    held = CubicSpline(root, np.stack(inner, axis=1), axis=1)(at) if profiles else np.empty((len(factors), 0, 0))
    return held, found


class _Sphere:
    """Finite volumes of n spheres with N shells each, in units of the radius; all are one tridiagonal system."""

    def __init__(self, electrode: Electrode, flux: float, factors: Array, shells: int) -> None:
        self._electrode, self._factors = electrode, factors[:, None]
        edges = np.arange(shells + 1) / shells
        self._width = 1.0 / shells
        volumes = np.diff(edges**3) / 3
        self._inwards, self._outwards = edges[:-1] ** 2 / volumes, edges[1:] ** 2 / volumes
        self._source = -flux / (electrode.capacity * electrode.radius) * self._outwards[-1]
        self._slope = -flux * electrode.radius / electrode.capacity  # of x at the surface, times D

    def _conductance(self, x: Array) -> Array:
        """Diffusivity over radius squared and width, at the faces within, (n, N - 1)."""
        middle = self._electrode.diffusivity((x[:, 1:] + x[:, :-1]) / 2) * np.ones_like(x[:, 1:])
        return np.asarray(self._factors * middle / (self._electrode.radius**2 * self._width))

    def _rate(self, x: Array) -> Array:
        flow = self._conductance(x) * np.diff(x, axis=1)
        out = np.zeros_like(x)
        out[:, :-1] += self._outwards[:-1] * flow
        out[:, 1:] -= self._inwards[1:] * flow
        out[:, -1] += self._source
        return out

    def step(self, x: Array, step: float) -> Array:
        """One Rosenbrock step: second order whatever is kept of the Jacobian, here all but the slope of the diffusivity."""
        held = _GAMMA * step * self._conductance(x)
        upper, lower, middle = np.zeros_like(x), np.zeros_like(x), np.ones_like(x)
        upper[:, :-1] = -self._outwards[:-1] * held
        lower[:, :-1] = -self._inwards[1:] * held
        middle[:, :-1] -= upper[:, :-1]
        middle[:, 1:] -= lower[:, :-1]
        factored = lapack.dgttrf(lower.ravel()[:-1], middle.ravel(), upper.ravel()[:-1])[:5]

        def solved(right: Array) -> Array:
            return np.asarray(lapack.dgttrs(*factored, right.ravel())[0]).reshape(x.shape)

        first = solved(self._rate(x))
        second = solved(self._rate(x + step * first) - 2 * first)
        return np.asarray(x + step * (1.5 * first + 0.5 * second))

    def surface(self, x: Array) -> Array:
        """By a parabola through the two outer shells that has the slope of the flux."""
        found = x[:, -1]
        for _ in range(4):
            slope = self._slope / (self._factors[:, 0] * self._electrode.diffusivity(np.clip(found, 0.0, 1.0)))
            found = (9 * x[:, -1] - x[:, -2] + 3 * self._width * slope) / 8
        return np.asarray(found)


# ---------------------------------------------------------------------- cells
def polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    """By Horner's rule, the highest power first."""
    out = 0.0 * x + coefficients[0]
    for one in coefficients[1:]:
        out = out * x + one
    return out


_NEGATIVE_OCP = Curve(
    [0.0, 0.0037, 0.0074, 0.0111, 0.0148, 0.0222, 0.0296, 0.0333, 0.037, 0.0481, 0.0518, 0.0592, 0.0703, 0.074, 0.115,
     0.126, 0.152, 0.166, 0.189, 0.196, 0.218, 0.233, 0.255, 0.266, 0.47, 0.496, 0.507, 0.529, 0.651, 0.828, 0.91,
     0.936, 0.98],
    [1.1705, 1.0739, 0.9591, 0.8645, 0.7759, 0.6483, 0.5532, 0.5146, 0.483, 0.399, 0.3777, 0.3364, 0.2867, 0.2726,
     0.2236, 0.2216, 0.2101, 0.198, 0.1797, 0.1731, 0.1589, 0.147, 0.142, 0.1394, 0.1287, 0.1226, 0.1168, 0.1023,
     0.1014, 0.0982, 0.086, 0.0738, 0.0268]
)  # fmt: skip
_POSITIVE_OCP = Curve(
    [0.34, 0.4206, 0.4952, 0.531, 0.5639, 0.6236, 0.6893, 0.749, 0.7878, 0.8445, 0.8952, 0.9519, 0.9669, 0.9758,
     0.9818, 0.9848, 0.9878, 0.9907, 0.9937, 0.9967],
    [4.2905, 4.1244, 3.99, 3.9308, 3.8823, 3.8144, 3.7698, 3.7425, 3.7274, 3.7024, 3.6766, 3.6311, 3.6087, 3.5863,
     3.5589, 3.537, 3.5005, 3.4283, 3.3078, 3.107],
)  # fmt: skip
_LOG_DIFFUSIVITY = (
    -250.901084347927, 2391.02672525997, -4868.42026761136, -83.3110410292107, 10576.36028329, -12683.2454834812,
    5016.27216777553, 982.489665964948, -1502.4393390709, 472.37093042477, -65.2609204639709,
)  # fmt: skip
_EXCHANGE = (16.5045282964129, -75.235671414888, 124.052469007304, -94.1657108128761, 32.4976882173796, -3.58529006582476)


def _nmc_diffusivity(x: Any) -> Any:
    return 2.25 * 10.0 ** polynomial(_LOG_DIFFUSIVITY, x)


def _nmc_exchange(x: Any) -> Any:
    return 9.0 * polynomial(_EXCHANGE, x)


def _graphite_exchange(x: Any) -> Any:
    return 2.5 * 0.27 * 30.53 * (1.2 * x * (1.0 - x)) ** 0.5


def _constant(value: float) -> Property:
    return lambda x: 0.0 * x + value


def graphite_nmc(
    *, c_rate: float = 2.0, duration: float = 1350.0, kinetics: str = "linear", ocp: tuple[Property, Property] | None = None
) -> SingleParticle:
    """Graphite against a layered oxide of nickel, manganese and cobalt: the cell of the paper.

    Parameters
    ----------
    c_rate : float, default=2.0
        1 takes 18.9 mA.
    duration : float, default=1350.0
        In s.
    kinetics : {"linear", "butler-volmer"}, default="linear"
    ocp : tuple of two callables or None, default=None
        Open-circuit potentials in place of the tables.

    References
    ----------
    Hassanaly et al., arXiv 2312.17329. Constants, tables of open-circuit potentials (thinned to 1 mV) and polynomials of the
    other properties are those of the code published with it, BSD-3-Clause, copyright 2023 Alliance for Sustainable Energy, LLC.

    Examples
    --------
    >>> cell = graphite_nmc()
    >>> cell.voltage({"i0_n": [1.0, 2.0], "D_p": 2.0}, [0.0, 600.0, 1350.0]).round(2).tolist()
    [[4.09, 3.77, 3.58], [4.09, 3.77, 3.58]]
    """
    ocp_n, ocp_p = ocp or (_NEGATIVE_OCP, _POSITIVE_OCP)
    return SingleParticle(
        Electrode(44e-6, 4e-6, 0.5430727763, 30_530.0, 0.91, ocp_n, _constant(3e-14), _graphite_exchange),
        Electrode(42e-6, 1.8e-6, 0.47662, 49_600.0, 0.39, ocp_p, _nmc_diffusivity, _nmc_exchange),
        1.4e-3, 1.89e-2 * c_rate, duration, kinetics=kinetics,
    )  # fmt: skip


def simple_cell(*, c_rate: float = 2.0, duration: float = 1350.0, kinetics: str = "linear") -> SingleParticle:
    """The same cell with straight open-circuit potentials and constant diffusivities and exchange currents.

    Parameters
    ----------
    c_rate : float, default=2.0
    duration : float, default=1350.0
        In s.
    kinetics : {"linear", "butler-volmer"}, default="linear"
    """
    cell = graphite_nmc(c_rate=c_rate, duration=duration, kinetics=kinetics)
    negative, positive = cell.negative, cell.positive

    def simple(one: Electrode, ocp: Property, diffusivity: float, exchange: float) -> Electrode:
        sizes = (one.thickness, one.radius, one.fraction, one.capacity, one.start)
        return Electrode(*sizes, ocp, _constant(diffusivity), _constant(exchange))

    return SingleParticle(
        simple(negative, lambda x: 0.2 - 0.2 * x, 3e-14, 2.0), simple(positive, lambda x: 5.0 - 1.4 * x, 3.5e-15, 3.0),
        cell.area, cell.current, duration, kinetics=kinetics,
    )  # fmt: skip
