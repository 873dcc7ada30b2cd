"""Checks of a measure of fidelity."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from locum.core._reading import READERS
from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.core.measures import Measure, RowMeasure
from locum.testing._checks import Suite, global_state, need, need_equal, refusal

__all__ = ["check_fidelity", "fidelity_checks"]

_ROWS, _ITEMS, _LENGTH = 60, 8, 6
_SAME_SUMS = 1e-9
# The exact interval of a count and that of groups differ by a small-sample factor where each group is a row.
_SAME_WIDTH = 0.02

_suite: Suite[_Case] = Suite()


@dataclass(frozen=True, eq=False)
class _Case:
    """A measure and what it reads.

    Attributes
    ----------
    measure : Measure
    truth, prediction, constant : data of n rows
        Answers, a fair stand-in's predictions, and those of one that always says the same.
    best : float
        The value of a perfect copy.
    worst : float or None
        The value of the constant one, where it is known.
    """

    measure: Measure
    truth: Any
    prediction: Any
    constant: Any
    best: float
    worst: float | None

    @cached_property
    def found(self) -> Fidelity:
        return self.measure.fidelity(self.truth, self.prediction)

    @property
    def copied(self) -> Any:
        """What a perfect copy would have said."""
        return np.column_stack([self.truth, self.truth]) if self.measure.kind == "interval" else self.truth

    def of(self, positions: Any, **settings: Any) -> Fidelity:
        """On some of the rows."""
        return self.measure.fidelity(_taken(self.truth, positions), _taken(self.prediction, positions), **settings)


def _taken(side: Any, positions: Any) -> Any:
    return [side[i] for i in positions] if isinstance(side, list) else np.asarray(side)[positions]


def check_fidelity(
    measure: Measure,
    *,
    truth: Any = None,
    prediction: Any = None,
    best: float | None = None,
    worst: float | None = None,
    skip: Iterable[str] = (),
) -> None:
    """See that a measure gives what it is called, with bounds that behave.

    Parameters
    ----------
    measure : Measure
    truth, prediction : data of n rows, default=None
        Answers and a fair stand-in's predictions; drawn for the measure's kind where None.
    best : float or None, default=None
        The value of a perfect copy; 1 where greater is better, else 0, where None.
    worst : float or None, default=None
        The value of a stand-in that always says the same (the mean, one class, equal scores), where that is known.
    skip : iterable of str, default=()
        Names of checks to leave out.

    Raises
    ------
    CheckFailed
        By the first check that fails: which, what was expected, what came, what to do.
    InvalidData
        No measure, or a name in ``skip`` that no check has.

    Notes
    -----
    Cost: some twenty measurements of 60 rows. That intervals cover is a matter of simulation, and not checked here.

    Examples
    --------
    >>> from locum.core.measures import R2
    >>> check_fidelity(R2(), worst=0.0)
    """
    for _, run in fidelity_checks(measure, truth=truth, prediction=prediction, best=best, worst=worst, skip=skip):
        run()


def fidelity_checks(
    measure: Measure,
    *,
    truth: Any = None,
    prediction: Any = None,
    best: float | None = None,
    worst: float | None = None,
    skip: Iterable[str] = (),
) -> Iterator[tuple[str, Callable[[], None]]]:
    """The checks of `check_fidelity` one by one, as (name, callable), for a test a check; the parameters are its."""
    if not isinstance(measure, Measure) or measure.kind not in READERS:
        raise InvalidData(f"expected a Measure whose kind is one of {', '.join(READERS)}, got {measure!r}")
    if (truth is None) != (prediction is None):
        raise InvalidData("expected truth= and prediction= together, got one of them")
    if truth is None:
        truth, prediction = _drawn(measure.kind)
    if best is None:
        best = float(measure.greater_is_better)
    case = _Case(measure, truth, prediction, _always_the_same(measure.kind, truth), best, worst)
    yield from _suite.named(case, f"the measure {measure.name!r}", skip)


def _drawn(kind: str) -> tuple[Any, Any]:
    """Answers, and predictions that agree with most of them."""
    rng = np.random.default_rng(0)
    if kind == "class":
        truth = rng.choice(["a", "b", "c"], _ROWS)
        return truth, np.where(rng.random(_ROWS) < 0.3, rng.choice(["a", "b", "c"], _ROWS), truth)
    if kind == "probability":
        truth = rng.dirichlet(np.ones(3), _ROWS)
        return truth, 0.8 * truth + 0.2 * rng.dirichlet(np.ones(3), _ROWS)
    if kind == "sequence":
        words = ["".join(rng.choice(list("abc"), _LENGTH)) for _ in range(_ROWS)]
        return words, [word if rng.random() < 0.6 else word[1:] + "b" for word in words]
    if kind == "ranking":
        truth = rng.random((_ROWS, _ITEMS))
        return truth, truth + 0.2 * rng.normal(size=truth.shape)
    truth = rng.normal(size=_ROWS)
    near = truth + 0.3 * rng.normal(size=_ROWS)
    return truth, np.column_stack([near - 0.5, near + 0.5]) if kind == "interval" else near


def _always_the_same(kind: str, truth: Any) -> Any:
    n = len(truth)
    if kind in ("class", "sequence"):
        return [truth[0]] * n
    if kind == "ranking":
        return np.ones(np.shape(truth))
    if kind == "interval":
        return np.tile(np.quantile(truth, [0.4, 0.6]), (n, 1))
    return np.tile(np.mean(truth, axis=0), (n, *[1] * (np.ndim(truth) - 1)))


# ---------------------------------------------------------------------- values
@_suite.check(
    "perfect copy",
    expected="the best value there is for a stand-in that says what the target answers",
    advice="Check the formula; pass best= where a perfect copy scores something else than 1, or 0 for an error.",
)
def _perfect_copy(case: _Case) -> None:
    found = case.measure.fidelity(case.truth, case.copied)
    need(abs(found.value - case.best) < 1e-9, f"{found.value:g} instead of {case.best:g}")
    end = found.upper if case.measure.greater_is_better else found.lower
    need(abs(end - case.best) < 1e-9, f"an interval [{found.lower:g}, {found.upper:g}] that does not end there")
    need(found.lower < found.upper, f"no width with {found.n} rows")


@_suite.check(
    "constant",
    expected="a stand-in that always says the same to score below a perfect copy, and what it is known to score, or be refused",
    advice="Check the formula; raise InvalidData where the measure is not defined.",
)
def _constant(case: _Case) -> None:
    try:
        found = case.measure.fidelity(case.truth, case.constant)
    except InvalidData:
        need(case.worst is None, f"an error instead of {case.worst}")
        return
    need(abs(found.value - case.best) > 1e-6, f"{found.value:g}, as good as a perfect copy")
    if case.worst is not None:
        need(abs(found.value - case.worst) < 1e-6, f"{found.value:g} instead of {case.worst:g}")


@_suite.check(
    "order of rows",
    expected="the same rows in another order to give the same value and the same interval",
    advice="Add up in an order that the values decide, not their places.",
)
def _order(case: _Case) -> None:
    need_equal(_numbers(case.of(np.arange(len(case.truth))[::-1])), _numbers(case.found), "numbers", rtol=_SAME_SUMS)


@_suite.check(
    "parts and whole",
    expected="the value to be the mean of its values on two halves",
    advice="Let a row's score depend on that row alone; where it cannot, be a Measure and not a RowMeasure.",
    when=lambda case: isinstance(case.measure, RowMeasure),
)
def _parts(case: _Case) -> None:
    half = len(case.truth) // 2
    parts = [case.of(range(half)), case.of(range(half, len(case.truth)))]
    mean = sum(part.value * part.n for part in parts) / len(case.truth)
    need(abs(mean - case.found.value) < 1e-9, f"{mean:g} from the halves and {case.found.value:g} from all")


@_suite.check(
    "weights are repeats",
    expected="a row of weight w to count as w copies of it, and the unit of the weights not to matter",
    advice="Divide by the sum of the weights.",
)
def _weights(case: _Case) -> None:
    weights = np.random.default_rng(1).integers(0, 4, len(case.truth))
    everyone = range(len(case.truth))
    repeated = case.of(np.repeat(np.arange(len(weights)), weights))
    weighted = case.of(everyone, weights=weights)
    need(abs(weighted.value - repeated.value) < 1e-9, f"{weighted.value:g} and {repeated.value:g}")
    need_equal(_numbers(case.of(everyone, weights=weights * 7.5)), _numbers(weighted), "numbers", rtol=_SAME_SUMS)


# ---------------------------------------------------------------------- bounds
@_suite.check(
    "bounds hold the value",
    expected="lower <= value <= upper, for a fair stand-in, a perfect copy and part of the rows",
    advice="Make the interval around the estimate that is reported.",
)
def _bounds(case: _Case) -> None:
    copied = case.measure.fidelity(case.truth, case.copied)
    for found in (case.found, copied, case.of(range(len(case.truth) // 3))):
        need(found.lower <= found.value <= found.upper, str(found))
    need(case.found.lower < case.found.upper, f"an interval without width: {case.found}")


@_suite.check(
    "level and candidates",
    expected="a higher level, and more candidates that were tried, to widen the interval; the value to stay",
    advice="Use the level that estimate is given.",
)
def _level(case: _Case) -> None:
    everyone = range(len(case.truth))
    narrow, wide = case.of(everyone, level=0.8), case.of(everyone, candidates=20)
    for inner, outer in ((narrow, case.found), (case.found, wide)):
        need(outer.lower <= inner.lower and inner.upper <= outer.upper, f"{outer}, which does not hold {inner}")
        need(outer.upper - outer.lower > inner.upper - inner.lower, f"the same width: {outer}")
        need(abs(inner.value - outer.value) < 1e-12, f"values {inner.value:g} and {outer.value:g}")


@_suite.check(
    "more rows",
    expected="four times as many rows to narrow the interval",
    advice="Use the number of rows in the interval.",
)
def _more_rows(case: _Case) -> None:
    many = case.of(np.tile(np.arange(len(case.truth)), 4))
    need(many.upper - many.lower < case.found.upper - case.found.lower, f"{many}, no narrower than {case.found}")


@_suite.check(
    "groups",
    expected="groups of one row each to change nothing, and groups of alike rows to widen the interval",
    advice="Rest the interval on the number of groups.",
)
def _groups(case: _Case) -> None:
    n = len(case.truth)
    alone = case.of(range(n), groups=np.arange(n))
    slack = _SAME_WIDTH * (case.found.upper - case.found.lower)
    need(abs(alone.value - case.found.value) < 1e-9, f"values {alone.value:g} and {case.found.value:g}")
    apart = max(abs(alone.lower - case.found.lower), abs(alone.upper - case.found.upper))
    need(apart <= slack, f"{alone} for groups of one row, {case.found} without groups")
    copies = np.tile(np.arange(n), 4)
    grouped = case.of(copies, groups=copies)
    width = (case.found.upper - case.found.lower) * (1 - 5 * _SAME_WIDTH)
    need(grouped.upper - grouped.lower >= width, f"{grouped} for groups of four equal rows, {case.found} for one of each")


# ---------------------------------------------------------------------- manners
@_suite.check(
    "bad data refused",
    expected="a ValueError for NaN, for answers and predictions of different length, and for a single row",
    advice="Leave reading to Measure.fidelity, and give kind what the measure reads.",
)
def _bad_data(case: _Case) -> None:
    n = len(case.truth)
    with refusal("one prediction too few"):
        case.measure.fidelity(case.truth, _taken(case.prediction, range(n - 1)))
    with refusal("a single row"):
        case.of(range(1))
    if case.measure.kind == "sequence":
        return
    for side in ("truth", "prediction"):
        broken = {"truth": case.truth, "prediction": case.prediction}
        holes = np.array(broken[side], dtype=object if case.measure.kind == "class" else float)
        holes[0] = np.nan
        with refusal(f"NaN in {side}"):
            case.measure.fidelity(**(broken | {side: holes}))


@_suite.check(
    "same numbers again",
    expected="the same data to give the same numbers, with the data and the global generators left as they were",
    advice="Draw from a generator made of random_state, and change nothing in place.",
)
def _again(case: _Case) -> None:
    before, state = copy.deepcopy((case.truth, case.prediction)), global_state()
    first, second = (case.measure.fidelity(case.truth, case.prediction) for _ in range(2))
    need(first == second, f"{first} and {second}")
    need(global_state() == state, "a global generator that has moved on")
    for side, held in zip((case.truth, case.prediction), before, strict=True):
        need_equal(side, held, "data")


def _numbers(found: Fidelity) -> list[float]:
    return [found.value, found.lower, found.upper]
