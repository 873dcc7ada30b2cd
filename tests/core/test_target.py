"""Target: every query through the ledger, each row paid once, and bad input refused before anything is paid."""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pandas as pd
import polars as pl
import pytest

from locum.core.domain import Column, Domain
from locum.core.errors import BudgetExhausted, InvalidData, LedgerError, NotFresh, TargetError, TargetTimeout
from locum.core.ledger import Ledger, Purpose
from locum.core.target import Budget, Target


class Model:
    """Doubles the first column, and remembers the batches it was asked; `spoil` changes its answers."""

    def __init__(self, spoil=None):
        self.batches, self.spoil = [], spoil

    def __call__(self, X):
        self.batches.append(np.array(X))
        answers = 2.0 * np.asarray(X, dtype=float).reshape(len(X), -1)[:, 0]
        return answers if self.spoil is None else self.spoil(X, answers)

    @property
    def paid(self):
        return [row for batch in self.batches for row in np.asarray(batch, dtype=float).reshape(len(batch), -1)[:, 0].tolist()]


def rows(*values):
    return np.array(values, dtype=float)[:, None]


def target_of(model, **settings):
    return Target(model, **{"name": "model", "output": "value", "fingerprint": "model", **settings})


# --- batches, cache, duplicates --------------------------------------------------------------------------------------
def test_rows_are_asked_in_batches_in_their_order():
    model = Model()
    said = target_of(model, batch_size=3).query(rows(*range(8)), "fit")
    assert said.tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert [len(batch) for batch in model.batches] == [3, 3, 2]
    assert model.paid == list(range(8))


def test_each_distinct_row_is_paid_once():
    model = Model()
    target = target_of(model)
    assert target.query(rows(1, 2, 1, 1)).tolist() == [2, 4, 2, 2]
    assert target.query(rows(2, 3, 3, 1)).tolist() == [4, 6, 6, 2]
    assert target(rows(3, 2, 1)).tolist() == [6, 4, 2]
    assert model.paid == [1, 2, 3]


def test_answers_belong_to_the_caller():
    target = target_of(Model())
    first = target.query(rows(1, 2))
    first[:] = -1
    assert target.query(rows(1, 2)).tolist() == [2, 4]
    assert target.query(rows(2, 1)).tolist() == [4, 2]


def test_the_model_cannot_change_the_rows_of_the_caller_or_of_the_record():
    def careless(X):
        answers = X[:, 0] * 2
        X[:] = 99
        return answers

    X = rows(1, 2)
    target = target_of(careless)
    target.query(X)
    assert X.ravel().tolist() == [1, 2]
    assert target.ledger.rows()[0].ravel().tolist() == [1, 2]


@pytest.mark.parametrize("library", [pd, pl])
def test_a_model_gets_rows_in_the_container_they_came_in(library):
    seen = []

    def answer(frame):
        seen.append(frame)
        return frame["a"].to_numpy() * 2

    frame = library.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "x"]})
    target = Target(answer, batch_size=2, output="value")
    assert target.query(frame).tolist() == [2, 4, 6]
    assert [type(part) for part in seen] == [library.DataFrame] * 2
    assert [len(part) for part in seen] == [2, 1]
    assert target.query(frame[1:]).tolist() == [4, 6]
    assert len(seen) == 2


def test_blocks_too_large_for_one_record_are_split(monkeypatch, tmp_path):
    monkeypatch.setattr("locum.core.target.LARGEST_BLOCK", 1000)
    model = Model()
    target = target_of(model, price=0.5, ledger=tmp_path / "l.db")
    X = rows(*range(100))
    assert target.query(X, "fit").tolist() == (2.0 * X[:, 0]).tolist()
    assert len(model.batches) == 1
    assert target.query(X).tolist() == (2.0 * X[:, 0]).tolist()
    account = target.ledger.account()
    assert (account.paid, account.money) == (100, 50.0)
    assert target.ledger.rows("fit")[0].ravel().tolist() == X.ravel().tolist()
    target.ledger.close()
    with closing(sqlite3.connect(tmp_path / "l.db")) as file:
        assert file.execute("SELECT MAX(LENGTH(rows) + LENGTH(answers)) FROM block").fetchone()[0] <= 1000


