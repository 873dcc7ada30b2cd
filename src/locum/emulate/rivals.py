"""The cheapest emulators, to be shown beside any other: no change, lagged maps, analogues, a reservoir."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree
from sklearn.base import BaseEstimator

from locum.core.errors import InvalidData, require_whole
from locum.emulate.stepper import Forecasts, history_of
from locum.emulate.trajectories import Trajectories

__all__ = ["Analogues", "EchoState", "LaggedMap", "Persistence"]

Array = NDArray[np.float64]


class Persistence(Forecasts, BaseEstimator):
    """Nothing changes."""

    def fit(self, X: Any) -> Self:
        """Nothing is learned; X is checked.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes
        """
        self.n_features_in_ = Trajectories.of(X).dimension
        return self

    def forecast(self, history: ArrayLike, n_steps: int) -> Array:
        """The last row of `history`, n_steps times."""
        return np.tile(history_of(self, history, 1)[-1], (n_steps, 1))


class LaggedMap(Forecasts, BaseEstimator):
    """The next state as a polynomial of the last few: with one lag and degree 1, dynamic mode decomposition.

    Parameters
    ----------
    lags : int, default=1
    degree : {1, 2}, default=1
        2 adds the products of all pairs.
    ridge : float, default=1e-06
        On standardised features, relative to the number of rows.
    components : int or None, default=None
        Leading principal components that states are reduced to; for fields of many columns.

    Attributes
    ----------
    coef_ : ndarray of shape (features, d)

    Notes
    -----
    Cost: one least squares problem; with components, a singular value decomposition before. References: Schmid, Journal of
    Fluid Mechanics 656 (2010); Gauthier et al., arXiv 2106.07688.
    """

    def __init__(self, lags: int = 1, degree: int = 1, ridge: float = 1e-6, components: int | None = None) -> None:
        self.lags = lags
        self.degree = degree
        self.ridge = ridge
        self.components = components

    def fit(self, X: Any) -> Self:
        """Least squares over all rows that have enough rows before them.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes
        """
        require_whole(1, lags=self.lags, degree=self.degree)
        if self.degree > 2:
            raise InvalidData(f"expected degree= of 1 or 2, got {self.degree}")
        runs = Trajectories.of(X)
        self._scale_by(runs)
        windows = self._reduced(runs).windows(self.lags + 1)
        features = self._features(windows[:, :-1].reshape(len(windows), -1))
        self.coef_ = _ridge(features, windows[:, -1] - windows[:, -2], self.ridge)
        return self

    def _scale_by(self, runs: Trajectories) -> None:
        rows = runs.stacked()
        spread = rows.std(axis=0)
        self.n_features_in_, self.mean_ = runs.dimension, rows.mean(axis=0)
        self.scale_ = np.where(spread > 0, spread, 1.0)
        self._axes = np.eye(runs.dimension) if self.components is None else self._principal(rows)

    def _principal(self, rows: Array) -> Array:
        require_whole(1, components=self.components)
        most = min(len(rows), rows.shape[1])
        if self.components > most:
            raise InvalidData(f"expected components= of at most {most}, got {self.components}")
        self.scale_ = np.ones(rows.shape[1])
        found = np.linalg.svd(rows - self.mean_, full_matrices=False)[2][: self.components].T
        size = ((rows - self.mean_) @ found).std(axis=0)
        return np.asarray(found / size, dtype=float)

    def _reduced(self, runs: Trajectories) -> Trajectories:
        return Trajectories.of([((run - self.mean_) / self.scale_) @ self._axes for run in runs.states], dt=runs.dt)

    def _features(self, flat: Array) -> Array:
        parts = [np.ones((len(flat), 1)), flat]
        if self.degree == 2:
            i, j = map(list, zip(*combinations_with_replacement(range(flat.shape[1]), 2), strict=True))
            parts.append(flat[:, i] * flat[:, j])
        return np.concatenate(parts, axis=1)

    def forecast(self, history: ArrayLike, n_steps: int) -> Array:
        """Go on from the last rows of `history` (T, d), of which it needs `lags`."""
        past = ((history_of(self, history, self.lags)[-self.lags :] - self.mean_) / self.scale_) @ self._axes
        out = np.empty((n_steps, past.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):
            for t in range(n_steps):
                out[t] = past[-1] + (self._features(past.reshape(1, -1)) @ self.coef_)[0]
                past = np.concatenate([past[1:], out[t : t + 1]])
            return out @ np.linalg.pinv(self._axes) * self.scale_ + self.mean_


class Analogues(Forecasts, BaseEstimator):
    """Replays what followed the state seen that is nearest; it keeps all data, and its free runs are data.

    Attributes
    ----------
    runs_ : Trajectories
    """

    def fit(self, X: Any) -> Self:
        """Keep all states that something followed.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes
        """
        self.runs_ = Trajectories.of(X)
        self.n_features_in_, self._scale = self.runs_.dimension, self.runs_.stacked().std(axis=0)
        self._at = [(i, t) for i, n in enumerate(self.runs_.lengths) for t in range(n - 1)]
        self._tree = KDTree(np.concatenate([run[:-1] for run in self.runs_.states]) / self._scale)
        return self

    def forecast(self, history: ArrayLike, n_steps: int) -> Array:
        """Go on from the last row of `history` (T, d); where a run ends, the search begins again at its last row."""
        state, parts, missing = history_of(self, history, 1)[-1], [], n_steps
        while missing > 0:
            run, t = self._at[int(self._tree.query(state / self._scale)[1])]
            parts.append(self.runs_.states[run][t + 1 : t + 1 + missing])
            missing -= len(parts[-1])
            state = parts[-1][-1]
        return np.concatenate(parts)


class EchoState(Forecasts, BaseEstimator):
    """A fixed random recurrent network, of which only the linear readout of the next state is learned.

    Parameters
    ----------
    units : int, default=300
    radius : float, default=0.9
        Spectral radius of the recurrent weights.
    reach : float, default=0.5
        Input weights are uniform within it, for standardised states.
    ridge : float, default=1e-06
        Relative to the number of rows.
    random_state : int, default=0

    Attributes
    ----------
    coef_ : ndarray of shape (1 + d + units, d)

    Notes
    -----
    Cost: one least squares problem of `units`. Reference: Jaeger and Haas, Science 304 (2004).
    """

    _settle = 100  # rows until the first state of the reservoir is forgotten

    def __init__(
        self, units: int = 300, radius: float = 0.9, reach: float = 0.5, ridge: float = 1e-6, random_state: int = 0
    ) -> None:
        self.units = units
        self.radius = radius
        self.reach = reach
        self.ridge = ridge
        self.random_state = random_state

    def fit(self, X: Any) -> Self:
        """Drive the reservoir by each run, and solve for the readout.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes
        """
        require_whole(1, units=self.units)
        runs = Trajectories.of(X)
        rows = runs.stacked()
        self.n_features_in_, self.mean_, self.scale_ = runs.dimension, rows.mean(axis=0), rows.std(axis=0)
        rng = np.random.default_rng([self.random_state, 7])
        W = rng.normal(size=(self.units, self.units)) * (rng.random((self.units, self.units)) < min(1.0, 10 / self.units))
        size = np.abs(np.linalg.eigvals(W)).max()
        self._W = W * (self.radius / size if size > 0 else 0.0)
        self._in = rng.uniform(-self.reach, self.reach, (self.units, 1 + runs.dimension))
        features, steps = [], []
        for run in runs.states:
            if len(run) < self._settle + 2:
                continue
            x = (run - self.mean_) / self.scale_
            features.append(self._features(x[:-1], self._driven(x[:-1]))[self._settle :])
            steps.append(np.diff(x, axis=0)[self._settle :])
        if not features:
            raise InvalidData(f"expected a run of {self._settle + 2} rows or more, got at most {max(runs.lengths)}")
        self.coef_ = _ridge(np.concatenate(features), np.concatenate(steps), self.ridge)
        return self

    def _driven(self, x: Array) -> Array:
        """States of the reservoir after each row."""
        drive = x @ self._in[:, 1:].T + self._in[:, 0]
        r, out = np.zeros(self.units), np.empty_like(drive)
        for t, one in enumerate(drive):
            r = np.tanh(self._W @ r + one)
            out[t] = r
        return out

    def _features(self, x: Array, r: Array) -> Array:
        return np.concatenate([np.ones((*x.shape[:-1], 1)), x, r], axis=-1)

    def forecast(self, history: ArrayLike, n_steps: int) -> Array:
        """Listen to `history` (T, d), best of 100 rows or more, and go on from its last row."""
        x = (history_of(self, history, 1) - self.mean_) / self.scale_
        r, state, out = self._driven(x)[-1], x[-1], np.empty((n_steps, x.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):  # a trajectory that diverges says so by what it holds
            for t in range(n_steps):
                state = state + self._features(state, r) @ self.coef_
                out[t] = state
                r = np.tanh(self._W @ r + self._in[:, 1:] @ state + self._in[:, 0])
            return out * self.scale_ + self.mean_


def _ridge(features: Array, wanted: Array, ridge: float) -> Array:
    """Coefficients, with a penalty on all but the constant."""
    penalty = np.full(features.shape[1], ridge * len(features))
    penalty[0] = 0.0
    return np.asarray(np.linalg.solve(features.T @ features + np.diag(penalty + 1e-12), features.T @ wanted))
