"""What a stand-in can do, and the stand-in itself: a fitted model with its domain, region, fidelity and price.

Abilities are small bases. A model inherits those it has; callers ask ``isinstance`` and never read flags.
"""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from locum.core._content import Rows
from locum.core.bounds import check_sample
from locum.core.domain import Domain
from locum.core.errors import BudgetExhausted, InvalidData, OutsideRegion
from locum.core.fidelity import Fidelity
from locum.core.ledger import Purpose
from locum.core.measures import Measure, default_measure, measure
from locum.core.program import Program
from locum.core.region import Region
from locum.core.rivals import Rival, rivals
from locum.core.target import Budget, Target

__all__ = [
    "AskTell", "Asked", "ChoosesQueries", "Predicts", "Readable", "Saves", "StandIn", "Training",
    "ask_all", "ask_for", "fit", "prepared", "score",
]  # fmt: skip

_FEWEST_ROWS = 2
_TIMED_ROWS = 1000
_READ = {"class": ("class",), "probability": ("probability", "class"), "value": ("value", "ranking")}  # kinds of measure
_SETTINGS = ("groups", "weights", "level", "candidates", "how", "random_state")


# ---------------------------------------------------------------------- abilities
class Predicts(ABC):
    """Learns from rows and answers, and predicts."""

    @abstractmethod
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from rows (n, d), answers (n,) or (n, k), and weights (n,)."""

    @abstractmethod
    def predict(self, X: Any) -> NDArray[Any]:
        """Answers for rows, shape (n,)."""


class Readable(ABC):
    """Can be read: once fitted, the whole model is a `Program`."""

    program_: Program


class AskTell(ABC):
    """Chooses its own queries: says what it wants to know, and is told the answers."""

    @abstractmethod
    def ask(self) -> NDArray[np.float64]:
        """Encoded rows (m, d) to ask next; none at all once it has asked enough."""

    @abstractmethod
    def tell(self, Z: NDArray[np.float64], y: NDArray[Any]) -> None:
        """Take the answers to encoded rows; fewer than were asked for, where the budget ended first."""

    @abstractmethod
    def training(self, model: Any) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[np.float64]]:
        """What to fit `model` on: encoded rows (n, d), answers (n,) or (n, k), and weights (n,)."""


class ChoosesQueries(ABC):
    """A model that knows which queries would help it most."""

    @abstractmethod
    def queries(
        self,
        domain: Domain,
        pool: NDArray[np.float64],
        calls: int,
        *,
        allowed: Callable[[NDArray[np.float64]], NDArray[np.bool_]] | None,
        random_state: int,
    ) -> AskTell:
        """Queries for this model.

        Parameters
        ----------
        domain : Domain
        pool : ndarray of shape (m, d)
            Encoded rows of the source the stand-in is for.
        calls : int
            How many may be asked.
        allowed : callable or None
            Which encoded rows (m, d) outside the pool may be asked, shape (m,); None where none may.
        random_state : int
        """


class Saves(ABC):
    """Can be written as JSON and arrays, and read back without unpickling."""

    @abstractmethod
    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """JSON-ready values, and arrays by name."""

    @classmethod
    @abstractmethod
    def from_state(cls, record: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The fitted model that `to_state` described."""