# --- what the answers are --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("answers", "output", "classes"),
    [
        (np.array(["no", "yes"]), "class", ["no", "yes"]),
        (np.array([True, False]), "class", [False, True]),
        (np.array([3, 1]), "class", [1, 3]),
        (["no", "yes"], "class", ["no", "yes"]),
        (pd.Series(["no", "yes"]), "class", ["no", "yes"]),
        (np.array([1.0, 2.0]), "value", None),
        ([1, 2.5], "value", None),
        (np.array([[0.2, 0.8], [0.5, 0.5]]), "probability", [0, 1]),
        (np.array([[0.2, 0.9], [0.5, 0.5]]), "value", None),
        (np.array([[1.0], [1.0]]), "value", None),
        (np.zeros((2, 3, 4)), "value", None),
        (np.array([1 + 1j, 2]), "value", None),
    ],
)
def test_the_first_answers_say_what_answers_are(answers, output, classes):
    target = Target(lambda X: answers)
    assert target.output is None
    said = target.query(rows(1, 2))
    np.testing.assert_array_equal(said, np.asarray(answers))
    assert target.output == output
    assert (None if target.classes is None else target.classes.tolist()) == classes


@pytest.mark.parametrize("output", ["class", "probability", "value"])
def test_before_the_first_answer_no_classes_are_known(output):
    assert Target(len, output=output).classes is None


def test_given_classes_are_kept_in_their_order():
    target = Target(lambda X: np.array([[0.2, 0.8]]), classes=["yes", "no"])
    target.query(rows(1))
    assert target.classes.tolist() == ["yes", "no"]


# --- bad answers -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "wrong", "message"),
    [
        ({}, lambda X, y: y[:-1], "expected one answer a row, 2 of them, got 1 answers"),
        ({}, lambda X, y: 3.0, "expected one answer a row, 2 of them, got one value"),
        ({}, lambda X, y: None, "expected an array of answers, got NoneType"),
        ({}, lambda X, y: y[:, None], r"like the first, float of shape \(n,\), got float of shape \(n, 1\)"),
        ({}, lambda X, y: y.astype(str), r"like the first, float of shape \(n,\), got text of shape \(n,\)"),
        ({}, lambda X, y: y.astype(int), "got integer of shape"),
        ({}, lambda X, y: [[1.0], [1.0, 2.0]], "expected an array of answers, got list"),
        ({}, lambda X, y: [1.0, "a"], "like the first, float of shape"),
        ({}, lambda X, y: np.array([{}, {}]), "the values are neither all text nor all numbers"),
        ({}, lambda X, y: y.astype("M8[s]"), r"expected numbers, text or a structured array, got datetime64\[s\]"),
    ],
)
def test_answers_that_change_their_form_are_an_error_and_what_was_answered_is_kept(settings, wrong, message):
    model = Model(lambda X, y: y if X[0, 0] < 2 else wrong(X, y))
    target = target_of(model, batch_size=2, **settings)
    with pytest.raises(TargetError, match=f"the target 'model' does not answer as it should: .*{message}") as caught:
        target.query(rows(*range(6)))
    assert caught.value.rows == (2, 3, 4, 5)
    assert len(model.batches) == 2  # asking on would only waste money
    assert "4 of the 6 rows asked have no answer, the first is row 2" in str(caught.value)
    assert target.query(rows(0, 1)).tolist() == [0, 2]
    assert len(model.batches) == 2
    assert target.account().failed == 2


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([[0.2, 0.7], [0.5, 0.5]], "sum to 1, got a row that sums to 0.9; for scores give output='value'"),
        ([[1.2, -0.2], [0.5, 0.5]], "between 0 and 1 that sum to 1, got values from -0.2 to 1.2"),
        ([0.2, 0.8], r"expected probabilities of shape \(n, 2\), got float64 of shape \(2,\)"),
        ([[0.2, 0.3, 0.5]] * 2, r"expected probabilities of shape \(n, 2\), got float64 of shape \(2, 3\)"),
        ([["a", "b"]] * 2, r"expected probabilities of shape \(n, 2\), got <U1"),
    ],
)
def test_what_is_no_probability_is_an_error(answers, message):
    target = Target(lambda X: np.array(answers), output="probability", classes=["no", "yes"])
    with pytest.raises(TargetError, match=message):
        target.query(rows(1, 2))


