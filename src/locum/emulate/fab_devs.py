"""Forecasters that stand in for a discrete-event simulator: from what a factory did lately to what it does next."""

from __future__ import annotations

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

from locum.core.errors import InvalidData, need, require_one_of, require_positive, require_whole
from locum.core.fidelity import Fidelity
from locum.core.measures.values import MAE
from locum.emulate._fab_windows import WindowForecaster, columns_of, windows_of
from locum.emulate.exported import Exports
from locum.emulate.stepper import Forecasts, history_of
from locum.emulate.trajectories import Trajectories

__all__ = ["ForecastErrors", "RecentMean", "RecurrentForecaster", "SeasonalNaive", "SeriesForecaster", "forecast_errors"]

Array = NDArray[np.floating[Any]]

_HELD_BACK = 0.2  # of the runs, which say when to stop


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
        return np.tile(history_of(self, history, self.span)[-self.span :].mean(axis=0), (n_steps, 1))


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
        season = history_of(self, history, self.season)[-self.season :]
        return season[np.arange(n_steps) % self.season]


# ---------------------------------------------------------------------- the stand-in
class SeriesForecaster(WindowForecaster, BaseEstimator):
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
        if not len(self.spans):
            raise InvalidData("expected spans= of a row or more, got none")
        for span in self.spans:
            require_whole(1, span=span)
        runs = self._prepare(X, self.targets, self.inputs, max(self.spans), self.random_state)
        past, future, _ = windows_of(runs, self.rows_, self.horizon, self.stride)
        wanted = future[:, :, self.targets_].reshape(len(future), -1)
        wanted = wanted if wanted.shape[1] > 1 else wanted[:, 0]
        self.regressor_ = self._regressor(wanted.ndim).fit(self._features(past), wanted)
        return self

    def _regressor(self, dimensions: int) -> Any:
        if self.regressor is None:
            return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 5, 8)))
        base = clone(self.regressor)
        enough = dimensions == 1 or get_tags(base).target_tags.multi_output
        return base if enough else MultiOutputRegressor(base)

    def _features(self, past: Array) -> Array:
        """Means (n, spans times inputs) of windows (n, T, d)."""
        return np.concatenate([past[:, -span:, self.inputs_].mean(axis=1) for span in sorted(set(self.spans))], axis=1)

    def _answer(self, windows: Array) -> Array:
        said = np.asarray(self.regressor_.predict(self._features(windows)), dtype=float)
        return said.reshape(len(windows), self.horizon, len(self.targets_))


class RecurrentForecaster(WindowForecaster, Exports, BaseEstimator):
    """Stands in for a simulator by a recurrent network that reads the rows themselves, where `SeriesForecaster` reads means.

    A GRU goes over the last rows, and a linear layer from its last state to the horizon. Training stops by runs that are held
    back as wholes: windows of one run overlap, so that held-back windows of known runs would let it learn them by heart.

    Parameters
    ----------
    targets : sequence of str or int
    inputs : {"targets", "all"} or sequence of str or int, default="all"
    horizon : int, default=24
    rows : int, default=48
        Rows that are read.
    hidden : int, default=64
    epochs, patience : int, default=60 and 6
        Most epochs, and those without a gain after which it stops.
    lr : float, default=0.001
        Of Adam.
    stride : int, default=6
        Rows between two windows that are learned from.
    random_state : int, default=0

    Attributes
    ----------
    history_ : History
    region_ : Region
    bands_ : ndarray of shape (horizon, targets)
        After `calibrate`.

    Notes
    -----
    Cost: a second an epoch for 10,000 windows of 32 rows. Reference: Pendyala et al., arXiv 2408.09307.
    """

    papers = ("fab-devs",)

    def __init__(
        self,
        targets: Sequence[str | int],
        *,
        inputs: str | Sequence[str | int] = "all",
        horizon: int = 24,
        rows: int = 48,
        hidden: int = 64,
        epochs: int = 60,
        patience: int = 6,
        lr: float = 1e-3,
        stride: int = 6,
        random_state: int = 0,
    ) -> None:
        self.targets = targets
        self.inputs = inputs
        self.horizon = horizon
        self.rows = rows
        self.hidden = hidden
        self.epochs = epochs
        self.patience = patience
        self.lr = lr
        self.stride = stride
        self.random_state = random_state

    def fit(self, X: Any) -> Self:
        """Learn from four fifths of the runs, and stop by the others.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes
            Two runs or more.

        Raises
        ------
        InvalidData
        MissingExtra
            torch is not installed.
        """
        require_whole(1, rows=self.rows, hidden=self.hidden, epochs=self.epochs, patience=self.patience)
        require_positive(lr=self.lr)
        need("torch", "a recurrent forecaster", "emulate")
        from locum.emulate import _fab_networks as networks

        runs = self._prepare(X, self.targets, self.inputs, self.rows, self.random_state)
        known, held = runs.split_runs(1.0 - _HELD_BACK if len(runs) > 3 else 0.5, self.random_state)
        rows = known.stacked()
        self.mean_, self.scale_ = rows.mean(axis=0), np.where(rows.std(axis=0) > 0, rows.std(axis=0), 1.0)
        self._network, self.history_ = networks.fitted(
            *self._pairs(known), *self._pairs(held), self.hidden, self.epochs, self.patience, self.lr, self.random_state
        )
        return self

    def _pairs(self, runs: Trajectories) -> tuple[Array, Array]:
        past, future, _ = windows_of(runs, self.rows, self.horizon, self.stride)
        scaled = ((future - self.mean_) / self.scale_)[:, :, self.targets_]
        return self._scaled(past), scaled.reshape(len(scaled), -1)

    def _scaled(self, past: Array) -> Array:
        return np.asarray(((past - self.mean_) / self.scale_)[:, :, self.inputs_])

    def _answer(self, windows: Array) -> Array:
        from locum.emulate import _fab_networks as networks

        said = networks.answers(self._network, self._scaled(windows))
        said = said.reshape(len(windows), self.horizon, len(self.targets_))
        return np.asarray(said * self.scale_[self.targets_] + self.mean_[self.targets_])

    def to_module(self) -> tuple[Any, dict[str, Any]]:
        """See `Exports`: from "window" (n, rows, d) of all columns to the targets over the horizon, (n, horizon, targets)."""
        check_is_fitted(self, "history_")
        from locum.emulate._exported_modules import ScaledNetwork, some_rows

        own = self.targets_
        units = {"shift": self.mean_, "spread": self.scale_, "mean": self.mean_[own], "scale": self.scale_[own]}
        module = ScaledNetwork(self._network, columns=self.inputs_, shape=(self.horizon, len(own)), **units)
        return module, {"window": some_rows(self.rows, len(self.mean_))}


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
    if isinstance(model, WindowForecaster):
        if column not in model.targets_ or model.horizon < horizon:
            raise InvalidData(f"expected a forecaster of column {column} and {horizon} rows, got targets {model.targets_}")
        return model.forecast_windows(past)[:, :horizon, model.targets_.index(column)].mean(axis=1)
    return np.array([model.forecast(one, horizon)[:, column].mean() for one in past])
