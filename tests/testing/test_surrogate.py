"""Checks of learners and stand-ins: what is sound passes, and each fault is caught by the check that is for it."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.cluster import KMeans
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.program import Condition, Program, Rule
from locum.core.surrogate import AskTell, ChoosesQueries, Predicts, Readable, Saves, fit
from locum.core.target import Target
from locum.testing import CheckFailed, check_surrogate, surrogate_checks


class OneSplit(Predicts, Readable, ChoosesQueries, Saves, RegressorMixin, BaseEstimator):
    """A sound model with every ability: one rule on the first column, weighted means on either side."""

    def __init__(self, rules=2, domain=None, random_state=0):
        self.rules = rules
        self.domain = domain
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None):
        domain = self.domain or Domain.of(X)
        Z, y = domain.encode(X), np.asarray(y, dtype=float)
        weights = np.ones(len(Z)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        if len(y) != len(Z) or not np.isfinite(y).all():
            raise InvalidData("expected one finite answer a row")
        if len(weights) != len(Z) or not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() == 0:
            raise InvalidData("expected weights of zero or more, some of them above")
        self.program_ = self.learnt(domain, Z, y, weights)
        self.n_features_in_ = Z.shape[1]
        return self

    def learnt(self, domain, Z, y, weights):
        low = Z[:, 0] <= 0.45
        mean = [float(np.average(y[side], weights=weights[side])) if weights[side].sum() else 0.0 for side in (low, ~low)]
        rules = (Rule((Condition(0, high=0.45),), (mean[0],)),) if self.rules > 1 else ()
        return Program(domain.columns, "value", None, "identity", "rules", rules, (mean[1],))

    def predict(self, X):
        return self.program_.predict(self.encoded(X))

    def encoded(self, X):
        return Domain(self.program_.columns, "object").encode(X)

    def queries(self, domain, pool, calls, *, allowed, random_state):
        return Rounds(np.unique(pool, axis=0), calls, random_state)

    def to_state(self):
        return {"program": self.program_.to_dict()}, {}

    @classmethod
    def from_state(cls, record, arrays):
        model = cls()
        model.program_ = Program.from_dict(record["program"])
        return model

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = True
        return tags


class Rounds(AskTell):
    """Asks a pool in rounds of ten."""

    def __init__(self, pool, calls, random_state):
        self.pool, self.left = pool, np.random.default_rng(random_state).permutation(len(pool))[:calls]
        self.rows, self.answers = [], []

    def ask(self):
        asked, self.left = self.left[:10], self.left[10:]
        return self.pool[asked]

    def tell(self, Z, y):
        self.rows.append(Z)
        self.answers.append(y)

    def training(self, model):
        rows = np.concatenate(self.rows)
        return rows, np.concatenate(self.answers), np.ones(len(rows))


class Softly(Predicts, ClassifierMixin, BaseEstimator):
    """A sound classifier without a program: the weighted shares of the classes on either side of 0.45."""

    def __init__(self, classes=None):
        self.classes = classes

    def fit(self, X, y, sample_weight=None):
        X, y = np.asarray(X, dtype=float), np.asarray(y)
        weights = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        if len(y) != len(X) or len(weights) != len(X) or not np.isfinite(weights).all() or weights.min() < 0:
            raise InvalidData("expected an answer and a weight of zero or more for each row")
        if weights.sum() == 0:
            raise InvalidData("expected a weight above zero")
        self.classes_ = np.arange(y.shape[1]) if y.ndim == 2 else np.unique(y) if self.classes is None else self.classes
        Y = y if y.ndim == 2 else (y[:, None] == np.asarray(self.classes_)).astype(float)
        if len(np.unique(Y.argmax(axis=1))) < 2:
            raise InvalidData("expected two classes")
        self.n_features_in_ = X.shape[1]
        low = X[:, 0] <= 0.45
        self.table_ = np.array([weights[s] @ Y[s] / weights[s].sum() for s in (low, ~low)])
        return self

    def predict_proba(self, X):
        X = np.asarray(X, dtype=float)
        if X.shape[1] != self.n_features_in_:
            raise InvalidData("expected other columns")
        return self.table_[(X[:, 0] > 0.45).astype(int)]

    def predict(self, X):
        return np.asarray(self.classes_)[self.predict_proba(X).argmax(axis=1)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = True
        return tags


# ------------------------------------------------------------------ what is sound
SOUND = [
    OneSplit(), Softly(), Ridge(), LogisticRegression(), RandomForestRegressor(3),
    DecisionTreeClassifier(max_depth=3), DecisionTreeRegressor(max_depth=3),
]  # fmt: skip


@pytest.mark.parametrize("model", SOUND, ids=lambda model: type(model).__name__)
def test_what_is_sound_passes(model):
    check_surrogate(model, limit="rules" if isinstance(model, OneSplit) else None)


def test_the_checks_are_those_for_the_thing():
    every = {name for name, _ in surrogate_checks(OneSplit(), limit="rules")}
    plain = {name for name, _ in surrogate_checks(Ridge())}
    classifies = {name for name, _ in surrogate_checks(Softly())}
    assert plain < every
    assert every - plain == {
        "order of rows", "weights are repeats", "weights refused", "never seen", "the program is the model",
        "limit of statements", "saved and read back", "queries end", "queries told too little",
    }  # fmt: skip
    assert classifies - plain == {
        "probabilities", "weights are repeats", "learns from probabilities", "one class refused", "weights refused",
    }  # fmt: skip
    assert "limit of statements" not in {name for name, _ in surrogate_checks(OneSplit())}


def test_own_rows_are_used():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))

    class Narrow(Ridge):
        def fit(self, X, y, sample_weight=None):
            assert np.shape(X)[1] == 2
            return super().fit(X, y, sample_weight)

    check_surrogate(Narrow(), rows=X, answers=X[:, 0])
    with pytest.raises(CheckFailed, match="AssertionError"):
        check_surrogate(Narrow())


def test_a_fitted_stand_in_is_checked_as_it_is():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.uniform(size=60), rng.normal(size=60), rng.integers(0, 9, 60)])
    target = Target(lambda X: X[:, 0] + X[:, 1], output="value")
    standin = fit(OneSplit(), target, X)
    check_surrogate(standin)
    check_surrogate(standin, rows=X[:20])
    labels = Target(lambda X: np.where(X[:, 0] > 0.4, "yes", "no"), classes=["no", "yes"])
    check_surrogate(fit(Softly(), labels, X))
    odds = Target(lambda X: np.column_stack([X[:, 0], 1 - X[:, 0]]), output="probability", classes=["no", "yes"])
    check_surrogate(fit(Softly(), odds, X))


# ------------------------------------------------------------------ what is not
class GivesNothingBack(OneSplit):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)


class TwoColumns(OneSplit):
    def predict(self, X):
        return super().predict(X)[:, None]


class Unseeded(OneSplit):
    calls = itertools.count()

    def learnt(self, domain, Z, y, weights):
        return super().learnt(domain, Z, y + next(self.calls) / 7, weights)


class Remembers(OneSplit):
    def learnt(self, domain, Z, y, weights):
        self.seen_ = getattr(self, "seen_", 0) + 1
        return super().learnt(domain, Z, y + self.seen_, weights)


class MovesNumpy(OneSplit):
    def learnt(self, domain, Z, y, weights):
        np.random.random()  # noqa: NPY002 - the fault
        return super().learnt(domain, Z, y, weights)


class MovesRandom(OneSplit):
    def predict(self, X):
        random.random()
        return super().predict(X)


class OverwritesRows(OneSplit):
    def predict(self, X):
        said = super().predict(X)
        X[0, 1] = 7.0
        return said


class OverwritesAnswers(OneSplit):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        y[0] += 1
        return self


class OverwritesWeights(OneSplit):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        if sample_weight is not None and sample_weight.dtype.kind == "f":
            sample_weight[0] += 1
        return self


class CentresTheBatch(OneSplit):
    def predict(self, X):
        Z = self.encoded(X)
        return self.program_.predict(Z) + Z[:, 1] - Z[:, 1].mean()


class FirstRowCounts(OneSplit):
    def learnt(self, domain, Z, y, weights):
        return super().learnt(domain, Z, y + np.nan_to_num(Z[0, 1]), weights)


class CountsRows(OneSplit):
    def learnt(self, domain, Z, y, weights):
        return super().learnt(domain, Z, y, np.sqrt(weights))


class KeepsTheWeightless(OneSplit):
    def learnt(self, domain, Z, y, weights):
        return super().learnt(domain, Z, y, weights + 0.1)


class FallsOverUnknown(OneSplit):
    def encoded(self, X):
        Z = super().encoded(X)
        if (Z < 0)[:, 3].any():
            raise InvalidData("a category never seen")
        return Z


class HolesInAnswers(OneSplit):
    def predict(self, X):
        return np.where(np.isnan(self.encoded(X)[:, 0]), np.nan, super().predict(X))


class TakesNarrowRows(OneSplit):
    def encoded(self, X):
        full = np.zeros((len(X), self.n_features_in_))
        narrow = len(X[0]) < self.n_features_in_
        return full if narrow else super().encoded(X)


class TakesShortAnswers(OneSplit):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X[: len(y)], y, sample_weight)


class TakesMissingAnswers(OneSplit):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, np.nan_to_num(y), sample_weight)


class TakesNegativeWeights(OneSplit):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y, None if sample_weight is None else np.abs(sample_weight))


class AnotherProgram(OneSplit):
    def predict(self, X):
        return super().predict(X) * (1 + 1e-12)


class TooManyStatements(OneSplit):
    def learnt(self, domain, Z, y, weights):
        self.rules, held = 2, self.rules
        program = super().learnt(domain, Z, y, weights)
        self.rules = held
        return program


class RoundsOnSaving(OneSplit):
    def to_state(self):
        record, arrays = super().to_state()
        record["program"]["body"]["otherwise"] = [round(v, 6) for v in record["program"]["body"]["otherwise"]]
        return record, arrays


class NeverCloned(OneSplit):
    def __sklearn_clone__(self):
        return self


class AsksTooMuch(OneSplit):
    def queries(self, domain, pool, calls, *, allowed, random_state):
        return Rounds(np.unique(pool, axis=0), calls + 1, random_state)


class AsksTwice(OneSplit):
    def queries(self, domain, pool, calls, *, allowed, random_state):
        return Rounds(np.repeat(np.unique(pool, axis=0), 2, axis=0), calls, random_state)


class AsksElsewhere(OneSplit):
    def queries(self, domain, pool, calls, *, allowed, random_state):
        return Rounds(np.where(np.isnan(pool), pool, domain.fill(pool * 0.99)), calls, random_state)


class AsksByChance(OneSplit):
    calls = itertools.count()

    def queries(self, domain, pool, calls, *, allowed, random_state):
        return Rounds(np.unique(pool, axis=0), calls, next(self.calls))


class CountsOnAllAnswers(OneSplit):
    def queries(self, domain, pool, calls, *, allowed, random_state):
        queries = Rounds(np.unique(pool, axis=0), calls, random_state)
        asked = []
        ask, training = queries.ask, queries.training

        def asking():
            asked.append(ask())
            return asked[-1]

        def of_all(model):
            rows = np.concatenate(asked)
            return rows, training(model)[1], np.ones(len(rows))

        queries.ask, queries.training = asking, of_all
        return queries


class Secretive(OneSplit):
    """Asks nothing through the target, so nothing is known to have been fitted on."""

    def queries(self, domain, pool, calls, *, allowed, random_state):
        raise RuntimeError("the target was asked behind its back")


class Improbable(Softly):
    def predict_proba(self, X):
        return super().predict_proba(X) * 1.1


class NamesTheSecond(Softly):
    def predict(self, X):
        return np.asarray(self.classes_)[self.predict_proba(X).argmin(axis=1)]


class InventsLabels(Softly):
    def predict(self, X):
        return np.where(np.arange(len(X)) == 0, "nobody", super().predict(X))


class ContentWithOne(Softly):
    def fit(self, X, y, sample_weight=None):
        one = np.ndim(y) == 1 and len(np.unique(y)) == 1
        return super().fit(X, np.where(np.arange(len(X)) == 0, "other", y) if one else y, sample_weight)


class DeafToProbabilities(Softly):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        if np.ndim(y) == 2:
            self.table_ = self.table_[:, ::-1]
        return self


FAULTS = [
    (GivesNothingBack, "one answer a row", "another object from fit"),
    (TwoColumns, "one answer a row", r"shape \(60, 1\) for 60 rows"),
    (Unseeded, "same seed same predictions", "predictions of two fits that differ in"),
    (Remembers, "same seed same predictions", "after an earlier fit"),
    (MovesNumpy, "global generators untouched", "moved on"),
    (MovesRandom, "global generators untouched", "moved on"),
    (OverwritesRows, "given data untouched", "got other rows"),
    (OverwritesAnswers, "given data untouched", "answers that differ in 1 of 60"),
    (OverwritesWeights, "given data untouched", "weights that differ in 1 of 60"),
    (CentresTheBatch, "a row alone", "alone and together"),
    (FirstRowCounts, "order of rows", "predictions that differ"),
    (CountsRows, "weights are repeats", "predictions that differ"),
    (KeepsTheWeightless, "weights are repeats", "predictions that differ"),
    (FallsOverUnknown, "never seen", "InvalidData: a category never seen"),
    (HolesInAnswers, "never seen", "nan"),
    (TakesNarrowRows, "other columns refused", "no error for rows that lack a column"),
    (TakesShortAnswers, "answers refused", "no error for fewer answers than rows"),
    (TakesMissingAnswers, "answers refused", "no error for an answer that is NaN"),
    (TakesNegativeWeights, "weights refused", "no error for a weight below zero"),
    (AnotherProgram, "the program is the model", "program and model that differ in"),
    (TooManyStatements, "limit of statements", "2 statements with rules=1"),
    (RoundsOnSaving, "saved and read back", "predictions that differ"),
    (NeverCloned, "the model given stays as it was", "new attributes"),
    (AsksTooMuch, "queries end", "25 rows for 24 calls"),
    (AsksTwice, "queries end", "a row that was asked before"),
    (AsksElsewhere, "recorded answers", "have no recorded answer"),
    (AsksElsewhere, "queries end", "neither in the pool nor allowed"),
    (AsksByChance, "same seed same stand-in", "other rows asked"),
    (CountsOnAllAnswers, "queries told too little", "24 rows, 23 answers"),
    (Secretive, "budget", "behind its back"),
    (Secretive, "never scored on what was fitted", "behind its back"),
    (Improbable, "probabilities", "that sum to 1.1"),
    (NamesTheSecond, "probabilities", "largest and named classes"),
    (InventsLabels, "one answer a row", "labels that were never taught, such as"),
    (ContentWithOne, "one class refused", "no error for labels of one class only"),
    (DeafToProbabilities, "learns from probabilities", "further from those taught"),
]


@pytest.mark.parametrize(("fault", "name", "came"), FAULTS, ids=[f"{fault.__name__}, {name}" for fault, name, _ in FAULTS])
def test_each_fault_is_caught_by_its_check(fault, name, came):
    limit = "rules" if issubclass(fault, OneSplit) else None
    check = dict(surrogate_checks(fault(), limit=limit))[name]
    with pytest.raises(CheckFailed, match=came) as caught:
        check()
    message = str(caught.value)
    assert caught.value.check == name
    assert message.startswith(f"{fault.__name__} fails the check {name!r}: expected ")
    assert "; got " in message
    assert message.endswith(".")
    assert isinstance(caught.value, AssertionError)


def test_the_first_fault_is_told_and_can_be_left_out():
    with pytest.raises(CheckFailed, match="'one answer a row'"):
        check_surrogate(GivesNothingBack())
    check_surrogate(AsksTooMuch(), skip=["queries end", "queries told too little"])


def test_every_check_has_a_fault_that_it_catches():
    known = {name for model in (OneSplit(), Softly()) for name, _ in surrogate_checks(model)} | {"limit of statements"}
    assert {name for _, name, _ in FAULTS} == known


# ------------------------------------------------------------------ faults of a stand-in
def fitted(model=None):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.uniform(size=60), rng.normal(size=60), rng.integers(0, 9, 60)])
    labels = Target(lambda X: np.where(X[:, 0] > 0.4, "yes", "no"), classes=["no", "yes"])
    values = Target(lambda X: X[:, 0] + X[:, 1], output="value")
    classifies = isinstance(model, ClassifierMixin)
    return fit(model or OneSplit(), labels if classifies else values, X)


@pytest.mark.parametrize(
    ("standin", "name", "came"),
    [
        (lambda: fitted(CentresTheBatch()), "a row alone", "alone and together"),
        (lambda: fitted(OverwritesRows()), "given rows untouched", "other rows"),
        (lambda: fitted(AnotherProgram()), "the program is the model", "program and model"),
        (lambda: fitted(RoundsOnSaving()), "saved and read back", "predictions that differ"),
        (lambda: fitted(InventsLabels()), "one answer a row", "nobody"),
        (lambda: fitted(TakesNarrowRows()), "other columns refused", "no error"),
    ],
)
def test_faults_of_a_stand_in_are_caught(standin, name, came):
    with pytest.raises(CheckFailed, match=came) as caught:
        dict(surrogate_checks(standin()))[name]()
    assert caught.value.check == name


# ------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_surrogate(object()), "expected an estimator"),
        (lambda: check_surrogate(Ridge), "got the class Ridge itself"),
        (lambda: check_surrogate(KMeans()), "expected a classifier or a regressor"),
        (lambda: check_surrogate(Ridge(), rows=[[1.0]]), "together, got one of them"),
        (lambda: check_surrogate(Ridge(), rows=[[1.0], [2.0]], answers=[1.0]), "an answer for each of the 2 rows"),
        (lambda: check_surrogate(Ridge(), limit="max_rules"), "expected limit= to name a setting of Ridge"),
        (lambda: check_surrogate(Ridge(), skip=["budgets"]), "got 'budgets'; one of them is 'budget'"),
        (lambda: check_surrogate(fitted(), limit="rules"), "is fitted already"),
    ],
)
def test_what_cannot_be_checked_is_refused(call, message):
    with pytest.raises(InvalidData, match=message):
        call()