def test_probabilities_in_single_precision_may_be_as_rough_as_that():
    near = np.array([[0.3, 0.7 + 1e-4]])
    assert Target(lambda X: near.astype(np.float32), output="probability").query(rows(1)).shape == (1, 2)
    with pytest.raises(TargetError, match=r"sums to 1.0001"):
        Target(lambda X: near, output="probability").query(rows(1))


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (["no", "maybe"], "expected one of the classes .'no', 'yes'., got 'maybe'"),
        ([["no"], ["yes"]], "expected one class a row"),
    ],
)
def test_what_is_none_of_the_classes_is_an_error(answers, message):
    with pytest.raises(TargetError, match=message):
        Target(lambda X: answers, output="class", classes=["no", "yes"]).query(rows(1, 2))


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_rows_without_an_answer_never_lose_the_rest(bad):
    def spoil(X, answers):
        return [bad if x == 3 else y for x, y in zip(X[:, 0], answers, strict=True)]

    target = target_of(Model(spoil))
    with pytest.raises(TargetError, match="expected finite numbers, or text, got NaN, infinity or None; 1 of the 6") as caught:
        target.query(rows(*range(6)), "fit")
    assert caught.value.rows == (3,)
    assert target.ledger.rows("fit")[1].tolist() == [0, 2, 4, 8, 10]
    ((failed, why),) = target.ledger.failures()
    assert failed.ravel().tolist() == [3]
    assert "NaN" in why


def test_text_may_lack_an_answer_too():
    target = Target(lambda X: ["yes", None, "no"])
    with pytest.raises(TargetError) as caught:
        target.query(rows(1, 2, 3))
    assert caught.value.rows == (1,)
    assert target.ledger.rows()[1].tolist() == ["yes", "no"]


def test_a_batch_of_no_answers_at_all_is_one_error():
    with pytest.raises(TargetError, match="2 of the 2 rows"):
        Target(lambda X: [None, None]).query(rows(1, 2))


def test_nan_is_an_answer_where_that_is_said():
    target = Target(lambda X: np.array([1.0, math.nan]), allow_nan=True)
    np.testing.assert_array_equal(target.query(rows(1, 2)), [1.0, math.nan])
    np.testing.assert_array_equal(target.query(rows(2, 1)), [math.nan, 1.0])


# --- a model that raises or hangs ------------------------------------------------------------------------------------
def refuses(*values):
    def spoil(X, answers):
        if np.isin(X[:, 0], values).any():
            raise ValueError("not this one")
        return answers

    return spoil


def test_a_model_that_raises_on_some_rows_loses_only_their_batch():
    target = target_of(Model(refuses(3)), batch_size=2)
    with pytest.raises(TargetError, match="the target 'model' raised ValueError: not this one; 2 of the 6 rows") as caught:
        target.query(rows(*range(6)))
    assert caught.value.rows == (2, 3)
    assert isinstance(caught.value.__cause__, ValueError)
    assert target.ledger.rows()[1].tolist() == [0, 2, 8, 10]


def test_rows_that_raise_can_be_set_apart():
    model = Model(refuses(3, 9))
    target = target_of(model, failures="isolate")
    with pytest.raises(TargetError) as caught:
        target.query(rows(*range(16)))
    assert caught.value.rows == (3, 9)
    assert sorted(target.ledger.rows()[1].tolist()) == [2.0 * i for i in range(16) if i not in (3, 9)]
    assert len(model.batches) < 16
    account = target.account()
    assert (account.asked, account.paid, account.failed) == (16, 14, 2)


def test_positions_of_lost_rows_count_duplicates():
    target = target_of(Model(refuses(3)), failures="isolate")
    with pytest.raises(TargetError) as caught:
        target.query(rows(3, 1, 3, 2, 1))
    assert caught.value.rows == (0, 2)


def test_a_failed_batch_is_asked_again_as_told():
    tries = []

    def flaky(X, answers):
        tries.append(X.copy())
        X[:] = -1  # a model that spoils its rows before it fails
        if len(tries) < 3:
            raise ConnectionError("busy")
        return answers

    target = target_of(Model(flaky), retries=2, backoff=0.0)
    assert target.query(rows(1, 2)).tolist() == [2, 4]
    assert [batch.ravel().tolist() for batch in tries] == [[1, 2]] * 3
    assert target.account().failed == 0
    tries.clear()
    with pytest.raises(TargetError, match="raised ConnectionError: busy"):
        target_of(Model(flaky), retries=1, backoff=0.0).query(rows(1))
    assert len(tries) == 2


