"""The share of an effect that an early outcome carries, for many vectors of multipliers at once.

Everything is a sum over the rows that are alive at t0, so a chunk of replicates is a few matrix products. The estimate itself
is the replicate whose multipliers are all one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData
from locum.infer._pte_cells import Cells, merged
from locum.infer._survival import CensoringWeights, Trial

__all__ = ["LEAST_UNCENSORED", "Draws", "Plan", "Settings", "Solution", "multipliers"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_HORIZONS = 21  # of a restricted mean: survival is integrated over as many times from 0 to t0, and from t0 to t
LEAST_UNCENSORED = 0.05
_FEWEST_EARLY = 20
_FEWEST_LATER = 10
_CHUNK = 500_000  # numbers in one table of replicates by rows


@dataclass(frozen=True)
class Settings:
    """What is estimated, and how; see `SurrogatePTE`."""

    t0: float
    t: float
    outcome: str
    bandwidth: str | float
    trim: float
    halves: bool
    mean: bool


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one arm (in one half), as positions among those alive at t0: with an early surrogate event, and without."""

    group: int
    early: _INT
    later: _INT


@dataclass(frozen=True, eq=False)
class Solution:
    """The transformation, a line a replicate, from the rows of both arms.

    Attributes
    ----------
    early : ndarray of shape (B, runs)
        g for each run of cells.
    later : ndarray of shape (B,)
        g for those alive at t0 without the surrogate event.
    multiplier : ndarray of shape (B,)
        Of the constraint.
    alive : ndarray of shape (B,)
        g for all alive at t0 where the surrogate event is not used.
    """

    early: _FLOAT
    later: _FLOAT
    multiplier: _FLOAT
    alive: _FLOAT


@dataclass(frozen=True, eq=False)
class Draws:
    """One number a replicate (first axis), the estimate itself in front; those of the splits are averaged.

    Attributes
    ----------
    delta, delta_g, delta_alive : ndarray of shape (B,)
        Effect on the outcome, on its transformation, and on that of being alive at t0.
    pte, pte_alive : ndarray of shape (B,)
    by_split : ndarray of shape (B, splits)
        The first of the two, split by split.
    errors : ndarray of shape (B, 3)
        Mean squared errors of g, of being alive at t0, and of a constant.
    solution : Solution
        From all rows.
    """

    delta: _FLOAT
    delta_g: _FLOAT
    delta_alive: _FLOAT
    pte: _FLOAT
    pte_alive: _FLOAT
    by_split: _FLOAT
    errors: _FLOAT
    solution: Solution


