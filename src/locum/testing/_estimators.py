"""Checks of a model that learns from rows and answers, not fitted yet."""

from __future__ import annotations

import copy
import inspect
import math
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.utils import get_tags

from locum.core._content import Rows
from locum.core.domain import Domain
from locum.core.errors import InvalidData, NotFresh
from locum.core.export import load
from locum.core.surrogate import AskTell, ChoosesQueries, Predicts, Readable, Saves, StandIn, ask_all, fit
from locum.core.target import Target
from locum.testing._checks import Suite, global_state, need, need_equal, refusal
from locum.testing._tables import Table, given, planted, without_last_column

__all__ = ["Learner", "suite"]

_ROWS = 60
_MANY_ROWS = 150  # where two fits must agree: among few rows, two cuts are often equally good
_CALLS = 24  # of the budget in checks that ask: fewer than there are rows
_SIZES = (1, 2, 5)
_SAME_SUMS = 1e-6  # the same sums in another order differ in the last digits

suite: Suite[Learner] = Suite()


@dataclass(frozen=True, eq=False)
class Learner:
    """A model and the rows it is checked on.

    Attributes
    ----------
    model : estimator
        Never fitted; clones are.
    own : Table or None
        The user's rows; planted ones where None.
    limit : str or None
        Name of the setting that says how many statements there may be.
    """

    model: Any
    own: Table | None
    limit: str | None

    @classmethod
    def of(cls, model: Any, rows: Any, answers: Any, limit: str | None) -> Learner:
        if not (is_classifier(model) or is_regressor(model)):
            raise InvalidData(f"expected a classifier or a regressor in scikit-learn's manner, got {type(model).__name__}")
        if (rows is None) != (answers is None):
            raise InvalidData("expected rows= and answers= together, got one of them")
        if limit is not None and limit not in model.get_params(deep=False):
            raise InvalidData(f"expected limit= to name a setting of {type(model).__name__}, got {limit!r}")
        return cls(model, None if rows is None else given(rows, answers), limit)

    # ------------------------------------------------------------------ facts
    @property
    def classifies(self) -> bool:
        return bool(is_classifier(self.model))

    @property
    def takes_text(self) -> bool:
        tags = get_tags(self.model).input_tags
        return self.own is None and bool(tags.categorical or tags.string)

    @property
    def takes_weights(self) -> bool:
        return "sample_weight" in inspect.signature(self.model.fit).parameters

    # ------------------------------------------------------------------ parts
    @cached_property
    def table(self) -> Table:
        return self.own or self._planted("class" if self.classifies else "value")

    @cached_property
    def large(self) -> Table:
        """The table, or one like it with more rows."""
        return self.own or self._planted("class" if self.classifies else "value", _MANY_ROWS)

    def _planted(self, output: str, n: int = _ROWS) -> Table:
        tags = get_tags(self.model)
        several = tags.classifier_tags is None or tags.classifier_tags.multi_class
        return planted(n, output=output, categories=self.takes_text, missing=tags.input_tags.allow_nan, several=several)

    @property
    def with_probabilities(self) -> Table:
        return self._planted("probability")

    def blank(self, **settings: Any) -> Any:
        """A clone, with a seed where it takes one."""
        known = self.model.get_params(deep=False)
        wanted = {"random_state": 0, "domain": Domain.of(self.table.X), **settings}
        return clone(self.model).set_params(**{k: v for k, v in wanted.items() if k in known and (v is not None)})

    @cached_property
    def fitted(self) -> Any:
        """A clone that has learnt the table; not to be fitted again."""
        return self.blank().fit(self.table.X, self.table.y)

    @cached_property
    def asked(self) -> tuple[Target, StandIn]:
        """A target, and the stand-in fitted to it with a budget."""
        return self.stand_in(self.blank())

    @cached_property
    def given(self) -> tuple[dict[str, Any], Any, StandIn]:
        """What a model held before it was given to locum.fit, the model, and the stand-in made of recorded answers."""
        model = self.blank()
        held = {**vars(model), **model.get_params(deep=False)}
        return held, model, self.stand_in(model, recorded=True)[1]

    def stand_in(self, model: Any, table: Table | None = None, *, recorded: bool = False) -> tuple[Target, StandIn]:
        """A target that answers a table, and the stand-in that a model makes of it with a budget."""
        table = table or self.table
        target = table.target(recorded=recorded)
        return target, fit(model, target, table.X, budget=_CALLS, random_state=0)

    def said(self, model: Any, X: Any) -> NDArray[Any]:
        """Probabilities where the model gives them, else what it predicts."""
        soft = self.classifies and isinstance(model, Predicts) and hasattr(model, "predict_proba")
        return np.asarray(model.predict_proba(X) if soft else model.predict(X))

    def queries(self, allowed: Any = None) -> tuple[AskTell, Target, Domain]:
        """Queries for the table, not begun."""
        domain, target = Domain.of(self.table.X), self.table.target()
        model, pool = self.blank(classes=target.classes), domain.encode(self.table.X)
        return model.queries(domain, pool, _CALLS, allowed=allowed, random_state=0), target, domain


