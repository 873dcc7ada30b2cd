"""An early, censored outcome for survival later on: the share of a treatment's effect that it carries.

Who has died by t0, whose disease has progressed by then, and when, is turned by a transformation g into a number that stands in
for being alive at t. No model of either time is used: censoring is made up for by weights, and g by its best squared error.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.bounds import Interval
from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.infer._pte_estimate import LEAST_UNCENSORED, Draws, Plan, Settings, multipliers
from locum.infer._pte_results import NoEffectError, PTECurve, SurvivalCurves, Transformation, TrialScore
from locum.infer._results import Table
from locum.infer._survival import CensoringWeights, Trial, follow_up

__all__ = ["NoEffectError", "PTECurve", "SurrogatePTE", "SurvivalCurves", "Transformation", "TrialScore", "pte_curve"]

_FLOAT = NDArray[np.float64]
_CHOICES = {
    "outcome": ("survival", "restricted mean"),
    "average": ("median", "mean"),
    "ratio": ("pooled", "halves"),
    "interval": ("percentile", "fieller"),
}
_RULES = ("undersmooth", "discrete")
_CURVE = 101  # points of a survival curve
_FEWEST_DRAWS = 50


class SurrogatePTE(BaseEstimator):
    r"""What is known at t0 stands in for survival to t: the transformation g, and the share of the effect that it carries.

    Of the functions g of what is known at t0 (0 for the dead, g(s) for those alive who progressed at s, g₊ for the others)
    that keep the mean survival of arm 0, the one nearest to survival in arm 1 is found. The share explained is the effect on
    it over the effect on survival. g is learnt on one half of the rows and applied to the other, both ways, over many splits.

    .. math:: g(s) = \frac{\lambda f_0(s) + h_1(s)}{f_1(s)}, \quad g_+ = \frac{\lambda p_0 + q_1}{p_1}, \quad
       \mathrm{PTE} = \frac{E g^1 - E g^0}{\mu_1(t) - \mu_0(t)}

    with f and h the densities of a progression at s of those alive at t0 and at t, p and q the probabilities of being alive at
    t0 and at t without progression by t0, and λ set by :math:`E g^0 = \mu_0(t)`.

    Parameters
    ----------
    t0, t : float
        Early time and late time, in the unit of the data; t0 < t.
    outcome : {"survival", "restricted mean"}, default="survival"
        Being alive at t, or the time lived up to t.
    n_splits : int, default=20
        Random halvings; their results are averaged.
    average : {"median", "mean"}, default="median"
        How.
    ratio : {"pooled", "halves"}, default="pooled"
        Effects of both halves together, one over the other; or the mean of the ratios of the halves, as in the paper, which is
        unstable where the effect is small.
    bandwidth : {"undersmooth", "discrete"} or float, default="undersmooth"
        Of the kernel: 1.06 sd m^(-0.26) with the m early surrogate times of a half (of all rows, for g itself); one cell a
        distinct value; or a number in the unit of the data. Values farther apart than the kernel is wide get cells anyway.
    trim : float, default=0.05
        Cells with less than this share of the mean mass in arm 1 join their nearest neighbour.
    n_perturb : int, default=500
        Vectors of exponential multipliers behind every interval, 50 or more.
    interval : {"percentile", "fieller"}, default="percentile"
        Of the share: quantiles over the multipliers; or Fieller's, from their covariance, for ratio="pooled" alone.
    level : float, default=0.95
    random_state : int, default=0

    Attributes
    ----------
    pte_, pte_ci_, pte_se_ : float, Interval, float
        Share explained; may lie outside [0, 1].
    split_sd_ : float
        Standard deviation of the share over the splits.
    pte_alive_only_, pte_alive_only_ci_ : float, Interval
        Share that being alive at t0 explains.
    increment_, increment_ci_ : float, Interval
        What the surrogate event adds to that.
    delta_, delta_ci_, delta_g_, delta_g_ci_ : float, Interval, float, Interval
        Effects on the outcome and on its transformation.
    g_ : Transformation
        From all rows.
    g_plus_ : float
        g of those alive at t0 without the event.
    multiplier_ : float
        λ.
    plug_in_ : float
        Share in the rows that g was learnt from, 1 + λ μ₀(t0) / Δ: optimistic.
    trimmed_mass_ : float
        Share of arm 0's early events in cells that were joined for want of mass in arm 1.
    bandwidth_ : float
        Of g; 0 for cells.
    survival_ : SurvivalCurves
    fidelity_ : dict of str to Fidelity
        Censoring-weighted mean squared errors against the outcome, on halves that g has not seen: of "g", of "alive at t0" and
        of a "constant", and how much less that of g is than that of "alive at t0" ("gain").

    Notes
    -----
    Cost: O(n_perturb · n_splits · n); 500 vectors and 20 splits of 2,000 rows take about 1 s on one core, five times as
    much for a restricted mean.

    **Departures**: the censoring weights come from all rows of an arm (of a stratum), not of each half; the effect below the
    ratio is that of all rows; replicates outside [0, 1] are kept; the kernel's width goes by the early surrogate times and not
    by all of them, and no mass leaves [0, t0]; the weights of the numerical integral are even; survival before t0 enters the
    restricted mean as its integral.

    Assumes that treatment is random (in each stratum) and censoring is independent in each arm (of each stratum). The share is
    sure to lie within [0, 1] only if treatment acts on the surrogate and on survival after it in one direction.

    References
    ----------
    Wang, Cai, Tian and Parast, *Model-free approach to evaluate a censored intermediate outcome as a surrogate for overall
    survival*, 2024, arXiv 2412.14129.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> arm = np.repeat([0, 1], 300)
    >>> progression = rng.exponential(1 + 2 * arm)
    >>> death = progression + rng.exponential(1 + arm)
    >>> time = np.minimum(death, 6)
    >>> surrogate = np.where(progression < time, progression, np.nan)
    >>> found = SurrogatePTE(1, 3, n_splits=4, n_perturb=60).fit(time, death <= 6, arm, surrogate)
    >>> found.pte_ci_.lower < found.pte_ < found.pte_ci_.upper
    True
    """

    papers = ("pte",)

    def __init__(
        self,
        t0: float,
        t: float,
        *,
        outcome: str = "survival",
        n_splits: int = 20,
        average: str = "median",
        ratio: str = "pooled",
        bandwidth: str | float = "undersmooth",
        trim: float = 0.05,
        n_perturb: int = 500,
        interval: str = "percentile",
        level: float = 0.95,
        random_state: int = 0,
    ) -> None:
        self.t0 = t0
        self.t = t
        self.outcome = outcome
        self.n_splits = n_splits
        self.average = average
        self.ratio = ratio
        self.bandwidth = bandwidth
        self.trim = trim
        self.n_perturb = n_perturb
        self.interval = interval
        self.level = level
        self.random_state = random_state

    def fit(
        self, time: ArrayLike, event: ArrayLike, arm: ArrayLike, surrogate_time: ArrayLike, strata: ArrayLike | None = None
    ) -> SurrogatePTE:
        """Learn g and estimate the share.

        Parameters
        ----------
        time : array-like of shape (n,)
            Follow-up, to death or censoring.
        event : array-like of shape (n,)
            1 or True for a death.
        arm : array-like of shape (n,)
            1 for treatment, 0 for the reference; the two are not exchangeable.
        surrogate_time : array-like of shape (n,)
            Time of the intermediate event; NaN where it was not seen before death or censoring. Where the data give
            progression-free survival, NaN if that ended in death.
        strata : array-like of shape (n,), default=None
            Such as trials, with an allocation and a censoring of their own.

        Raises
        ------
        InvalidData
            Settings or rows that cannot be used, follow-up shorter than t, fewer than 20 progressions by t0 in an arm, or a
            probability below 0.05 of being uncensored at t.
        NoEffectError
            The interval of the effect on the outcome holds 0.
        """
        settings = self._settings(self.t0)
        trial = Trial.of(time, event, arm, surrogate_time, strata)
        tables = self._tables(trial)
        plan = Plan(trial, settings, self._keys(trial))
        draws = plan.run(tables)
        self._effects(draws)
        self._shares(draws)
        self._transformation(plan, draws)
        self._fidelity(draws, trial)
        self._trial = trial
        self.n_ = len(trial)
        self.survival_ = self._curves(trial, tables)
        return self

    def transform(self, time: ArrayLike, event: ArrayLike, surrogate_time: ArrayLike) -> _FLOAT:
        """What each row's state at t0 stands for, shape (n,).

        Parameters
        ----------
        time, event, surrogate_time : array-like of shape (n,)
            As in `fit`; what happened after t0 is not used.

        Raises
        ------
        InvalidData
            A row that was censored before t0, so that its state is not known.
        """
        check_is_fitted(self, "g_")
        x, d, s = follow_up(time, event, surrogate_time)
        unknown = ~d & (x < self.t0)
        if unknown.any():
            row = int(np.argmax(unknown))
            raise InvalidData(
                f"expected follow-up to t0={self.t0:g}, got a censoring at {x[row]:g} in row {row} and {unknown.sum() - 1} "
                "more: leave those rows out, or use score_trial, which weighs the others in their place"
            )
        dead = d & (x <= self.t0)
        lived = np.where(s <= self.t0, self.g_(s), self.g_plus_)
        if self.outcome == "restricted mean":
            return np.where(dead, x, self.t0 + lived)
        return np.where(dead, 0.0, lived)

    def score_trial(
        self, time: ArrayLike, event: ArrayLike, arm: ArrayLike, surrogate_time: ArrayLike, strata: ArrayLike | None = None
    ) -> TrialScore:
        """The effect on g in another trial, from its data up to t0 alone.

        Parameters
        ----------
        time, event, arm, surrogate_time : array-like of shape (n,)
            As in `fit`; what happened after t0 is not used.
        strata : array-like of shape (n,), default=None

        Raises
        ------
        InvalidData
            Rows that cannot be used, or a probability below 0.05 of being uncensored at t0.
        """
        check_is_fitted(self, "g_")
        trial = Trial.of(time, event, arm, surrogate_time, strata).cut(self.t0)
        rng = np.random.default_rng([2, self.random_state])
        table = multipliers(rng, self.n_perturb, len(trial))
        weights = CensoringWeights(trial, table)
        least = weights.uncensored(self.t0)[0]
        if least.min() < LEAST_UNCENSORED:
            raise InvalidData(
                f"expected a probability of at least {LEAST_UNCENSORED:g} to be uncensored at t0={self.t0:g} in "
                f"{trial.name(int(least.argmin()))}, got {least.min():.3g}: follow the trial up to t0 first"
            )
        living = trial.alive(self.t0)
        alive, known = weights.alive(self.t0), weights.known(self.t0)
        said = np.zeros_like(alive)
        early = living & ~np.isnan(trial.surrogate)
        said[:, early] = self._g_draws[:, self._cells.find(trial.surrogate[early])]
        said[:, living & ~early] = self._later_draws[:, None]
        means = []
        for a in (0, 1):
            inside = trial.arm == a
            gained = (alive * said)[:, inside].sum(axis=1)
            if self.outcome == "restricted mean":
                gained = gained + (known[:, inside] * trial.time[inside]).sum(axis=1)
            means.append(gained / known[:, inside].sum(axis=1))
        delta_g = means[1] - means[0]
        found = self._quantiles(delta_g)
        return TrialScore(float(delta_g[0]), found.lower, found.upper, self.level, len(trial))

    def summary(self) -> Table:
        """Shares and effects with their intervals, which print as text."""
        check_is_fitted(self, "g_")
        lines = (
            ("share explained", self.pte_, self.pte_ci_),
            ("  by being alive at t0", self.pte_alive_only_, self.pte_alive_only_ci_),
            ("  added by the surrogate", self.increment_, self.increment_ci_),
            ("effect on the outcome", self.delta_, self.delta_ci_),
            ("effect on its stand-in", self.delta_g_, self.delta_g_ci_),
        )
        rows = tuple((name, value, found.lower, found.upper) for name, value, found in lines)
        facts = {"outcome": f"{self.outcome} at {self.t:g}", "known at": f"{self.t0:g}", "rows": str(self.n_)}
        facts |= {"level": f"{100 * self.level:g} %", "sd over splits": f"{self.split_sd_:.3f}"}
        facts |= {"early mass joined": f"{self.trimmed_mass_:.3f}"}
        return Table("An early outcome for a late one", ("", "estimate", "lower", "upper"), rows, facts)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """One page about the analysis: shares and effects, survival, what an early outcome stands for, and its fidelity.

        Parameters
        ----------
        path : path or None, default=None
            Where the page is written as well. It needs nothing else to be read.
        """
        from locum.infer._page import Row, Series, page

        check_is_fitted(self, "g_")
        table = self.summary()
        rows = [Row(str(name).strip(), "estimate", *map(float, figures)) for name, *figures in table.rows]
        g, curves = self.g_, self.survival_
        arms = {f"arm {a}": (curves.time, curves.value[a], curves.lower[a], curves.upper[a]) for a in (0, 1)}
        drawn = [
            Series("Survival", "time", "share alive", arms),
            Series(
                "What an early outcome stands for", "time of the early event", f"{self.outcome} at {self.t:g}",
                {"g": (g.time, g.value, g.lower, g.upper)},
            ),
        ]  # fmt: skip
        about = (
            f"What is known of {self.n_:,} patients at {self.t0:g} stands in for their outcome at {self.t:g}. The share "
            "explained is how much of the treatment's effect is then known already."
        )
        reference = (
            "Wang, Cai, Tian and Parast, Model-free Approach to Evaluate a Censored Intermediate Outcome as a Surrogate for "
            "Overall Survival, 2024, arXiv 2412.14129."
        )
        text = page("An early outcome for a late one", about, [table], rows, list(self.fidelity_.items()), reference, drawn)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    # ------------------------------------------------------------------ settings
    def _settings(self, t0: float) -> Settings:
        for name, time in (("t0", t0), ("t", self.t)):
            _require_positive(time, name)
        if not t0 < self.t:
            raise InvalidData(f"expected t0 before t, got t0={t0:g} and t={self.t:g}")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise InvalidData(f"expected {name} to be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.interval == "fieller" and self.ratio != "pooled":
            raise InvalidData("Fieller's interval is of one ratio: use ratio='pooled' with it, or interval='percentile'")
        for name, least in (("n_splits", 1), ("n_perturb", _FEWEST_DRAWS), ("random_state", 0)):
            count = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < least:
                raise InvalidData(f"expected {name} to be a whole number of {least} or more, got {count!r}")
        if not (isinstance(self.bandwidth, str) and self.bandwidth in _RULES):
            _require_positive(self.bandwidth, f"bandwidth to be one of {', '.join(_RULES)} or a positive number", "")
        if not (_is_number(self.trim) and 0 <= self.trim < 1):
            raise InvalidData(f"expected trim to be a share from 0 to below 1, got {self.trim!r}")
        if not (_is_number(self.level) and 0 < self.level < 1):
            raise InvalidData(f"expected a level between 0 and 1 (such as 0.95), got {self.level!r}")
        halves, mean = self.ratio == "halves", self.average == "mean"
        return Settings(float(t0), float(self.t), self.outcome, self.bandwidth, float(self.trim), halves, mean)

    def _tables(self, trial: Trial) -> _FLOAT:
        return multipliers(np.random.default_rng([0, self.random_state]), self.n_perturb, len(trial))

    def _keys(self, trial: Trial) -> _FLOAT:
        return np.random.default_rng([1, self.random_state]).random((self.n_splits, len(trial)))

    # ------------------------------------------------------------------ results
    def _quantiles(self, draws: _FLOAT) -> Interval:
        """Quantiles of the replicates, around the estimate in front."""
        tail = (1.0 - self.level) / 2.0
        lower, upper = np.quantile(draws[1:], [tail, 1.0 - tail])
        return Interval(float(lower), float(upper), self.level, "perturbation, quantiles").including(float(draws[0]))

    def _effects(self, draws: Draws) -> None:
        delta, half = float(draws.delta[0]), self._z * float(draws.delta[1:].std(ddof=1))
        interval = Interval(delta - half, delta + half, self.level, "perturbation, normal")
        if interval.lower <= 0 <= interval.upper:
            raise NoEffectError(delta, interval)
        self.delta_, self.delta_ci_ = delta, interval
        self.delta_g_, self.delta_g_ci_ = float(draws.delta_g[0]), self._quantiles(draws.delta_g)

    @property
    def _z(self) -> float:
        return NormalDist().inv_cdf((1.0 + self.level) / 2.0)

    def _shares(self, draws: Draws) -> None:
        fieller = self.interval == "fieller"

        def interval(share: _FLOAT, above: _FLOAT) -> Interval:
            return _fieller(above, draws.delta, self._z, self.level).including(share[0]) if fieller else self._quantiles(share)

        self.pte_, self.pte_ci_ = float(draws.pte[0]), interval(draws.pte, draws.delta_g)
        low, high = np.quantile(draws.pte[1:], NormalDist().cdf(-1.0) * np.array([1.0, -1.0]) + [0.0, 1.0])
        self.pte_se_ = float(high - low) / 2.0  # a ratio has tails too heavy for a standard deviation
        self.split_sd_ = float(draws.by_split[0].std(ddof=1)) if self.n_splits > 1 else 0.0
        self.pte_alive_only_ = float(draws.pte_alive[0])
        self.pte_alive_only_ci_ = interval(draws.pte_alive, draws.delta_alive)
        more = draws.pte - draws.pte_alive
        self.increment_, self.increment_ci_ = float(more[0]), interval(more, draws.delta_g - draws.delta_alive)

    def _transformation(self, plan: Plan, draws: Draws) -> None:
        self._cells, runs, solution = plan.cells, plan.runs[0], draws.solution
        owner = np.searchsorted(runs, np.arange(len(self._cells.points)), side="right") - 1
        self._g_draws, self._later_draws = solution.early[:, owner], solution.later
        tail = (1.0 - self.level) / 2.0
        lower, upper = np.quantile(self._g_draws[1:], [tail, 1.0 - tail], axis=0)
        value, later = self._g_draws[0], self._quantiles(self._later_draws)
        self.g_plus_ = float(self._later_draws[0])
        ends = np.minimum(lower, value), np.maximum(upper, value)
        self.g_ = Transformation(self._cells.points, value, *ends, self.g_plus_, later.lower, later.upper, self.level)
        self.multiplier_ = float(solution.multiplier[0])
        self.plug_in_ = 1.0 + self.multiplier_ * plan.alive_reference / self.delta_
        self.trimmed_mass_, self.bandwidth_ = plan.trimmed, self._cells.bandwidth

    def _fidelity(self, draws: Draws, trial: Trial) -> None:
        errors = np.column_stack([draws.errors, draws.errors[:, 1] - draws.errors[:, 0]])
        self.fidelity_ = {}
        for name, column in zip(("g", "alive at t0", "constant", "gain"), errors.T, strict=True):
            found = self._quantiles(column)
            self.fidelity_[name] = Fidelity(
                "mean squared error" if name != "gain" else "mean squared error less than that of being alive at t0",
                float(column[0]), found.lower, found.upper, self.level, len(trial),
                region=f"trial with follow-up to {self.t:g}", how="rows, in halves that g has not seen", method=found.method,
                greater_is_better=name == "gain",
            )  # fmt: skip

    def _curves(self, trial: Trial, tables: _FLOAT) -> SurvivalCurves:
        times = np.linspace(0.0, self.t, _CURVE)
        draws = CensoringWeights(trial, tables).survival(times)
        tail = (1.0 - self.level) / 2.0
        lower, upper = np.quantile(draws[:, 1:], [tail, 1.0 - tail], axis=1)
        value = draws[:, 0]
        return SurvivalCurves(times, value.T, np.minimum(lower, value).T, np.maximum(upper, value).T, self.level)


def pte_curve(fitted: SurrogatePTE, t0_grid: ArrayLike) -> PTECurve:
    """The share explained at several early times, with a band that holds all of them at once.

    The ends of the band are quantiles over the multipliers, of one order at all times, such that a share `level` of the
    curves lies between them at every time.

    Parameters
    ----------
    fitted : SurrogatePTE
        Its settings but t0, its rows and its multipliers are used.
    t0_grid : array-like of shape (m,)
        Ascending, each before t.

    Raises
    ------
    InvalidData
        Times that are not ascending, or one at which the share cannot be estimated.

    Notes
    -----
    Cost: as much as m fits.
    """
    check_is_fitted(fitted, "g_")
    times = np.asarray(t0_grid, dtype=float)
    if times.ndim != 1 or not len(times) or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise InvalidData(f"expected t0_grid to be ascending numbers, got {t0_grid!r}")
    trial = fitted._trial
    plans = [Plan(trial, fitted._settings(float(t0)), fitted._keys(trial)) for t0 in times]
    tables = fitted._tables(trial)
    draws = [plan.run(tables) for plan in plans]
    shares = np.stack([one.pte for one in draws], axis=1)
    lower, upper = _band(shares[1:], fitted.level)
    alive = np.array([one.pte_alive[0] for one in draws])
    ends = np.minimum(lower, shares[0]), np.maximum(upper, shares[0])
    return PTECurve(times, shares[0], alive, *ends, float(fitted.t), fitted.level)


def _band(draws: _FLOAT, level: float) -> tuple[_FLOAT, _FLOAT]:
    """The narrowest quantiles, of one order at all columns, that hold a share `level` of the lines as a whole."""
    ordered, n = np.sort(draws, axis=0), len(draws)
    rank = draws.argsort(axis=0).argsort(axis=0)
    depth = np.sort(np.minimum(rank, n - 1 - rank).min(axis=1))[int((1.0 - level) * n)]
    return ordered[depth], ordered[n - 1 - depth]


def _require_positive(value: Any, name: str, what: str = " to be a positive number") -> None:
    if not (_is_number(value) and 0 < value < np.inf):
        raise InvalidData(f"expected {name}{what}, got {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _fieller(above: _FLOAT, below: _FLOAT, z: float, level: float) -> Interval:
    """All r for which ``above - r below`` is within z standard errors of 0; bounded where `below` is clear of 0."""
    a, b = above[0], below[0]
    (aa, ab), (_, bb) = z**2 * np.cov(above[1:], below[1:])
    lead, middle, rest = b * b - bb, a * b - ab, a * a - aa
    root = np.sqrt(max(middle**2 - lead * rest, 0.0))
    return Interval(float((middle - root) / lead), float((middle + root) / lead), level, "Fieller")
