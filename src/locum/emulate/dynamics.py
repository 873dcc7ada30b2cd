"""Measures of dynamics: do free-running trajectories fill the same states, at the same rhythms, and how long do they agree?

Each can be told beside its floor, which is what a stretch of truth scores against another stretch of truth of the same length:
these measures are not 0 there, and depend on the length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from scipy.stats import entropy

from locum.core.bounds import bootstrap_mean
from locum.core.errors import InvalidData, require_one_of, require_whole
from locum.core.fidelity import Fidelity
from locum.emulate.stepper import Forecasts, forecast_of
from locum.emulate.trajectories import Trajectories

__all__ = [
    "DynamicsReport", "DynamicsScore", "compare_dynamics", "diverged", "judge_dynamics", "power_spectrum_distance",
    "state_space_divergence", "valid_prediction_time",
]  # fmt: skip

Array = NDArray[np.float64]
_Forecast = tuple[Array, Array, Array]  # truth, what was said, and the state it was said from

_MOST_BINNED = 5  # dimensions; bins empty out beyond
_BINS, _SMOOTHING = 30, 1e-5
_TRANSIENT = 0.25  # of the length of a run, which a free trajectory goes on before it is compared
_LYAPUNOV_TIMES = 10.0  # that a forecast is followed for
_FAR = 10.0  # widths of the box of truth, beyond which a trajectory has left


# ---------------------------------------------------------------------- measures of one trajectory
def state_space_divergence(
    truth: ArrayLike,
    generated: ArrayLike,
    *,
    method: str = "auto",
    bins: int = _BINS,
    smoothing: float = _SMOOTHING,
    variance: float = 1.0,
    samples: int = 1000,
    centres: int = 10_000,
    random_state: int = 0,
) -> float:
    r"""D_stsp: Kullback-Leibler divergence of the states visited by the truth from those that a generated trajectory visits.

    With bins, both are histograms over a box that reaches a tenth of a standard deviation beyond the range of the truth, and
    :math:`D = \sum_k p_k \log(p_k / q_k)` after `smoothing` is added to each count; generated states outside the box are left
    out. As mixture, both are mixtures of normal densities around their states, and D is a mean over draws from the first.

    Parameters
    ----------
    truth, generated : array-like of shape (T, d)
        In the same units; standardised by the truth where the mixture is used.
    method : {"auto", "bins", "mixture"}, default="auto"
        Bins up to 5 dimensions, then the mixture.
    bins : int, default=30
        A dimension.
    smoothing : float, default=1e-5
        Pseudo count of each bin.
    variance : float, default=1.0
        Of each normal density.
    samples, centres : int, default=1000 and 10_000
        Draws, and states that the mixtures are around, at most.
    random_state : int, default=0

    Returns
    -------
    float
        NaN for a generated trajectory that is not finite, or with bins is never inside the box.

    Notes
    -----
    Cost: O(T log T) with bins; samples times centres distances, twice, as mixture. Depends on T: compare equal lengths only.
    Reference: Hess et al., arXiv 2306.04406.

    Examples
    --------
    >>> orbit = np.random.default_rng(0).normal(size=(500, 2))
    >>> state_space_divergence(orbit, orbit), state_space_divergence(orbit, orbit + 3) > 1
    (0.0, True)
    """
    x, y = _pair(truth, generated, equal=False)
    require_one_of(("auto", "bins", "mixture"), method=method)
    require_whole(2, bins=bins, samples=samples, centres=centres)
    if not np.isfinite(y).all():
        return float("nan")
    if method == "bins" or (method == "auto" and x.shape[1] <= _MOST_BINNED):
        return _binned(x, y, bins, smoothing)
    return _mixture(x, y, variance, samples, centres, np.random.default_rng(random_state))


def _binned(x: Array, y: Array, bins: int, smoothing: float) -> float:
    """Only bins that either visits are listed; all others give the same term."""
    low, high = _box(x)
    cells = float(bins) ** x.shape[1]
    p, q = _cells(x, low, high, bins), _cells(y, low, high, bins)
    if not len(q):
        return float("nan")
    visited, where = np.unique(np.concatenate([p, q]), return_inverse=True)
    counts = [np.bincount(part, minlength=len(visited)) for part in (where[: len(p)], where[len(p) :])]
    log_p, log_q = (np.log((c + smoothing) / (c.sum() + smoothing * cells)) for c in counts)
    rest = [np.log(smoothing / (c.sum() + smoothing * cells)) for c in counts]
    empty = (cells - len(visited)) * np.exp(rest[0]) * (rest[0] - rest[1])
    return float(max(np.exp(log_p) @ (log_p - log_q) + empty, 0.0))


def _box(x: Array) -> tuple[Array, Array]:
    margin = 0.1 * x.std(axis=0)
    return x.min(axis=0) - margin, x.max(axis=0) + margin


def _cells(x: Array, low: Array, high: Array, bins: int) -> NDArray[np.int64]:
    """Number of the bin of each state inside the box."""
    width = np.where(high > low, high - low, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        at = np.floor((x - low) / width * bins)
        at[x == high] = bins - 1  # the last bin holds its upper edge
        inside = ((at >= 0) & (at < bins)).all(axis=1)
    return at[inside].astype(np.int64) @ bins ** np.arange(x.shape[1], dtype=np.int64)


def _mixture(x: Array, y: Array, variance: float, samples: int, centres: int, rng: np.random.Generator) -> float:
    around = [one[rng.permutation(len(one))[:centres]] if len(one) > centres else one for one in (x, y)]
    at = around[0][rng.integers(len(around[0]), size=samples)] + rng.normal(0, np.sqrt(variance), (samples, x.shape[1]))
    p, q = (logsumexp(-cdist(at, one, "sqeuclidean") / (2 * variance), axis=1) - np.log(len(one)) for one in around)
    return float(np.mean(p - q))


def power_spectrum_distance(truth: ArrayLike, generated: ArrayLike, *, smoothing: float = 20.0) -> float:
    r"""D_H: Hellinger distance of smoothed power spectra, mean over dimensions; from 0 to 1.

    Each dimension is standardised, :math:`|\mathrm{FFT}|^2` smoothed by a Gaussian and divided by its sum, and
    :math:`H = \sqrt{1 - \sum_f \sqrt{p_f q_f}}`.

    Parameters
    ----------
    truth, generated : array-like of shape (T, d)
    smoothing : float, default=20.0
        Standard deviation of the Gaussian in bins of frequency.

    Returns
    -------
    float
        NaN for a generated trajectory that is not finite, or dies to a fixed point in some dimension.

    Notes
    -----
    Cost: O(T log T). Reference: Mikhaeil, Monfared and Durstewitz, arXiv 2110.07238.

    Examples
    --------
    >>> t = np.arange(1000)[:, None]
    >>> slow, fast = np.sin(0.05 * t), np.sin(0.9 * t)
    >>> power_spectrum_distance(slow, slow), round(power_spectrum_distance(slow, fast), 2)
    (0.0, 0.99)
    """
    x, y = _pair(truth, generated, equal=True)
    if not np.isfinite(y).all() or (np.ptp(y, axis=0) <= 1e-9 * np.ptp(x, axis=0)).any():
        return float("nan")
    p, q = _spectrum(x, smoothing), _spectrum(y, smoothing)
    return float(np.sqrt(np.clip(1.0 - np.sqrt(p * q).sum(axis=0), 0.0, 1.0)).mean())


def _spectrum(x: Array, smoothing: float) -> Array:
    power = np.abs(np.fft.rfft((x - x.mean(axis=0)) / x.std(axis=0), axis=0)) ** 2
    smooth = gaussian_filter1d(power, smoothing, axis=0, mode="reflect") if smoothing else power
    return smooth / smooth.sum(axis=0)


def valid_prediction_time(
    truth: ArrayLike,
    predicted: ArrayLike,
    *,
    dt: float = 1.0,
    exponent: float = 1.0,
    threshold: float = 0.4,
    scale: ArrayLike | None = None,
) -> float:
    """Time until a forecast is off by more than a share of the spread of the truth, in Lyapunov times.

    Parameters
    ----------
    truth, predicted : array-like of shape (T, d)
        Row t is t + 1 steps after the state the forecast began from.
    dt : float, default=1.0
    exponent : float, default=1.0
        Largest Lyapunov exponent, per unit of the time that `dt` is in; 1 to get plain time.
    threshold : float, default=0.4
        Of the root mean square over dimensions of the error in standard deviations.
    scale : array-like of shape (d,) or None, default=None
        Standard deviations; those of `truth` where None.

    Returns
    -------
    float
        T steps where the forecast is never off by more.

    Examples
    --------
    >>> truth = np.arange(10.0)[:, None]
    >>> valid_prediction_time(truth, truth + np.arange(10)[:, None] / 4, scale=[1.0], dt=0.5)
    1.0
    """
    x, y = _pair(truth, predicted, equal=True)
    if not (dt > 0 and exponent > 0 and threshold > 0):
        raise InvalidData(f"expected positive dt=, exponent= and threshold=, got {dt!r}, {exponent!r} and {threshold!r}")
    spread = x.std(axis=0) if scale is None else np.asarray(scale, dtype=float)
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.sqrt(np.mean(((x - y) / spread) ** 2, axis=1))
        off = ~(error <= threshold)
    steps = int(np.argmax(off)) if off.any() else len(x)
    return steps * dt * exponent


def diverged(truth: ArrayLike, generated: ArrayLike) -> bool:
    """Whether a trajectory is not finite, or goes further from the truth than ten times its range."""
    x, y = _pair(truth, generated, equal=False)
    low, high = _box(x)
    reach = _FAR * (high - low)
    return bool(not np.isfinite(y).all() or (y < low - reach).any() or (y > high + reach).any())


def _pair(truth: ArrayLike, generated: ArrayLike, *, equal: bool) -> tuple[Array, Array]:
    x, y = np.asarray(truth, dtype=float), np.asarray(generated, dtype=float)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise InvalidData(f"expected two trajectories of shape (T, d) with the same d, got {x.shape} and {y.shape}")
    if equal and len(x) != len(y):
        raise InvalidData(f"expected trajectories of equal length, got {len(x)} and {len(y)} rows: cut the longer one")
    if not np.isfinite(x).all():
        raise InvalidData("expected finite truth, got NaN or infinity")
    return x, y


# ---------------------------------------------------------------------- over runs
@dataclass(frozen=True)
class DynamicsScore:
    """One measure, for each run.

    Attributes
    ----------
    measure : str
    values : tuple of float
        One a run; a run that diverged has what the measure gives to the worst there is.
    floor : tuple of float, default=()
        What truth scores against another stretch of truth; for PE, what persistence does; empty where there is none.
    greater_is_better : bool, default=False
    """

    measure: str
    values: tuple[float, ...]
    floor: tuple[float, ...] = ()
    greater_is_better: bool = False

    def fidelity(self, level: float = 0.95, how: str = "test runs", random_state: int = 0) -> Fidelity | None:
        """Mean over runs with its interval; None for a single run, which has none."""
        if len(self.values) < 2:
            return None
        mean = float(np.mean(self.values))
        ends = bootstrap_mean(self.values, level, random_state=random_state)
        return Fidelity(
            self.measure, mean, ends.lower, ends.upper, level, len(self.values), how=how, method=ends.method,
            greater_is_better=self.greater_is_better,
        )  # fmt: skip

    def __str__(self) -> str:
        found = self.fidelity()
        line = f"{self.measure} {self.values[0]:.3g}, one run, no interval" if found is None else str(found)
        beside = "persistence" if self.measure.startswith("PE") else "floor"
        return line + (f"; {beside} {np.mean(self.floor):.3g}" if self.floor else "")


@dataclass(frozen=True)
class DynamicsReport:
    """How faithful free-running trajectories are, over runs.

    Attributes
    ----------
    scores : dict of str to DynamicsScore
        "D_stsp" and "D_H", and "PE" and "VPT" where forecasts were given.
    n_runs, n_diverged : int
    """

    scores: dict[str, DynamicsScore]
    n_runs: int
    n_diverged: int

    def __getitem__(self, name: str) -> DynamicsScore:
        return self.scores[name]

    def __str__(self) -> str:
        return "\n".join([*map(str, self.scores.values()), f"diverged: {self.n_diverged} of {self.n_runs} runs"])


def judge_dynamics(
    model: Forecasts,
    test: Any,
    *,
    reference: Any = None,
    horizon: int = 20,
    exponent: float | None = None,
    origins: int = 50,
    history: int = 100,
    method: str = "auto",
    random_state: int = 0,
) -> DynamicsReport:
    """Let a model run freely beside true runs, and forecast from states along them.

    From the start of each run the model goes on for 1.25 times its length; the first fifth is dropped and the rest compared.

    Parameters
    ----------
    model : Forecasts
    test : Trajectories, or what `Trajectories.of` takes
        Runs that were not fitted on.
    reference : Trajectories, or what `Trajectories.of` takes, default=None
        Other stretches of truth, for the floor.
    horizon : int, default=20
        Steps of PE: mean squared error of forecasts, in variances of the truth.
    exponent : float or None, default=None
        Largest Lyapunov exponent per unit of time, to tell the valid prediction time as well.
    origins : int, default=50
        States along each run that are forecast from.
    history : int, default=100
        Rows that a model is shown before it forecasts.
    method : {"auto", "bins", "mixture"}, default="auto"
        Of `state_space_divergence`.
    random_state : int, default=0

    Raises
    ------
    InvalidData
        Runs that are too short.
    """
    require_whole(1, horizon=horizon, origins=origins, history=history)
    runs = Trajectories.of(test)
    spread = runs.stacked().std(axis=0)
    steps = horizon if exponent is None else max(horizon, int(np.ceil(_LYAPUNOV_TIMES / (exponent * runs.dt))))
    if min(runs.lengths) < history + horizon + 1:
        raise InvalidData(
            f"expected runs of {history + horizon + 1} rows or more, got {min(runs.lengths)}: use smaller horizon= or history="
        )
    free = [_free_run(model, run, history) for run in runs.states]
    floor = _stretches(runs, None if reference is None else runs.schema.taken(reference), random_state)
    scaled = [[run / spread for run in group] for group in (runs.states, free, floor)]
    report = compare_dynamics(*scaled[:2], other=scaled[2], method=method, random_state=random_state)
    far = [_forecasts(model, run, min(steps, len(run) - history - 1), origins, history) for run in runs.states]
    extra = {f"PE({horizon})": DynamicsScore(f"PE({horizon})", *_errors(far, spread, horizon))}
    if exponent is not None:
        each = [[valid_prediction_time(x, y, dt=runs.dt, exponent=exponent, scale=spread) for x, y, _ in one] for one in far]
        extra["VPT"] = DynamicsScore("VPT in Lyapunov times", tuple(map(float, map(np.mean, each))), greater_is_better=True)
    return DynamicsReport(report.scores | extra, report.n_runs, report.n_diverged)


def _free_run(model: Forecasts, run: Array, history: int) -> Array:
    """As many rows as the run has, after a transient; from where the history that a model may need ends."""
    drop = round(_TRANSIENT * len(run))
    return forecast_of(model, run[:history], drop + len(run))[drop:]


def _stretches(runs: Trajectories, reference: Trajectories | None, random_state: int) -> list[Array]:
    """A stretch of the reference as long as each run; none where it is too short for one of them."""
    if reference is None or max(reference.lengths) < max(runs.lengths):
        return []
    rng, longest = np.random.default_rng([random_state, 6]), max(reference.states, key=len)
    begin = [int(rng.integers(len(longest) - n + 1)) for n in runs.lengths]
    return [longest[b : b + n] for b, n in zip(begin, runs.lengths, strict=True)]


def _forecasts(model: Forecasts, run: Array, steps: int, origins: int, history: int) -> list[_Forecast]:
    """Truth, forecast, and the state that was forecast from."""
    last = len(run) - steps - 1
    at = np.unique(np.linspace(history - 1, max(last, history - 1), origins).astype(int))
    said = [forecast_of(model, run[t + 1 - history : t + 1], steps) for t in at]
    return [(run[t + 1 : t + 1 + steps], one, run[t]) for t, one in zip(at, said, strict=True)]


def _errors(far: list[list[_Forecast]], spread: Array, horizon: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean squared errors a run of the forecasts, and of what stays where it is; those that left count as just leaving."""
    h = horizon - 1
    every = np.concatenate([x for one in far for x, _, _ in one])
    worst = float(((_FAR * np.ptp(every, axis=0) / spread) ** 2).mean())
    with np.errstate(over="ignore", invalid="ignore"):
        own = [float(np.mean([(((x[h] - y[h]) / spread) ** 2).mean() for x, y, _ in one])) for one in far]
    still = [float(np.mean([(((x[h] - z) / spread) ** 2).mean() for x, _, z in one])) for one in far]
    return tuple(min(one, worst) if np.isfinite(one) else worst for one in own), tuple(still)


