"""The one loop: ask for points, tell what they gave, and know at each step how far the surrogate was right."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from locum.core.errors import BudgetExhausted, InvalidData, TargetError, require_one_of, require_whole
from locum.core.fidelity import Fidelity
from locum.core.target import Budget, Target
from locum.optimize.acquisition import Acquisition, ExpectedImprovement, Known, ValueOfInformation
from locum.optimize.goal import Goal, Objective
from locum.optimize.gradients import TakesGradients, checked_gradients, unit_gradients
from locum.optimize.model_average import ModelAverage
from locum.optimize.objective import objective, rows_of
from locum.optimize.result import Foretold, Result, deviations, fidelity_of
from locum.optimize.space import Point, Space, text_of
from locum.optimize.surrogate import GaussianProcess, Surrogate, evenly, need_botorch
from locum.optimize.warp import Power, PowerWarp

__all__ = ["Optimizer", "Result"]

_FLOAT = NDArray[np.float64]
_DIRECTIONS = ("minimize", "maximize")
_RECOMMENDATIONS = ("best_observed", "best_mean_evaluated", "best_mean")
_LEADERS = 5
_CANDIDATES = 256  # points that fill the space, for acquisitions that look for a maximum over it
_WARP = PowerWarp()
Progress = Callable[[int, int, str], None]


class Optimizer:
    """Proposes points of a space to evaluate, from what others gave.

    The first points fill the space evenly; then each is the one with the largest value of an acquisition function under a
    surrogate that is fitted to everything told so far. What is proposed depends on the settings and on what was told alone, so
    a run that is started again and told the same goes on with the same points. A point whose value is not known yet counts as
    if it had given its mean. Evaluations that failed teach where evaluations fail, and are proposed less likely there.

    Parameters
    ----------
    space : Space
    surrogate : Surrogate or None, default=None
        A `ModelAverage` where None: a `GaussianProcess` of the columns, and one of bent columns.
    acquisition : Acquisition or None, default=None
        `ExpectedImprovement` where None.
    direction : {"minimize", "maximize"}
    goal : Goal or None, default=None
        What is to be made best: the objective itself where None; or its mean over an `Environment`, or one of its
        `FidelityLevels`, with an acquisition that counts what is learnt elsewhere.
    warp : PowerWarp or None, default=PowerWarp()
        What makes values nearer to normal before the surrogate is fitted, where the acquisition is still what it says: an
        improvement of the objective itself, by a surrogate that learns its noise or takes none. None for never.
    initial : int or None, default=None
        Points that fill the space first; about two a parameter where None.
    random_state : int, default=0

    Raises
    ------
    InvalidData
        Settings that cannot be used.

    Warns
    -----
    UserWarning
        No point that was told keeps the constraints.

    Notes
    -----
    Cost: a fit of the surrogate and some hundreds of its predictions a point.

    Constraints are numbers told with each value, 0 or more where kept. Each has a surrogate of its own, and a gain counts times
    the chance that all are kept. A point keeps them if it was told so; with noise, if the means of their surrogates say so.

    Examples
    --------
    >>> from locum.optimize import Optimizer, Real, Space
    >>> space = Space([Real("x", -2.0, 2.0)])
    >>> optimizer = Optimizer(space, direction="minimize", initial=4)
    >>> for _ in range(8):
    ...     points = optimizer.ask()
    ...     optimizer.tell(points, [(point["x"] - 0.7) ** 2 for point in points])
    >>> round(optimizer.recommend()["x"], 1)
    0.7
    """

    papers = ("bo-tutorial",)

    def __init__(
        self,
        space: Space,
        surrogate: Surrogate | None = None,
        acquisition: Acquisition | None = None,
        *,
        direction: str,
        goal: Goal | None = None,
        warp: PowerWarp | None = _WARP,
        initial: int | None = None,
        random_state: int = 0,
    ) -> None:
        if not isinstance(space, Space):
            raise InvalidData(f"expected a Space, got {type(space).__name__}; Space.box([(low, high), ...]) makes one")
        require_one_of(_DIRECTIONS, direction=direction)
        if surrogate is not None and not isinstance(surrogate, Surrogate):
            raise InvalidData(f"expected surrogate= to be a Surrogate, got {type(surrogate).__name__}")
        if goal is not None and not isinstance(goal, Goal):
            raise InvalidData(f"expected goal= to be a Goal, got {type(goal).__name__}")
        if acquisition is not None and not isinstance(acquisition, Acquisition):
            raise InvalidData(f"expected acquisition= to be an Acquisition, got {type(acquisition).__name__}")
        require_whole(0, random_state=random_state)
        if warp is not None and not isinstance(warp, PowerWarp):
            raise InvalidData(f"expected warp= to be a PowerWarp or None, got {type(warp).__name__}")
        if initial is not None:
            require_whole(2, initial=initial)
        self.space, self.direction, self.random_state = space, direction, random_state
        self.surrogate, self.acquisition = surrogate or ModelAverage(), acquisition or ExpectedImprovement()
        self.goal = goal or Objective()
        self._aim = self.goal.on(space)
        warps = self.acquisition.warps and self.surrogate.warps and self._aim.plain
        self.warp = warp if warps else None
        if not self._aim.plain and not isinstance(self.acquisition, ValueOfInformation):
            raise InvalidData(
                f"{type(self.acquisition).__name__} counts nothing under {type(self.goal).__name__}, since no evaluation "
                "there improves on another; use KnowledgeGradient or EntropySearch"
            )
        if isinstance(self.surrogate, TakesGradients):
            unit_gradients(space, [], np.zeros((0, len(space))))
        self.initial = 2 * (len(space) + 1) if initial is None else initial
        self.points: list[Point] = []
        self.values: list[float] = []
        self.constraints: list[_FLOAT] = []
        self._rows: list[_FLOAT] = []  # the points encoded, and what tells them apart: once each, not at every proposal
        self._keys: set[str] = set()
        self._gradients: list[_FLOAT] = []
        self._pending: dict[str, Point] = {}
        self._foretold: dict[str, Foretold] = {}
        self._first: list[Point] | None = None
        self._fitted: tuple[int, Surrogate, list[Surrogate], Power] | None = None

    # ------------------------------------------------------------------ ask and tell
    def ask(self, n: int = 1) -> list[Point]:
        """Points to evaluate next; each is pending until it is told.

        Parameters
        ----------
        n : int, default=1

        Returns
        -------
        list of Point
            Fewer than n where the space holds no more.

        Raises
        ------
        MissingExtra
            BoTorch is not installed, and the first points are used up.
        """
        require_whole(1, n=n)
        out: list[Point] = []
        for _ in range(n):
            if len(self.points) + len(self._pending) >= self.space.size:
                break
            point = self._next()
            self._pending[self.space.key(point)] = point
            out.append(point)
        return out

    def tell(
        self,
        points: Sequence[Mapping[str, Any]],
        values: Iterable[float],
        *,
        constraints: ArrayLike | None = None,
        gradients: ArrayLike | None = None,
    ) -> None:
        """Say what points gave, asked for or not.

        Parameters
        ----------
        points : sequence of points
        values : iterable of float
            One a point; NaN where the evaluation failed.
        constraints : array-like of shape (n, c) or None, default=None
            Numbers that are to be 0 or more. All evaluations come with the same number of them.
        gradients : array-like of shape (n, parameters) or None, default=None
            Slopes of the value in the parameters, for a surrogate that takes them, such as `GradientGaussianProcess`.

        Raises
        ------
        InvalidData
            Points that are none of the space's, infinite values, or another number of them. Nothing is taken then.
        """
        checked, rows = self.space.taken(points)
        found = [float(value) for value in values]
        if len(found) != len(checked):
            raise InvalidData(f"expected a value for each of {len(checked)} points, got {len(found)}")
        if any(math.isinf(value) for value in found):
            raise InvalidData("expected finite values, or NaN for an evaluation that failed, got infinity")
        worked = np.isfinite(found)
        kept = self._checked_constraints(constraints, worked)
        slopes = checked_gradients(self.surrogate, self.space, checked, gradients, worked)
        for i, (point, value) in enumerate(zip(checked, found, strict=True)):
            key = text_of(point)
            self._keys.add(key)
            self._pending.pop(key, None)
            if key in self._foretold and math.isnan(self._foretold[key].value):
                self._foretold[key].told(self._sign * value)
            self.points.append(point)
            self.values.append(value)
            self._rows.append(rows[i])
            self.constraints.append(kept[i])
            self._gradients.append(slopes[i])

    def _checked_constraints(self, given: ArrayLike | None, worked: NDArray[np.bool_]) -> _FLOAT:
        out = np.zeros((len(worked), 0)) if given is None else np.asarray(given, dtype=float)
        width = self.constraints[0].shape[0] if self.constraints else out.shape[-1] if out.ndim == 2 else 0
        if out.shape != (len(worked), width):
            raise InvalidData(f"expected constraints of shape ({len(worked)}, {width}), as before, got {out.shape}")
        if not np.isfinite(out[worked]).all():
            raise InvalidData("expected finite constraints of evaluations that did not fail, got NaN or infinity")
        return out

    @property
    def pending(self) -> list[Point]:
        """Points asked for and not told yet."""
        return list(self._pending.values())

    def recommend(self, rule: str = "best_mean_evaluated") -> Point:
        """The point to use; without the conditions of an environment, and at the level that counts.

        Parameters
        ----------
        rule : {"best_observed", "best_mean_evaluated", "best_mean"}, default="best_mean_evaluated"
            The best value told, which under noise is a lucky one; the best mean by the surrogate among points evaluated; or the
            best mean anywhere, which is right on average and may be wrong by more.

        Raises
        ------
        InvalidData
            Nothing was told yet that did not fail, or no value shows the goal.
        """
        require_one_of(_RECOMMENDATIONS, rule=rule)
        if rule == "best_observed" and not self._aim.plain:
            raise InvalidData(f'no evaluation shows {type(self.goal).__name__}; recommend "best_mean_evaluated" or "best_mean"')
        at = self._recommended(observed=rule == "best_observed")[0]
        if rule == "best_mean" and len(self._finite()) >= 2:
            return self.goal.decision(self._best_mean(self.points[at]))
        return self.goal.decision(self.points[at])

    def foretell(self, points: Sequence[Mapping[str, Any]]) -> tuple[_FLOAT, _FLOAT]:
        """Mean and standard deviation of a new evaluation at some points, by the surrogate.

        Parameters
        ----------
        points : sequence of points
        """
        surrogate, _, warp = self._surrogates()
        mean, sd = surrogate.predict(self.space.encode(points), return_std=True)
        if self.warp is not None:
            mean, sd = warp.moments(mean, sd)
        return self._sign * mean, sd

    def interval(self, points: Sequence[Mapping[str, Any]], level: float = 0.9) -> _FLOAT:
        """Lower end, median and upper end of new evaluations at some points, shape (n, 3).

        As wide as would have covered what was proposed so far, each foretold before it was evaluated, and no less than a normal
        interval. Conformal if steps were alike; compare Stanton, Maddox and Wilson, arXiv 2210.12496.

        Parameters
        ----------
        points : sequence of points
        level : float, default=0.9
        """
        if not 0 < level < 1:
            raise InvalidData(f"expected level= between 0 and 1, got {level!r}")
        surrogate, _, warp = self._surrogates()
        mean, sd = surrogate.predict(self.space.encode(points), return_std=True)
        half = deviations(self._foretold.values(), level) * sd
        return np.sort(self._sign * warp.inverse(mean[:, None] + half[:, None] * np.array([-1.0, 0.0, 1.0])), axis=1)

    def worth(self, points: Sequence[Mapping[str, Any]]) -> _FLOAT:
        """Values of the acquisition at some points, as the next `ask` would have them.

        Parameters
        ----------
        points : sequence of points
        """
        need_botorch()
        import torch

        from locum.nets import seeded

        rng = np.random.default_rng([self.random_state, len(self.points) + len(self._pending)])
        with seeded(int(rng.integers(2**31))):
            value = self._value(rng)(torch.as_tensor(self.space.encode(points))[:, None])
        return np.asarray(value.detach().numpy())

    def fidelity(self) -> tuple[Fidelity, ...]:
        """How far the surrogate was right about points that it proposed, each foretold before it was evaluated.

        Returns
        -------
        tuple of Fidelity
            Coverage of its intervals of level 0.9; and its log score less that of the cheapest rival, one normal distribution
            for all points. Empty with fewer than ten such points.
        """
        return fidelity_of(self._foretold.values(), self.random_state)

    # ------------------------------------------------------------------ the whole run
    def run(
        self,
        target: Target | Callable[[Point], float],
        budget: int | Budget,
        *,
        batch: int = 1,
        least_gain: float | None = None,
        progress: Progress | None = None,
    ) -> Result:
        """Ask a target until the budget ends.

        With a ledger on disk, a run that was killed and is started again goes through the same points without paying for those
        that were answered, and on from there.

        Parameters
        ----------
        target : Target or callable
            A target takes `rows_of` points; a callable takes a point, see `objective`.
        budget : int or Budget
            Evaluations in all, those told before included; or calls, seconds or money.
        batch : int, default=1
            Points that are asked for at once.
        least_gain : float or None, default=None
            Ends the run where the acquisition expects no larger improvement, in the unit of the objective.
        progress : callable or None, default=None
            Called with (evaluations, evaluations in all, or 0 where that is not known, the best value in words).

        Returns
        -------
        Result

        Raises
        ------
        InvalidData
            Settings that cannot be used, or a budget below the first points; nothing was paid.
        TargetError
            All of the first points failed.
        """
        require_whole(1, batch=batch)
        most = budget if isinstance(budget, int) and not isinstance(budget, bool) else None
        if most is not None and most < max(self.initial, 2):
            raise InvalidData(
                f"expected a budget of at least the {self.initial} first points, got {most}; lower initial= or raise the budget"
            )
        if not isinstance(target, Target):
            target = objective(target, self.space)
        asked = target.within(budget) if isinstance(budget, Budget) else target
        stopped = ""
        while not stopped:
            left = batch if most is None else min(batch, most - len(self.points))
            if left <= 0:
                stopped = "the budget ended"
                break
            points = self.ask(left)
            if not points:
                stopped = "every point was evaluated"
            elif least_gain is not None and self._gain is not None and self._gain < least_gain:
                stopped = f"no improvement of {least_gain:g} is expected"
                for point in points:
                    self._pending.pop(self.space.key(point))
            else:
                stopped = self._evaluate(asked, points)
            if progress is not None and not stopped:
                known = [value for value in self.values if not math.isnan(value)]
                best = (min if self.direction == "minimize" else max)(known) if known else math.nan
                progress(len(self.points), most or 0, f"best {best:.6g}")
        if not any(math.isfinite(value) for value in self.values):
            raise TargetError(f"all {len(self.values)} evaluations failed; widen the space, or mend the objective")
        return self.result(stopped, account=str(asked.account()))

    def result(self, stopped: str = "", *, account: str = "") -> Result:
        """What was found so far.

        Parameters
        ----------
        stopped, account : str, default=""
        """
        at, mean = self._recommended()
        best, values = self.goal.decision(self.points[at]), np.array(self.values)
        given = self.values[at] if self._aim.plain else mean
        each = [self._foretold.get(text_of(point)) for point in self.points]
        foretold = np.array([[np.nan] * 3 if one is None else one.interval(self._sign) for one in each]).reshape(-1, 3)
        whole = tuple(self.points), values, self.fidelity(), foretold
        return Result(best, given, mean, self.direction, *whole, stopped, account)

    def _evaluate(self, target: Target, points: list[Point]) -> str:
        """Ask and tell; why the run ends, if it does."""
        rows = rows_of(self.space, points)
        try:
            self.tell(points, np.asarray(target.query(rows, "fit"), dtype=float).reshape(len(points)))
        except BudgetExhausted as error:
            done = error.answered
            if done:
                self.tell(points[:done], np.asarray(target.query(rows[:done], "fit"), dtype=float).reshape(done))
            for point in points[done:]:
                self._pending.pop(self.space.key(point), None)
            return "the budget ended"
        except TargetError as error:
            lost = set(error.rows) or set(range(len(points)))
            kept = [i for i in range(len(points)) if i not in lost]
            values = np.full(len(points), np.nan)
            if kept:
                values[kept] = np.asarray(target.query(rows[kept], "fit"), dtype=float).reshape(len(kept))
            self.tell(points, values)
        return ""

    # ------------------------------------------------------------------ the next point
    @property
    def _sign(self) -> float:
        return -1.0 if self.direction == "minimize" else 1.0

    _gain: float | None = None  # that the acquisition expected of the last point proposed

    def _next(self) -> Point:
        taken = len(self.points) + len(self._pending)
        known = self._keys | self._pending.keys()
        if self._first is None:
            self._first = self._placed(self.space.sobol(self.initial, self.random_state), 0)
        if taken < self.initial and self.space.key(self._first[taken]) not in known:
            return self._first[taken]
        rng = np.random.default_rng([self.random_state, taken])
        if sum(map(math.isfinite, self.values)) < 2:
            return self._unknown(known, rng)
        return self._proposed(known, rng)

    def _unknown(self, known: set[str], rng: np.random.Generator) -> Point:
        """A point at random that is not known."""
        while True:  # ask() saw to it that there is one
            rows = self._aim.place(self.space.encode(self.space.sample(256, rng)), rng)
            for point in self.space.decode(rows):
                if text_of(point) not in known:
                    return point

    def _placed(self, points: list[Point], seed: int) -> list[Point]:
        """Points where evaluations may lie."""
        if not self._aim.placed:
            return points
        rng = np.random.default_rng([self.random_state, seed])
        return self.space.decode(self._aim.place(self.space.encode(points), rng))

    def _proposed(self, known: set[str], rng: np.random.Generator) -> Point:
        need_botorch()
        from locum.nets import seeded
        from locum.optimize._propose import best_point, threads_for

        surrogate, _, warp = self._surrogates()
        values = warp(self._told()[1])
        with seeded(int(rng.integers(2**31))), threads_for(len(values)):
            value = self._value(rng)
            point, worth = best_point(self.space, value, self._leaders(), known, rng, self._aim, self.acquisition.tries)
        mean, sd = (float(one[0]) for one in surrogate.predict(self.space.encode([point]), return_std=True))
        self._gain = self.acquisition.gain(worth)
        if self._gain is not None:
            self._gain *= warp.stretch(mean, sd, float(values.max()))
        plain = float(values.std()) or 1e-12
        foretold = Foretold(mean, max(sd, 1e-12), float(values.mean()), plain, warp)
        self._foretold.setdefault(text_of(point), foretold)
        return point

    def _value(self, rng: np.random.Generator) -> Callable[[Any], Any]:
        from locum.optimize._value import value_of

        surrogate, limits, _ = self._surrogates()
        return value_of(surrogate, self.acquisition, self._known(int(rng.integers(2**31))), limits, self._failures())

    def _known(self, seed: int) -> Known:
        """What the acquisition may look at."""
        import torch

        rows, values = self._told()
        values, keeps = self._surrogates()[2](values), self._keeps()
        if not keeps.any():
            warnings.warn("no point told keeps the constraints; looking for one that does", UserWarning, stacklevel=5)
        filling = self.space.encode(self.space.sobol(_CANDIDATES, seed % 2**16))
        pending = torch.as_tensor(self.space.encode(self._pending.values())) if self._pending else None
        return Known(
            torch.as_tensor(rows[keeps]), torch.as_tensor(values[keeps]), torch.as_tensor(filling), pending, self._aim,
            torch.as_tensor(self.space.continuous.astype(float)), seed,
        )  # fmt: skip

    def _leaders(self) -> list[Point]:
        points, values, keeps = self._finite(), self._told()[1], self._keeps()
        order = np.argsort(-np.where(keeps, values, values - 2 * np.ptp(values)), kind="stable")
        return [points[i] for i in order[:_LEADERS]]

    def _best_mean(self, first: Point) -> Point:
        """Where the goal has the best mean."""
        need_botorch()
        from locum.nets import seeded
        from locum.optimize._propose import best_point, threads_for
        from locum.optimize._value import mean_of

        surrogate, limits, warp = self._surrogates()
        rng = np.random.default_rng([self.random_state, len(self.points), 1])
        with seeded(int(rng.integers(2**31))), threads_for(len(self.values)):
            value = mean_of(surrogate, limits, self._aim, float(warp(self._told()[1]).std()))
            return best_point(self.space, value, [first, *self._leaders()], set(), rng, self._aim, Acquisition.tries)[0]

    def _surrogates(self) -> tuple[Surrogate, list[Surrogate], Power]:
        """The surrogate, fitted to everything told, one of each constraint, and how the values were warped."""
        if self._fitted is None or self._fitted[0] != len(self.points):
            rows, values = self._told()
            slopes = [one for one, value in zip(self._gradients, self.values, strict=True) if math.isfinite(value)]
            more = (self._sign * np.array(slopes),) if isinstance(self.surrogate, TakesGradients) else ()
            limits = GaussianProcess(noise=0.0 if self.surrogate.exact else "learn")
            warp, some = Power() if self.warp is None else self.warp.fit(values), self._some(values)
            self._fitted = (
                len(self.points),
                clone(self.surrogate).fit(rows[some], warp(values)[some], *(one[some] for one in more)),
                [clone(limits).fit(rows[some], one) for one in self._limits()[some].T],
                warp,
            )
        return self._fitted[1:]

    def _some(self, values: _FLOAT) -> NDArray[np.intp]:
        """Evaluations that the surrogate is fitted to: all, or the best, and an even choice of the others, that it can take."""
        n, most = len(values), self.surrogate.most
        if most is None or n <= most:
            return np.arange(n)
        warnings.warn(
            f"{type(self.surrogate).__name__} is fitted to {most} of {n} evaluations, the best and an even choice of the "
            "others; give a surrogate= that takes more",
            UserWarning,
            stacklevel=5,
        )
        order = np.argsort(-values, kind="stable")
        rest = np.sort(order[most // 2 :])
        return np.sort(np.concatenate([order[: most // 2], rest[evenly(len(rest), most - most // 2)]]))

    def _limits(self) -> _FLOAT:
        """Constraints of the evaluations that did not fail, shape (n, c)."""
        found = [one for one, value in zip(self.constraints, self.values, strict=True) if math.isfinite(value)]
        return np.array(found).reshape(len(found), -1) if found else np.zeros((0, 0))

    def _keeps(self) -> NDArray[np.bool_]:
        """Which evaluations that did not fail keep the constraints."""
        told = self._limits()
        if not told.shape[1] or self.surrogate.exact:
            return np.asarray((told >= 0).all(axis=1))
        rows = self._told()[0]
        return np.logical_and.reduce([one.predict(rows) >= 0 for one in self._surrogates()[1]])

    def _finite(self) -> list[Point]:
        return [point for point, value in zip(self.points, self.values, strict=True) if math.isfinite(value)]

    def _told(self) -> tuple[_FLOAT, _FLOAT]:
        """Rows and values of the evaluations that did not fail; larger values are better."""
        values, rows = np.array(self.values), np.array(self._rows).reshape(-1, self.space.width)
        worked = np.isfinite(values)
        return rows[worked], self._sign * values[worked]

    def _failures(self) -> tuple[_FLOAT, _FLOAT] | None:
        """All rows, and 1 for those that did not fail; None where none did."""
        worked = np.isfinite(self.values).astype(float)
        some = evenly(len(worked), self.surrogate.most)
        return None if worked[some].all() else (np.array(self._rows)[some], worked[some])

    def _recommended(self, *, observed: bool = False) -> tuple[int, float]:
        """Which evaluation is best, by its value or by the mean of the goal there, and that number."""
        at = np.flatnonzero(np.isfinite(self.values))
        if not len(at):
            raise InvalidData("nothing was told yet that did not fail, so there is no point to recommend")
        few = len(at) < max(2, self.initial)
        height = self._sign * np.array(self.values)[at]
        if not observed and not (few and self._aim.plain) and len(at) >= 2:
            height = self._means([self.points[i] for i in at])
        limits = self._limits()
        keeps = (limits >= 0).all(axis=1) if few else self._keeps()
        if not keeps.any():
            warnings.warn("no point told keeps the constraints; this is the one nearest to it", UserWarning, stacklevel=3)
            spread = limits.std(axis=0) + 1e-12
            i = int((limits / spread).min(axis=1).argmax())
        else:
            i = int(np.where(keeps, height, -np.inf).argmax())
        return int(at[i]), float(self._sign * height[i])

    def _means(self, points: list[Point]) -> _FLOAT:
        """Means of the goal by the surrogate, medians where values are warped; larger is better."""
        (surrogate, _, warp), rows = self._surrogates(), self.space.encode(points)
        if self._aim.plain:
            return warp.inverse(surrogate.predict(rows))
        copies = np.repeat(rows[:, None], len(self._aim.weights), axis=1)
        copies[..., self._aim.columns] = self._aim.settings
        means = surrogate.predict(copies.reshape(-1, rows.shape[1])).reshape(len(rows), -1)
        return means @ self._aim.weights
