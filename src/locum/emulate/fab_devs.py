"""Forecasters that stand in for a discrete-event simulator: from what a factory did lately to what it does next."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import RidgeCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from locum.core.domain import Domain
from locum.core.errors import InvalidData, OutsideRegion, require_one_of, require_whole
from locum.core.fidelity import Fidelity
from locum.core.measures.values import MAE, IntervalCoverage
from locum.core.region import Region
from locum.emulate.stepper import Forecasts
from locum.emulate.trajectories import Trajectories

__all__ = ["ForecastErrors", "RecentMean", "SeasonalNaive", "SeriesForecaster", "forecast_errors"]

Array = NDArray[np.floating[Any]]

_FALSE_ALARMS = 0.01  # few, as each forecast may warn


# ---------------------------------------------------------------------- rivals
class RecentMean(Forecasts, BaseEstimator):
    """The mean of the last rows, from now on: the straight line through a running total.

    Parameters
    ----------
    span : int, default=48
        Rows.
    """

    def __init__(self, span: int = 48) -> None:
        self.span = span

    def fit(self, X: Any) -> Self:
        """Nothing is learned; X is checked.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes
        """
        require_whole(1, span=self.span)
        self.n_features_in_ = Trajectories.of(X).dimension
        return self

    def forecast(self, history: ArrayLike, n_steps: int) -> Array:
        """The mean of the last `span` rows of `history` (T, d), n_steps times."""
        return np.tile(_past(self, history, self.span).mean(axis=0), (n_steps, 1))


class SeasonalNaive(Forecasts, BaseEstimator):
    """What was one season ago.

    Parameters
    ----------
    season : int, default=24
        Rows.
    """

    def __init__(self, season: int = 24) -> None:
        self.season = season

    def fit(self, X: Any) -> Self:
        """Nothing is learned; X is checked.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes
        """
        require_whole(1, season=self.season)
        self.n_features_in_ = Trajectories.of(X).dimension
        return self

    def forecast(self, history: ArrayLike, n_steps: int) -> Array:
        """The last season of `history` (T, d), again and again."""
        season = _past(self, history, self.season)
        return season[np.arange(n_steps) % self.season]


def _past(model: Any, history: ArrayLike, rows: int) -> Array:
    """The last rows of a history."""
    check_is_fitted(model, "n_features_in_")
    found = np.asarray(history, dtype=float)
    if found.ndim != 2 or found.shape[1] != model.n_features_in_ or len(found) < rows or not np.isfinite(found).all():
        raise InvalidData(
            f"expected {rows} finite rows or more of {model.n_features_in_} columns to go on from, got shape {found.shape}"
        )
    return found[-rows:]


# ---------------------------------------------------------------------- the stand-in
class SeriesForecaster(Forecasts, BaseEstimator):
    """Stands in for a simulator whose series it has seen: the next rows of some columns, all in one go.

    A regressor goes from means of the last 1, 3, 6, ... rows of each input column to the next `horizon` rows of each target.
    With the targets alone as inputs the forecast is univariate, with all columns it is multivariate: queues and broken machines
    tell what is going to come out. Nothing is fed back, so no error grows by being stepped on.

    Parameters
    ----------
    targets : sequence of str or int
        Columns to forecast, by the names of the trajectories or by position.
    inputs : {"targets", "all"} or sequence of str or int, default="all"
    horizon : int, default=24
        Rows.
    spans : sequence of int, default=(1, 3, 6, 12, 24, 48)
        Rows that means are taken over; the longest is what a history must have.
    regressor : estimator or None, default=None
        Any of scikit-learn, which is cloned; ridge regression of standardised means where None.
    stride : int, default=6
        Rows between two windows that are learned from.
    random_state : int, default=0
        Picks the rows that the region keeps.

    Attributes
    ----------
    regressor_ : estimator
    region_ : Region
        Of the means over the longest span. More windows outside than it calls by mistake warn of a factory that has changed.
    bands_ : ndarray of shape (horizon, targets)
        Half widths, after `calibrate`.

    Notes
    -----
    Cost: one fit of the regressor; a regressor of one output is fitted once a row and target.

    **Departures**: simulator and series are made anew from the abstract and public specifications of the fab, as neither code
    nor data of the paper could be had; features, horizons and baselines are ours. Reference: Pendyala et al., arXiv 2408.09307.

    Examples
    --------
    >>> t = np.arange(400.0)
    >>> runs = np.stack([np.sin(t / 9), np.cos(t / 9)], axis=1)
    >>> model = SeriesForecaster([0], horizon=5, spans=(1, 4, 16)).fit(runs)
    >>> bool(np.abs(model.forecast(runs[:300], 5)[:, 0] - runs[300:305, 0]).max() < 0.01)
    True
    """

    papers = ("fab-devs",)

    def __init__(
        self,
        targets: Sequence[str | int],
        *,
        inputs: str | Sequence[str | int] = "all",
        horizon: int = 24,
        spans: Sequence[int] = (1, 3, 6, 12, 24, 48),
        regressor: Any = None,
        stride: int = 6,
        random_state: int = 0,
    ) -> None:
        self.targets = targets
        self.inputs = inputs
        self.horizon = horizon
        self.spans = spans
        self.regressor = regressor
        self.stride = stride
        self.random_state = random_state

    # ------------------------------------------------------------------ learning
    def fit(self, X: Any) -> Self:
        """Learn from all windows of all runs.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes

        Raises
        ------
        InvalidData
            Columns that are not there, or no run as long as the longest span and the horizon.
        """
        require_whole(1, horizon=self.horizon, stride=self.stride)
        if not len(self.spans):
            raise InvalidData("expected spans= of a row or more, got none")
        for span in self.spans:
            require_whole(1, span=span)
        runs = Trajectories.of(X)
        self.names_, self.n_features_in_ = runs.names, runs.dimension
        self.targets_ = columns_of(self.targets, runs)
        self.inputs_ = self._columns_in(runs)
        windows = runs.windows(self._rows + self.horizon, self.stride)
        past, future = windows[:, : self._rows], windows[:, self._rows :, self.targets_]
        features, wanted = self._features(past), future.reshape(len(future), -1)
        self.regressor_ = self._regressor(wanted.shape[1]).fit(features, wanted if wanted.shape[1] > 1 else wanted[:, 0])
        recent, seed = self._recent(past), self.random_state
        self.region_ = Region.of(
            Domain.of(recent), recent, false_alarm_rate=_FALSE_ALARMS, random_state=seed, name="series learned from"
        )
        return self

    def _regressor(self, outputs: int) -> Any:
        if self.regressor is None:
            return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 5, 8)))
        base = clone(self.regressor)
        several = outputs == 1 or get_tags(base).target_tags.multi_output
        return base if several else MultiOutputRegressor(base)

    @property
    def _rows(self) -> int:
        return max(self.spans)

    def _columns_in(self, runs: Trajectories) -> list[int]:
        if isinstance(self.inputs, str):
            require_one_of(("targets", "all"), inputs=self.inputs)
            return list(range(runs.dimension)) if self.inputs == "all" else self.targets_
        return columns_of(self.inputs, runs)

    def _features(self, past: Array) -> Array:
        """Means (n, spans times inputs) of windows (n, T, d)."""
        return np.concatenate([past[:, -span:, self.inputs_].mean(axis=1) for span in sorted(set(self.spans))], axis=1)

    def _recent(self, past: Array) -> Array:
        return past[:, -self._rows :, self.inputs_].mean(axis=1)

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
        past = _past(self, history, self._rows)[None]
        if not self.region_.inside(self._recent(past))[0]:
            message = "the history lies outside what the forecaster has learned from; look at region_.reasons"
            warnings.warn(message, OutsideRegion, stacklevel=2)
        return self.forecast_windows(past)[0, :n_steps]

    def forecast_windows(self, past: ArrayLike) -> Array:
        """Forecasts (n, horizon, targets) of many windows (n, T, d), without a look at the region."""
        check_is_fitted(self, "regressor_")
        windows = np.asarray(past, dtype=float)
        if windows.ndim != 3 or windows.shape[1] < self._rows or windows.shape[2] != self.n_features_in_:
            raise InvalidData(
                f"expected windows (n, T, {self.n_features_in_}) of {self._rows} rows or more, got shape {windows.shape}"
            )
        said = np.asarray(self.regressor_.predict(self._features(windows)), dtype=float)
        return said.reshape(len(windows), self.horizon, len(self.targets_))

    def share_outside(self, X: Any) -> float:
        """Share of windows outside the region; more than ``region_.false_alarm_rate`` means that the factory has changed.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes
        """
        check_is_fitted(self, "region_")
        windows = Trajectories.of(X).windows(self._rows, self.stride)
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
        runs = Trajectories.of(X)
        if not 0 < level < 1:
            raise InvalidData(f"expected level= between 0 and 1, got {level!r}")
        if (len(runs) + 1) * (1 - level) < 1 - 1e-9:
            least = int(np.ceil(1 / (1 - level) - 1e-9)) - 1
            raise InvalidData(f"expected {least} runs or more for level={level:g}, got {len(runs)}")
        errors, of = self._errors(runs)
        weights = 1.0 / np.bincount(of)[of] / (len(runs) + 1)
        self.bands_, self.level_ = _upper_quantile(errors, weights, level), level
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
        errors, of = self._errors(Trajectories.of(X))
        missed = errors[:, at].ravel()
        half = np.broadcast_to(self.bands_[at], errors[:, at].shape).ravel()
        groups = np.repeat(of, errors.shape[2])
        return IntervalCoverage().fidelity(missed, np.column_stack([-half, half]), groups=groups, level=level, how="windows")

    def _errors(self, runs: Trajectories) -> tuple[Array, NDArray[np.intp]]:
        """Absolute errors of running means (n, horizon, targets), and the run of each."""
        past, future, of = windows_of(runs, self._rows, self.horizon, self.stride)
        return np.abs(running_mean(self.forecast_windows(past)) - running_mean(future[:, :, self.targets_])), of


def _upper_quantile(errors: Array, weights: Array, level: float) -> Array:
    """Smallest value of each column below which weights add up to the level; what is missing to 1 lies at infinity."""
    flat = errors.reshape(len(errors), -1)
    order = np.argsort(flat, axis=0)
    total = np.cumsum(weights[order], axis=0)
    at = np.argmax(total >= level - 1e-12, axis=0)
    return np.take_along_axis(flat, np.take_along_axis(order, at[None], axis=0), axis=0)[0].reshape(errors.shape[1:])


# ---------------------------------------------------------------------- scoring
@dataclass(frozen=True, eq=False)
class ForecastErrors:
    """Errors of forecasters on the same windows.

    Attributes
    ----------
    names : tuple of str
        Of the forecasters.
    by_run : ndarray of shape (forecasters, runs)
        Mean absolute error of the mean over the horizon, in each run.
    errors : dict of str to Fidelity
        Mean absolute error of each, with an interval over runs.
    """

    names: tuple[str, ...]
    by_run: Array
    errors: dict[str, Fidelity]

    def gain(self, name: str, over: str) -> Array:
        """By how much the error is lower than another's, as a share of it, in each run, shape (runs,).

        Parameters
        ----------
        name, over : str
        """
        require_one_of(self.names, name=name, over=over)
        mine, other = (self.by_run[self.names.index(one)] for one in (name, over))
        return 1.0 - mine / other

    def __str__(self) -> str:
        width = max(map(len, self.names))
        return "\n".join(f"{name:{width}}  {self.errors[name]}" for name in self.names)


def forecast_errors(
    models: Mapping[str, Forecasts],
    X: Any,
    target: str | int,
    *,
    horizon: int = 24,
    history: int = 48,
    stride: int = 6,
    level: float = 0.95,
) -> ForecastErrors:
    """Errors of fitted forecasters: of the mean of one column over the next `horizon` rows, on all windows of all runs.

    The mean over the horizon, times it, is the number of lots that come out until then; the error of a running total itself
    would hide that almost all of it is known.

    Parameters
    ----------
    models : mapping of str to Forecasts
        `SeriesForecaster`, or what forecasts all columns.
    X : Trajectories, or what `Trajectories.of` takes
        Runs that none has learned from.
    target : str or int
        A column.
    horizon, history, stride : int, default=24, 48 and 6
    level : float, default=0.95
    """
    require_whole(1, horizon=horizon, history=history, stride=stride)
    if not models:
        raise InvalidData("expected a forecaster or more, got none")
    runs = Trajectories.of(X)
    column = columns_of([target], runs)[0]
    past, future, of = windows_of(runs, history, horizon, stride)
    truth = future[:, :, column].mean(axis=1)
    by_run, errors = np.empty((len(models), len(runs))), {}
    for i, (name, model) in enumerate(models.items()):
        said = _means(model, past, column, horizon)
        by_run[i] = np.bincount(of, np.abs(said - truth)) / np.bincount(of)
        errors[name] = MAE().fidelity(truth, said, groups=of, level=level, how="windows")
    return ForecastErrors(tuple(models), by_run, errors)


def _means(model: Forecasts, past: Array, column: int, horizon: int) -> Array:
    """Means over the horizon that a forecaster says of one column, shape (n,)."""
    if isinstance(model, SeriesForecaster):
        if column not in model.targets_ or model.horizon < horizon:
            raise InvalidData(f"expected a forecaster of column {column} and {horizon} rows, got targets {model.targets_}")
        return model.forecast_windows(past)[:, :horizon, model.targets_.index(column)].mean(axis=1)
    return np.array([model.forecast(one, horizon)[:, column].mean() for one in past])


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
