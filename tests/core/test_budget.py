"""Budgets: what may be asked, what counts, and that nothing paid is lost when they end; as a model of the rules, too."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from locum.core.errors import BudgetExhausted, InvalidData, NotFresh, TargetError
from locum.core.target import Budget, Price, Target


def rows(*values):
    return np.array(values, dtype=float)[:, None]


def target_of(model=lambda X: 2 * X[:, 0], **settings):
    return Target(model, **{"name": "model", "output": "value", "fingerprint": "model", **settings})


# --- what a budget can be --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "expected a budget of calls, seconds or money, got none of them"),
        ({"calls": 0}, "expected a budget of calls above zero, got 0"),
        ({"calls": -3}, "expected a budget of calls above zero, got -3"),
        ({"calls": 2.5}, "expected a whole number of calls, got 2.5"),
        ({"calls": True}, "expected a whole number of calls, got True"),
        ({"seconds": 0.0}, "expected a budget of seconds above zero, got 0.0"),
        ({"seconds": math.nan}, "expected a budget of seconds above zero, got nan"),
        ({"money": 0}, "expected a budget of money above zero, got 0"),
        ({"calls": 5, "money": -1}, "expected a budget of money above zero, got -1"),
    ],
)
def test_a_budget_of_nothing_is_refused(limits, message):
    with pytest.raises(InvalidData, match=message):
        Budget(**limits)


def test_budgets_and_prices_in_words():
    assert str(Budget(calls=1500, seconds=2.5, money=3)) == "1,500 calls, 2.5 s, 3.00 of money"
    assert str(Price(1000, 0.5, 0.0)) == "1,000 calls, 0.5 s"


# --- calls -----------------------------------------------------------------------------------------------------------
def test_a_budget_that_ends_in_the_middle_keeps_what_was_paid():
    asked = []
    target = target_of(lambda X: asked.extend(X.ravel()) or 2 * X[:, 0], budget=5, batch_size=2)
    with pytest.raises(BudgetExhausted, match="the budget of 5 calls is used up: 5 of the 8 rows asked for now") as caught:
        target.query(rows(*range(8)), "fit")
    assert asked == [0, 1, 2, 3, 4]
    assert caught.value.answered == 5
    assert caught.value.ledger is target.ledger
    assert target.ledger.rows("fit")[1].tolist() == [0, 2, 4, 6, 8]
    assert target.query(rows(0, 1, 2, 3, 4), "fit").tolist() == [0, 2, 4, 6, 8]
    with pytest.raises(BudgetExhausted, match="0 of the 1 rows") as caught:
        target.query(rows(7))
    assert caught.value.answered == 0
    assert asked == [0, 1, 2, 3, 4]


def test_answered_rows_count_from_the_first_on_with_duplicates():
    target = target_of(budget=2)
    with pytest.raises(BudgetExhausted) as caught:
        target.query(rows(1, 1, 2, 1, 3, 1))
    assert caught.value.answered == 4


def test_a_row_counts_once_and_known_rows_count_too(tmp_path):
    target_of(ledger=tmp_path / "l.db").query(rows(1, 2, 3))
    target = target_of(ledger=tmp_path / "l.db", budget=4)
    for _ in range(3):
        target.query(rows(1, 2, 3))
    target.query(rows(4))
    with pytest.raises(BudgetExhausted):
        target.query(rows(5))


def test_failed_rows_count_once_and_may_be_asked_again():
    asked = []

    def fails(X):
        asked.append(len(X))
        raise ValueError("no")

    target = target_of(fails, budget=3)
    for _ in range(3):
        with pytest.raises(TargetError):
            target.query(rows(1, 2))
    assert asked == [2, 2, 2]
    with pytest.raises(TargetError):
        target.query(rows(3))
    with pytest.raises(BudgetExhausted):
        target.query(rows(4))
    account = target.account()
    assert (account.asked, account.failed, account.paid) == (3, 3, 0)


def test_a_failed_row_that_another_target_answered_counts_once(tmp_path):
    def fails(X):
        raise ValueError("no")

    target = target_of(fails, budget=2, ledger=tmp_path / "l.db")
    with pytest.raises(TargetError):
        target.query(rows(1))
    target_of(ledger=tmp_path / "l.db").query(rows(1, 2))
    assert target.query(rows(1, 2)).tolist() == [2, 4]
    account = target.account()
    assert (account.asked, account.replayed, account.failed) == (2, 2, 0)


def test_threads_together_stay_within_the_budget():
    asked = []

    def model(X):
        time.sleep(0.001)
        asked.extend(X.ravel())
        return 2 * X[:, 0]

    target = target_of(model, budget=25, batch_size=3)

    def ask(i):
        try:
            return len(target.query(rows(*range(10 * i, 10 * i + 10))))
        except BudgetExhausted as ended:
            return ended.answered

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    assert sum(found) == len(asked) == len(set(asked)) == 25
    assert target.account().paid == 25


def test_threads_that_ask_the_same_rows_share_the_budget():
    def model(X):
        time.sleep(0.005)
        return 2 * X[:, 0]

    target = target_of(model, budget=8, batch_size=2)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: target.query(rows(*range(8))).tolist(), range(4)))
    assert found == [[2 * i for i in range(8)]] * 4
    assert target.account().paid == 8


# --- money -----------------------------------------------------------------------------------------------------------
def test_money_is_counted_to_the_row():
    target = target_of(price=0.1, budget=Budget(money=0.5))
    with pytest.raises(BudgetExhausted, match=r"the budget of 0.50 of money is used up: 5 of the 9 rows"):
        target.query(rows(*range(9)))
    assert target.account().money == pytest.approx(0.5)


def test_recorded_prices_count(tmp_path):
    target_of(ledger=tmp_path / "l.db", price=1.0).query(rows(1, 2))
    target = target_of(ledger=tmp_path / "l.db", price=0.25, budget=Budget(money=2.5))
    with pytest.raises(BudgetExhausted) as caught:
        target.query(rows(1, 2, 3, 4, 5))
    assert caught.value.answered == 4
    assert target.account().money == 2.5


def test_the_tightest_of_several_limits_holds():
    target = target_of(price=1.0, budget=Budget(calls=4, money=3.0))
    with pytest.raises(BudgetExhausted, match=r"the budget of 4 calls, 3.00 of money") as caught:
        target.query(rows(*range(9)))
    assert caught.value.answered == 3


# --- seconds ---------------------------------------------------------------------------------------------------------
def slowly(X):
    time.sleep(0.03)
    return 2 * X[:, 0]


def test_no_batch_begins_after_the_time_is_up():
    target = target_of(slowly, budget=Budget(seconds=0.05), batch_size=2)
    with pytest.raises(BudgetExhausted, match=r"the budget of 0.05 s is used up: 4 of the 9 rows") as caught:
        target.query(rows(*range(9)), "fit")
    assert caught.value.answered == 4
    assert target.ledger.rows("fit")[1].tolist() == [0, 2, 4, 6]
    with pytest.raises(BudgetExhausted, match="0 of the 1 rows"):
        target.query(rows(100))


def test_recorded_seconds_count(tmp_path):
    target_of(slowly, ledger=tmp_path / "l.db", batch_size=2).query(rows(*range(9)))
    again = target_of(slowly, ledger=tmp_path / "l.db", budget=Budget(seconds=0.05))
    with pytest.raises(BudgetExhausted) as caught:
        again.query(rows(*range(9)))
    assert caught.value.answered == 4
    assert again.account().replayed == 4


def test_batches_that_ran_side_by_side_are_paid_and_counted_though_the_time_ended():
    with ThreadPoolExecutor(4) as pool:
        target = target_of(slowly, budget=Budget(seconds=0.05), batch_size=2, executor=pool, price=1.0)
        with pytest.raises(BudgetExhausted) as caught:
            target.query(rows(*range(20)))
    account, whole = target.account(), target.ledger.account()
    assert caught.value.answered == 4
    assert (account.paid, account.money) == (whole.paid, whole.money)
    assert account.seconds == pytest.approx(whole.seconds)
    assert account.paid >= 8
    assert target.query(rows(*range(account.paid))).tolist() == [2 * i for i in range(account.paid)]


# --- a model of the rules --------------------------------------------------------------------------------------------
class Rules(RuleBasedStateMachine):
    """A target with a budget beside a plain account of what it should do, over many queries in any order."""

    values = st.lists(st.integers(0, 12), min_size=1, max_size=8)

    @initialize(calls=st.integers(1, 15), batch=st.integers(1, 4), broken=st.sets(st.integers(0, 12), max_size=2))
    def start(self, calls, batch, broken):
        self.limit, self.broken, self.repaired = calls, broken, False
        self.counted, self.failed, self.known = set(), set(), set()
        self.purposes: dict[int, set[str]] = {}
        self.log: list[int] = []
        self.target = target_of(self.model, batch_size=batch, budget=calls, failures="isolate", price=0.5)
        self.free = Target(self.model, name="model", output="value", fingerprint="model", ledger=self.target.ledger)

    def model(self, X):
        if not self.repaired and self.broken & set(X.ravel().tolist()):
            raise ValueError("broken")
        self.log.extend(X.ravel().tolist())
        return 2 * X[:, 0]

    @rule(values=values, purpose=st.sampled_from(["fit", "tune", "score", "use"]))
    def ask(self, values, purpose):
        distinct = list(dict.fromkeys(values))
        fitted = [v for v in distinct if self.purposes.get(v, set()) & {"fit", "tune"}]
        if purpose == "score" and fitted:
            with pytest.raises(NotFresh):
                self.target.query(rows(*values), purpose)
            return
        room = self.limit - len(self.counted | self.failed)
        allowed = []
        for v in distinct:
            if v not in self.counted | self.failed:
                if room == 0:
                    break
                room -= 1
            allowed.append(v)
        bad = [v for v in allowed if v in self.broken and not self.repaired and v not in self.known]
        paid = [v for v in allowed if v not in bad and v not in self.known]
        self.failed = (self.failed - set(allowed)) | set(bad)
        self.counted |= set(allowed) - set(bad)
        self.known |= set(paid)
        for v in paid:
            self.purposes.setdefault(v, set()).add(purpose)
        before = len(self.log)
        if bad:
            with pytest.raises(TargetError) as lost:
                self.target.query(rows(*values), purpose)
            assert lost.value.rows == tuple(i for i, v in enumerate(values) if v not in self.known)
        elif len(allowed) < len(distinct):
            with pytest.raises(BudgetExhausted) as ended:
                self.target.query(rows(*values), purpose)
            assert ended.value.answered == next(i for i, v in enumerate(values) if v not in allowed)
        else:
            assert self.target.query(rows(*values), purpose).tolist() == [2 * v for v in values]
            for v in distinct:
                self.purposes.setdefault(v, set()).add(purpose)
        assert sorted(self.log[before:]) == sorted(paid)

    @rule(values=values)
    def ask_without_a_budget(self, values):
        good = [v for v in values if self.repaired or v not in self.broken or v in self.known]
        if good:
            assert self.free.query(rows(*good), "use").tolist() == [2 * v for v in good]
            self.known |= set(good)
            for v in good:
                self.purposes.setdefault(v, set()).add("use")

    @rule()
    def repair(self):
        self.repaired = True

    @invariant()
    def everything_adds_up(self):
        assert len(self.log) == len(set(self.log))
        account = self.target.account()
        assert account.failed == len(self.failed)
        assert account.paid + account.replayed == len(self.counted)
        assert account.money == 0.5 * account.paid  # the target without a budget has no price
        assert len(self.target.ledger) == len(self.known)
        bits = self.target.ledger.purposes(rows(*range(13)))
        names = ["fit", "tune", "score", "use"]
        found = [{name for j, name in enumerate(names) if b >> j & 1} for b in bits]
        assert found == [self.purposes.get(v, set()) for v in range(13)]


Rules.TestCase.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
test_any_order_of_queries_keeps_the_rules = Rules.TestCase