def test_retries_wait_longer_each_time():
    times = []

    def busy(X):
        times.append(time.monotonic())
        raise ConnectionError

    with pytest.raises(TargetError):
        target_of(busy, retries=3, backoff=0.02).query(rows(1))
    waits = np.diff(times)
    assert (waits >= [0.02, 0.04, 0.08]).all()


class Later(Exception):
    def __init__(self, retry_after):
        super().__init__("later")
        self.retry_after = retry_after


def test_an_error_may_say_how_long_to_wait():
    times = []

    def busy(X):
        times.append(time.monotonic())
        if len(times) < 3:
            raise Later(0.05)
        return 2 * X[:, 0]

    assert target_of(busy, retries=2, backoff=0.01).query(rows(1)).tolist() == [2]
    assert (np.diff(times) >= [0.06, 0.07]).all()


@pytest.mark.parametrize("failures", ["raise", "isolate"])
def test_what_is_not_worth_asking_again_is_not_asked_as_it_was(failures):
    def refuses(X, answers):
        if 3 in X:
            raise Later(math.inf)
        return answers

    model = Model(refuses)
    target = target_of(model, retries=5, backoff=0.0, failures=failures)
    with pytest.raises(TargetError, match="raised Later: later") as caught:
        target.query(rows(1, 2, 3, 4))
    assert caught.value.rows == ((0, 1, 2, 3) if failures == "raise" else (2,))
    assert [batch.ravel().tolist() for batch in model.batches] == (
        [[1, 2, 3, 4]] if failures == "raise" else [[1, 2, 3, 4], [1, 2], [3, 4], [3], [4]]
    )


def test_rows_with_a_bad_answer_are_asked_again_alone():
    def first_time(X, answers):
        return np.where((X[:, 0] == 3) & (len(X) > 1), math.nan, answers)

    model = Model(first_time)
    assert target_of(model, retries=1, backoff=0.0).query(rows(*range(5))).tolist() == [0, 2, 4, 6, 8]
    assert [batch.ravel().tolist() for batch in model.batches] == [[0, 1, 2, 3, 4], [3]]


def test_a_model_that_hangs_is_left_and_the_rest_answered():
    gate = threading.Event()

    def hangs(X, answers):
        if X[0, 0] == 2:
            gate.wait(20)
        return answers

    target = target_of(Model(hangs), batch_size=2, timeout=0.3)
    try:
        with pytest.raises(TargetTimeout, match=r"did not answer in time .no answer within 0.3 s.; 2 of the 6 rows") as caught:
            target.query(rows(*range(6)))
    finally:
        gate.set()
    assert caught.value.rows == (2, 3)
    assert target.ledger.rows()[1].tolist() == [0, 2, 8, 10]
    assert target.query(rows(*range(6))).tolist() == [0, 2, 4, 6, 8, 10]


def test_where_some_rows_hang_and_others_raise_both_are_named():
    gate = threading.Event()

    def spoil(X, answers):
        if X[0, 0] == 0:
            gate.wait(20)
        if X[0, 0] == 2:
            raise ValueError("no")
        return answers

    target = target_of(Model(spoil), batch_size=2, timeout=0.3)
    try:
        with pytest.raises(TargetError, match="raised ValueError") as caught:
            target.query(rows(0, 1, 2, 3, 4))
    finally:
        gate.set()
    assert type(caught.value) is TargetError
    assert caught.value.rows == (0, 1, 2, 3)