# ---------------------------------------------------------------------- the stand-in
@dataclass(frozen=True)
class StandIn:
    """A fitted model that stands in for a target, with what is needed to trust it.

    Parameters
    ----------
    model : estimator
        Fitted, in scikit-learn's manner.
    domain : Domain
        The columns of its rows.
    region : Region
        Where it was fitted.
    target : dict
        Name, kind of output and classes of what it stands for.
    price : dict
        Calls, seconds and money that the fit took, and the target's seconds a row.
    fidelity : tuple of Fidelity, default=()
        What `check` measured.
    rivals : tuple of Rival, default=()
        The cheapest models, fitted on the same answers and measured on the same fresh rows.
    residuals : ndarray of shape (m,), default=empty
        Sorted absolute errors on the rows of the last check (real-valued targets).
    random_state : int, default=0
    """

    model: Any
    domain: Domain
    region: Region
    target: dict[str, Any]
    price: dict[str, Any]
    fidelity: tuple[Fidelity, ...] = ()
    rivals: tuple[Rival, ...] = ()
    residuals: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    random_state: int = 0

    @property
    def program(self) -> Program | None:
        """The whole model in a form that can be read and run anywhere, where it has one."""
        return self.model.program_ if isinstance(self.model, Readable) else None

    def __str__(self) -> str:
        lines = [f"{type(self.model).__name__} for {self.target['name']}, {self.region}"]
        if self.program is not None:
            lines.append(self.program.text())
        lines += [str(found) for found in self.fidelity] or ["fidelity not measured yet: use check() or locum.score()"]
        lines += [f"beside it, {rival.name}: {found}" for rival in self.rivals for found in rival.fidelity[:1]]
        return "\n".join(lines)

    def predict(self, X: Any, outside: str = "warn") -> NDArray[Any]:
        """Answers for rows.

        Parameters
        ----------
        X : rows, as the target takes them
        outside : {"warn", "abstain", "ignore"}, default="warn"
            What to do about rows outside the region: warn (`OutsideRegion`), answer with a masked array whose mask marks
            them, or nothing.

        Returns
        -------
        ndarray or masked array of shape (n,), or (n, k) for a target that answers with probabilities
        """
        answers = self._answers(X)
        if outside == "ignore":
            return answers
        inside = self.region.inside(X)
        if outside == "abstain":
            mask = np.broadcast_to(~inside.reshape((-1,) + (1,) * (answers.ndim - 1)), answers.shape)
            return np.ma.MaskedArray(answers, mask)
        if outside != "warn":
            raise InvalidData(f"expected outside to be 'warn', 'abstain' or 'ignore', got {outside!r}")
        if not inside.all():
            first = int(np.flatnonzero(~inside)[0])
            why = "; ".join(self.region.reasons(self.domain.decode(self.domain.encode(X)[first : first + 1]))[0])
            warnings.warn(
                f"{int((~inside).sum())} of {len(inside)} rows lie outside the region where this stand-in was fitted; "
                f"row {first}: {why}. Its fidelity does not hold there",
                OutsideRegion,
                stacklevel=2,
            )
        return answers

    def predict_proba(self, X: Any, outside: str = "widen") -> NDArray[np.float64]:
        """Probabilities of the classes, shape (n, k).

        Outside the region they are drawn towards uniform ("widen", the default): by how far the row's novelty passes the
        threshold, and all the way where a value leaves its range. ``outside="ignore"`` leaves them alone.
        """
        if not hasattr(self.model, "predict_proba"):
            raise InvalidData("this stand-in answers with values, not classes; use predict or predict_interval")
        p = self.model.predict_proba(X)
        if outside == "ignore":
            return p
        trust = self._trust(X)[:, None]
        return trust * p + (1 - trust) / p.shape[1]

    def predict_interval(self, X: Any, level: float = 0.9) -> NDArray[np.float64]:
        r"""Intervals for the target's answers, shape (n, 2).

        Prediction plus and minus the :math:`\lceil (m+1)\,level \rceil`-th smallest absolute error of the m rows of the last
        check (split conformal): a fresh row of the same source is covered with at least that probability. Outside the region
        they widen as the novelty passes the threshold, and are infinite where a value leaves its range.
        """
        if self.target["output"] != "value":
            raise InvalidData("intervals are for real-valued targets; this one answers with classes")
        rank = int(np.ceil((len(self.residuals) + 1) * level))
        if not 0 < level < 1 or rank > len(self.residuals):
            raise InvalidData(
                f"expected a level that the {len(self.residuals)} checked rows can support, got {level}; "
                "check the stand-in on more fresh rows first"
            )
        answers = self._answers(X)
        with np.errstate(divide="ignore"):
            reach = self.residuals[rank - 1] / self._trust(X)
        return np.column_stack([answers - reach, answers + reach])

    def check(self, target: Target, X: Any, *, measures: Any = (), **settings: Any) -> StandIn:
        """The same stand-in with its fidelity on fresh rows, which the target is asked for.

        Parameters
        ----------
        target : Target
        X : fresh rows
            None of them may have been fitted or tuned on.
        measures : sequence of str or Measure, default=()
            The target's usual measure where none is given.
        **settings
            ``groups``, ``weights``, ``level``, ``candidates``, ``how`` and ``random_state`` of `Measure.fidelity`.

        Raises
        ------
        NotFresh, TargetError, BudgetExhausted, InvalidData
        """
        output = self.target["output"]
        wanted, Z = _measures(measures, output), self.domain.encode(X)
        _check_settings(settings, len(Z))
        try:
            truth = target.query(X, "score")
        except BudgetExhausted as ended:
            ended.best = self
            raise
        said = self._answers(X)
        found = tuple(_fidelity(one, truth, said, self, settings) for one in wanted)
        alone = {**settings, "candidates": 1}  # rivals are shown as they are; none was picked
        beside = tuple(
            rival.measured(*(_fidelity(one, truth, rival.answers(Z, output), self, alone) for one in wanted))
            for rival in self.rivals
        )
        residuals = np.sort(np.abs(truth - said)) if output == "value" and truth.ndim == 1 else self.residuals
        return replace(self, fidelity=self.fidelity + found, rivals=beside, residuals=residuals)

    def seconds_per_row(self, X: Any) -> float:
        """Time one answer takes, from one timed batch."""
        n = min(_TIMED_ROWS, len(self.domain.encode(X)))
        rows = Rows(X).take(np.arange(n))
        start = time.perf_counter()
        self._answers(rows)
        return (time.perf_counter() - start) / n

    def save(self, path: Any) -> None:
        """Write the stand-in to one file; `locum.load` reads it back."""
        from locum.core.export import save

        save(self, path)

    def _answers(self, X: Any) -> NDArray[Any]:
        return self.model.predict_proba(X) if self.target["output"] == "probability" else self.model.predict(X)

    def _trust(self, X: Any) -> NDArray[np.float64]:
        """One inside the region, falling with novelty, zero where a value leaves its range."""
        novelty, threshold = self.region.novelty(X), self.region.threshold
        near = np.minimum(1.0, threshold / np.maximum(novelty, 1e-300))
        return np.where(self.region.in_range(X), near, 0.0)