class Plan:
    """Everything that does not depend on the multipliers: horizons, cells, halves, and which cells are merged.

    Parameters
    ----------
    trial : Trial
    settings : Settings
    splits : ndarray of shape (splits, n)
        Keys that order the rows at random, one line a split.

    Raises
    ------
    InvalidData
        Follow-up that ends before t, too few progressions or too few without one, or G(t) below 0.05.
    """

    def __init__(self, trial: Trial, settings: Settings, splits: _FLOAT) -> None:
        self.trial, self.settings = trial, settings
        _require_follow_up(trial, settings.t)
        self.living = np.flatnonzero(trial.alive(settings.t0))
        surrogate = trial.surrogate[self.living]
        self.is_early = surrogate <= settings.t0
        _require_events(trial.arm[self.living], self.is_early, settings.t0)
        early = surrogate[self.is_early]
        self.cells = Cells.of(early, settings.t0, settings.bandwidth, len(early))
        # Halves have their own, wider kernel.
        self.half_cells = Cells.of(early, settings.t0, settings.bandwidth, len(early) // 2)
        self.place = np.cumsum(self.is_early) - 1  # of an early row in the tables of cells
        self.horizons, self.steps = _horizons(settings)
        lived = np.minimum(trial.time, settings.t) if settings.outcome == "restricted mean" else trial.alive(settings.t)
        self.answers = lived.astype(float)
        self.truth = self.answers[self.living] - (settings.t0 if settings.outcome == "restricted mean" else 0.0)
        self._groups(splits)
        point = Replicates(self, np.ones((1, len(trial))))
        counted = [[point.densities(arm, cells)[0][0] for arm in arms] for arms, cells in self.fits]
        self.runs = [merged(one, settings.trim) for _, one in counted]
        zero, one = counted[0]
        arm0 = self.fits[0][0][0]
        self.alive_reference = float(point.state(arm0.group, np.concatenate([arm0.early, arm0.later])).sum())
        self.trimmed = float(zero[one < settings.trim * one.mean()].sum() / zero.sum())
        self.squares = self._squares(point)

    def _squares(self, point: Replicates) -> _FLOAT:
        """Squared errors of the estimate on each row alive at t0, from the half it is not in: of g, and of being alive."""
        out = np.zeros((len(self.living), 2))
        for own in range(1, len(self.fits)):
            other = own + 1 if own % 2 else own - 1
            solution = point.solve(other)
            for rows in self.fits[own][0]:
                out[rows.early, 0] += (self.truth[rows.early] - point.rows_g(solution, other, rows.early)[0]) ** 2
                out[rows.later, 0] += (self.truth[rows.later] - solution.later) ** 2
                both = np.concatenate([rows.early, rows.later])
                out[both, 1] += (self.truth[both] - solution.alive) ** 2
        return out / self.n_splits

    def _groups(self, splits: _FLOAT) -> None:
        """Arms of all rows first, then for each split the arms of either half."""
        trial, n = self.trial, len(self.trial)
        status = np.zeros(n, dtype=np.intp)
        status[self.living] = np.where(self.is_early, 2, 1)
        memberships, self.fits = [trial.arm == 0, trial.arm == 1], [(self._arms(np.ones(n, dtype=bool), 0), self.cells)]
        for keys in splits:
            order = np.lexsort((keys, trial.cell // 2, status, trial.arm))
            half = np.empty(n, dtype=bool)
            half[order] = np.arange(n) % 2 == 0
            for inside in (half, ~half):
                self.fits.append((self._arms(inside, len(memberships)), self.half_cells))
                memberships += [inside & (trial.arm == 0), inside & (trial.arm == 1)]
        self.membership = np.array(memberships, dtype=float).T
        self.n_splits = len(splits)

    def _arms(self, inside: NDArray[np.bool_], group: int) -> tuple[Rows, Rows]:
        within, arm = inside[self.living], self.trial.arm[self.living]
        rows = [(np.flatnonzero(within & (arm == a) & self.is_early), np.flatnonzero(within & (arm == a) & ~self.is_early))
                for a in (0, 1)]  # fmt: skip
        return Rows(group, *rows[0]), Rows(group + 1, *rows[1])

    def run(self, tables: _FLOAT) -> Draws:
        """Estimates for each line of multipliers, chunk by chunk."""
        size = max(1, _CHUNK // len(self.trial))
        chunks = [Replicates(self, tables[k : k + size]).draws() for k in range(0, len(tables), size)]
        return _joined(chunks)


class Replicates:
    """A chunk of replicates: weights of the rows alive at t0, and the sums of weights that they are divided by."""

    def __init__(self, plan: Plan, table: _FLOAT) -> None:
        self.plan, s = plan, plan.settings
        weights, living = CensoringWeights(plan.trial, table), plan.living
        self.alive0 = weights.alive(s.t0)[:, living]
        self.total0 = weights.known(s.t0) @ plan.membership
        self.later = [weights.alive(u)[:, living] for u in plan.horizons]
        known = weights.known(s.t)
        self.known = known
        self.totals = [weights.known(u) @ plan.membership for u in plan.horizons[:-1]] + [known @ plan.membership]
        self.common = np.zeros_like(self.total0)
        if s.outcome == "restricted mean":  # survival up to t0 is known at t0
            times = np.linspace(0.0, s.t0, _HORIZONS)
            for u, step in zip(times, _trapezium(times), strict=True):
                self.common += step * (weights.alive(u) @ plan.membership) / (weights.known(u) @ plan.membership)

    def outcome(self, group: int, rows: _INT) -> _FLOAT:
        """Share of each row in the mean outcome of its group after t0, shape (B, rows)."""
        parts = zip(self.plan.steps, self.later, self.totals, strict=True)
        return np.asarray(sum(step * alive[:, rows] / total[:, [group]] for step, alive, total in parts))

    def state(self, group: int, rows: _INT) -> _FLOAT:
        """Share of each row in being alive at t0, shape (B, rows)."""
        return self.alive0[:, rows] / self.total0[:, [group]]

    def densities(self, rows: Rows, cells: Cells) -> tuple[_FLOAT, _FLOAT]:
        """Mass of (S = s, T > t0), and mean outcome with S = s, at each cell."""
        spread = cells.weights[self.plan.place[rows.early]]
        return self.state(rows.group, rows.early) @ spread, self.outcome(rows.group, rows.early) @ spread

    def solve(self, fit: int) -> Solution:
        """The optimal transformation from the rows of one fit: smallest error in arm 1, right mean in arm 0."""
        ((arm0, arm1), cells), runs = self.plan.fits[fit], self.plan.runs[fit]
        (f0, h0), (f1, h1) = (
            (np.add.reduceat(mass, runs, axis=1) for mass in self.densities(arm, cells)) for arm in (arm0, arm1)
        )
        p0, p1 = (self.state(arm.group, arm.later).sum(axis=1) for arm in (arm0, arm1))
        q0, q1 = (self.outcome(arm.group, arm.later).sum(axis=1) for arm in (arm0, arm1))
        mean0 = h0.sum(axis=1) + q0
        gap = mean0 - (f0 * h1 / f1).sum(axis=1) - p0 * q1 / p1
        multiplier = gap / ((f0**2 / f1).sum(axis=1) + p0**2 / p1)
        early = (multiplier[:, None] * f0 + h1) / f1
        return Solution(early, (multiplier * p0 + q1) / p1, multiplier, mean0 / (f0.sum(axis=1) + p0))

    def rows_g(self, solution: Solution, fit: int, early: _INT) -> _FLOAT:
        """g of early rows, shape (B, rows)."""
        cells, runs = self.plan.fits[fit][1], self.plan.runs[fit]
        run = np.searchsorted(runs, cells.nearest[self.plan.place[early]], side="right") - 1
        return solution.early[:, run]

    def _sums(self, solution: Solution, fit: int, rows: Rows) -> _FLOAT:
        """Weighted sums over the rows of an arm, of g and of that of being alive, shape (2, B)."""
        g = self.rows_g(solution, fit, rows.early)
        early, later = self.alive0[:, rows.early], self.alive0[:, rows.later].sum(axis=1)
        said = np.einsum("br,br->b", early, g) + later * solution.later
        return np.stack([said, (early.sum(axis=1) + later) * solution.alive])

    def draws(self) -> Draws:
        """All estimates of the chunk."""
        plan, everyone = self.plan, self.plan.fits[0][0]
        delta = self._effect(everyone)
        parts = [self._split(1 + 2 * k, delta) for k in range(plan.n_splits)]
        average = np.mean if plan.settings.mean else np.median
        delta_g, alive, ratio, ratio_alive = (np.stack([part[j] for part in parts], axis=1) for j in range(4))
        mean_g, mean_alive, share, share_alive = (average(one, axis=1) for one in (delta_g, alive, ratio, ratio_alive))
        return Draws(delta, mean_g, mean_alive, share, share_alive, ratio, self._errors(), self.solve(0))

    def _split(self, first: int, delta: _FLOAT) -> tuple[_FLOAT, ...]:
        """One split: each half is scored with what the other half gave."""
        plan = self.plan
        sums, ratios = np.zeros((2, 2, len(delta))), []
        for own, other in ((first, first + 1), (first + 1, first)):
            solution, rows = self.solve(other), plan.fits[own][0]
            found = [self._sums(solution, other, arm) for arm in rows]
            sums += found
            if plan.settings.halves:
                ratios.append(self._half(rows, found))
        zero, one = (self.common[:, a] + sums[a] / self.total0[:, a] for a in (0, 1))
        shares = np.mean(ratios, axis=0) if plan.settings.halves else (one - zero) / delta
        return (*(one - zero), *shares)

    def _half(self, rows: tuple[Rows, Rows], found: list[_FLOAT]) -> _FLOAT:
        """Both ratios of one half, with its own effect below."""
        zero, one = (
            self.common[:, arm.group] + sums / self.total0[:, arm.group] for arm, sums in zip(rows, found, strict=True)
        )
        return (one - zero) / self._effect(rows)

    def _effect(self, rows: tuple[Rows, Rows]) -> _FLOAT:
        """Difference of the arms' mean outcomes."""
        zero, one = (
            self.common[:, arm.group] + self.outcome(arm.group, np.concatenate([arm.early, arm.later])).sum(axis=1)
            for arm in rows
        )
        return one - zero

    def _errors(self) -> _FLOAT:
        """Mean squared errors over both arms alike, shape (B, 3): of what the estimate gives, and of the common mean."""
        plan, total = self.plan, self.totals[-1][:, :2]
        first, second = ((self.known @ (plan.answers[:, None] ** k * plan.membership[:, :2])) / total for k in (1, 2))
        constant = second.mean(axis=1) - first.mean(axis=1) ** 2
        arms = plan.membership[plan.living, :2]
        said = [((self.known[:, plan.living] @ (one[:, None] * arms)) / total).mean(axis=1) for one in plan.squares.T]
        return np.stack([*said, constant], axis=1)


def multipliers(rng: np.random.Generator, replicates: int, n: int) -> _FLOAT:
    """Standard exponentials, with a first line of ones."""
    return np.concatenate([np.ones((1, n)), rng.standard_exponential((replicates, n))])


def _require_follow_up(trial: Trial, t: float) -> None:
    """Every cell followed up to t, and not by a lucky few."""
    weights = CensoringWeights(trial, np.ones((1, len(trial)))).uncensored(t)[0]
    for cell, (a, b) in enumerate(zip(trial.start, trial.end, strict=True)):
        last, ended = float(trial.time[b - 1]), bool(trial.event[b - 1])
        if last < t and not (ended and len(trial.strata) > 1):
            raise InvalidData(
                f"expected follow-up to t={t:g} in {trial.name(cell)}, its last time is {last:g}: choose an earlier t"
                + ("" if len(trial.strata) == 1 else ", or leave out that stratum")
            )
        if weights[cell] < LEAST_UNCENSORED:
            raise InvalidData(
                f"expected a probability of at least {LEAST_UNCENSORED:g} to be uncensored at t={t:g} in {trial.name(cell)}, "
                f"got {weights[cell]:.3g} from {b - a} rows: choose an earlier t"
            )


def _require_events(arm: _INT, early: NDArray[np.bool_], t0: float) -> None:
    """Enough rows of both kinds among those alive at t0."""
    for a in (0, 1):
        found, rest = int((early & (arm == a)).sum()), int((~early & (arm == a)).sum())
        if found < _FEWEST_EARLY:
            raise InvalidData(
                f"expected at least {_FEWEST_EARLY} progressions before t0={t0:g} in each arm, among those alive then, got "
                f"{found} in arm {a}: choose a later t0"
            )
        if rest < _FEWEST_LATER:
            raise InvalidData(
                f"expected at least {_FEWEST_LATER} rows of each arm alive at t0={t0:g} without progression, got {rest} in "
                f"arm {a}: choose an earlier t0"
            )


def _horizons(settings: Settings) -> tuple[_FLOAT, _FLOAT]:
    """Times at which survival counts, and how much; t is the last."""
    if settings.outcome == "survival":
        return np.array([settings.t]), np.ones(1)
    times = np.linspace(settings.t0, settings.t, _HORIZONS)
    return times, _trapezium(times)


def _trapezium(times: _FLOAT) -> _FLOAT:
    gaps = np.diff(times)
    return (np.append(gaps, 0.0) + np.append(0.0, gaps)) / 2.0


def _joined(chunks: list[Draws]) -> Draws:
    """Chunks of replicates, one after another."""
    solution = Solution(*_stacked([chunk.solution for chunk in chunks], Solution))
    delta, delta_g, delta_alive, pte, pte_alive, by_split, errors = _stacked(chunks, Draws)
    return Draws(delta, delta_g, delta_alive, pte, pte_alive, by_split, errors, solution)


def _stacked(parts: list[Any], kind: Any) -> list[_FLOAT]:
    names = [field.name for field in fields(kind) if field.name != "solution"]
    return [np.concatenate([getattr(part, name) for part in parts]) for name in names]