def test_an_interrupted_call_keeps_what_was_answered_and_tells_what_is_in_doubt():
    def interrupted(X, answers):
        if X[0, 0] == 2:
            raise KeyboardInterrupt
        return answers

    model = Model(interrupted)
    target = target_of(model, batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        target.query(rows(*range(6)))
    assert target.ledger.rows()[1].tolist() == [0, 2]
    assert target.ledger.account().in_doubt == 2
    careful = target_of(model, ledger=target.ledger, in_doubt="refuse")
    with pytest.raises(LedgerError, match="2 of these rows were being asked when a process died or a call was interrupted"):
        careful.query(rows(*range(6)))
    assert careful.query(rows(0, 1, 4, 5)).tolist() == [0, 2, 8, 10]
    model.spoil = None
    assert target.query(rows(*range(6))).tolist() == [0, 2, 4, 6, 8, 10]
    assert careful.query(rows(*range(6))).tolist() == [0, 2, 4, 6, 8, 10]


# --- purposes --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("purpose", ["fit", "tune", Purpose.FIT])
def test_a_row_that_fitted_or_tuned_can_never_score(purpose):
    model = Model()
    target = target_of(model)
    target.query(rows(1, 2), purpose)
    with pytest.raises(NotFresh, match=r"1 of these 2 rows fitted or tuned a stand-in, so they cannot score one; .* row 1"):
        target.query(rows(5, 2), "score")
    assert model.paid == [1, 2]
    assert target.fresh(rows(1, 5, 2, 2)).tolist() == [False, True, False, False]
    assert target.query(rows(1, 2), "use").tolist() == [2, 4]
    assert target.query(rows(5), "score").tolist() == [10]


def test_another_target_on_the_same_ledger_cannot_score_them_either(tmp_path):
    target_of(Model(), ledger=tmp_path / "l.db").query(rows(1, 2), "fit")
    with pytest.raises(NotFresh):
        target_of(Model(), ledger=tmp_path / "l.db").query(rows(2.0, 7), "score")


def test_a_row_keeps_all_its_purposes():
    target = target_of(Model())
    for purpose in ("use", "score", "score", "tune"):
        target.query(rows(1, 2), purpose)
    assert target.ledger.purposes(rows(1, 2, 3)).tolist() == [8 | 4 | 2, 8 | 4 | 2, 0]
    with pytest.raises(NotFresh):
        target.query(rows(1), "score")
    assert target.account().by_purpose == {"fit": 0, "tune": 2, "score": 2, "use": 2}


def test_rows_that_failed_to_fit_may_score():
    model = Model(refuses(3))
    target = target_of(model)
    with pytest.raises(TargetError):
        target.query(rows(3), "fit")
    model.spoil = None
    assert target.query(rows(3), "score").tolist() == [6]


def test_threads_that_fit_and_score_the_same_row_cannot_both():
    for _ in range(20):
        target = target_of(Model(lambda X, y: time.sleep(0.001) or y), batch_size=1)
        start = threading.Barrier(2)

        def asks(purpose, target=target, start=start):
            start.wait()
            try:
                target.query(rows(*range(5)), purpose)
            except NotFresh:
                return "refused"
            return "answered"

        with ThreadPoolExecutor(2) as pool:
            fitted, scored = pool.map(asks, ["fit", "score"])
        assert fitted == "answered"
        found = target.ledger.purposes(rows(*range(5)))
        assert (found & 1 == 1).all()
        # A row may fit after it scored, never the other way round.
        assert (found & 4 == 4).all() if scored == "answered" else (found & 4 == 0).any()


def test_rows_that_fit_while_others_are_asked_to_score_cannot_score():
    ledger = Ledger()

    def answer(X):
        target_of(Model(), ledger=ledger).query(rows(1), "fit")
        return 2 * X[:, 0]

    target = target_of(answer, ledger=ledger)
    target_of(Model(), ledger=ledger).query(rows(1), "use")
    with pytest.raises(NotFresh, match="another process fitted on some of these rows in the meantime; pick other rows"):
        target.query(rows(1, 2), "score")
    assert ledger.purposes(rows(1, 2)).tolist() == [8 | 1, 4]


def test_an_unknown_purpose_is_refused():
    with pytest.raises(InvalidData, match="expected a purpose of 'fit', 'tune', 'score' or 'use', got 'look'"):
        target_of(Model()).query(rows(1), "look")


# --- prices ----------------------------------------------------------------------------------------------------------
def test_what_it_would_cost_and_what_it_did():
    target = target_of(Model(lambda X, y: time.sleep(0.01) or y), price=0.25, currency="EUR", batch_size=2)
    before = target.estimate(10)
    assert (before.calls, before.money, before.currency) == (10, 2.5, "EUR")
    assert math.isnan(before.seconds)
    assert str(before) == "10 calls, time unknown, 2.50 EUR"
    target.query(rows(1, 2, 3, 4, 1), "fit")
    after = target.estimate(rows(3, 4, 5, 5, 6))
    assert (after.calls, after.money) == (2, 0.5)
    assert after.seconds >= 2 * 0.005
    assert target.estimate(rows(1)).seconds == 0
    account = target.account()
    assert (account.asked, account.paid, account.replayed, account.failed) == (4, 4, 0, 0)
    assert account.money == 1.0
    assert 0.02 <= account.seconds < 1
    assert account.by_purpose == {"fit": 4, "tune": 0, "score": 0, "use": 0}
    assert str(account).startswith("4 rows asked: 4 paid, 0 replayed, 0 failed, ")
    assert str(account).endswith(" s, 1.00 EUR")


def test_a_replayed_row_counts_with_what_it_cost(tmp_path):
    target_of(Model(), price=0.25, ledger=tmp_path / "l.db").query(rows(1, 2, 3))
    later = target_of(Model(), price=100.0, ledger=tmp_path / "l.db")
    later.query(rows(2, 3))
    account = later.account()
    assert (account.asked, account.paid, account.replayed, account.money) == (2, 0, 2, 0.5)
    whole = later.ledger.account()
    assert (whole.asked, whole.paid, whole.replayed, whole.money) == (5, 3, 2, 0.75)


def test_threads_count_each_row_once():
    slow = Model(lambda X, y: time.sleep(0.002) or y)
    target = target_of(slow, batch_size=3, price=1.0)
    X = rows(*range(30))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: target.query(np.roll(X, 7 * i)), range(4)))
    for i, said in enumerate(found):
        assert said.tolist() == (2 * np.roll(X, 7 * i).ravel()).tolist()
    assert sorted(slow.paid) == list(range(30))
    account = target.account()
    assert (account.asked, account.paid, account.replayed, account.money) == (30, 30, 0, 30.0)


