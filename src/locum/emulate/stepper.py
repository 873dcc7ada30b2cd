"""What an emulator can do: step in time, say how a small difference grows in a step, and go between state and observation."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from locum.core.domain import Domain
from locum.core.errors import InvalidData, OutsideRegion, require_whole
from locum.core.lyapunov import lyapunov_spectrum
from locum.core.region import Region

__all__ = ["Differentiates", "Encodes", "Forecasts", "FreeRuns", "Steps", "forecast_of", "history_of"]

Array = NDArray[np.floating[Any]]

_FALSE_ALARMS = 0.01  # of one state of the same source
_FARTHER = 1.5  # than that share of states is; a long run of the source itself meets a state beyond 1
_BESIDE = 0.1  # standard deviations a column, on top: where states lie on a curve, the next to them are not far away


class Steps(ABC):
    """Takes states one time step on."""

    @abstractmethod
    def step(self, z: ArrayLike, p: ArrayLike | None = None) -> Array:
        """States one step later, (m,) or (n, m) as `z` is; `p` are parameters or inputs of the step, (k,) or (n, k)."""

    def rollout(self, z0: ArrayLike, n_steps: int, p: ArrayLike | None = None) -> Array:
        """States after 1, 2, ... steps, shape (n_steps,) + shape of `z0`.

        Parameters
        ----------
        z0 : array-like of shape (m,) or (n, m)
        n_steps : int
        p : array-like or None, default=None
            Parameters that stay the same, of shape (k,); or one row a step, of shape (n_steps, k).
        """
        require_whole(1, n_steps=n_steps)
        z = np.asarray(z0, dtype=float)
        rows = None if p is None else np.asarray(p, dtype=float)
        if rows is not None and rows.ndim == 2 and len(rows) != n_steps:
            raise InvalidData(f"expected a row of p for each of {n_steps} steps, got {len(rows)}")
        out = np.empty((n_steps, *z.shape))
        with np.errstate(over="ignore", invalid="ignore"):  # a trajectory that diverges says so by what it holds
            for t in range(n_steps):
                z = self.step(z, rows if rows is None or rows.ndim == 1 else rows[t])
                out[t] = z
        return out


class Differentiates(Steps):
    """Knows the derivative of a step."""

    @abstractmethod
    def jacobian(self, z: ArrayLike, p: ArrayLike | None = None) -> Array:
        """Derivative of `step` at states (m,) or (n, m), shape (m, m) or (n, m, m)."""

    def spectrum(self, z0: ArrayLike, n_steps: int, *, time_step: float = 1.0, transient: int = 1000) -> Array:
        """Lyapunov exponents along a trajectory, largest first, shape (m,).

        Parameters
        ----------
        z0 : array-like of shape (m,)
        n_steps : int
            Steps that are averaged over.
        time_step : float, default=1.0
            Exponents are per unit of time.
        transient : int, default=1000
            Steps taken before, which are not averaged over.
        """
        require_whole(1, n_steps=n_steps)
        require_whole(0, transient=transient)
        return lyapunov_spectrum(self._derivatives(np.asarray(z0, dtype=float), transient + n_steps), time_step, transient)

    def _derivatives(self, z: Array, n: int) -> Iterator[Array]:
        path = np.concatenate([z[None], self.rollout(z, n)[:-1]])
        for first in range(0, n, 1000):  # many at a time, as one call for a step each would cost more than the rest
            yield from self.jacobian(path[first : first + 1000])


class Encodes(ABC):
    """Goes from what is observed to a state and back."""

    @abstractmethod
    def encode(self, X: ArrayLike) -> Array:
        """States of observations: (d,) to (m,), (n, d) to (n, m)."""

    @abstractmethod
    def decode(self, z: ArrayLike) -> Array:
        """Observations of states: (m,) to (d,), (n, m) to (n, d)."""


class Forecasts(ABC):
    """Goes on from what was observed."""

    @abstractmethod
    def forecast(self, history: ArrayLike, n_steps: int) -> Array:
        """Observations of the steps after the last row of `history` (T, d), shape (n_steps, d)."""


class FreeRuns(Steps, Encodes, Forecasts):
    """Runs freely from what was observed, and warns where that leaves the states it has learned from.

    Attributes
    ----------
    region_ : Region
        Of states, and of inputs where there are some: `reasons` tells of rows why they are outside.
    """

    region_: Region

    def generate(self, x0: ArrayLike, n_steps: int, p: ArrayLike | None = None) -> Array:
        """Run freely from observed states.

        Parameters
        ----------
        x0 : array-like of shape (d,) or (n, d)
        n_steps : int
        p : array-like of shape (n_steps, k) or (k,), default=None
            Inputs of each step, or of all.

        Returns
        -------
        ndarray of shape (n_steps, d) or (n_steps, n, d)
            Observations after 1, 2, ... steps.

        Warns
        -----
        OutsideRegion
            A run that comes to states far from all that were learned from, or inputs beyond them.
        """
        return self._run(x0, n_steps, p)

    def predict(self, X: ArrayLike, horizon: int) -> Array:
        """Forecasts from each row (n, d) of observations, shape (n, horizon, d); from one row (d,), (horizon, d)."""
        out = self._run(X, horizon, None)
        return out if out.ndim == 2 else out.swapaxes(0, 1)

    def forecast(self, history: ArrayLike, n_steps: int) -> Array:
        """Go on from the last row of `history` (T, d), shape (n_steps, d)."""
        return self._run(np.asarray(history, dtype=float)[-1], n_steps, None)

    def _run(self, x0: ArrayLike, n_steps: int, p: ArrayLike | None) -> Array:
        z = self.rollout(self.encode(x0), n_steps, p)
        with np.errstate(over="ignore", invalid="ignore"):  # of a trajectory that diverges
            x = self.decode(z)
        self._warn_of(self._placed(z, x), p)
        return x

    def _placed(self, z: Array, x: Array) -> Array:
        """What the region is over: latent states `z` or what is observed of them, `x`."""
        return x

    def _take_region(self, places: Array, inputs: Array | None, names: tuple[str, ...]) -> None:
        """Learn which places, and which inputs on the way there, there are, (n, m) and (n, k)."""
        k = 0 if inputs is None else inputs.shape[1]
        rows = places if inputs is None else np.hstack([places, inputs])
        states = names if len(names) == places.shape[1] else (f"x{j}" for j in range(places.shape[1]))
        named = [*states, *(f"input {j}" for j in range(k))]
        domain = Domain.of(rows.astype(float), names=named, fixed=named)
        # A fifth of the rate is what novelty gets, and the half of the rows that is held out has to be enough for it.
        rate = min(0.5, max(_FALSE_ALARMS, 5 / max(len(rows) // 2, 1)))
        self.region_ = Region.of(domain, rows.astype(float), false_alarm_rate=rate, name="states learned from")

    def _warn_of(self, places: Array, p: ArrayLike | None) -> None:
        runs = places[:, None] if places.ndim == 2 else places
        steps, n, m = runs.shape
        given = np.asarray([] if p is None else p, dtype=float)
        inputs = np.broadcast_to(given if given.ndim == 2 else given[None], (steps, given.shape[-1]))
        rows = np.concatenate([runs, np.broadcast_to(inputs[:, None], (steps, n, inputs.shape[1]))], axis=2)
        lost = ~np.isfinite(rows).all(axis=2)
        flat = np.where(lost[..., None], 0.0, rows).reshape(-1, rows.shape[2])
        far = _FARTHER * self.region_.threshold + _BESIDE * rows.shape[2]
        beyond = lost | (self.region_.novelty(flat) > far).reshape(steps, n)
        low, high = np.array([(column.low, column.high) for column in self.region_.domain.columns[m:]], float).reshape(-1, 2).T
        beyond |= np.any((inputs < low) | (inputs > high), axis=1, keepdims=True)
        if not beyond.any():
            return
        left = beyond.any(axis=0)
        t, i = min((int(beyond[:, i].argmax()), int(i)) for i in np.flatnonzero(left))
        why = "it is not finite" if lost[t, i] else "; ".join(self.region_.reasons(rows[t, i][None])[0])
        who = "the run leaves" if n == 1 else f"{left.sum()} of {n} runs leave"
        warnings.warn(
            f"{who} the states learned from after {t + 1} of {steps} steps ({why}); what follows is extrapolation",
            OutsideRegion, stacklevel=4,
        )  # fmt: skip


def forecast_of(model: Forecasts, history: ArrayLike, n_steps: int) -> NDArray[np.float64]:
    """What a model that is judged says (n_steps, d), without warnings of where it goes: its errors tell.

    Parameters
    ----------
    model : Forecasts
    history : array-like of shape (T, d)
    n_steps : int
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideRegion)
        return np.asarray(model.forecast(history, n_steps), dtype=float)


def history_of(model: Any, history: ArrayLike, least: int) -> Array:
    """A history (T, d) that a fitted model can go on from, refused where it is too short, or of other columns.

    Parameters
    ----------
    model : Forecasts
        With `n_features_in_`.
    history : array-like of shape (T, d)
    least : int
        Rows that it must have.
    """
    check_is_fitted(model, "n_features_in_")
    found = np.asarray(history, dtype=float)
    if found.ndim != 2 or found.shape[1] != model.n_features_in_ or len(found) < least or not np.isfinite(found).all():
        raise InvalidData(
            f"expected {least} finite rows or more of {model.n_features_in_} columns to go on from, got shape {found.shape}"
        )
    return found
