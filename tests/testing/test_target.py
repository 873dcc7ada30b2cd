"""Checks of targets: what is sound passes, and each fault is caught by the check that is for it."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pandas
import pytest

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.target import Target
from locum.testing import CheckFailed, check_target, target_checks

ROWS = np.random.default_rng(0).normal(size=(12, 3)).round(3)
FRAME = pandas.DataFrame(ROWS, columns=["a", "b", "c"])


def total(X):
    return np.asarray(X, dtype=float).sum(axis=1)


def sign(X):
    return np.where(np.asarray(X)[:, 0] > 0, "up", "down")


def odds(X):
    p = 1 / (1 + np.exp(-np.asarray(X)[:, 0]))
    return np.column_stack([1 - p, p])


SOUND = {
    "values": (partial(Target, total), ROWS),
    "labels": (partial(Target, sign), ROWS),
    "probabilities": (partial(Target, odds), ROWS),
    "frame": (partial(Target, total, domain=Domain.of(FRAME)), FRAME),
    "recorded": (partial(Target, total, rows=ROWS), ROWS),
    "lists": (partial(Target, total), ROWS.tolist()),
}


@pytest.mark.parametrize("kind", SOUND)
def test_what_is_sound_passes(kind):
    make, rows = SOUND[kind]
    check_target(make, rows)
    check_target(make(), rows)


def test_checks_that_would_ask_twice_need_a_maker():
    made = {name for name, _ in target_checks(partial(Target, total), ROWS)}
    alone = {name for name, _ in target_checks(Target(total), ROWS)}
    assert made - alone == {
        "one kind of answers", "same rows same answers", "any batch size", "any order", "given rows untouched",
        "answers outlive the process",
    }  # fmt: skip
    asked = []
    target = Target(lambda X: asked.append(len(X)) or total(X), output="value")
    check_target(target, ROWS)
    assert sum(asked) == len(ROWS)


# ------------------------------------------------------------------ what is not
class Drifts:
    def __init__(self):
        self.calls = itertools.count()

    def __call__(self, X):
        return total(X) + next(self.calls)


def centred(X):
    return total(X) - total(X).mean()


def counted(X):
    """A row counts by its place."""
    return total(X) + np.arange(len(X))


def whole_at_times(X):
    said = np.round(total(X))
    return said.astype(int) if len(X) == 1 else said + 0.5


class Overwrites(Target):
    def query(self, X, purpose="use"):
        said = super().query(X, purpose)
        X[0, 0] = 99.0
        return said


class AnswersDoubled(Target):
    def query(self, X, purpose="use"):
        return np.repeat(super().query(X, purpose), 2)


class OverBudget(Target):
    def within(self, budget):
        return super().within(budget + 1 if isinstance(budget, int) else budget)


class EndsSilently(Target):
    def within(self, budget):
        return super().within(None)


class ScoresAnything(Target):
    def query(self, X, purpose="use"):
        return super().query(X, "use" if purpose == "score" else purpose)


class Forgets(Target):
    def within(self, budget):
        return Forgets(total, budget=budget)


class TakesAnyRows(Target):
    def query(self, X, purpose="use"):
        return super().query(X, purpose) if len(X) else np.empty(0)


class AsksFirst(Target):
    """Refuses some rows, but only once the model was asked."""

    def query(self, X, purpose="use"):
        answers = super().query(X, purpose)
        if len(X) == 3:
            raise InvalidData("not three rows")
        return answers


def with_a_new_name(**settings):
    return Target(total, **{"fingerprint": f"{next(NAMES)}", **settings})


NAMES = itertools.count()


class ForgetsItsFile(Target):
    def __init__(self, answer, ledger=None, **settings):
        super().__init__(answer, **settings)


FAULTS = [
    (partial(AnswersDoubled, total), "one answer a row", "24 answers for 12 rows"),
    (partial(Target, whole_at_times), "one kind of answers", "'class' for row 0 alone, 'value' for all"),
    (partial(Target, Drifts()), "same rows same answers", "answers that differ in 12 of 12"),
    (partial(Target, centred), "any batch size", "answers in batches of 1 that differ"),
    (partial(Target, counted), "any order", "answers that differ"),
    (partial(Overwrites, total), "given rows untouched", "got other rows"),
    (partial(Forgets, total), "each row once", "12 rows paid for again"),
    (partial(OverBudget, total), "budget", "7 rows answered with a budget of 6"),
    (partial(EndsSilently, total), "budget", "no end after 12 rows with a budget of 6"),
    (with_a_new_name, "answers outlive the process", "LedgerError"),
    (partial(ForgetsItsFile, total), "answers outlive the process", "12 rows asked again"),
    (partial(TakesAnyRows, total), "bad rows refused", "no error for no rows at all"),
    (partial(ScoresAnything, total), "fitted rows never score", "got answers"),
]


@pytest.mark.parametrize(("make", "name", "came"), FAULTS)
def test_each_fault_is_caught_by_its_check(make, name, came):
    check = dict(target_checks(make, ROWS))[name]
    with pytest.raises(CheckFailed, match=came) as caught:
        check()
    assert caught.value.check == name
    assert str(caught.value).startswith("the target ")


def test_every_check_has_a_fault_that_it_catches():
    assert {name for _, name, _ in FAULTS} == {name for name, _ in target_checks(partial(Target, total), ROWS)}


def test_rows_to_refuse():
    def fussy(X):
        if not np.isfinite(np.asarray(X, dtype=float)).all():
            raise InvalidData("expected finite rows")

    holes = np.where(np.arange(12)[:, None] == 3, np.nan, ROWS)
    check_target(partial(Target, total, check=fussy), ROWS, refused=[holes])
    with pytest.raises(CheckFailed, match=r"for the rows refused\[0\]|TargetError"):
        check_target(partial(Target, total), ROWS, refused=[holes])
    with pytest.raises(CheckFailed, match="a model that was asked first"):
        check_target(partial(AsksFirst, total), ROWS, refused=[ROWS[:3] + 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_target(Target(total), ROWS[:5]), "at least 8 rows, all different, got 5"),
        (lambda: check_target(Target(total), np.vstack([ROWS, ROWS])), "got 24, of which 12 differ"),
        (lambda: check_target(lambda: total, ROWS), "what makes a function"),
        (lambda: check_target(Target(total), ROWS, skip="any size"), "one of them is"),
    ],
)
def test_what_cannot_be_checked_is_refused(call, message):
    with pytest.raises(InvalidData, match=message):
        call()
