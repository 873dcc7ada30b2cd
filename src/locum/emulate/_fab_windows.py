"""What forecasters have in common that answer whole windows at once: use, region, bands by run."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from locum.core.domain import Domain
from locum.core.errors import InvalidData, OutsideRegion, require_one_of, require_whole
from locum.core.fidelity import Fidelity
from locum.core.measures.values import IntervalCoverage
from locum.core.region import Region
from locum.emulate._runs import quantile_over_runs, require_runs
from locum.emulate.stepper import Forecasts, history_of
from locum.emulate.trajectories import Schema, Trajectories

Array = NDArray[np.floating[Any]]

_FALSE_ALARMS = 0.01  # few, as each forecast may warn


class WindowForecaster(Forecasts):
    """Forecasts some columns for a whole horizon in one go, for many windows at once.

    Attributes
    ----------
    horizon, stride : int
        Settings: rows ahead, and rows between two windows that are learned from or scored.
    targets_, inputs_ : list of int
        Columns.
    rows_ : int
        That a history must have.
    region_ : Region
        Of the means of the input columns over a history.
    """

    horizon: int
    stride: int
    targets_: list[int]
    inputs_: list[int]
    rows_: int
    n_features_in_: int
    schema_: Schema
    region_: Region

    @abstractmethod
    def _answer(self, windows: Array) -> Array:
        """Forecasts (n, horizon, targets) of windows (n, rows, d)."""

    def _prepare(self, X: Any, targets: Sequence[str | int], inputs: Any, rows: int, random_state: int) -> Trajectories:
        """Check data and columns, and take the region."""
        require_whole(1, horizon=self.horizon, stride=self.stride)
        require_whole(0, random_state=random_state)
        runs = Trajectories.of(X)
        self.schema_, self.n_features_in_, self.rows_ = runs.schema, runs.dimension, rows
        self.targets_ = columns_of(targets, runs)
        if isinstance(inputs, str):
            require_one_of(("targets", "all"), inputs=inputs)
            self.inputs_ = list(range(runs.dimension)) if inputs == "all" else self.targets_
        else:
            self.inputs_ = columns_of(inputs, runs)
        recent = self._recent(runs.windows(rows + self.horizon, self.stride)[:, :rows])
        self.region_ = Region.of(
            Domain.of(recent), recent, false_alarm_rate=_FALSE_ALARMS, random_state=random_state, name="series learned from"
        )
        return runs

    def _recent(self, past: Array) -> Array:
        return np.asarray(past[:, -self.rows_ :, self.inputs_].mean(axis=1))

    # ------------------------------------------------------------------ use
    def forecast(self, history: ArrayLike, n_steps: int) -> Array:
        """The targets in the next rows, shape (n_steps, targets), from the last rows of `history` (T, d).

        Parameters
        ----------
        history : array-like of shape (T, d)
        n_steps : int
            At most `horizon`.
        """
        require_whole(1, n_steps=n_steps)
        if n_steps > self.horizon:
            raise InvalidData(f"expected at most horizon={self.horizon} steps, got {n_steps}: fit with a longer horizon")
        past = history_of(self, history, self.rows_)[None, -self.rows_ :]
        if not self.region_.inside(self._recent(past))[0]:
            message = "the history lies outside what the forecaster has learned from; look at region_.reasons"
            warnings.warn(message, OutsideRegion, stacklevel=2)
        return self.forecast_windows(past)[0, :n_steps]

    def forecast_windows(self, past: ArrayLike) -> Array:
        """Forecasts (n, horizon, targets) of many windows (n, T, d), without a look at the region.

        Parameters
        ----------
        past : array-like of shape (n, T, d)
        """
        check_is_fitted(self, "region_")
        windows = np.asarray(past, dtype=float)
        if windows.ndim != 3 or windows.shape[1] < self.rows_ or windows.shape[2] != self.n_features_in_:
            raise InvalidData(
                f"expected windows (n, T, {self.n_features_in_}) of {self.rows_} rows or more, got shape {windows.shape}"
            )
        return self._answer(windows[:, -self.rows_ :])

    def share_outside(self, X: Any) -> float:
        """Share of windows outside the region; more than ``region_.false_alarm_rate`` means that the factory has changed.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes
        """
        check_is_fitted(self, "region_")
        windows = self.schema_.taken(X).windows(self.rows_, self.stride)
        return float(np.mean(~self.region_.inside(self._recent(windows))))

    # ------------------------------------------------------------------ bands
    def calibrate(self, X: Any, level: float = 0.9) -> Self:
        """Set bands round the mean of the next 1, 2, ... rows, from runs that were not learned from.

        Split conformal prediction with the run as the unit that is exchangeable: a window of a new run is in the band with
        probability `level` or more, where runs of the same kind come.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes
        level : float, default=0.9

        Raises
        ------
        InvalidData
            Too few runs for the level.

        Notes
        -----
        Reference: Lee, Barber and Willett, arXiv 2306.06342.
        """
        check_is_fitted(self, "region_")
        runs = self.schema_.taken(X)
        require_runs(len(runs), level)
        errors, of = self._errors(runs)
        self.bands_, self.level_ = quantile_over_runs(errors, of, len(runs), level), level
        return self

    def band(self, history: ArrayLike, n_steps: int) -> Array:
        """Lower and upper ends for the mean of the next 1, 2, ... rows, shape (n_steps, targets, 2).

        Parameters
        ----------
        history : array-like of shape (T, d)
        n_steps : int
        """
        check_is_fitted(self, "bands_")
        middle = running_mean(self.forecast(history, n_steps)[None])[0]
        return np.stack([middle - self.bands_[:n_steps], middle + self.bands_[:n_steps]], axis=-1)

    def coverage(self, X: Any, step: int | None = None, *, level: float = 0.95) -> Fidelity:
        """Share of windows inside the band, with an interval over runs.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes
        step : int or None, default=None
            Rows that the mean is over; the horizon where None.
        level : float, default=0.95
            Of the interval.
        """
        check_is_fitted(self, "bands_")
        at = (self.horizon if step is None else step) - 1
        require_whole(0, step=at)
        errors, of = self._errors(self.schema_.taken(X))
        missed = errors[:, at].ravel()
        half = np.broadcast_to(self.bands_[at], errors[:, at].shape).ravel()
        groups = np.repeat(of, errors.shape[2])
        return IntervalCoverage().fidelity(missed, np.column_stack([-half, half]), groups=groups, level=level, how="windows")

    def _errors(self, runs: Trajectories) -> tuple[Array, NDArray[np.intp]]:
        """Absolute errors of running means (n, horizon, targets), and the run of each."""
        past, future, of = windows_of(runs, self.rows_, self.horizon, self.stride)
        return np.abs(running_mean(self.forecast_windows(past)) - running_mean(future[:, :, self.targets_])), of


def windows_of(runs: Trajectories, history: int, horizon: int, stride: int) -> tuple[Array, Array, NDArray[np.intp]]:
    """Windows, what follows each, and the run each is of."""
    windows = runs.windows(history + horizon, stride)
    each = [max((n - history - horizon) // stride + 1, 0) for n in runs.lengths]
    if not all(each):
        raise InvalidData(f"expected runs of {history + horizon} rows or more, got one of {min(runs.lengths)}")
    return windows[:, :history], windows[:, history:], np.repeat(np.arange(len(runs)), each)


def running_mean(rows: Array) -> Array:
    """Mean of the first 1, 2, ... rows of each window (n, T, d)."""
    return np.cumsum(rows, axis=1) / np.arange(1, rows.shape[1] + 1)[:, None]


def columns_of(given: Sequence[str | int], runs: Trajectories) -> list[int]:
    """Positions of columns by name or position."""
    out = []
    for one in [given] if isinstance(given, str) else list(given):
        if isinstance(one, str):
            if one not in runs.names:
                known = ", ".join(runs.names) or "none, as the trajectories have no names"
                raise InvalidData(f"expected a column among those of the trajectories ({known}), got {one!r}")
            out.append(runs.names.index(one))
        elif isinstance(one, int | np.integer) and 0 <= one < runs.dimension:
            out.append(int(one))
        else:
            raise InvalidData(f"expected the position of one of {runs.dimension} columns, got {one!r}")
    if not out:
        raise InvalidData("expected a column or more, got none")
    return out
