"""The one loop: ask for points, tell what they gave, and know at each step how far the surrogate was right."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.base import clone

from locum.core.bounds import Interval, binomial, bootstrap
from locum.core.errors import BudgetExhausted, InvalidData, TargetError, require_whole
from locum.core.fidelity import Fidelity
from locum.core.target import Budget, Target
from locum.optimize.acquisition import Acquisition, ExpectedImprovement
from locum.optimize.objective import objective, rows_of
from locum.optimize.space import Point, Space
from locum.optimize.surrogate import GaussianProcess, Surrogate, need_botorch

__all__ = ["Optimizer", "Result", "maximize", "minimize"]

_FLOAT = NDArray[np.float64]
_DIRECTIONS = ("minimize", "maximize")
_LEVEL = 0.9
_LEADERS = 5
_FEWEST = 10  # points foretold, below which an interval of their fidelity says nothing
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class Result:
    """What a run found.

    Parameters
    ----------
    best : Point
        The point recommended: among those evaluated, the one with the best mean by the surrogate.
    value : float
        What it gave.
    mean : float
        Its mean by the surrogate, which is what to expect of it again; the value where there is no surrogate yet.
    direction : {"minimize", "maximize"}
    points : tuple of Point
        All evaluations, in order.
    values : ndarray of shape (n,)
        NaN for those that failed.
    fidelity : tuple of Fidelity
        How far the surrogate was right about the points it proposed, each foretold before it was evaluated.
    stopped : str
        Why it ended.
    account : str, default=""
        What was paid.
    """

    best: Point
    value: float
    mean: float
    direction: str
    points: tuple[Point, ...]
    values: _FLOAT
    fidelity: tuple[Fidelity, ...]
    stopped: str
    account: str = ""

    @property
    def trace(self) -> _FLOAT:
        """Best value so far after each evaluation, shape (n,); NaN before the first that did not fail."""
        sign = -1.0 if self.direction == "minimize" else 1.0
        return sign * _running_best(sign * self.values)

    def text(self) -> str:
        """The result in words."""
        failed = int(np.isnan(self.values).sum())
        cells = [f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}" for name, value in self.best.items()]
        lines = [
            f"{self.value:.6g} at {', '.join(cells)}",
            f"{len(self.values)} evaluations{f', {failed} of them failed' if failed else ''}; {self.stopped}",
        ]
        lines += [str(one) for one in self.fidelity] or ["fidelity not measured: too few points were proposed by the surrogate"]
        return "\n".join([*lines, *([self.account] if self.account else [])])

    def __str__(self) -> str:
        return self.text()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "best": self.best,
            "value": self.value,
            "mean": self.mean,
            "direction": self.direction,
            "points": list(self.points),
            "values": [None if math.isnan(one) else one for one in self.values.tolist()],
            "fidelity": [one.to_dict() for one in self.fidelity],
            "stopped": self.stopped,
            "account": self.account,
        }


@dataclass
class _Foretold:
    """A point proposed, what the surrogate said of it, and what the constant did."""

    mean: float
    sd: float
    plain_mean: float
    plain_sd: float
    value: float = math.nan


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
        A `GaussianProcess` where None.
    acquisition : Acquisition or None, default=None
        `ExpectedImprovement` where None.
    direction : {"minimize", "maximize"}
    initial : int or None, default=None
        Points that fill the space first; about two a parameter where None.
    random_state : int, default=0

    Raises
    ------
    InvalidData
        Settings that cannot be used.

    Notes
    -----
    Cost: a fit of the surrogate and some hundreds of its predictions a point.

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

    def __init__(
        self,
        space: Space,
        surrogate: Surrogate | None = None,
        acquisition: Acquisition | None = None,
        *,
        direction: str,
        initial: int | None = None,
        random_state: int = 0,
    ) -> None:
        if not isinstance(space, Space):
            raise InvalidData(f"expected a Space, got {type(space).__name__}; Space.box([(low, high), ...]) makes one")
        if direction not in _DIRECTIONS:
            raise InvalidData(f"expected direction= to be one of {', '.join(_DIRECTIONS)}, got {direction!r}")
        if surrogate is not None and not isinstance(surrogate, Surrogate):
            raise InvalidData(f"expected surrogate= to be a Surrogate, got {type(surrogate).__name__}")
        if acquisition is not None and not isinstance(acquisition, Acquisition):
            raise InvalidData(f"expected acquisition= to be an Acquisition, got {type(acquisition).__name__}")
        require_whole(0, random_state=random_state)
        if initial is not None:
            require_whole(2, initial=initial)
        self.space, self.direction, self.random_state = space, direction, random_state
        self.surrogate, self.acquisition = surrogate or GaussianProcess(), acquisition or ExpectedImprovement()
        self.initial = 2 * (len(space) + 1) if initial is None else initial
        self.points: list[Point] = []
        self.values: list[float] = []
        self._pending: dict[str, Point] = {}
        self._foretold: dict[str, _Foretold] = {}
        self._first: list[Point] | None = None
        self._fitted: tuple[int, Surrogate] | None = None

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

    def tell(self, points: Sequence[Mapping[str, Any]], values: Iterable[float]) -> None:
        """Say what points gave, asked for or not.

        Parameters
        ----------
        points : sequence of points
        values : iterable of float
            One a point; NaN where the evaluation failed.

        Raises
        ------
        InvalidData
            Points that are none of the space's, infinite values, or another number of them. Nothing is taken then.
        """
        checked = [self.space.check(point) for point in points]
        found = [float(value) for value in values]
        if len(found) != len(checked):
            raise InvalidData(f"expected a value for each of {len(checked)} points, got {len(found)}")
        if any(math.isinf(value) for value in found):
            raise InvalidData("expected finite values, or NaN for an evaluation that failed, got infinity")
        for point, value in zip(checked, found, strict=True):
            key = self.space.key(point)
            self._pending.pop(key, None)
            if key in self._foretold and math.isnan(self._foretold[key].value):
                self._foretold[key].value = self._sign * value
            self.points.append(point)
            self.values.append(value)

    @property
    def pending(self) -> list[Point]:
        """Points asked for and not told yet."""
        return list(self._pending.values())

    def recommend(self) -> Point:
        """The point to use: among those evaluated, the one with the best mean by the surrogate.

        Raises
        ------
        InvalidData
            Nothing was told yet that did not fail.
        """
        return self.points[self._recommended()[0]]

    def fidelity(self) -> tuple[Fidelity, ...]:
        """How far the surrogate was right about points that it proposed, each foretold before it was evaluated.

        Returns
        -------
        tuple of Fidelity
            Coverage of its intervals of level 0.9; and its log score less that of the cheapest rival, one normal distribution
            for all points. Empty with fewer than ten such points.
        """
        told = [one for one in self._foretold.values() if math.isfinite(one.value)]
        if len(told) < _FEWEST:
            return ()
        y, mean, sd, plain, spread = np.array([[o.value, o.mean, o.sd, o.plain_mean, o.plain_sd] for o in told]).T
        inside = np.abs(y - mean) <= stats.norm.isf((1 - _LEVEL) / 2) * sd
        ends = binomial(float(inside.sum()), len(y))
        cover = _fidelity(f"coverage of {_LEVEL:.0%} intervals", float(inside.mean()), ends, len(y))
        gain = stats.norm.logpdf(y, mean, sd) - stats.norm.logpdf(y, plain, spread)
        around = bootstrap(gain[:, None], lambda means: means[..., 0], random_state=self.random_state)
        return cover, _fidelity("log score above one normal for all", float(gain.mean()), around, len(y))

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
        best, given, values = self.points[at], self.values[at], np.array(self.values)
        return Result(best, given, mean, self.direction, tuple(self.points), values, self.fidelity(), stopped, account)

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
        known = {self.space.key(point) for point in [*self.points, *self._pending.values()]}
        if self._first is None:
            self._first = self.space.sobol(self.initial, self.random_state)
        if taken < self.initial and self.space.key(self._first[taken]) not in known:
            return self._first[taken]
        rng = np.random.default_rng([self.random_state, taken])
        if sum(map(math.isfinite, self.values)) < 2:
            return self._unknown(known, rng)
        return self._proposed(known, rng)

    def _unknown(self, known: set[str], rng: np.random.Generator) -> Point:
        """A point at random that is not known."""
        while True:  # ask() saw to it that there is one
            for point in self.space.sample(256, rng):
                if self.space.key(point) not in known:
                    return point

    def _proposed(self, known: set[str], rng: np.random.Generator) -> Point:
        need_botorch()
        from locum.nets import seeded
        from locum.optimize._propose import best_point
        from locum.optimize._value import value_of

        surrogate = self._surrogate()
        rows, values = self._told()
        believed = self.space.encode(self._pending.values()) if self._pending else None
        with seeded(int(rng.integers(2**31))):
            value = value_of(surrogate, self.acquisition, rows, believed, self._failures())
            leaders = [self._finite()[i] for i in np.argsort(-values, kind="stable")[:_LEADERS]]
            point, worth = best_point(self.space, value, leaders, known, rng)
        self._gain = self.acquisition.gain(worth)
        mean, sd = surrogate.predict(self.space.encode([point]), return_std=True)
        plain = float(values.std()) or 1e-12
        self._foretold.setdefault(
            self.space.key(point), _Foretold(float(mean[0]), max(float(sd[0]), 1e-12), float(values.mean()), plain)
        )
        return point

    def _surrogate(self) -> Surrogate:
        """The surrogate, fitted to everything told."""
        if self._fitted is None or self._fitted[0] != len(self.points):
            self._fitted = len(self.points), clone(self.surrogate).fit(*self._told())
        return self._fitted[1]

    def _finite(self) -> list[Point]:
        return [point for point, value in zip(self.points, self.values, strict=True) if math.isfinite(value)]

    def _told(self) -> tuple[_FLOAT, _FLOAT]:
        """Rows and values of the evaluations that did not fail; larger values are better."""
        values = np.array([value for value in self.values if math.isfinite(value)])
        return self.space.encode(self._finite()), self._sign * values

    def _failures(self) -> tuple[_FLOAT, _FLOAT] | None:
        """All rows, and 1 for those that did not fail; None where none did."""
        worked = np.isfinite(self.values).astype(float)
        return None if worked.all() else (self.space.encode(self.points), worked)

    def _recommended(self) -> tuple[int, float]:
        at = np.flatnonzero(np.isfinite(self.values))
        if not len(at):
            raise InvalidData("nothing was told yet that did not fail, so there is no point to recommend")
        values = self._sign * np.array(self.values)[at]
        if len(at) < max(2, self.initial):
            i = int(values.argmax())
            return int(at[i]), float(self._sign * values[i])
        means = self._surrogate().predict(self.space.encode([self.points[i] for i in at]))
        i = int(means.argmax())
        return int(at[i]), float(self._sign * means[i])


def minimize(target: Target | Callable[[Point], float], space: Space, budget: int | Budget, **settings: Any) -> Result:
    """Find where an objective is least.

    Parameters
    ----------
    target : Target or callable
        A callable takes a point, a dict; see `objective`.
    space : Space
    budget : int or Budget
        Evaluations in all; or calls, seconds or money.
    **settings
        Of `Optimizer` and of its `run`.

    Examples
    --------
    >>> from locum.optimize import Space, minimize
    >>> found = minimize(lambda point: (point["x0"] - 1) ** 2, Space.box([(-3, 3)]), budget=12)
    >>> round(found.best["x0"], 1)
    1.0
    """
    return _run("minimize", target, space, budget, settings)


def maximize(target: Target | Callable[[Point], float], space: Space, budget: int | Budget, **settings: Any) -> Result:
    """Find where an objective is largest; see `minimize`.

    Parameters
    ----------
    target : Target or callable
    space : Space
    budget : int or Budget
    **settings
        Of `Optimizer` and of its `run`.
    """
    return _run("maximize", target, space, budget, settings)


def _run(direction: str, target: Any, space: Space, budget: Any, settings: dict[str, Any]) -> Result:
    running = {name: settings.pop(name) for name in ("batch", "least_gain", "progress") if name in settings}
    return Optimizer(space, direction=direction, **settings).run(target, budget, **running)


def _fidelity(measure: str, value: float, ends: Interval, n: int) -> Fidelity:
    return Fidelity(
        measure, value, ends.lower, ends.upper, 0.95, n, region="points proposed", how="points foretold", method=ends.method
    )  # fmt: skip


def _running_best(values: _FLOAT) -> _FLOAT:
    return np.fmax.accumulate(values)
