"""Chaotic systems that can be integrated anew at any length and resolution, and that know their exponents: those of dysts."""

from __future__ import annotations

import difflib
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from locum.core.errors import InvalidData, LocumError, require_one_of, require_whole
from locum.core.lyapunov import lyapunov_spectrum
from locum.problems._dysts import equations, records

__all__ = ["ChaosProperties", "ChaoticSystem", "IntegrationError", "load", "names"]

Array = NDArray[np.float64]

_METHODS = ("LSODA", "DOP853", "RK45", "RK23", "Radau", "BDF")
_FEWEST_POINTS = 3  # a period, or its own rhythm cannot be seen
_SETTLE = 10.0  # periods from a start off the attractor to one on it
_AWAY = (0.05, 0.01, 0.002)  # standard deviations that a seeded start is moved by; the next where the first leaves the basin
_MOST = 50_000  # calls of the right-hand side a period, ten times what any system needs that does not stick; for ten or more
_TANGENT = 100  # steps a period of the tangent map
_LOOK = 500  # calls of the right-hand side between two looks at the clock
_DIFFERENCE = 6e-6  # of the scale of a coordinate: near the cube root of the precision


class IntegrationError(LocumError, RuntimeError):
    """A solver did not reach the end.

    Parameters
    ----------
    message : str
    system : str
        Name of the system.
    reached : float
        Time that was reached, from the start.
    """

    def __init__(self, message: str, *, system: str, reached: float) -> None:
        super().__init__(message)
        self.system = system
        self.reached = reached


@dataclass(frozen=True)
class ChaosProperties:
    """What dysts holds of a system: estimates from finite trajectories, at its default parameters.

    Parameters
    ----------
    period : float
        Of the dominant frequency, in the system's unit of time.
    dt : float
        Time step that resolves its fastest significant frequency.
    maximum_lyapunov : float
        Largest exponent, per unit of time; by another method than the spectrum, so they differ.
    lyapunov_spectrum : tuple of float
        Empty where dysts has none.
    kaplan_yorke_dimension, correlation_dimension, pesin_entropy, multiscale_entropy : float or None
        None where dysts has none.
    mean, std : tuple of float
        Of each coordinate.
    hamiltonian, nonautonomous : bool
    """

    period: float
    dt: float
    maximum_lyapunov: float
    lyapunov_spectrum: tuple[float, ...]
    kaplan_yorke_dimension: float | None
    correlation_dimension: float | None
    pesin_entropy: float | None
    multiscale_entropy: float | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hamiltonian: bool
    nonautonomous: bool


def names(*, delay: bool = False) -> tuple[str, ...]:
    """Names of all systems, in alphabetical order.

    Parameters
    ----------
    delay : bool, default=False
        Those with delays instead, which `load` does not integrate.
    """
    return tuple(sorted(name for name, one in records().items() if bool(one["delay"]) is delay))


def load(name: str, *, method: str = "LSODA", rtol: float = 1e-8, atol: float = 1e-8) -> ChaoticSystem:
    """A chaotic system by its name.

    Parameters
    ----------
    name : str
    method : {"LSODA", "DOP853", "RK45", "RK23", "Radau", "BDF"}, default="LSODA"
        Of `scipy.integrate.solve_ivp`.
    rtol, atol : float, default=1e-8 and 1e-8
        Tolerances of a step.

    Raises
    ------
    InvalidData
        A name that is unknown (the nearest are told), or one of a system with delay.
    MissingExtra
        dysts is not installed.

    Examples
    --------
    >>> lorenz = load("Lorenz")
    >>> lorenz.integrate(5, pts_per_period=100).shape, round(lorenz.time_step(100), 4)
    ((5, 3), 0.015)
    """
    require_one_of(_METHODS, method=method)
    if not (0 < rtol < 1 and 0 < atol < np.inf):
        raise InvalidData(f"expected tolerances of more than 0, got rtol={rtol!r} and atol={atol!r}")
    known = records()
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4)
        hint = f"; the nearest are {', '.join(near)}" if near else "; locum.problems.chaos.names() lists all"
        raise InvalidData(f"expected the name of a chaotic system, got {name!r}{hint}")
    record = known[name]
    if record["delay"]:
        raise InvalidData(f"{name} is a system with delay, whose state is a stretch of its past; choose one of names()")
    return ChaoticSystem(name, record["parameters"], method, rtol, atol)


