"""Chaotic systems as a benchmark of forecasters that can be interpreted: is error explained by how chaotic a system is?"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import savgol_filter
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, need, require_one_of, require_whole
from locum.core.fidelity import Fidelity
from locum.core.measures.rankings import SpearmanCorrelation
from locum.emulate._dysts_features import features, main_period
from locum.emulate._dysts_tables import check_benchmark, table_of_medians
from locum.emulate.dynamics import valid_prediction_time
from locum.emulate.stepper import Forecasts, history_of
from locum.emulate.trajectories import Trajectories

__all__ = [
    "ChaosSource", "ForecastBenchmark", "ForecastTable", "ImportanceTrainer", "LaggedRegressor", "MeanForecast",
    "SurrogatePretrainer",
]  # fmt: skip

Array = NDArray[np.float64]

_HELD_BACK = 6  # the last sixth of a series is forecast
_TRAIN = 0  # seed of the series that settings are chosen on
_METRICS = ("smape", "mase", "rmse", "vpt")
_BETTER_LARGE = ("vpt",)
_BACKTEST, _STRIDE, _SHOWN = 50, 5, 100  # first row and step of the backtest, and rows that a forecaster is shown


class ChaosSource(Protocol):
    """What a system must offer: those of `locum.problems.chaos` do."""

    @property
    def name(self) -> str:
        """Of the system."""

    @property
    def properties(self) -> Any:
        """With `period` and `maximum_lyapunov`, and whatever errors are to be set against."""

    def integrate(
        self, n: int, pts_per_period: float = 100, *, ic: ArrayLike | None = None, seed: int | None = None, bounded: bool = True
    ) -> Array:
        """States at n even times, (n, d), from a state that is given, or another start for each seed."""


# ---------------------------------------------------------------------- forecasters
class MeanForecast(Forecasts, BaseEstimator):
    """The mean of what was seen: what a forecaster must beat, and the placebo of correlations."""

    def fit(self, X: Any) -> Self:
        """Take the mean.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes
        """
        self.mean_ = Trajectories.of(X).stacked().mean(axis=0)
        return self

    def forecast(self, history: ArrayLike, n_steps: int) -> Array:
        """The mean, n_steps times."""
        check_is_fitted(self, "mean_")
        return np.tile(self.mean_, (n_steps, 1))


class LaggedRegressor(Forecasts, BaseEstimator):
    """Any regressor of scikit-learn, from the last few rows to the next one, fed with what it says.

    Parameters
    ----------
    regressor : estimator
        Is cloned.
    lags : int, default=10

    Attributes
    ----------
    regressor_ : estimator
    """

    def __init__(self, regressor: Any, lags: int = 10) -> None:
        self.regressor = regressor
        self.lags = lags

    def fit(self, X: Any) -> Self:
        """Fit on all rows that have enough rows before them.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes
        """
        require_whole(1, lags=self.lags)
        runs = Trajectories.of(X)
        windows = runs.windows(self.lags + 1)
        target = windows[:, -1]
        single = target.shape[1] == 1
        self.regressor_ = clone(self.regressor).fit(
            windows[:, :-1].reshape(len(windows), -1), target[:, 0] if single else target
        )
        self.n_features_in_ = runs.dimension
        return self

    def forecast(self, history: ArrayLike, n_steps: int) -> Array:
        """Go on from the last `lags` rows of `history` (T, d)."""
        past = history_of(self, history, self.lags)[-self.lags :]
        out = np.empty((n_steps, past.shape[1]))
        for t in range(n_steps):
            out[t] = np.ravel(self.regressor_.predict(past.reshape(1, -1)))
            past = np.concatenate([past[1:], out[t : t + 1]])
        return out


# ---------------------------------------------------------------------- the benchmark
class ForecastBenchmark:
    """Forecasters on many systems on one clock, from several starts each.

    For each system one series serves to choose among the settings of a forecaster: fitted on the first five sixths, judged by
    the squared error on the last. With that setting it is fitted anew on the first five sixths of each of `n_origins` other
    series, each from another start, and forecasts their last sixth in one go. Series are the first coordinate, as it is.

    Parameters
    ----------
    systems : sequence of ChaosSource
        Such as ``[chaos.load(name) for name in chaos.names()]``.
    granularity : int, default=100
        Points a period.
    periods : int, default=12
        Length of a series.
    n_origins : int, default=5
    noise : float, default=0.0
        Standard deviation of noise on what is fitted on, in standard deviations of the series.
    random_state : int, default=0
        Of the noise.

    Notes
    -----
    Cost: (1 + n_origins) integrations of 22 periods a system, and as many fits for each setting of each forecaster.

    **Departures**: the origins are series of their own rather than one; settings are chosen on the training series alone.
    Reference: Gilpin, arXiv 2110.05266.
    """

    papers = ("dysts",)

    def __init__(
        self,
        systems: Sequence[ChaosSource],
        *,
        granularity: int = 100,
        periods: int = 12,
        n_origins: int = 5,
        noise: float = 0.0,
        random_state: int = 0,
    ) -> None:
        self.systems = systems
        self.granularity = granularity
        self.periods = periods
        self.n_origins = n_origins
        self.noise = noise
        self.random_state = random_state

    def run(
        self, models: Mapping[str, Forecasts | Sequence[Forecasts]], *, progress: Callable[[int, int, str], None] | None = None
    ) -> ForecastTable:
        """Forecast every system with every model.

        Parameters
        ----------
        models : mapping of str to Forecasts, or to several of one kind
            Of several, the one that does best on the training series is used. They are cloned.
        progress : callable or None, default=None
            Called with (systems done, systems in all, the name of the last).

        Raises
        ------
        InvalidData
            No systems or models, or settings that cannot be used.
        """
        require_whole(1, n_origins=self.n_origins)
        check_benchmark(self, models)
        kinds = {name: list(one) if isinstance(one, Sequence) else [one] for name, one in models.items()}
        errors = np.empty((len(_METRICS), len(self.systems), len(kinds), self.n_origins))
        for i, system in enumerate(self.systems):
            errors[:, i] = self._of_one(system, kinds)
            if progress is not None:
                progress(i + 1, len(self.systems), system.name)
        return ForecastTable(tuple(system.name for system in self.systems), tuple(kinds), errors, self._known())

    def _of_one(self, system: ChaosSource, kinds: dict[str, list[Forecasts]]) -> Array:
        past, future = self._series(system, _TRAIN)
        chosen = [_best(several, past, future) for several in kinds.values()]
        step = system.properties.period / self.granularity
        out = np.empty((len(_METRICS), len(chosen), self.n_origins))
        for origin in range(self.n_origins):
            past, future = self._series(system, origin + 1)
            for j, model in enumerate(chosen):
                said = _said(model, past, len(future))
                out[:, j, origin] = _scores(past, future, said, step, system.properties.maximum_lyapunov)
        return out

    def _series(self, system: ChaosSource, seed: int) -> tuple[Array, Array]:
        """The past, with noise, and the future, which has none."""
        n = self.granularity * self.periods
        x = np.asarray(system.integrate(n, self.granularity, seed=seed), dtype=float)[:, :1]
        cut = n - n // _HELD_BACK
        rng = np.random.default_rng([self.random_state, seed, n])
        return x[:cut] + self.noise * x[:cut].std() * rng.normal(size=(cut, 1)), x[cut:]

    def _known(self) -> dict[str, Array]:
        """Numbers that are known of every system; the product with the period is per period, whatever the unit of time."""
        known = [system.properties for system in self.systems]
        wanted = ("maximum_lyapunov", "kaplan_yorke_dimension", "correlation_dimension", "pesin_entropy", "multiscale_entropy")
        out = {name: np.array([_float(getattr(one, name, None)) for one in known]) for name in wanted}
        out["maximum_lyapunov_per_period"] = out["maximum_lyapunov"] * np.array([one.period for one in known])
        return out


@dataclass(frozen=True, eq=False)
class ForecastTable:
    """Errors of forecasts, by metric, system, model and origin.

    Attributes
    ----------
    systems, models : tuple of str
    errors : ndarray of shape (4, systems, models, origins)
        sMAPE (0 to 200), MASE, root mean squared error in standard deviations, and valid prediction time in Lyapunov times (of
        which more is better).
    known : dict of str to ndarray of shape (systems,)
        What is known of the systems.
    """

    systems: tuple[str, ...]
    models: tuple[str, ...]
    errors: Array
    known: dict[str, Array]

    def by_system(self, model: str, metric: str = "smape") -> Array:
        """Median over origins, shape (systems,)."""
        require_one_of(_METRICS, metric=metric)
        require_one_of(self.models, model=model)
        return np.median(self.errors[_METRICS.index(metric), :, self.models.index(model)], axis=-1)

    def best(self, metric: str = "smape", among: Iterable[str] | None = None) -> Array:
        """The best of the models on each system, shape (systems,).

        Parameters
        ----------
        metric : {"smape", "mase", "rmse", "vpt"}, default="smape"
        among : iterable of str or None, default=None
            All where None.
        """
        each = np.stack([self.by_system(model, metric) for model in (self.models if among is None else among)])
        return each.max(axis=0) if metric in _BETTER_LARGE else each.min(axis=0)

    def correlate(
        self,
        known: str = "maximum_lyapunov_per_period",
        metric: str = "smape",
        among: Iterable[str] | None = None,
        *,
        level: float = 0.95,
    ) -> Fidelity:
        """Rank correlation, over systems, of the best model's error with something known of them.

        Always set it beside that of a placebo, such as ``among=["mean"]``: an exponent per unit of time also follows how fast a
        system is, which makes even the mean's error seem to be explained.

        Parameters
        ----------
        known : str, default="maximum_lyapunov_per_period"
        metric : {"smape", "mase", "rmse", "vpt"}, default="smape"
        among : iterable of str or None, default=None
        level : float, default=0.95

        Raises
        ------
        InvalidData
            Something that is not known.
        """
        if known not in self.known:
            near = difflib.get_close_matches(known, self.known, n=1)
            hint = f"; the nearest is {near[0]}" if near else ""
            raise InvalidData(f"expected one of {', '.join(self.known)}, got {known!r}{hint}")
        x, y = self.known[known], self.best(metric, among)
        there = np.isfinite(x) & np.isfinite(y)
        return SpearmanCorrelation().fidelity(x[there], y[there], level=level, how="systems")

    def __str__(self) -> str:
        return table_of_medians(self, _METRICS)


# ---------------------------------------------------------------------- choosing the next simulations
class ImportanceTrainer(Forecasts, BaseEstimator):
    r"""A forecaster that learns from new simulations, begun where it was wrong.

    After each fit, the error e of one-step forecasts along the first series is smoothed; the next simulations begin at its
    states, drawn with probability in proportion to :math:`e^\text{power}`, and moved a little.

    Parameters
    ----------
    system : ChaosSource
        The simulator.
    model : Forecasts
        Is cloned, and fitted anew in each round to all runs so far.
    rounds : int, default=5
    runs : int, default=10
        Simulations a round.
    length : int, default=150
        Rows of each.
    granularity : int, default=100
        Points a period.
    power : float, default=4.0
        0 draws starts uniformly: the control.
    jitter : float, default=0.005
        Largest move of a start, in standard deviations.
    margin : int, default=152
        Rows at the end of the series where no simulation begins, so that none runs into what is forecast next.
    random_state : int, default=0

    Attributes
    ----------
    model_ : Forecasts
    starts_ : ndarray of int, shape (rounds, runs)
        Rows of the series that simulations began at.
    simulated_ : int
        Rows simulated.

    Notes
    -----
    Cost: rounds times runs short integrations, and rounds + 1 fits.

    **Departures**: any forecaster, fitted anew in each round, in place of a network that trains on; a simulation begins at the
    row of the error, not some rows before it, and none reaches into the rows scored. Reference: Gilpin, arXiv 2110.05266.
    """

    papers = ("dysts",)

    def __init__(
        self,
        system: ChaosSource,
        model: Forecasts,
        *,
        rounds: int = 5,
        runs: int = 10,
        length: int = 150,
        granularity: int = 100,
        power: float = 4.0,
        jitter: float = 0.005,
        margin: int = 152,
        random_state: int = 0,
    ) -> None:
        self.system = system
        self.model = model
        self.rounds = rounds
        self.runs = runs
        self.length = length
        self.granularity = granularity
        self.power = power
        self.jitter = jitter
        self.margin = margin
        self.random_state = random_state

    def fit(self, X: Any) -> Self:
        """Learn from one series of all coordinates, and from simulations that begin on it.

        Parameters
        ----------
        X : array-like of shape (T, d)
        """
        require_whole(1, rounds=self.rounds, runs=self.runs, granularity=self.granularity)
        require_whole(2, length=self.length)
        require_whole(0, margin=self.margin, random_state=self.random_state)
        series = Trajectories.of(X).states[0]
        if len(series) <= self.margin + _BACKTEST:
            raise InvalidData(f"expected more than {self.margin + _BACKTEST} rows for margin={self.margin}, got {len(series)}")
        if not (0 <= self.power < np.inf and 0 <= self.jitter < np.inf):
            raise InvalidData(f"expected power= and jitter= of 0 or more, got {self.power!r} and {self.jitter!r}")
        rng = np.random.default_rng([self.random_state, 3])
        known, starts = [series], []
        for _ in range(self.rounds):
            weights = self._weights(clone(self.model).fit(known), series)
            starts.append(rng.choice(len(weights), size=self.runs, p=weights))
            known += [self._simulated(series, int(row), rng) for row in starts[-1]]
        self.model_ = clone(self.model).fit(known)
        self.starts_, self.simulated_ = np.array(starts), self.rounds * self.runs * self.length
        return self

    def _weights(self, model: Forecasts, series: Array) -> Array:
        """Probabilities of the rows that a simulation may begin at."""
        last = len(series) - self.margin
        if not self.power:
            return np.full(last, 1.0 / last)
        rows = np.arange(_BACKTEST, last, _STRIDE)
        said = np.concatenate([model.forecast(series[max(row - _SHOWN, 0) : row], 1) for row in rows])
        error = np.mean(((said - series[rows]) / series.std(axis=0)) ** 2, axis=1)
        smooth = savgol_filter(error, min(11, len(rows) - (len(rows) + 1) % 2), 3) if len(rows) > 4 else error
        each = np.interp(np.arange(last), rows, np.maximum(np.where(np.isfinite(smooth), smooth, 0.0), 0.0))
        weights = (each / max(each.max(), 1e-300)) ** self.power
        return weights / weights.sum() if weights.sum() > 0 else np.full(last, 1.0 / last)

    def _simulated(self, series: Array, row: int, rng: np.random.Generator) -> Array:
        move = self.jitter * series.std(axis=0) * rng.uniform(-1, 1, series.shape[1])
        run = self.system.integrate(self.length + 2, self.granularity, ic=series[row] + move, bounded=False)
        return np.asarray(run, dtype=float)[2:]

    def forecast(self, history: ArrayLike, n_steps: int) -> Array:
        """Go on from `history` (T, d)."""
        check_is_fitted(self, "model_")
        return self.model_.forecast(history, n_steps)


# ---------------------------------------------------------------------- features for real series
class SurrogatePretrainer(TransformerMixin, BaseEstimator):
    """Chaotic series stand in for scarce real ones: an encoder is trained on them, and real series are described by its code.

    Systems are integrated at as many points a period as the real series have, a causal convolutional autoencoder is trained on
    windows of their first coordinates, and each real series becomes 27 features of each of the 8 channels of its code.

    Parameters
    ----------
    systems : sequence of ChaosSource
    timescale : {"match", "random"}, default="match"
        "random" draws from 10 to 99 points a period for each system: the control.
    windows : int, default=10_000
        Of chaotic series, in all.
    window : int, default=100
        Points.
    epochs : int, default=50
    learning_rate : float, default=0.001
    random_state : int, default=0

    Attributes
    ----------
    period_ : float
        Points a period of the real series.
    history_ : History
        Of the training.
    n_features_in_ : int

    Notes
    -----
    Cost: 1000 points of each system, and epochs over the windows: 1 s an epoch for 10,000.

    **Departures**: 27 features of its own in place of those of tsfresh; what is decoded is cut to the window. Reference:
    Gilpin, arXiv 2110.05266.
    """

    papers = ("dysts",)

    def __init__(
        self,
        systems: Sequence[ChaosSource],
        *,
        timescale: str = "match",
        windows: int = 10_000,
        window: int = 100,
        epochs: int = 50,
        learning_rate: float = 1e-3,
        random_state: int = 0,
    ) -> None:
        self.systems = systems
        self.timescale = timescale
        self.windows = windows
        self.window = window
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Train the encoder on chaotic series at the time scale of real ones.

        Parameters
        ----------
        X : array-like of shape (n, T)
            Real series, of equal length.
        y : ignored, default=None
        """
        require_one_of(("match", "random"), timescale=self.timescale)
        require_whole(1, windows=self.windows, epochs=self.epochs)
        require_whole(12, window=self.window)
        require_whole(0, random_state=self.random_state)
        if not self.systems:
            raise InvalidData("expected a system at least, got none")
        need("torch", "training an autoencoder", "emulate")
        from locum.emulate import _dysts_pretraining as networks

        x = _series_of(X)
        self.period_, self.n_features_in_ = max(main_period(x), 3.0), x.shape[1]
        rng = np.random.default_rng([self.random_state, 8])
        windows = np.concatenate([self._windows(system, rng) for system in self.systems])
        self._net, self.history_ = networks.trained(windows, self.epochs, self.learning_rate, self.random_state)
        return self

    def _windows(self, system: ChaosSource, rng: np.random.Generator) -> Array:
        per = self.period_ if self.timescale == "match" else float(rng.integers(10, 100))
        n = max(1000, 2 * self.window)
        series = np.asarray(system.integrate(n, per), dtype=float)[:, 0]
        series = (series - series.mean()) / max(float(series.std()), 1e-12)
        begin = rng.integers(n - self.window + 1, size=-(-self.windows // len(self.systems)))
        return series[begin[:, None] + np.arange(self.window)]

    def transform(self, X: ArrayLike) -> Array:
        """Features of the codes of real series, shape (n, 216).

        Parameters
        ----------
        X : array-like of shape (n, T)
        """
        check_is_fitted(self, "history_")
        from locum.emulate import _dysts_pretraining as networks

        return features(networks.encoded(self._net, _series_of(X))).reshape(len(np.asarray(X)), -1)


def _series_of(X: ArrayLike) -> Array:
    """Each standardised."""
    x = np.asarray(X, dtype=float)
    if x.ndim != 2 or x.shape[1] < 12 or not np.isfinite(x).all():
        raise InvalidData(f"expected finite series of 12 points or more, of shape (n, T), got shape {x.shape}")
    return (x - x.mean(axis=1, keepdims=True)) / np.maximum(x.std(axis=1, keepdims=True), 1e-12)


# ---------------------------------------------------------------------- one forecast
def _best(several: list[Forecasts], past: Array, future: Array) -> Forecasts:
    if len(several) == 1:
        return several[0]
    with np.errstate(over="ignore", invalid="ignore"):
        errors = [float(np.mean((_said(model, past, len(future)) - future) ** 2)) for model in several]
    return several[int(np.argmin(np.where(np.isfinite(errors), errors, np.inf)))]


def _said(model: Any, past: Array, n: int) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(clone(model).fit(past).forecast(past, n), dtype=float)


def _scores(past: Array, future: Array, said: Array, step: float, exponent: float) -> Array:
    """One number a metric; a forecast that is not finite has the worst that there is, or a very large one."""
    spread = max(float(past.std()), 1e-12)
    with np.errstate(over="ignore", invalid="ignore"):
        error, size = np.abs(said - future), np.abs(said) + np.abs(future)
        smape = 200.0 * np.mean(error / np.maximum(size, 1e-12))
        mase = error.mean() / max(float(np.abs(np.diff(past, axis=0)).mean()), 1e-12)
        rmse = np.sqrt(np.mean(error**2)) / spread
    vpt = valid_prediction_time(future, said, dt=step, exponent=exponent, scale=[spread]) if exponent > 0 else 0.0
    worst = (200.0, 1e12, 1e12, 0.0)
    return np.array([one if np.isfinite(one) else bad for one, bad in zip((smape, mase, rmse, vpt), worst, strict=True)])


def _float(value: Any) -> float:
    return float("nan") if value is None else float(value)