# --- settings and rows that cannot be used ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"answer": 3}, "expected a callable that answers rows, got int"),
        ({"output": "score"}, "expected output= to be one of 'auto', 'class', 'probability', 'value', got 'score'"),
        ({"failures": "skip"}, "expected failures= to be one of 'raise', 'isolate', got 'skip'"),
        ({"in_doubt": "maybe"}, "expected in_doubt= to be one of 'ask', 'refuse', got 'maybe'"),
        ({"batch_size": 0}, "expected batch_size= of at least one row, got 0"),
        ({"batch_size": 2.5}, "expected batch_size= of at least one row, got 2.5"),
        ({"price": -1}, "expected price= of zero or more, got -1"),
        ({"price": math.nan}, "expected price= of zero or more, got nan"),
        ({"budget": 0}, "expected a budget of calls above zero, got 0"),
        ({"timeout": 0}, "expected timeout= in seconds above zero, or None, got 0"),
        ({"timeout": "5"}, "expected timeout= in seconds above zero, or None, got '5'"),
        ({"retries": -1}, "expected retries= as a whole number of zero or more, got -1"),
        ({"retries": 1.5}, "expected retries= as a whole number of zero or more, got 1.5"),
        ({"backoff": -1}, "expected backoff= in seconds of zero or more, got -1"),
        ({"executor": "dask"}, "expected executor= None, a concurrent.futures executor or 'ray', got 'dask'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(InvalidData, match=message):
        Target(**{"answer": len, **settings})


DOMAIN = Domain((Column("a", low=0.0, high=9.0), Column("b", low=0.0, high=9.0, missing=True)), "pandas", ("float64",) * 2)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (pd.DataFrame({"b": [1.0], "a": [2.0]}), "another order.* a, b"),
        (pd.DataFrame({"a": [1.0]}), "missing 'b'"),
        (pd.DataFrame({"a": [1.0], "b": [1.0], "c": [1.0]}), "not expected 'c'"),
        (pd.DataFrame({"a": [1.0, math.nan], "b": [1.0, 1.0]}), "column 'a' is missing in row 1, and the target's domain"),
        (pd.DataFrame({"a": [1.0], "b": [math.inf]}), "column 'b' holds infinite values"),
        (pd.DataFrame({"a": ["x"], "b": [1.0]}), "column 'a': expected numbers, got"),
        (np.ones((1, 3)), r"expected rows of 2 columns \(a, b\), got 3"),
    ],
)
def test_rows_that_do_not_fit_the_domain_are_refused_before_anything_is_paid(X, message):
    calls = []
    target = Target(lambda X: calls.append(X) or np.zeros(len(X)), domain=DOMAIN)
    for ask in (target.query, target.estimate):
        with pytest.raises(InvalidData, match=message):
            ask(X)
    assert calls == []
    assert target.query(pd.DataFrame({"a": [1.0], "b": [math.nan]})).tolist() == [0]