@dataclass(frozen=True)
class Asked:
    """What was asked for fitting, and answered: any number of models can be fitted to it.

    Attributes
    ----------
    queries : AskTell
        Told all answers.
    target : Target
        With the account of this asking alone.
    domain : Domain
    region : Region
    random_state : int
    """

    queries: AskTell
    target: Target
    domain: Domain
    region: Region
    random_state: int

    def training(self, standin: Any) -> Training:
        """What to fit this model, or others like it, on."""
        model = prepared(standin, self.domain, self.target)
        classes = None if self.target.output == "value" else self.target.classes
        return Training(self.domain, *self.queries.training(model), classes)

    def fit(self, standin: Any) -> StandIn:
        """Fit a clone of a model."""
        training = self.training(standin)
        return self.stand_in(training.fitted(prepared(standin, self.domain, self.target)), training)

    def stand_in(self, model: Any, training: Training) -> StandIn:
        """A fitted model with all that belongs to it."""
        spent = self.target.account()
        return StandIn(
            model,
            self.domain,
            self.region,
            {"name": self.target.name, "output": self.target.output, "classes": _listed(self.target.classes)},
            {"calls": spent.asked, "seconds": spent.seconds, "money": spent.money, "currency": self.target.currency},
            rivals=training.rivals,
            random_state=self.random_state,
        )


@dataclass(frozen=True)
class Training:
    """Rows to fit on.

    Attributes
    ----------
    domain : Domain
    Z : ndarray of shape (n, d)
        Encoded rows.
    y : ndarray of shape (n,) or (n, k)
    weights : ndarray of shape (n,)
    classes : ndarray of shape (k,) or None
    """

    domain: Domain
    Z: NDArray[np.float64]
    y: NDArray[Any]
    weights: NDArray[np.float64]
    classes: Any

    def fitted(self, model: Any) -> Any:
        """The model, fitted to these rows."""
        # Weights of one say nothing, and not every estimator takes them.
        weights = {} if (self.weights == 1).all() else {"sample_weight": self.weights}
        return model.fit(self.domain.decode(self.Z), self.y, **weights)

    @cached_property
    def rivals(self) -> tuple[Rival, ...]:
        """The cheapest models, fitted to the same."""
        return rivals(self.domain, self.Z, self.y, self.weights, self.classes)