@dataclass(frozen=True, eq=False)
class ChaoticSystem:
    """Equations with their parameters, and how they are integrated.

    Parameters
    ----------
    name : str
    parameters : mapping of str to float
    method : str, default="LSODA"
    rtol, atol : float, default=1e-8 and 1e-8
    """

    name: str
    parameters: Mapping[str, Any] = field(repr=False)
    method: str = "LSODA"
    rtol: float = 1e-8
    atol: float = 1e-8

    # ------------------------------------------------------------------ what is known
    @cached_property
    def properties(self) -> ChaosProperties:
        """Estimates at the default parameters."""
        one = records()[self.name]
        return ChaosProperties(
            one["period"], one["dt"], one["maximum_lyapunov_estimated"], tuple(one["lyapunov_spectrum_estimated"] or ()),
            one["kaplan_yorke_dimension"], one["correlation_dimension"], one.get("pesin_entropy"),
            one.get("multiscale_entropy"), tuple(np.ravel(one["mean"]).tolist()), tuple(np.ravel(one["std"]).tolist()),
            bool(one["hamiltonian"]), bool(one["nonautonomous"]),
        )  # fmt: skip

    @property
    def dimension(self) -> int:
        """Number of coordinates d."""
        return int(records()[self.name]["embedding_dimension"])

    @property
    def start(self) -> Array:
        """The recorded initial state (d,), on the attractor."""
        return np.asarray(records()[self.name]["initial_conditions"], dtype=float)

    def with_parameters(self, **changes: Any) -> ChaoticSystem:
        """The same equations with some parameters changed; what is known of them holds no longer."""
        unknown = sorted(set(changes) - set(self.parameters))
        if unknown:
            raise InvalidData(f"expected parameters of {self.name} among {', '.join(sorted(self.parameters))}, got {unknown}")
        return replace(self, parameters={**self.parameters, **changes})

    def time_step(self, pts_per_period: float = 100) -> float:
        """Time between points, with so many a period."""
        if not _FEWEST_POINTS <= pts_per_period < np.inf:
            raise InvalidData(
                f"expected pts_per_period= of {_FEWEST_POINTS} or more, got {pts_per_period!r}: a coarser step hides the rhythm"
            )
        return float(self.properties.period / pts_per_period)

    # ------------------------------------------------------------------ the equations
    @cached_property
    def _equations(self) -> Any:
        return getattr(equations(), self.name)(self.parameters)

    def rhs(self, t: float, x: ArrayLike) -> Array:
        """Time derivative of one state (d,)."""
        return np.asarray(self._equations.rhs(np.asarray(x, dtype=float), t), dtype=float)

    def jacobian(self, t: float, x: ArrayLike) -> Array:
        """Derivative of `rhs` with respect to the state, shape (d, d): as written down in dysts, or by central differences."""
        state = np.asarray(x, dtype=float)
        written = self._equations.jac(state, t) if "_jac" in dir(self._equations) else None
        if written is not None:
            return np.asarray(written, dtype=float)
        steps = _DIFFERENCE * np.maximum(np.abs(state), self._scale)
        columns = [
            (self.rhs(t, state + step) - self.rhs(t, state - step)) / (2.0 * step[i]) for i, step in enumerate(np.diag(steps))
        ]
        return np.stack(columns, axis=1)

    @cached_property
    def _scale(self) -> Array:
        std = np.asarray(self.properties.std)
        return np.where(std > 0, std, 1.0) if std.shape == (self.dimension,) else np.ones(self.dimension)

    # ------------------------------------------------------------------ integration
    def integrate(
        self,
        n: int,
        pts_per_period: float = 100,
        *,
        ic: ArrayLike | None = None,
        seed: int | None = None,
        bounded: bool = True,
        seconds: float | None = None,
    ) -> Array:
        """States at n even times, the first of them the initial one.

        Parameters
        ----------
        n : int
            Points, 2 or more.
        pts_per_period : float, default=100
            At least 3. Twice as many points a period give the same states at every second point.
        ic : array-like of shape (d,) or None, default=None
            The recorded one where neither this nor `seed` is given.
        seed : int or None, default=None
            Another initial state: the recorded one, moved a little, ten periods on. One for each seed. Where the way leaves the
            basin, or sticks, a smaller move is tried.
        bounded : bool, default=True
            Give angles and clocks that grow without end as dysts does, by coordinates that stay bounded.
        seconds : float or None, default=None
            Give up after this long.

        Returns
        -------
        ndarray of shape (n, d)

        Raises
        ------
        IntegrationError
            The solver stopped or hardly moves on, the state is not finite, or time ran out; names the system and the time that
            it reached.
        InvalidData

        Notes
        -----
        Cost: a hundred to a thousand calls of the equations a period, some microseconds each.
        """
        require_whole(2, n=n)
        if ic is not None and seed is not None:
            raise InvalidData("expected ic= or seed=, got both")
        begin = self._begin(ic, seed, seconds)
        X = self._solve(begin, self.time_step(pts_per_period) * np.arange(float(n)), seconds)
        return self._observed(X) if bounded else X

    def flow(self, time: float) -> Callable[[ArrayLike], Array]:
        """What takes states (n, d) to those a time later, (n, d): a function of rows, for `locum.target` to count and record.

        Parameters
        ----------
        time : float
            More than 0.
        """
        if not 0 < time < np.inf:
            raise InvalidData(f"expected a positive time, got {time!r}")
        ends = np.array([0.0, time])

        def flow(X: ArrayLike) -> Array:
            rows = np.asarray(X, dtype=float)
            if rows.ndim != 2 or rows.shape[1] != self.dimension:
                raise InvalidData(f"expected states of {self.name} of shape (n, {self.dimension}), got shape {rows.shape}")
            return np.stack([self._solve(row, ends)[-1] for row in rows])

        return flow

    def _begin(self, ic: ArrayLike | None, seed: int | None, seconds: float | None) -> Array:
        if ic is not None:
            begin = np.asarray(ic, dtype=float)
            if begin.shape != (self.dimension,) or not np.isfinite(begin).all():
                raise InvalidData(f"expected ic= as {self.dimension} finite numbers, got shape {begin.shape}")
            return begin
        if seed is None:
            return self.start
        require_whole(0, seed=seed)
        draw = np.random.default_rng([seed, 4]).normal(size=self.dimension)
        settle = np.array([0.0, _SETTLE * self.properties.period])
        for away in _AWAY[:-1]:
            with suppress(IntegrationError):
                return self._solve(self.start + away * self._scale * draw, settle, seconds)[-1]
        return self._solve(self.start + _AWAY[-1] * self._scale * draw, settle, seconds)[-1]

    def _solve(self, begin: Array, times: Array, seconds: float | None = None) -> Array:
        watch = _Watch(self, seconds, round(_MOST * max(_SETTLE, times[-1] / self.properties.period)))
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # what a solver says of trouble is in its status as well
            found = solve_ivp(watch, (0.0, times[-1]), begin, method=self.method, t_eval=times, rtol=self.rtol, atol=self.atol)
        finite = np.isfinite(found.y).all(axis=0)
        if found.status != 0 or not finite.all():
            reached = watch.reached
            why = found.message if found.status != 0 else "the state is no longer finite"
            raise IntegrationError(
                f"{self.name} was integrated to time {reached:g} of {times[-1]:g}: {why}; try another method=, or tolerances "
                "that are smaller",
                system=self.name, reached=reached,
            )  # fmt: skip
        return found.y.T

    def _observed(self, X: Array) -> Array:
        if "_postprocessing" not in dir(self._equations):
            return X
        return np.column_stack(np.broadcast_arrays(*self._equations._postprocessing(*X.T)))

    # ------------------------------------------------------------------ exponents
    def lyapunov_spectrum(self, periods: float = 200, *, seed: int | None = None, steps: int = _TANGENT) -> Array:
        r"""Lyapunov exponents per unit of time, largest first, by QR factors of the tangent map.

        The tangent map of a step h is :math:`\exp Ω` with
        :math:`Ω = \frac{h}{2}(J_1 + J_2) - \frac{\sqrt 3 h^2}{12} [J_1, J_2]`,
        J at the two Gauss points of the step (Magnus, of order four).

        Parameters
        ----------
        periods : float, default=200
            Length of the trajectory; the error falls with its root.
        seed : int or None, default=None
            Of the initial state, as in `integrate`.
        steps : int, default=100
            A period, 10 or more.

        Notes
        -----
        Cost: two Jacobians and an exponential of a (d, d) matrix a step: 3 s for 200 periods of the Lorenz system.
        """
        require_whole(10, steps=steps)
        n = round(periods * steps)
        if n < steps:
            raise InvalidData(f"expected periods= of one or more, got {periods!r}")
        h = self.time_step(steps)
        gauss = h * np.array([0.5 - 3**0.5 / 6, 0.5 + 3**0.5 / 6])
        times = (h * np.arange(n)[:, None] + gauss).ravel()
        begin = self._begin(None, seed, None)
        X = self._solve(begin, np.concatenate([[0.0], times]))[1:]
        J = np.stack([self.jacobian(t, x) for t, x in zip(times, X, strict=True)])
        one, two = J[::2], J[1::2]
        maps = expm(h / 2 * (one + two) - 3**0.5 * h**2 / 12 * (one @ two - two @ one))
        return lyapunov_spectrum(maps, h, skip=min(n // 10, 10 * steps))


class _Watch:
    """The right-hand side, with a look at the clock now and then, and a limit of calls."""

    def __init__(self, system: ChaoticSystem, seconds: float | None, most: int) -> None:
        self._system, self._rhs = system, system._equations.rhs
        self._end = None if seconds is None else time.monotonic() + seconds
        self._calls, self._most = 0, most
        self.reached = 0.0

    def __call__(self, t: float, x: Array) -> Any:
        self._calls += 1
        if self._calls % 10 == 0 and np.isfinite(x).all():
            self.reached = float(t)
        if self._end is not None and self._calls % _LOOK == 0 and time.monotonic() > self._end:
            raise IntegrationError(
                f"{self._system.name} was integrated to time {t:g} when the seconds given ran out; give more, or loosen rtol=",
                system=self._system.name, reached=float(t),
            )  # fmt: skip
        if self._calls > self._most:
            raise IntegrationError(
                f"{self._system.name} was integrated to time {t:g} with {self._most} calls of its equations, and hardly moves "
                "on; take another start, or another method=",
                system=self._system.name, reached=float(t),
            )  # fmt: skip
        return self._rhs(x, t)