@pytest.mark.parametrize("library", [pd, pl])
def test_without_a_domain_the_columns_that_were_answered_first_hold(tmp_path, library):
    def target():
        return Target(lambda X: X["a"].to_numpy() * 1.0, ledger=tmp_path / "l.db", name="t", fingerprint="1")

    with pytest.raises(TargetError):
        target().query(library.DataFrame({"c": [1]}))  # what was not answered does not count
    target().query(library.DataFrame({"a": [1], "b": [2]}))
    for names, message in [
        ("ba", "asked with before, 'a', 'b', got the same in another order; reorder them"),
        ("a", "got rows without 'b'; give it the same columns in the same order"),
        ("abc", "got rows also 'c'; give it the same"),
        ("ac", "got rows without 'b' and also 'c'"),
    ]:
        with pytest.raises(InvalidData, match=message):
            target().query(library.DataFrame({name: [5] for name in names}))
    assert target().query(library.DataFrame({"a": [3], "b": [4]})).tolist() == [3]


def test_a_check_of_ones_own_comes_before_anything_is_paid():
    def check(X):
        if (X < 0).any():
            raise InvalidData("expected no negative values")

    model = Model()
    with pytest.raises(InvalidData, match="no negative"):
        target_of(model, check=check).query(rows(1, -1))
    assert model.batches == []


# --- names and ledgers -----------------------------------------------------------------------------------------------
def test_a_ledger_keeps_to_its_target(tmp_path):
    path = tmp_path / "l.db"
    target_of(Model(), ledger=path).query(rows(1))
    for settings, message in [
        ({"name": "other"}, "belongs to a target of name 'model', this one's is 'other'; use another ledger"),
        ({"fingerprint": "other"}, "with fingerprint model, this one's is other: it computes something else"),
        ({"output": "class"}, "belongs to a target of output 'value', this one's is 'class'"),
    ]:
        with pytest.raises(LedgerError, match=message):
            target_of(Model(), ledger=path, **settings)
    again = target_of(Model(), ledger=path, output="auto")
    assert again.output == "value"


def test_the_form_of_answers_is_known_from_the_ledger(tmp_path):
    target_of(Model(), ledger=tmp_path / "l.db").query(rows(1))
    with pytest.raises(TargetError, match=r"like the first, float of shape \(n,\), got float of shape \(n, 1\)"):
        target_of(Model(lambda X, y: y[:, None]), ledger=tmp_path / "l.db").query(rows(2))


def test_what_a_target_is_called():
    class Thing:
        def __call__(self, X):
            return X

        def ask(self, X):
            return X

    assert Target(np.ravel).name == "numpy:ravel"
    assert Target(Thing()).name == "Thing"
    assert Target(Thing().ask).name == "Thing.ask"
    assert repr(Target(Thing(), name="it")) == "Target('it', output=None, ledger=Ledger())"


def test_targets_may_share_a_ledger_in_memory():
    ledger, model = Ledger(), Model()
    target_of(model, ledger=ledger).query(rows(1, 2))
    assert target_of(model, ledger=ledger).query(rows(2, 1)).tolist() == [4, 2]
    assert model.paid == [1, 2]


def test_recorded_rows_are_all_that_can_be_asked():
    X = rows(1, 2)
    target = target_of(Model(), rows=X)
    assert target.recorded
    assert target.query(X[::-1]).tolist() == [4, 2]
    with pytest.raises(InvalidData, match="1 of these 2 rows have no recorded answer, first row 1: there is no access"):
        target.query(rows(2, 3))


def test_a_budget_within_a_budget_is_an_account_of_its_own():
    target = target_of(Model(), budget=5)
    inner = target.within(Budget(calls=2))
    inner.query(rows(1, 2), "fit")
    assert inner.account().asked == 2
    with pytest.raises(BudgetExhausted, match="the budget of 2 calls within 5 calls is used up: 0 of the 1 rows"):
        inner.query(rows(3))
    target.query(rows(3, 4, 5))
    assert target.account().asked == 5
    other = target.within(None)
    assert other.query(rows(1, 5)).tolist() == [2, 10]
    assert other.account().replayed == 2
    with pytest.raises(BudgetExhausted):
        other.query(rows(6))
