"""Cheap, biased levels of a simulator stand in for the dear one, and the optimiser chooses both design and level.

Do and Zhang, arXiv 2311.13050, a review: surrogates that join levels, acquisitions that weigh design and level, and the loop.
Levels of one dial are also a `FidelityLevels` goal of the plain `Optimizer`; the page of the method says when to use which.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from locum.core.errors import BudgetExhausted, InvalidData, TargetError, require_one_of, require_whole
from locum.optimize._mfbo_acquisitions import (
    AugmentedMultiFidelityExpectedImprovement,
    DesignAndLevel,
    DesignThenLevel,
    InformationGapUpperConfidenceBound,
    KnowledgeGradientPerCost,
    LevelAcquisition,
    LocationThenFidelity,
    MaxValueEntropyPerCost,
    MultiFidelityProbabilityOfImprovement,
    MultiFidelityUpperConfidenceBound,
    Standing,
    VariableFidelityExpectedImprovement,
)
from locum.optimize._mfbo_feasibility import LevelClassifier
from locum.optimize._mfbo_fidelities import ContinuousFidelity, Fidelities
from locum.optimize._mfbo_inputs import InputNoise, Varied
from locum.optimize._mfbo_records import Evaluation, best_designs, by_level, constraint_count, first_counts, since_better
from locum.optimize._mfbo_result import MultiFidelityResult, correlations, left_out
from locum.optimize._mfbo_rollout import TwoStepRollout
from locum.optimize._mfbo_surrogates import (
    AutoregressiveProcess,
    ContinuousFidelityProcess,
    CoregionalizedProcess,
    LevelSurrogate,
    NonlinearAutoregressiveProcess,
    RecursiveAutoregressiveProcess,
)
from locum.optimize._mfbo_trust import TrustRegion, Window
from locum.optimize.objective import rows_of
from locum.optimize.space import Point, Space
from locum.optimize.surrogate import need_botorch

if TYPE_CHECKING:
    from locum.core.target import Target

__all__ = [
    "MultiFidelityOptimizer",
    "MultiFidelityResult",
    "Evaluation",
    "Fidelities",
    "ContinuousFidelity",
    "AutoregressiveProcess",
    "RecursiveAutoregressiveProcess",
    "NonlinearAutoregressiveProcess",
    "CoregionalizedProcess",
    "ContinuousFidelityProcess",
    "VariableFidelityExpectedImprovement",
    "AugmentedMultiFidelityExpectedImprovement",
    "MultiFidelityProbabilityOfImprovement",
    "MultiFidelityUpperConfidenceBound",
    "InformationGapUpperConfidenceBound",
    "MaxValueEntropyPerCost",
    "KnowledgeGradientPerCost",
    "LocationThenFidelity",
    "TwoStepRollout",
    "LevelClassifier",
    "TrustRegion",
    "InputNoise",
]

_FLOAT = NDArray[np.float64]
_DIRECTIONS = ("minimize", "maximize")
_FAILURES = ("learn", "leave out")
_CANDIDATES = 256  # designs that fill the space, for acquisitions that look for a maximum over it
_UNSURE = 0.25  # of what may be spent below the truth, as long as a level is not known to be correlated with it
_TRIED = 8  # common designs, from which on a level that may not be correlated is left alone
_QUIET = 3  # proposals in a row without an expected gain, after which a run with a tolerance ends


class MultiFidelityOptimizer:
    """Proposes designs and levels to evaluate, from what others gave; the cheapest level comes first, the truth last.

    The first design fills the space evenly and is nested: every design of a level is evaluated at all levels below. Then each
    evaluation is the one with the largest worth by the acquisition. So that cheap levels never take over, the truth is asked at
    the best mean once as much was spent below it as `most_below` evaluations of it cost; a quarter of that as long as the
    interval of a level's correlation with the truth holds 0. With eight common designs and 0 still in it, the level is used no
    more, with a warning.

    Parameters
    ----------
    space : Space
    fidelities : Fidelities
    surrogate : LevelSurrogate or None, default=None
        `AutoregressiveProcess` without noise where None; for a `ContinuousFidelity`, `ContinuousFidelityProcess`.
    acquisition : LevelAcquisition or None, default=None
        `VariableFidelityExpectedImprovement` where None.
    direction : {"minimize", "maximize"}
    initial : sequence of int or None, default=None
        Designs at each level, falling; (d + 1) / 2 at the truth but three or more, and more below by the root of the ratio of
        costs, up to four times as many, where None.
    most_below : float, default=1.0
    promise : float or None, default=None
        Improvement of the best mean, in standard deviations of the values at the truth, from which on the truth is asked there
        at once; never for that alone where None.
    failures : {"learn", "leave out"}, default="learn"
        Whether a `LevelClassifier` of what failed weighs where to ask; failures are left out of the surrogate either way.
    trust_region : TrustRegion or None, default=None
        Where alone designs are looked for; everywhere where None.
    input_noise : InputNoise or None, default=None
        Errors of the inputs, whose mean or quantile is the objective; needs a surrogate that is one process over levels.
    random_state : int, default=0

    Raises
    ------
    InvalidData
        Settings that cannot be used.

    Warns
    -----
    UserWarning
        The interval of a level's correlation with the truth holds 0, or no design at the truth keeps the constraints.

    Notes
    -----
    Cost: a fit of the surrogate and some hundreds of its predictions an evaluation; tenths of a second for some fifty.

    Constraints are numbers told with each value, 0 or more where kept; each has a surrogate of all levels of its own, and the
    chance at the truth that all are kept multiplies the worth. Evaluations that are not told yet count as if they had given
    their mean. What is proposed depends on settings and on what was told alone.

    Departures: designs fill the space by a Sobol sequence, not a Latin hypercube, and there are fewer at the truth than the
    2 d to 5 d that are usual: with those, one process of the truth alone is nearly done before levels can save anything.

    References
    ----------
    Do and Zhang, arXiv 2311.13050.

    Examples
    --------
    >>> from locum.optimize import Space
    >>> from locum.optimize.mfbo import Fidelities, MultiFidelityOptimizer
    >>> dear = lambda point: (point["x0"] - 0.3) ** 2
    >>> cheap = lambda point: 0.8 * dear(point) + 0.1 * point["x0"]
    >>> optimizer = MultiFidelityOptimizer(Space.box([(0, 1)]), Fidelities([cheap, dear], [1, 10]), direction="minimize")
    >>> found = optimizer.run(budget=80)
    >>> round(found.x["x0"], 1), bool(found.cost_trace[-1] <= 80)
    (0.3, True)
    """

    papers = ("mfbo",)

    def __init__(
        self,
        space: Space,
        fidelities: Fidelities,
        surrogate: LevelSurrogate | None = None,
        acquisition: LevelAcquisition | None = None,
        *,
        direction: str,
        initial: Sequence[int] | None = None,
        most_below: float = 1.0,
        promise: float | None = None,
        failures: str = "learn",
        trust_region: TrustRegion | None = None,
        input_noise: InputNoise | None = None,
        random_state: int = 0,
    ) -> None:
        for name, given, kind in (
            ("space", space, Space), ("fidelities", fidelities, Fidelities), ("surrogate", surrogate, LevelSurrogate),
            ("acquisition", acquisition, DesignAndLevel | DesignThenLevel), ("trust_region", trust_region, TrustRegion),
            ("input_noise", input_noise, InputNoise),
        ):  # fmt: skip
            if given is not None and not isinstance(given, kind):
                wanted = getattr(kind, "__name__", "an acquisition over levels")
                raise InvalidData(f"expected {name}= to be a {wanted}, got {type(given).__name__}")
        require_one_of(_DIRECTIONS, direction=direction)
        require_one_of(_FAILURES, failures=failures)
        require_whole(0, random_state=random_state)
        if not most_below > 0 or (promise is not None and not promise > 0):
            raise InvalidData(f"expected most_below= and promise= above 0, got {most_below!r} and {promise!r}")
        usual: LevelSurrogate = AutoregressiveProcess(noise=0.0)
        if isinstance(fidelities, ContinuousFidelity):
            usual = ContinuousFidelityProcess(fidelities.positions, noise=0.0)
        self.space, self.fidelities, self.direction, self.random_state = space, fidelities, direction, random_state
        self.surrogate, self.acquisition = surrogate or usual, acquisition or VariableFidelityExpectedImprovement()
        self.most_below, self.promise, self.failures = float(most_below), promise, failures
        self.trust_region, self.input_noise = trust_region, input_noise
        if input_noise is not None:
            input_noise.on(space)  # refuses parameters that the space does not have
        self.initial = first_counts(space, fidelities.cost, initial)
        self.evaluations: list[Evaluation] = []
        self.values: list[float] = []
        self.constraints: list[_FLOAT] = []
        self._pending: dict[tuple[str, int], Evaluation] = {}
        self._queue: list[Evaluation] = []
        self._keys: set[tuple[str, int]] = set()
        self._fitted: tuple[int, LevelSurrogate, list[Any]] | None = None
        self._first: list[Evaluation] | None = None
        self._gain = math.inf

    # ------------------------------------------------------------------ ask and tell
    def ask(self, n: int = 1, left: float = math.inf) -> list[Evaluation]:
        """Designs and levels to evaluate next; each is pending until it is told.

        Parameters
        ----------
        n : int, default=1
        left : float, default=inf
            Cost that may still be spent; what would not leave enough for the truth is spent on the truth.

        Returns
        -------
        list of Evaluation
            Fewer than n where the space holds no more, or no more can be paid.
        """
        require_whole(1, n=n)
        out: list[Evaluation] = []
        for _ in range(n):
            one = self._next(left)
            if one is None or self.fidelities.cost[one.level] > left * (1 + 1e-9):
                break
            left -= float(self.fidelities.cost[one.level])
            self._pending[self._key(one)] = one
            out.append(one)
        return out

    def tell(
        self,
        evaluations: Sequence[tuple[Mapping[str, Any], int]],
        values: Iterable[float],
        *,
        constraints: ArrayLike | None = None,
    ) -> None:
        """Say what evaluations gave, asked for or not.

        Parameters
        ----------
        evaluations : sequence of (point, level)
        values : iterable of float
            One each; NaN where it failed.
        constraints : array-like of shape (n, c) or None, default=None
            Numbers that are to be 0 or more, always as many; none matter where all evaluations failed.

        Raises
        ------
        InvalidData
            Points that are none of the space's, levels that there are not, or infinite values. Nothing is taken then.
        """
        told = [Evaluation(self.space.check(point), self._level(level)) for point, level in evaluations]
        found = [float(value) for value in values]
        if len(found) != len(told):
            raise InvalidData(f"expected a value for each of {len(told)} evaluations, got {len(found)}")
        if any(math.isinf(value) for value in found):
            raise InvalidData("expected finite values, or NaN for an evaluation that failed, got infinity")
        kept = np.zeros((len(told), 0)) if constraints is None else np.asarray(constraints, dtype=float)
        before = constraint_count(self.values, self.constraints)
        width = kept.shape[-1] if before is None else before
        if not np.isfinite(found).any():
            kept = np.full((len(told), width), np.nan)
        if kept.shape != (len(told), width) or not np.isfinite(kept[np.isfinite(found)]).all():
            raise InvalidData(f"expected finite constraints of shape ({len(told)}, {width}), as before, got {kept.shape}")
        if before is None:  # it may be known only now how many there are
            self.constraints = [np.full(width, np.nan) for _ in self.constraints]
        for one, value, row in zip(told, found, kept, strict=True):
            self._keys.add(self._key(one))
            self._pending.pop(self._key(one), None)
            self._queue = [other for other in self._queue if other != one]
            self.evaluations.append(one)
            self.values.append(value)
            self.constraints.append(row)

    def _level(self, level: Any) -> int:
        if isinstance(level, bool) or not isinstance(level, int | np.integer) or not 0 <= level < len(self.fidelities):
            raise InvalidData(f"expected a level from 0 to {len(self.fidelities) - 1}, got {level!r}")
        return int(level)

    def _key(self, one: Evaluation) -> tuple[str, int]:
        return self.space.key(one.point), one.level

    @property
    def pending(self) -> list[Evaluation]:
        """Evaluations asked for and not told yet."""
        return list(self._pending.values())

    @property
    def spent(self) -> float:
        """Cost of everything told."""
        return float(sum(self.fidelities.cost[one.level] for one in self.evaluations))

    def correlation(self) -> tuple[Any, ...]:
        """Of each level below the truth with it, at designs evaluated at both, as `Fidelity`; None with too few of them."""
        keys: list[dict[str, float]] = [{} for _ in self.fidelities.levels]
        for one, value in zip(self.evaluations, self.values, strict=True):
            if math.isfinite(value):
                keys[one.level][self.space.key(one.point)] = value
        return correlations(keys)

    def foretell(self, points: Sequence[Mapping[str, Any]], level: int | None = None) -> tuple[_FLOAT, _FLOAT]:
        """Mean and standard deviation of a new evaluation at some points, by the surrogate.

        Parameters
        ----------
        points : sequence of points
        level : int or None, default=None
            The truth where None.
        """
        mean, sd = self._surrogates()[0].predict(self.space.encode(points), level, return_std=True)
        return self._sign * mean, sd

    # ------------------------------------------------------------------ the whole run
    def run(
        self, budget: float, *, batch: int = 1, tolerance: float | None = None, patience: float | None = None
    ) -> MultiFidelityResult:
        """Ask the levels until the budget ends; the first design is charged like everything else.

        With ledgers on disk, a run that was killed and is started again goes through the same evaluations without paying.

        Parameters
        ----------
        budget : float
            Cost in all, what was told before included.
        batch : int, default=1
            Evaluations that are asked for at once.
        tolerance : float or None, default=None
            Ends the run where three proposals in a row expect less improvement at the truth than this times the range of its
            values.
        patience : float or None, default=None
            Ends the run where this much cost brought no value at the truth that is better by a millionth of their range.

        Returns
        -------
        MultiFidelityResult

        Raises
        ------
        InvalidData
            A budget below the first design; nothing was paid.
        TargetError
            No evaluation of the truth worked.
        """
        require_whole(1, batch=batch)
        first = float(np.dot(self.initial, self.fidelities.cost))
        if not first <= budget < math.inf:
            raise InvalidData(f"expected a budget of at least {first:g}, the first design, got {budget!r}; lower initial=")
        targets, stopped, quiet = self.fidelities.targets(self.space), "", 0
        while not stopped:
            asked = self.ask(batch, budget - self.spent)
            quiet = quiet + 1 if tolerance is not None and self._gain < tolerance * self._range() else 0
            if not asked:
                stopped = "every design was evaluated" if self._complete() else "the budget ended"
            elif quiet >= _QUIET:
                stopped = f"no improvement of {tolerance:g} of the range is expected"
            elif patience is not None and self._since_better() > patience:
                stopped = f"a cost of {patience:g} brought no improvement"
            else:
                stopped = self._evaluate(targets, asked)
        self._pending.clear()
        if not any(math.isfinite(value) for value, _ in self._truth()):
            raise TargetError(f"all {len(self._truth())} evaluations of the truth failed; mend it, or widen the space")
        return self.result(stopped)

    def _evaluate(self, targets: list[Target], asked: list[Evaluation]) -> str:
        for one in asked:
            try:
                row = np.asarray(targets[one.level].query(rows_of(self.space, [one.point]), "fit"), dtype=float).reshape(1, -1)
            except BudgetExhausted:
                return "the budget of a level ended"
            except TargetError:
                row = np.full((1, 1), np.nan)
            self.tell([one], row[:, 0], constraints=row[:, 1:])
        return ""

    def result(self, stopped: str = "") -> MultiFidelityResult:
        """What was found so far.

        Parameters
        ----------
        stopped : str, default=""
        """
        levels = np.array([one.level for one in self.evaluations], dtype=np.intp)
        values, cost = np.array(self.values), np.cumsum(self.fidelities.cost[levels])
        height = np.where((levels == len(self.fidelities) - 1) & np.isfinite(values), self._sign * values, -np.inf)
        limits = np.array(self.constraints)
        keeps, expected = (limits >= 0).all(axis=1) & np.isfinite(height), None
        if not np.isfinite(height).any():
            raise InvalidData("the truth was not evaluated yet, so there is no design to recommend")
        if keeps.any():
            height = np.where(keeps, height, -np.inf)
            at = int(height.argmax())
            if self.input_noise is not None:
                at, expected = self._best_over_errors(np.flatnonzero(keeps))
        else:
            said = "no design at the truth keeps the constraints; this is the one nearest to it"
            warnings.warn(said, UserWarning, stacklevel=2)
            at = int(np.where(np.isfinite(height), limits.min(axis=1), -np.inf).argmax())
        best = np.maximum.accumulate(height)
        alike = self.correlation()
        for level, one in enumerate(alike):
            if one is not None and one.lower <= 0 <= one.upper:
                said = f"the correlation of level {level} with the truth may be none: {one}; leave that level out, or see"
                warnings.warn(f"{said} the truth at more of its designs", UserWarning, stacklevel=2)
        designs, told = self._told()
        fidelity, rival = left_out(self.surrogate, designs, told, self.random_state)
        counts = tuple(int((levels == k).sum()) for k in range(len(self.fidelities)))
        return MultiFidelityResult(
            self.evaluations[at].point, float(values[at]), self.direction, tuple(one.point for one in self.evaluations), levels,
            values, cost, np.where(np.isfinite(best), self._sign * best, np.nan), counts, alike, fidelity, rival,
            stopped, expected,
        )  # fmt: skip

    def _best_over_errors(self, kept: NDArray[np.intp]) -> tuple[int, float]:
        """Which of some evaluations has the best mean or quantile over errors of the inputs, and that number."""
        import torch

        rows = torch.as_tensor(self.space.encode([self.evaluations[i].point for i in kept]))
        with torch.no_grad():
            found = self._aimed(self._surrogates()[0]).moments(rows).mean[:, -1]
        return int(kept[int(found.argmax())]), self._sign * float(found.max())

    # ------------------------------------------------------------------ what was told
    @property
    def _sign(self) -> float:
        return -1.0 if self.direction == "minimize" else 1.0

    def _truth(self) -> list[tuple[float, bool]]:
        """Values at the truth, larger is better, and whether they keep the constraints."""
        top = len(self.fidelities) - 1
        told = zip(self.evaluations, self.values, self.constraints, strict=True)
        return [(self._sign * value, bool((limit >= 0).all())) for one, value, limit in told if one.level == top]

    def _range(self) -> float:
        found = [value for value, _ in self._truth() if math.isfinite(value)]
        return max(found) - min(found) if found else math.inf

    def _since_better(self) -> float:
        """Cost spent since the best value at the truth."""
        told = zip(self.values, self.constraints, strict=True)
        heights = [self._sign * value if (limit >= 0).all() else -math.inf for value, limit in told]
        first = float(np.dot(self.initial, self.fidelities.cost))
        return since_better([one.level for one in self.evaluations], heights, self.fidelities.cost, first)

    def _told(self, column: int | None = None) -> tuple[list[_FLOAT], list[_FLOAT]]:
        """Designs and values by level of the evaluations that did not fail, larger is better; or one of the constraints."""
        told = zip(self.values, self.constraints, strict=True)
        given = [self._sign * value if column is None else float(limit[column] + 0.0 * value) for value, limit in told]
        return by_level(self.space, self.evaluations, given, len(self.fidelities), self.surrogate.nested)

    def _surrogates(self) -> tuple[LevelSurrogate, list[Any]]:
        """The surrogate, one of each constraint, and a classifier where evaluations failed, of everything told."""
        if self._fitted is None or self._fitted[0] != len(self.values):
            self._fitted = (len(self.values), clone(self.surrogate).fit(*self._told()), self._limits())
        return self._fitted[1:]

    def _limits(self) -> list[Any]:
        """A surrogate of each constraint, and a classifier where evaluations failed."""
        out: list[Any] = [clone(self.surrogate).fit(*self._told(column)) for column in range(len(self.constraints[0]))]
        worked = [float(math.isfinite(value)) for value in self.values]
        if self.failures == "learn" and not all(worked):
            out.append(LevelClassifier().fit(*by_level(self.space, self.evaluations, worked, len(self.fidelities), False)))
        return out

    def _aimed(self, surrogate: LevelSurrogate) -> Any:
        """What the acquisition looks at: the surrogate, or its mean or quantile over errors of the inputs."""
        noise = self.input_noise
        return surrogate if noise is None else Varied(surrogate, noise.on(self.space), noise.share)

    def _believing(self) -> LevelSurrogate:
        """The surrogate as if what is pending had given its mean."""
        surrogate = self._surrogates()[0]
        if not self._pending:
            return surrogate
        rows = [[one.point for one in self._pending.values() if one.level == k] for k in range(len(self.fidelities))]
        designs = [self.space.encode(one) for one in rows]
        return surrogate.believing(designs, [surrogate.predict(X, k) if len(X) else np.zeros(0) for k, X in enumerate(designs)])

    # ------------------------------------------------------------------ the next evaluation
    def _next(self, left: float) -> Evaluation | None:
        known: list[set[str]] = [set() for _ in self.fidelities.levels]
        for key, level in self._keys | self._pending.keys():
            known[level].add(key)
        if self._first is None:
            made = self.space.sobol(max(self.initial), self.random_state)
            self._first = [Evaluation(made[i], k) for k, n in enumerate(self.initial) for i in range(n)]
        for one in (*self._first, *self._queue):
            if self.space.key(one.point) not in known[one.level]:
                return one
        if self._complete():
            return None
        values = self._told()[1]
        lost = [level for level, one in enumerate(values[:-1]) if not len(one)]
        if lost:
            raise TargetError(f"all {self.initial[lost[0]]} evaluations of level {lost[0]} failed; mend it, or leave it out")
        if len(values[-1]) < 2:
            return self._one_more(known)
        need_botorch()
        return self._proposed(known, left)

    def _one_more(self, known: list[set[str]]) -> Evaluation:
        """The next design that fills the space, where those of the truth failed so far, at the lowest level it lacks."""
        n = max(self.initial)
        while True:
            for point in self.space.sobol(n, self.random_state):
                key = self.space.key(point)
                if key not in known[-1]:
                    lower = [level for level in range(len(known)) if key not in known[level]]
                    return Evaluation(point, lower[0] if self.surrogate.nested else lower[-1])
            n *= 2

    def _proposed(self, known: list[set[str]], left: float) -> Evaluation:
        from locum.nets import seeded
        from locum.optimize._mfbo_propose import Proposal

        rng = np.random.default_rng([self.random_state, len(self.evaluations) + len(self._pending)])
        surrogate, limits = self._surrogates()
        standing, levels = self._standing(surrogate, int(rng.integers(2**31))), self._useful()
        with seeded(int(rng.integers(2**31))):
            aimed, leaders = self._aimed(self._believing()), best_designs(self.space, *self._told())
            window = self._window(standing, leaders)
            search = Proposal(self.space, aimed, limits, standing, leaders, known, levels, rng, window)
            found = [(search.best_mean()[0], levels[-1])] if self._forced(search, standing) else search.by(self.acquisition)
            if self.fidelities.leaves_too_little(found[0][1], left):
                found = [(search.best_mean()[0], levels[-1])]
            self._gain = search.expected_gain(found[0][0])
        point, level = found[0]
        if surrogate.nested:
            found = [(point, k) for k in range(level) if self.space.key(point) not in known[k]] + found
        self._queue = [Evaluation(*one) for one in found[1:]]
        return Evaluation(*found[0])

    def _window(self, standing: Standing, leaders: list[Point]) -> Window | None:
        """The part of the space that the trust region leaves."""
        if self.trust_region is None or not leaders:
            return None
        centre = leaders[0]
        if len(standing.values):
            (centre,) = self.space.decode(standing.rows[[int(standing.values.argmax())]].numpy())
        heights = [value if good else -math.inf for value, good in self._truth()]
        return Window(self.space, centre, self.trust_region.side(heights, self.initial[-1], len(self.space)))

    def _forced(self, search: Any, standing: Standing) -> bool:
        """Whether the truth is asked at the best mean, whatever the acquisition says."""
        if self._starved(standing):
            return True
        if self.promise is None or not len(standing.values):
            return False
        return bool(search.best_mean()[1] - standing.values.max() > self.promise * standing.values.std(correction=0))

    def _starved(self, standing: Standing) -> bool:
        """Whether enough was spent below the truth since it was asked."""
        sure = all(one is not None and not one.lower <= 0 <= one.upper for one in self.correlation())
        return standing.starved >= self.most_below * (1.0 if sure else _UNSURE) * (1 - 1e-9)

    def _complete(self) -> bool:
        """Whether the truth is known, or asked for, everywhere."""
        top = len(self.fidelities) - 1
        return sum(level == top for _, level in self._keys | self._pending.keys()) >= self.space.size

    def _useful(self) -> list[int]:
        """Levels whose correlation with the truth is more than none, or not known well yet; the truth last."""
        out = []
        for level, one in enumerate(self.correlation()):
            if one is not None and one.n >= _TRIED and one.lower <= 0 <= one.upper:
                continue
            out.append(level)
        return [*out, len(self.fidelities) - 1]

    def _standing(self, surrogate: LevelSurrogate | None, seed: int) -> Standing:
        import torch

        designs, values = self._told()
        keeps = np.array([good for value, good in self._truth() if math.isfinite(value)], dtype=bool)
        keys = [dict(zip(map(bytes, X), y, strict=True)) for X, y in zip(designs, values, strict=True)]
        gaps = [max((abs(one[key] - keys[-1][key]) for key in one if key in keys[-1]), default=0.0) for one in keys]
        starved, top = 0.0, len(self.fidelities) - 1
        planned = sum(self.initial)
        for one in [*self.evaluations, *self._pending.values()][planned:]:
            starved = 0.0 if one.level == top else starved + float(self.fidelities.cost[one.level] / self.fidelities.cost[top])
        height = values[-1][keeps]
        if self.input_noise is not None and surrogate is not None and keeps.any():
            with torch.no_grad():
                height = self._aimed(surrogate).moments(torch.as_tensor(designs[-1][keeps])).mean[:, -1].numpy()
        filling = self.space.encode(self.space.sobol(_CANDIDATES, seed % 2**16))
        parts = {
            "rows": designs[-1][keeps], "values": height, "seen": np.concatenate(designs), "candidates": filling,
            "cost": self.fidelities.cost, "gaps": np.array(gaps), "free": self.space.continuous.astype(float),
        }  # fmt: skip
        tensors: dict[str, Any] = {name: torch.as_tensor(part) for name, part in parts.items()}
        return Standing(**tensors, starved=starved, seed=seed)