def compare_dynamics(
    truth: Sequence[ArrayLike],
    generated: Sequence[ArrayLike],
    *,
    other: Sequence[ArrayLike] = (),
    method: str = "auto",
    smoothing: float = 20.0,
    random_state: int = 0,
) -> DynamicsReport:
    """D_stsp and D_H of generated runs against true ones, with the floor.

    Parameters
    ----------
    truth, generated : sequence of array-like of shape (T_i, d)
        A generated run for each true one, of the same length.
    other : sequence of array-like of shape (T_i, d), default=()
        Other stretches of truth, each as long as the run it is set against, for the floor.
    method : {"auto", "bins", "mixture"}, default="auto"
        Of `state_space_divergence`.
    smoothing : float, default=20.0
        Of `power_spectrum_distance`.
    random_state : int, default=0
    """
    if not truth or len(truth) != len(generated):
        raise InvalidData(f"expected a generated run for each of {len(truth)} true ones, got {len(generated)}")
    pairs = [_pair(x, y, equal=True) for x, y in zip(truth, generated, strict=True)]
    floors = [_pair(x, y, equal=True) for x, y in zip(truth, other, strict=False)]

    def states(x: Array, y: Array) -> float:
        found = state_space_divergence(x, y, method=method, random_state=random_state)
        return found if np.isfinite(found) else _worst(x, method, random_state)

    def rhythms(x: Array, y: Array) -> float:
        found = power_spectrum_distance(x, y, smoothing=smoothing)
        return found if np.isfinite(found) else 1.0

    scores = {
        name: DynamicsScore(name, tuple(score(*pair) for pair in pairs), tuple(score(*pair) for pair in floors))
        for name, score in (("D_stsp", states), ("D_H", rhythms))
    }
    return DynamicsReport(scores, len(pairs), sum(diverged(*pair) for pair in pairs))


def _worst(x: Array, method: str, random_state: int) -> float:
    """What a trajectory of the same length scores that stays in one place where the truth never is."""
    low, high = _box(x)
    away = high + (high - low)
    if method == "mixture" or x.shape[1] > _MOST_BINNED:
        return state_space_divergence(x, np.tile(away, (2, 1)), method="mixture", random_state=random_state)
    counts = np.unique(_cells(x, low, high, _BINS), return_counts=True)[1]
    return float(entropy(counts, np.full(len(counts), 1.0)) + np.log(len(x) / _SMOOTHING / len(counts)))
