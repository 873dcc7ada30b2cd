"""Where calls run: here, in threads, in processes, on Ray; the same numbers everywhere, and nothing lost when a worker dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from locum.core.errors import BudgetExhausted, InvalidData, TargetError, TargetTimeout
from locum.core.execute import Malformed
from locum.core.target import Budget, Target

N = 40
X = np.random.default_rng(0).normal(size=(N, 3))
TRUTH = np.sin(X).sum(axis=1)


def model(rows):
    return np.sin(rows).sum(axis=1)


def processes(workers=2):
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"))


def target_of(answer=model, **settings):
    return Target(answer, **{"name": "model", "output": "value", "fingerprint": "model", "batch_size": 7, **settings})


class Inline(Executor):
    """The least that an executor can be: it knows no number of workers, and runs calls as they come."""

    def submit(self, call, /, *args):
        future = Future()
        future.set_result(call(*args))
        return future


@pytest.mark.parametrize("made", [lambda: ThreadPoolExecutor(3), processes, Inline], ids=["threads", "processes", "own"])
def test_every_executor_gives_the_same_numbers(made):
    with made() as pool:
        target = target_of(executor=pool, price=0.5)
        np.testing.assert_array_equal(target.query(X, "fit"), TRUTH)
        np.testing.assert_array_equal(target.query(X[::-1]), TRUTH[::-1])
    account = target.account()
    assert (account.paid, account.money, account.by_purpose["fit"]) == (N, 20.0, N)
    assert account.seconds > 0


def test_batches_run_side_by_side_and_no_more_than_there_are_workers():
    lock, running, most = threading.Lock(), 0, 0
    together = threading.Barrier(3, timeout=20)

    def meets(rows):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait()
        with lock:
            running -= 1
        return model(rows)

    with ThreadPoolExecutor(3) as pool:
        target = target_of(meets, executor=pool, batch_size=4)
        np.testing.assert_array_equal(target.query(X[:24]), TRUTH[:24])
    assert most == 3


def test_rows_are_claimed_only_when_there_is_room_for_them(tmp_path):
    gate, asked = threading.Event(), []

    def waits(rows):
        asked.append(len(rows))
        gate.wait(20)
        return model(rows)

    with ThreadPoolExecutor(2) as pool:
        target = target_of(waits, executor=pool, ledger=tmp_path / "l.db")
        query = threading.Thread(target=target.query, args=(X,))
        query.start()
        while len(asked) < 2:
            time.sleep(0.001)
        with closing(sqlite3.connect(tmp_path / "l.db")) as file:
            held = file.execute("SELECT COUNT(*) FROM claim").fetchone()[0]
        gate.set()
        query.join(20)
    assert held == 2
    target.ledger.close()


@pytest.mark.parametrize("isolated", [False, True])
def test_rows_that_raise_in_a_pool_lose_no_others(isolated):
    def picky(rows):
        if (rows[:, 0] == X[10, 0]).any():
            raise ValueError("not this one")
        return model(rows)

    with ThreadPoolExecutor(2) as pool:
        target = target_of(picky, executor=pool, failures="isolate" if isolated else "raise")
        with pytest.raises(TargetError, match="ValueError: not this one") as caught:
            target.query(X)
    assert caught.value.rows == ((10,) if isolated else tuple(range(7, 14)))
    kept = np.delete(np.arange(N), caught.value.rows)
    np.testing.assert_array_equal(target.query(X[kept]), TRUTH[kept])
    assert target.account().paid == len(kept)


@pytest.mark.parametrize("failures", ["raise", "isolate"])
def test_a_model_may_end_the_query_itself(failures):
    asked = []

    def ends(rows):
        asked.append(len(rows))
        if len(asked) == 2:
            raise Malformed("no credit is left")
        return model(rows)

    target = target_of(ends, retries=3, backoff=0.0, failures=failures)
    with pytest.raises(TargetError, match="does not answer as it should: no credit is left; 33 of") as caught:
        target.query(X)
    assert caught.value.rows == tuple(range(7, N))
    assert len(asked) == 2
    np.testing.assert_array_equal(target.query(X[:7]), TRUTH[:7])


# --- calls that hang -------------------------------------------------------------------------------------------------
def test_a_call_that_hangs_holds_its_worker_and_the_others_go_on():
    gate = threading.Event()

    def hangs(rows):
        if rows[0, 0] == X[7, 0]:
            gate.wait(20)
        return model(rows)

    with ThreadPoolExecutor(2) as pool:
        target = target_of(hangs, executor=pool, timeout=0.3)
        try:
            with pytest.raises(TargetTimeout, match="7 of the 40 rows") as caught:
                target.query(X)
        finally:
            gate.set()
        assert caught.value.rows == tuple(range(7, 14))
        np.testing.assert_array_equal(target.query(X), TRUTH)


def test_where_every_worker_hangs_nothing_more_is_asked():
    gate, asked = threading.Event(), []

    def hangs(rows):
        asked.append(len(rows))
        gate.wait(20)
        return model(rows)

    with ThreadPoolExecutor(2) as pool:
        target = target_of(hangs, executor=pool, timeout=0.2, retries=3, backoff=0.0)
        try:
            with pytest.raises(TargetTimeout, match="40 of the 40 rows asked have no answer") as caught:
                target.query(X)
        finally:
            gate.set()
    assert len(asked) == 2
    assert caught.value.rows == tuple(range(N))
    assert len(target.ledger) == 0


# --- workers that die ------------------------------------------------------------------------------------------------
def suicidal(rows, marker, always):
    """Dies on the batch that holds row 10: the first time only, or always."""
    if (rows[:, 0] == X[10, 0]).any() and (always or not os.path.exists(marker)):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return model(rows)


class Suicidal:
    def __init__(self, marker, always):
        self.marker, self.always = str(marker), always

    def __call__(self, rows):
        return suicidal(rows, self.marker, self.always)


def test_rows_of_a_worker_that_died_are_reported_and_the_rest_is_kept(tmp_path):
    with processes() as pool:
        target = target_of(Suicidal(tmp_path / "dead", True), executor=pool, ledger=tmp_path / "l.db")
        with pytest.raises(TargetError, match="a worker of the pool died while the target 'model' was asked") as caught:
            target.query(X)
    lost = list(caught.value.rows)
    kept = np.setdiff1d(np.arange(N), lost)
    assert 10 in lost
    assert len(target.ledger) == len(kept)
    again = target_of(lambda rows: model(rows), ledger=tmp_path / "l.db")
    np.testing.assert_array_equal(again.query(X), TRUTH)
    account = again.account()
    assert (account.paid, account.replayed, account.in_doubt) == (len(lost), len(kept), 0)
    failed = np.concatenate([rows for rows, _ in again.ledger.failures()])
    assert any((row == X[10]).all() for row in failed)


def test_a_pool_that_broke_is_replaced_for_what_is_asked_again(tmp_path):
    with processes() as pool:
        target = target_of(Suicidal(tmp_path / "dead", False), executor=pool, retries=1, backoff=0.0)
        np.testing.assert_array_equal(target.query(X), TRUTH)
        assert (tmp_path / "dead").exists()
        # The executor that was given is broken for good; the next query does not mind.
        np.testing.assert_array_equal(target.query(X + 1), np.sin(X + 1).sum(axis=1))
    assert target.account().failed == 0


def test_a_model_that_cannot_be_sent_is_refused_at_once():
    with processes() as pool, pytest.raises(InvalidData, match="a process pool needs a model that can be pickled"):
        target_of(lambda rows: model(rows), executor=pool)


def test_a_pool_that_is_shut_down_is_refused_and_nothing_is_lost():
    pool = ThreadPoolExecutor(2)
    target = target_of(executor=pool)
    pool.shutdown()
    with pytest.raises(InvalidData, match=r"takes no more calls \(cannot schedule new futures after shutdown\); give one that"):
        target.query(X)
    assert target.account().asked == 0


# --- budgets ---------------------------------------------------------------------------------------------------------
def test_a_budget_holds_in_a_pool():
    with ThreadPoolExecutor(3) as pool:
        target = target_of(executor=pool, budget=Budget(calls=17))
        with pytest.raises(BudgetExhausted) as caught:
            target.query(X)
        assert caught.value.answered == 17
        np.testing.assert_array_equal(target.query(X[:17]), TRUTH[:17])
    assert target.account().paid == 17


# --- Ray -------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_ray_gives_the_same_numbers_and_survives_a_task_that_dies_or_hangs(tmp_path):
    ray = pytest.importorskip("ray")
    marker = str(tmp_path / "dead")

    def answer(rows):
        return model(rows)

    def dies(rows):
        if (rows[:, 0] == X[10, 0]).any() and not os.path.exists(marker):
            open(marker, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return model(rows)

    def hangs(rows):
        if (rows[:, 0] == X[10, 0]).any():
            time.sleep(60)
        if (rows[:, 0] == X[20, 0]).any():
            raise ValueError("not this one")
        return model(rows)

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        target = target_of(answer, executor="ray")
        np.testing.assert_array_equal(target.query(X, "fit"), TRUTH)
        assert target.account().paid == N
        np.testing.assert_array_equal(target_of(dies, executor="ray", retries=1, backoff=0.0).query(X), TRUTH)
        assert os.path.exists(marker)
        late = target_of(hangs, executor="ray", timeout=20.0)  # workers start slowly on a busy machine
        with pytest.raises(TargetError, match="the target 'model' raised ValueError: not this one") as caught:
            late.query(X)
        assert caught.value.rows == (*range(7, 14), *range(14, 21))
        assert isinstance(caught.value.__cause__, ValueError)
        lock = threading.Lock()
        with pytest.raises(InvalidData, match="Ray cannot send this model to its workers"):
            target_of(lambda rows: lock and model(rows), executor="ray").query(X)
    finally:
        ray.shutdown()