def _predicts(case: Learner) -> bool:
    return isinstance(case.model, Predicts)


def _readable(case: Learner) -> bool:
    return isinstance(case.model, Readable)


def _chooses(case: Learner) -> bool:
    return isinstance(case.model, ChoosesQueries)


# ---------------------------------------------------------------------- fitting and predicting
@suite.check(
    "one answer a row",
    expected="fit to give the model back, and predict one label that was taught, or one finite number, for each row",
    advice="End fit with `return self`, and let predict give an array of shape (n,).",
)
def _one_answer_a_row(case: Learner) -> None:
    model, X = case.blank(), case.table.X
    need(model.fit(X, case.table.y) is model, "another object from fit")
    said = np.asarray(model.predict(X))
    need(said.shape == (len(case.table),), f"predictions of shape {said.shape} for {len(case.table)} rows")
    if case.classifies:
        strange = np.setdiff1d(said, case.table.y)
        need(not strange.size, f"labels that were never taught, such as {strange[:1]}")
    else:
        need(said.dtype.kind == "f" and np.isfinite(said).all(), f"values of {said.dtype}, or not finite")


@suite.check(
    "probabilities",
    expected="probabilities of shape (n, k) that sum to one, the largest for the label that predict names",
    advice="Order the columns as in classes_, and let predict name the class with the largest.",
    when=lambda case: case.classifies and _predicts(case) and hasattr(case.model, "predict_proba"),
)
def _probabilities(case: Learner) -> None:
    P, k = case.fitted.predict_proba(case.table.X), len(case.fitted.classes_)
    need(P.shape == (len(case.table), k), f"shape {P.shape} for {len(case.table)} rows and {k} classes")
    need(P.min() >= 0 and np.allclose(P.sum(axis=1), 1), f"numbers from {P.min():g} that sum to {P.sum(axis=1).min():g}")
    need_equal(case.fitted.classes_[P.argmax(axis=1)], case.fitted.predict(case.table.X), "largest and named classes")


