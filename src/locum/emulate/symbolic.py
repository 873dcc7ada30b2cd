"""Laws of motion learned from states and their derivatives: how well does a formula stand in for a system's equations?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import quantile_test
from sklearn.base import clone

from locum.core.errors import InvalidData, require_one_of
from locum.core.fidelity import Fidelity
from locum.emulate._dysts_tables import check_benchmark, table_of_medians
from locum.emulate.dysts import ChaosSource

__all__ = ["LawSource", "SymbolicBenchmark", "SymbolicTable"]

Array = NDArray[np.float64]

_TRAIN, _TEST = 0, 1  # seeds of the starts
_METRICS = {"smape": 200.0, "rmse": 1e12}  # with the worst that there is, or a very large one
_LATER = 0.37  # of a period: an equation that reads the clock differs at it


class LawSource(ChaosSource, Protocol):
    """A system whose equations can be asked: those of `locum.problems.chaos` are such."""

    def rhs(self, t: float, x: ArrayLike) -> Array:
        """Time derivative of one state (d,)."""


class SymbolicBenchmark:
    """Regressors that find formulas, on states of many systems with their exact derivatives.

    Each coordinate of the derivative is learned by a clone of the regressor from the states of one series, and is judged on the
    states of another, from another start on the same attractor.

    Parameters
    ----------
    systems : sequence of LawSource
        Such as ``[chaos.load("Lorenz"), chaos.load("Rossler")]``; not such as read the clock.
    granularity : int, default=100
        Points a period.
    periods : int, default=12
        Length of a series.
    noise : float, default=0.0
        Standard deviation of noise on the derivatives that are learned from, in standard deviations of each.
    random_state : int, default=0
        Of the noise.

    Notes
    -----
    Cost: two integrations of 22 periods a system, and one fit for each coordinate and model.

    **Departures**: derivatives are asked of the equations. pyoperon and gplearn can take the place of PySR and DSR, which need
    another language; models are any regressors of scikit-learn. Reference: Gilpin, arXiv 2110.05266, and Brunton, Proctor and
    Kutz, PNAS 113 (2016) for sparse regression on a library of terms.
    """

    papers = ("dysts",)

    def __init__(
        self,
        systems: Sequence[LawSource],
        *,
        granularity: int = 100,
        periods: int = 12,
        noise: float = 0.0,
        random_state: int = 0,
    ) -> None:
        self.systems = systems
        self.granularity = granularity
        self.periods = periods
        self.noise = noise
        self.random_state = random_state

    def run(self, models: Mapping[str, Any], *, progress: Callable[[int, int, str], None] | None = None) -> SymbolicTable:
        """Learn the law of every system with every model.

        Parameters
        ----------
        models : mapping of str to regressor of scikit-learn
            From states (n, d) to one coordinate of their derivatives (n,). They are cloned.
        progress : callable or None, default=None
            Called with (systems done, systems in all, the name of the last).

        Raises
        ------
        InvalidData
            No systems or models, a system whose equations read the clock, or settings that cannot be used.
        """
        check_benchmark(self, models)
        names = [system.name for system in self.systems]
        if len(set(names)) < len(names):
            raise InvalidData(f"expected each system once, got {max(names, key=names.count)} again")
        series = [(self._states(system, _TRAIN), self._states(system, _TEST)) for system in self.systems]
        laws, errors = {}, np.empty((len(_METRICS), len(self.systems), len(models)))
        for i, (system, (seen, fresh)) in enumerate(zip(self.systems, series, strict=True)):
            target, truth = self._noisy(_derivatives(system, seen)), _derivatives(system, fresh)
            for j, (name, model) in enumerate(models.items()):
                laws[system.name, name] = tuple(clone(model).fit(seen, column) for column in target.T)
                said = np.column_stack([np.ravel(law.predict(fresh)) for law in laws[system.name, name]])
                errors[:, i, j] = _scores(truth, said)
            if progress is not None:
                progress(i + 1, len(self.systems), system.name)
        return SymbolicTable(tuple(names), tuple(models), errors, laws)

    def _states(self, system: LawSource, seed: int) -> Array:
        """Of one series, unbounded as the equations want them."""
        n = self.granularity * self.periods
        x = np.asarray(system.integrate(n, self.granularity, seed=seed, bounded=False), dtype=float)
        later = system.rhs(_LATER * system.properties.period, x[0])
        if not np.allclose(system.rhs(0.0, x[0]), later, rtol=1e-9, atol=1e-12):
            raise InvalidData(
                f"expected equations that depend on the state alone, got {system.name}, whose derivative also "
                "follows the time: leave it out"
            )
        return x

    def _noisy(self, target: Array) -> Array:
        rng = np.random.default_rng([self.random_state, len(target)])
        return target + self.noise * target.std(axis=0) * rng.normal(size=target.shape)


@dataclass(frozen=True, eq=False)
class SymbolicTable:
    """Errors of learned laws, and the laws.

    Attributes
    ----------
    systems, models : tuple of str
    errors : ndarray of shape (2, systems, models)
        sMAPE (0 to 200) and root mean squared error in standard deviations of the derivatives on states of another series,
        each the median over coordinates.
    laws : dict of (str, str) to tuple
        The fitted regressors by system and model, one a coordinate.
    """

    systems: tuple[str, ...]
    models: tuple[str, ...]
    errors: Array
    laws: dict[tuple[str, str], tuple[Any, ...]]

    def by_system(self, model: str, metric: str = "smape") -> Array:
        """Errors of a model, shape (systems,)."""
        require_one_of(tuple(_METRICS), metric=metric)
        require_one_of(self.models, model=model)
        return self.errors[tuple(_METRICS).index(metric), :, self.models.index(model)]

    def fidelity(self, model: str, metric: str = "smape", *, level: float = 0.95) -> Fidelity:
        """The median error over systems, with the interval of its order statistics.

        Parameters
        ----------
        model : str
        metric : {"smape", "rmse"}, default="smape"
        level : float, default=0.95

        Raises
        ------
        InvalidData
            Too few systems for an interval at this level: 6 are enough for 0.95.
        """
        errors = self.by_system(model, metric)
        ends = quantile_test(errors).confidence_interval(confidence_level=level)
        if not np.isfinite([ends.low, ends.high]).all():
            raise InvalidData(
                f"expected more systems for an interval of a median at level {level:g}, got {len(errors)}: 6 do for 0.95"
            )
        return Fidelity(
            f"{metric} of derivatives, median", float(np.median(errors)), float(ends.low), float(ends.high), level, len(errors),
            how="systems", method="order statistics", greater_is_better=False,
        )  # fmt: skip

    def __str__(self) -> str:
        return table_of_medians(self, _METRICS)


def _derivatives(system: LawSource, states: Array) -> Array:
    return np.array([system.rhs(0.0, state) for state in states])


def _scores(truth: Array, said: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.maximum(np.abs(said) + np.abs(truth), 1e-12)
        smape = 200.0 * np.mean(np.abs(said - truth) / size, axis=0)
        rmse = np.sqrt(np.mean((said - truth) ** 2, axis=0)) / np.maximum(truth.std(axis=0), 1e-12)
    found = np.stack([smape, rmse])
    worst = np.array(list(_METRICS.values()))[:, None]
    return np.median(np.where(np.isfinite(found), np.minimum(found, worst), worst), axis=1)