def ask_for(
    standin: Any,
    target: Target,
    data: Any,
    *,
    budget: Budget | int | None = None,
    domain: Domain | None = None,
    random_state: int = 0,
) -> Asked:
    """Ask the target what `fit` would ask it for this model, without fitting; parameters and errors are those of `fit`."""
    domain = domain or target.domain or Domain.of(data)
    pool = domain.encode(data)
    if len(pool) < _FEWEST_ROWS:
        raise InvalidData(f"expected at least {_FEWEST_ROWS} rows, got {len(pool)}")

    def allowed(Z: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Rows that scored must not fit, or what they scored would be worth nothing."""
        return (target.ledger.purposes(domain.decode(Z)) & Purpose.SCORE.bit) == 0 if len(Z) else np.zeros(0, dtype=bool)

    pool = pool[allowed(pool)]
    if len(pool) < _FEWEST_ROWS:
        raise InvalidData("all of these rows were asked to score; fit on other rows")
    budget = Budget(calls=len(pool)) if budget is None else budget if isinstance(budget, Budget) else Budget(calls=budget)
    model = prepared(standin, domain, target)
    region = Region.of(domain, data, random_state=random_state)
    asking = target.within(budget)
    calls = budget.calls or len(pool)
    if isinstance(model, ChoosesQueries):
        invented = None if target.recorded else allowed
        queries = model.queries(domain, pool, calls, allowed=invented, random_state=random_state)
    else:
        queries = _RandomRows(pool, calls, random_state)
    told, stopped = ask_all(queries, asking, domain)
    if stopped is not None and told < _FEWEST_ROWS:
        raise stopped
    return Asked(queries, asking, domain, region, random_state)


def fit(
    standin: Any,
    target: Target,
    data: Any,
    *,
    budget: Budget | int | None = None,
    domain: Domain | None = None,
    random_state: int = 0,
) -> StandIn:
    """Ask the target and fit a stand-in.

    A model that chooses its queries (the readable ones do) asks in rounds, where it pays; any other is fitted on the target's
    answers to the rows of `data`, or to as many of them, picked at random, as the budget allows.

    Parameters
    ----------
    standin : estimator
        Not fitted; cloned, never touched.
    target : Target
    data : rows, as the target takes them
        They say where the stand-in will be used. No labels are needed.
    budget : Budget, int (calls) or None, default=None
        None asks as many rows as `data` has.
    domain : Domain or None, default=None
        Read off `data` where neither this nor the target says.
    random_state : int, default=0

    Returns
    -------
    StandIn
        Where a budget of seconds or money ends early, the stand-in of what had been answered.

    Raises
    ------
    InvalidData
        Before anything is asked.
    BudgetExhausted
        The budget ended before enough was answered to fit anything.

    Notes
    -----
    Cost: the budget; and the fits of the model, one a round for one that chooses.
    """
    return ask_for(standin, target, data, budget=budget, domain=domain, random_state=random_state).fit(standin)


def score(standin: StandIn, target: Target, fresh: Any, measure: Any = None, **settings: Any) -> Fidelity:
    """Ask the target for fresh rows and say how faithful the stand-in is on them.

    Parameters
    ----------
    standin : StandIn
    target : Target
    fresh : rows that never fitted or tuned
    measure : str, Measure or None, default=None
        The target's usual one where None: agreement, total variation similarity or R2.
    **settings
        ``groups``, ``weights``, ``level``, ``candidates``, ``how`` and ``random_state`` of `Measure.fidelity`.
    """
    return standin.check(target, fresh, measures=() if measure is None else (measure,), **settings).fidelity[-1]


# ---------------------------------------------------------------------- private
class _RandomRows(AskTell):
    """Asks rows of the pool at random, each once."""

    def __init__(self, pool: NDArray[np.float64], calls: int, random_state: int) -> None:
        order = np.random.default_rng(random_state).permutation(len(pool))
        self._todo = pool[np.sort(order[:calls])]
        self._told: tuple[NDArray[np.float64], NDArray[Any]] = (pool[:0], np.empty(0))

    def ask(self) -> NDArray[np.float64]:
        todo, self._todo = self._todo, self._todo[:0]
        return todo

    def tell(self, Z: NDArray[np.float64], y: NDArray[Any]) -> None:
        self._told = (Z, y)

    def training(self, model: Any) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[np.float64]]:
        return *self._told, np.ones(len(self._told[0]))


def ask_all(queries: AskTell, asking: Target, domain: Domain) -> tuple[int, BudgetExhausted | None]:
    """Ask until nothing is wanted any more.

    Parameters
    ----------
    queries : AskTell
        Told what is answered.
    asking : Target
    domain : Domain
        Of the rows that `queries` asks.

    Returns
    -------
    told : int
        How many rows were answered.
    stopped : BudgetExhausted or None
        What ended it early, if a budget did.
    """
    told = 0
    while len(rows := queries.ask()):
        try:
            answers, stopped = asking.query(domain.decode(rows), "fit"), None
        except BudgetExhausted as ended:
            # What was answered before the end is in the ledger; asking again for it costs nothing.
            rows, stopped = rows[: ended.answered], ended
            answers = asking.query(domain.decode(rows), "fit") if ended.answered else np.empty(0)
        if len(rows):
            queries.tell(rows, answers)
        told += len(rows)
        if stopped is not None:
            return told, stopped
    return told, None


def prepared(standin: Any, domain: Domain, target: Target) -> Any:
    """A clone that knows the domain and the classes.

    Parameters
    ----------
    standin : estimator
    domain : Domain
    target : Target
        Its classes, once they are known.

    Returns
    -------
    estimator
        Not fitted; settings that it lacks, or that were not left open, stay as they are.
    """
    from sklearn.base import clone

    _check_output(standin, target.output)
    model = clone(standin)
    wanted = {"domain": domain, "classes": target.classes}
    settings = model.get_params(deep=False)
    return model.set_params(**{k: v for k, v in wanted.items() if k in settings and settings[k] is None and v is not None})


def _check_output(standin: Any, output: str | None) -> None:
    """See that a model learns what a target answers, where that is known already."""
    from sklearn.base import is_classifier, is_regressor

    name, learns = type(standin).__name__, "classes" if is_classifier(standin) else "values" if is_regressor(standin) else None
    if output == "value" and learns == "classes":
        raise InvalidData(f"{name} is a classifier, and the target answers with values: expected a regressor")
    if output in ("class", "probability") and learns == "values":
        raise InvalidData(f"{name} is a regressor, and the target answers with classes: expected a classifier")
    if output == "probability" and learns == "classes" and not isinstance(standin, Predicts):
        raise InvalidData(
            f"{name} learns from labels, and the target answers with probabilities: make the target of labels "
            "(method='predict'), or take a classifier that is a locum.core.surrogate.Predicts, as those of locum.explain are"
        )


def _measures(wanted: Any, output: str) -> list[Measure]:
    """The measures of these names, all of them for such answers."""
    found = [measure(one) for one in wanted] or [default_measure(output)]
    for one in found:
        if one.kind not in _READ[output]:
            raise InvalidData(
                f"{one.name} is a measure of kind {one.kind!r}, and this target answers with kind {output!r}: expected one of "
                f"kind {' or '.join(map(repr, _READ[output]))}, such as {default_measure(output).name!r}"
            )
    return found


def _check_settings(settings: dict[str, Any], n: int) -> None:
    """See that a fidelity can be measured so on `n` rows."""
    strange = sorted(set(settings) - set(_SETTINGS))
    if strange:
        raise InvalidData(f"expected settings among {', '.join(_SETTINGS)}, got {', '.join(strange)}")
    check_sample(n, settings.get("weights"), settings.get("groups"), settings.get("level", 0.95))


def _fidelity(one: Measure, truth: Any, said: Any, standin: StandIn, settings: dict[str, Any]) -> Fidelity:
    if one.kind == "class" and standin.target["output"] == "probability":
        truth, said = truth.argmax(axis=1), said.argmax(axis=1)
    return one.fidelity(truth, said, region=standin.region.name, **settings)


def _listed(classes: Any) -> list[Any] | None:
    return None if classes is None else np.asarray(classes).tolist()
