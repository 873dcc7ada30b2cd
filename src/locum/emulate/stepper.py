"""What an emulator can do: step in time, say how a small difference grows in a step, and go between state and observation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, require_whole
from locum.core.lyapunov import lyapunov_spectrum

__all__ = ["Differentiates", "Encodes", "Forecasts", "Steps", "history_of"]

Array = NDArray[np.floating[Any]]


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
