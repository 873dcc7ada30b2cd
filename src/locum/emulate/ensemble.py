"""Several emulators that differ by their seeds: where they part, none is to be trusted, and by how much can be measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, require_whole
from locum.core.fidelity import Fidelity
from locum.core.measures.values import IntervalCoverage
from locum.emulate._runs import quantile_over_runs, require_runs
from locum.emulate.stepper import Forecasts, forecast_of
from locum.emulate.trajectories import Trajectories

__all__ = ["EmulatorEnsemble"]

Array = NDArray[np.float64]

_LEAST = 1e-9  # standard deviation of members, as a share of that of the states


class EmulatorEnsemble(Forecasts, BaseEstimator):
    """Emulators of one kind, each trained from its own seed, that answer together.

    Members share data and kind, so what they all get wrong alike does not show in how they part: measure it with `coverage`,
    and mend it with `calibrate`.

    Parameters
    ----------
    emulator : Forecasts
        With `random_state`, such as `DynamicsReconstructor` or `KoopmanEmulator`.
    members : int, default=5
    random_state : int, default=0
        Of the first member; the others follow.

    Attributes
    ----------
    members_ : tuple of Forecasts
    factors_ : ndarray of shape (horizon, d)
        Standard deviations to either side, for each step ahead; after `calibrate`.
    level_ : float
        Of intervals, after `calibrate`.
    schema_ : Schema
    n_features_in_ : int

    Notes
    -----
    Cost: that of one emulator, times `members`. Reference: Lakshminarayanan, Pritzel and Blundell, arXiv 1612.01474.
    """

    def __init__(self, emulator: Any, members: int = 5, *, random_state: int = 0) -> None:
        self.emulator = emulator
        self.members = members
        self.random_state = random_state

    def fit(self, X: Any, **settings: Any) -> Self:
        """Train each member.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes
        **settings
            Of the emulator's own `fit`.
        """
        require_whole(2, members=self.members)
        require_whole(0, random_state=self.random_state)
        if "random_state" not in self.emulator.get_params():
            raise InvalidData(
                f"expected an emulator with random_state=, got {type(self.emulator).__name__}: all members would be one"
            )
        runs = Trajectories.of(X)
        seeds = range(self.random_state, self.random_state + self.members)
        self.members_ = tuple(clone(self.emulator).set_params(random_state=seed).fit(runs, **settings) for seed in seeds)
        self.schema_, self.n_features_in_ = runs.schema, runs.dimension
        for name in ("factors_", "level_"):
            self.__dict__.pop(name, None)
        return self

    # ------------------------------------------------------------------ use
    def forecasts(self, history: ArrayLike, n_steps: int) -> Array:
        """What each member says of the steps after the last row of `history` (T, d), shape (members, n_steps, d).

        Parameters
        ----------
        history : array-like of shape (T, d)
        n_steps : int
        """
        check_is_fitted(self, "members_")
        return np.stack([np.asarray(one.forecast(history, n_steps), dtype=float) for one in self.members_])

    def forecast(self, history: ArrayLike, n_steps: int) -> Array:
        """The mean of the members, shape (n_steps, d); not finite where one of them has diverged.

        Parameters
        ----------
        history : array-like of shape (T, d)
        n_steps : int
        """
        return self._spread(self.forecasts(history, n_steps))[0]

    def interval(self, history: ArrayLike, n_steps: int, level: float = 0.9) -> Array:
        """Lower and upper ends, shape (n_steps, d, 2): Student's, of one more member, or those of `calibrate`.

        Parameters
        ----------
        history : array-like of shape (T, d)
        n_steps : int
            At most the horizon calibrated for.
        level : float, default=0.9
            Without effect on an ensemble that was calibrated, whose level is `level_`.
        """
        mean, sd = self._spread(self.forecasts(history, n_steps))
        half = np.where(np.isfinite(mean), self._reach(n_steps, level) * sd, np.inf)
        middle = np.where(np.isfinite(mean), mean, 0.0)
        return np.stack([middle - half, middle + half], axis=-1)

    def _spread(self, each: Array) -> tuple[Array, Array]:
        with np.errstate(over="ignore", invalid="ignore"):  # members that diverge
            return each.mean(axis=0), np.maximum(each.std(axis=0, ddof=1), _LEAST * np.abs(each).max(axis=0))

    def _reach(self, n_steps: int, level: float) -> Any:
        if not 0 < level < 1:
            raise InvalidData(f"expected level= between 0 and 1, got {level!r}")
        if not hasattr(self, "factors_"):
            return stats.t.ppf((1 + level) / 2, self.members - 1) * np.sqrt(1 + 1 / self.members)
        if n_steps > len(self.factors_):
            raise InvalidData(f"expected at most {len(self.factors_)} steps, as calibrated for, got {n_steps}")
        return self.factors_[:n_steps]

    # ------------------------------------------------------------------ how faithful
    def calibrate(self, X: Any, horizon: int, level: float = 0.9, *, origins: int = 50, history: int = 1) -> Self:
        """Choose how far intervals reach, at each step ahead, from runs that were not learned from.

        Split conformal prediction with the run as the unit that is exchangeable: a forecast in a new run of the same kind is in
        its interval with probability `level` or more.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes
        horizon : int
            Steps.
        level : float, default=0.9
        origins : int, default=50
            Rows of each run that are forecast from, evenly spread.
        history : int, default=1
            Rows that members are shown.

        Raises
        ------
        InvalidData
            Too few runs for the level, or runs that are too short.

        Notes
        -----
        Reference: Lee, Barber and Willett, arXiv 2306.06342.
        """
        check_is_fitted(self, "members_")
        runs = self.schema_.taken(X)
        require_runs(len(runs), level)
        truth, mean, sd, of = self._foretold(runs, horizon, origins, history)
        with np.errstate(invalid="ignore"):
            off = np.abs(truth - mean) / sd
        off = np.where(np.isfinite(off), off, np.inf)
        self.factors_, self.level_ = quantile_over_runs(off, of, len(runs), level), level
        return self

    def coverage(
        self, X_test: Any, horizons: Sequence[int] = (1, 5, 20), level: float = 0.9, *, origins: int = 50, history: int = 1
    ) -> dict[int, Fidelity]:
        """How often the interval holds, by steps ahead; over columns and origins, with an interval over runs.

        Parameters
        ----------
        X_test : Trajectories, or what `Trajectories.of` takes
            Neither learned from nor calibrated on.
        horizons : sequence of int, default=(1, 5, 20)
        level : float, default=0.9
            Of an ensemble that was not calibrated.
        origins, history : int, default=50 and 1
            As in `calibrate`.
        """
        check_is_fitted(self, "members_")
        truth, mean, sd, of = self._foretold(self.schema_.taken(X_test), max(horizons), origins, history)
        half = np.where(np.isfinite(mean), self._reach(max(horizons), level) * sd, np.inf)
        half = np.minimum(half, np.finfo(float).max)  # coverage is read of numbers alone, and this one covers all
        out = {}
        for h in horizons:
            off, reach = np.where(np.isfinite(mean), truth - mean, 0.0)[:, h - 1].ravel(), half[:, h - 1].ravel()
            groups = np.repeat(of, truth.shape[2])
            out[h] = IntervalCoverage().fidelity(off, np.column_stack([-reach, reach]), groups=groups, how=f"{h} steps ahead")
        return out

    def _foretold(
        self, runs: Trajectories, horizon: int, origins: int, history: int
    ) -> tuple[Array, Array, Array, NDArray[np.intp]]:
        """Truth, mean and standard deviation (n, horizon, d) of forecasts from evenly spread rows, and the run of each."""
        require_whole(1, horizon=horizon, origins=origins, history=history)
        if min(runs.lengths) < history + horizon:
            raise InvalidData(
                f"expected runs of {history + horizon} rows or more, got {min(runs.lengths)}: take a smaller horizon"
            )
        found = []
        for i, run in enumerate(runs.states):
            for t in np.unique(np.linspace(history, len(run) - horizon, origins).astype(int)):
                each = np.stack([forecast_of(one, run[t - history : t], horizon) for one in self.members_])
                found.append((run[t : t + horizon], *self._spread(each), i))
        truth, mean, sd, of = zip(*found, strict=True)
        return np.stack(truth), np.stack(mean), np.stack(sd), np.array(of)