@suite.check(
    "same seed same predictions",
    expected="two fits with the same random_state, and a second fit of the same object, to predict the same to the bit",
    advice="Draw every random number from one generator made of random_state in fit, and keep nothing from an earlier fit.",
)
def _same_seed(case: Learner) -> None:
    X, y = case.table.X, case.table.y
    first = case.said(case.fitted, X)
    other = case.blank().fit(X, y)
    need_equal(first, case.said(other, X), "predictions of two fits")
    part = case.table.take(range(len(y) // 2))
    again = case.blank().fit(part, y[: len(y) // 2]).fit(X, y)
    need_equal(first, case.said(again, X), "predictions after an earlier fit to other rows")


@suite.check(
    "global generators untouched",
    expected="the generators of numpy.random and random to stand where they stood",
    advice="Use numpy.random.default_rng(random_state), never numpy.random or random themselves.",
)
def _global_generators(case: Learner) -> None:
    before = global_state()
    case.said(case.blank().fit(case.table.X, case.table.y), case.table.X)
    need(global_state() == before, "a generator that has moved on")


@suite.check(
    "given data untouched",
    expected="rows, answers and weights to be after fit and predict what they were before",
    advice="Copy before changing anything in place.",
)
def _given_data(case: Learner) -> None:
    X, y = copy.deepcopy(case.table.X), case.table.y.copy()
    weights = np.linspace(0.5, 2.0, len(y))
    model = case.blank().fit(X, y, **({"sample_weight": weights} if case.takes_weights else {}))
    model.predict(X)
    need(Rows(X).keys == Rows(case.table.X).keys, "other rows")
    need_equal(y, case.table.y, "answers")
    need_equal(weights, np.linspace(0.5, 2.0, len(y)), "weights")


@suite.check(
    "a row alone",
    expected="a row to be answered alone as it is among others",
    advice="Let nothing in predict depend on the other rows, such as their mean.",
)
def _row_alone(case: Learner) -> None:
    picked = range(0, len(case.table), 7)
    alone = np.concatenate([case.said(case.fitted, case.table.take([i])) for i in picked])
    need_equal(alone, case.said(case.fitted, case.table.X)[list(picked)], "answers alone and together", rtol=_SAME_SUMS)


@suite.check(
    "order of rows",
    expected="the same rows in another order to teach the same, up to the last digits",
    advice="Sort what must be in an order, break ties by value and not by position.",
    when=_readable,
)
def _order_of_rows(case: Learner) -> None:
    X, y = case.large.X, case.large.y
    order = np.random.default_rng(1).permutation(len(y))
    domain = Domain.of(X)
    one = case.blank(domain=domain).fit(X, y)
    other = case.blank(domain=domain).fit(case.large.take(order), y[order])
    need_equal(case.said(other, X), case.said(one, X), "predictions", rtol=_SAME_SUMS)


@suite.check(
    "weights are repeats",
    expected="a row of weight w to teach what w copies of it teach, and one of weight zero nothing",
    advice="Count rows by their weight wherever they are counted, least sizes of a part included.",
    when=_predicts,
)
def _weights_are_repeats(case: Learner) -> None:
    X, y = case.large.X, case.large.y
    weights = np.random.default_rng(2).integers(0, 4, len(y))
    repeats = np.repeat(np.arange(len(weights)), weights)
    settings = {"classes": case.large.classes, "domain": Domain.of(X)}
    weighted = case.blank(**settings).fit(X, y, weights)
    repeated = case.blank(**settings).fit(case.large.take(repeats), y[repeats])
    need_equal(case.said(weighted, X), case.said(repeated, X), "predictions", rtol=_SAME_SUMS)


@suite.check(
    "never seen",
    expected="an answer for a category that was never seen, and for a value that is missing where none ever was",
    advice="Give both a place of their own; what nothing is known of can be answered as the average is.",
    when=lambda case: _predicts(case) and case.takes_text,
)
def _never_seen(case: Learner) -> None:
    X = copy.deepcopy(case.table.take(range(4)))
    X[:2, 3], X[2:, 0] = "never seen", None
    said = np.asarray(case.fitted.predict(X))
    need(said.shape == (4,), f"answers of shape {said.shape} for 4 rows")
    good = np.isin(said, case.table.y) if case.classifies else np.isfinite(said)
    need(good.all(), f"{said[~good][:1]}")


@suite.check(
    "learns from probabilities",
    expected="probabilities of shape (n, k) to teach, and probabilities of the same k classes to come back",
    advice="Take answers of two dimensions in fit as one column a class, in the order of the setting classes.",
    when=lambda case: _predicts(case) and case.classifies and case.own is None,
)
def _learns_from_probabilities(case: Learner) -> None:
    table = case.with_probabilities
    _, standin = case.stand_in(case.model, table)
    said = standin.predict(table.X, outside="ignore")
    need(said.shape == table.y.shape, f"shape {said.shape} for answers of shape {table.y.shape}")
    constant = np.abs(table.y - table.y.mean(axis=0)).sum()
    need(np.abs(table.y - said).sum() < constant, "probabilities further from those taught than their mean is")


# ---------------------------------------------------------------------- refusals
@suite.check(
    "one class refused",
    expected="a ValueError where all answers are the same label",
    advice="Raise locum.core.errors.InvalidData: there is nothing to tell apart.",
    when=lambda case: _predicts(case) and case.classifies,
)
def _one_class(case: Learner) -> None:
    with refusal("labels of one class only"):
        case.blank().fit(case.table.X, np.full(len(case.table), case.table.y[0]))


@suite.check(
    "other columns refused",
    expected="a ValueError for rows that lack a column of the fit",
    advice="Compare the columns with those of the fit before anything else.",
)
def _other_columns(case: Learner) -> None:
    with refusal("rows that lack a column"):
        case.fitted.predict(without_last_column(case.table.X))


@suite.check(
    "answers refused",
    expected="a ValueError for fewer answers than rows, and for answers that are missing",
    advice="Look at the answers before learning anything.",
)
def _answers_refused(case: Learner) -> None:
    with refusal("fewer answers than rows"):
        case.blank().fit(case.table.X, case.table.y[:-1])
    if not case.classifies:
        broken = case.table.y.copy()
        broken[0] = math.nan
        with refusal("an answer that is NaN"):
            case.blank().fit(case.table.X, broken)


@suite.check(
    "weights refused",
    expected="a ValueError for weights below zero, and for weights that are all zero",
    advice="Look at the weights before learning anything.",
    when=_predicts,
)
def _weights_refused(case: Learner) -> None:
    weights = np.ones(len(case.table))
    for value, words in ((-1.0, "a weight below zero"), (math.nan, "a weight that is NaN")):
        with refusal(words):
            case.blank().fit(case.table.X, case.table.y, np.append(weights[:-1], value))
    with refusal("weights that are all zero"):
        case.blank().fit(case.table.X, case.table.y, 0 * weights)


# ---------------------------------------------------------------------- reading and keeping
@suite.check(
    "the program is the model",
    expected="program_ to predict what the model predicts, to the bit",
    advice="Let predict run program_ itself.",
    when=_readable,
)
def _program_is_the_model(case: Learner) -> None:
    X = case.table.X
    Z = Domain.of(X).encode(X)
    need_equal(case.fitted.program_.predict(Z), case.fitted.predict(X), "predictions of program and model")
    if case.classifies:
        need_equal(case.fitted.program_.values(Z), case.fitted.predict_proba(X), "probabilities of program and model")


@suite.check(
    "limit of statements",
    expected="no more statements than the setting that limits them says",
    advice="Count as Program.statements counts: the rule that holds otherwise is a statement too.",
    when=lambda case: _readable(case) and case.limit is not None,
)
def _limit_of_statements(case: Learner) -> None:
    for size in _SIZES:
        assert case.limit is not None
        program = case.blank(**{case.limit: size}).fit(case.table.X, case.table.y).program_
        need(program.statements <= size, f"{program.statements} statements with {case.limit}={size}")


@suite.check(
    "saved and read back",
    expected="a stand-in that was saved and read back to predict the same to the bit, and to read the same",
    advice="Keep every number in to_state as it is; JSON and arrays keep floats exactly.",
    when=lambda case: isinstance(case.model, Saves),
)
def _saved(case: Learner) -> None:
    _, standin = case.asked
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.standin"
        standin.save(path)
        again = load(path, classes=[type(standin.model)])
    X = case.table.X
    need_equal(standin.predict(X, outside="ignore"), again.predict(X, outside="ignore"), "predictions")
    need_equal(case.said(standin.model, X), case.said(again.model, X), "probabilities or values")
    need(str(again) == str(standin), "other words")


# ---------------------------------------------------------------------- through locum.fit
@suite.check(
    "budget",
    expected=f"at most {_CALLS} rows to be asked with a budget of {_CALLS} calls, and the price to say how many",
    advice="In ask, count what was asked for and give no rows once the calls are used up.",
)
def _budget(case: Learner) -> None:
    target, standin = case.asked
    asked = target.account().asked
    need(1 < asked <= _CALLS, f"{asked} rows")
    need(standin.price["calls"] == asked, f"{asked} rows at a price of {standin.price['calls']} calls")


@suite.check(
    "the model given stays as it was",
    expected="locum.fit to leave the model it is given as it was: the same settings, nothing learnt",
    advice="Only ever change clones; __init__ stores its arguments and does nothing else.",
)
def _given_model(case: Learner) -> None:
    held, model, _ = case.given
    new = sorted(vars(model).keys() - held.keys())
    need(not new, f"new attributes {new}")
    changed = sorted(name for name, value in model.get_params(deep=False).items() if value is not held[name])
    need(not changed, f"other settings {changed}")


@suite.check(
    "recorded answers",
    expected="rows with recorded answers to be enough, where the target itself cannot be asked",
    advice="Where allowed is None, ask rows of the pool only, as they are.",
)
def _recorded_answers(case: Learner) -> None:
    *_, standin = case.given
    said = standin.predict(case.table.X, outside="ignore")
    need(len(said) == len(case.table), f"{len(said)} answers for {len(case.table)} rows")


@suite.check(
    "never scored on what was fitted",
    expected="NotFresh where a stand-in is scored on rows that it was fitted on",
    advice="Ask for every answer through the target that was given.",
)
def _never_scored(case: Learner) -> None:
    target, standin = case.asked
    rows, _ = target.ledger.rows("fit")
    try:
        found = standin.check(target, rows)
    except NotFresh:
        return
    need(False, f"a fidelity: {found.fidelity[-1]}")


@suite.check(
    "same seed same stand-in",
    expected="locum.fit with the same random_state to ask the same rows and give the same predictions",
    advice="Derive all that queries draws from its random_state.",
)
def _same_stand_in(case: Learner) -> None:
    (target, first), (other, second) = case.asked, case.stand_in(case.blank())
    need(_keys(target) == _keys(other), "other rows asked")
    X = case.table.X
    need_equal(case.said(first.model, X), case.said(second.model, X), "predictions")


def _keys(target: Target) -> list[bytes]:
    return Rows(target.ledger.rows("fit")[0]).keys


# ---------------------------------------------------------------------- choosing queries
@suite.check(
    "queries end",
    expected="rounds of rows of the pool, or that are allowed, none asked twice, no more than the calls, and then none",
    advice="Keep account of what was asked for; give an array of shape (0, d) at the end.",
    when=_chooses,
)
def _queries_end(case: Learner) -> None:
    for allowed in (_first_column_low, None) if case.table.answer is not None else (None,):
        queries, target, domain = case.queries(allowed)
        pool = {row.tobytes() for row in domain.encode(case.table.X)}
        seen: set[bytes] = set()
        for _ in range(_CALLS + 1):
            rows = queries.ask()
            if not len(rows):
                break
            keys = [row.tobytes() for row in rows]
            need(len(set(keys)) == len(keys) and not seen & set(keys), "a row that was asked before")
            invented = np.array([key not in pool for key in keys])
            good = allowed(rows[invented]).all() if allowed is not None else not invented.any()
            need(good, "a row that is neither in the pool nor allowed")
            seen |= set(keys)
            queries.tell(rows, target.query(domain.decode(rows), "fit"))
        need(not len(queries.ask()), f"more rows after {len(seen)} in {_CALLS + 1} rounds")
        need(len(seen) <= _CALLS, f"{len(seen)} rows for {_CALLS} calls")


def _first_column_low(Z: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(Z[:, 0] < 0.5)


@suite.check(
    "queries told too little",
    expected="a model to be fitted on what was answered, where the budget ends in the middle of a round",
    advice="In tell, take as many answers as come; in training, use rows that have one.",
    when=_chooses,
)
def _told_too_little(case: Learner) -> None:
    queries, target, domain = case.queries()
    told, stopped = ask_all(queries, target.within(_CALLS - 1), domain)
    need(stopped is not None and told == _CALLS - 1, f"{told} rows told where {_CALLS - 1} of {_CALLS} were to be answered")
    Z, y, weights = queries.training(case.blank(classes=target.classes))
    need(len(Z) == len(y) == len(weights), f"{len(Z)} rows, {len(y)} answers and {len(weights)} weights")
    need(np.isfinite(weights).all() and weights.min() >= 0 < weights.max(), "weights that cannot be used")
    case.blank(classes=target.classes).fit(domain.decode(Z), y, weights)
