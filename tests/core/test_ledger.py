"""Ledger: the file, its damage, processes that share it, and what it tells."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from locum.core._file import connect, prepare
from locum.core.errors import LedgerError, NotFresh, TargetError
from locum.core.ledger import Account, Ledger, Purpose
from locum.core.target import Target


def rows(*values):
    return np.array(values, dtype=float)[:, None]


def double(X):
    return 2 * X[:, 0]


def target_of(ledger, model=double, **settings):
    return Target(model, **{"name": "model", "output": "value", "fingerprint": "model", "ledger": ledger, **settings})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def filled(path):
    """A ledger file of 600 rows in six batches, closed."""
    with Ledger(path) as ledger:
        target_of(ledger, batch_size=100, price=0.01).query(np.arange(1800.0).reshape(600, 3), "fit")
    return path


FILLED = np.arange(1800.0).reshape(600, 3)


def never(X):
    raise AssertionError("asked again")


def read_all(path):
    with Ledger(path) as ledger:
        target_of(ledger, never).query(np.roll(FILLED, 1, axis=0))
        ledger.rows()


# --- what it tells ---------------------------------------------------------------------------------------------------
def test_a_ledger_remembers_across_openings(filled):
    with Ledger(filled) as ledger:
        assert len(ledger) == 600
        assert ledger.target["name"] == "model"
        assert ledger.target["shape"] == []
        X, answers = ledger.rows()
        np.testing.assert_array_equal(X, FILLED)
        np.testing.assert_array_equal(answers, 2 * FILLED[:, 0])
        assert (ledger.purposes(FILLED) == Purpose.FIT.bit).all()
        np.testing.assert_array_equal(target_of(ledger, never).query(FILLED), answers)
        order = np.random.default_rng(0).permutation(600)[:250]
        np.testing.assert_array_equal(target_of(ledger, never).query(FILLED[order]), answers[order])


def test_rows_by_purpose():
    ledger = Ledger()
    target = target_of(ledger)
    target.query(rows(1, 2, 3), "fit")
    target.query(rows(2, 4), "use")
    target.query(rows(5), "score")
    assert ledger.rows("fit")[0].ravel().tolist() == [1, 2, 3]
    assert ledger.rows(Purpose.USE)[1].tolist() == [4, 8]
    assert ledger.rows("score")[1].tolist() == [10]
    assert ledger.rows()[1].tolist() == [2, 4, 6, 8, 10]
    with pytest.raises(LedgerError, match="the ledger holds no answered rows of purpose tune yet"):
        ledger.rows("tune")
    with pytest.raises(LedgerError, match="the ledger holds no answered rows yet"):
        Ledger().rows()


def test_the_account_of_a_file_covers_all_that_used_it(path):
    def fails(X):
        if (X == 7).any():
            raise ValueError("seven")
        return double(X)

    for ask in ([1, 2], [2, 3], [3]):
        with Ledger(path) as ledger:
            target_of(ledger, price=0.5).query(rows(*ask), "use")
    with Ledger(path) as ledger:
        with pytest.raises(TargetError):
            target_of(ledger, fails).query(rows(7))
        account = ledger.account()
        assert (account.paid, account.replayed, account.failed, account.asked) == (3, 2, 1, 6)
        assert account.money == 1.5
        assert account.by_purpose == {"fit": 0, "tune": 0, "score": 0, "use": 3}
        ((failed, message),) = ledger.failures()
        assert failed.tolist() == [[7]]
        assert message == "the target 'model' raised ValueError: seven"
        target_of(ledger).query(rows(7))
        assert ledger.account().failed == 0
    assert str(Account(1200, 1000, 150, 50, 3, 2.5, 7.25, {}, "EUR")) == (
        "1,200 rows asked: 1,000 paid, 150 replayed, 50 failed, 3 in doubt, 2.5 s, 7.25 EUR"
    )


def test_a_closed_ledger_says_so(path):
    ledger = Ledger(path)
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match=r"Ledger\(.*ledger.db'\) is closed; open it again"):
        len(ledger)


def test_closing_leaves_one_file(filled):
    assert [file.name for file in filled.parent.iterdir()] == ["ledger.db"]


def test_the_file_is_in_write_ahead_mode_and_flushed_at_each_batch(path):
    ledger = Ledger(path)
    target_of(ledger).query(rows(1))
    file = sqlite3.connect(path)
    assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert file.execute("SELECT COUNT(*) FROM claim").fetchone() == (0,)
    assert file.execute("SELECT n FROM block").fetchall() == [(1,)]
    file.close()
    ledger.close()


# --- files that cannot be used ---------------------------------------------------------------------------------------
def test_a_file_of_another_kind_is_refused_and_left_alone(path):
    path.write_text("name,age\n" * 100)
    with pytest.raises(LedgerError, match="is not a ledger: it is no SQLite file; give another path"):
        Ledger(path)
    assert path.read_text() == "name,age\n" * 100


def test_another_programs_database_is_refused_and_left_alone(path):
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE mine (x)")
    file.close()
    content = path.read_bytes()
    with pytest.raises(LedgerError, match="is not a ledger but another program's SQLite file; give another path"):
        Ledger(path)
    assert path.read_bytes() == content


def test_an_empty_file_becomes_a_ledger(path):
    path.touch()
    with Ledger(path) as ledger:
        assert len(ledger) == 0


def test_a_newer_format_is_refused(filled):
    with sqlite3.connect(filled) as file:
        file.execute("PRAGMA user_version = 99")
    file.close()
    with pytest.raises(LedgerError, match="has format 99, this version reads up to 1; update locum"):
        Ledger(filled)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("file/ledger.db", "there is no folder .*file; make it first"),
        ("missing/ledger.db", "there is no folder .*missing; make it first"),
        ("folder", "cannot use the ledger .*folder: Is a directory; choose a path that can be written"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused(tmp_path, where, message):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(LedgerError, match=message):
        Ledger(tmp_path / where)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder here that not even root can write")
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_paid():
    calls = []
    with pytest.raises(LedgerError, match=r"cannot use the ledger /proc/self/ledger.db: it cannot be written there"):
        target_of("/proc/self/ledger.db", calls.append)
    assert calls == []


def test_a_file_cut_short_anywhere_is_an_error_or_holds_all_it_says(filled, tmp_path):
    whole = filled.read_bytes()
    cut = tmp_path / "cut.db"
    for size in [1, 50, 99, 100, 101, *range(4096, len(whole), 4096), len(whole) - 1]:
        cut.write_bytes(whole[:size])
        with pytest.raises(LedgerError, match=r"cut short|is not a ledger"):
            Ledger(cut)


@pytest.mark.parametrize("table", ["block.keys", "block.answers", "block.rows", "mark.numbers"])
def test_one_changed_byte_is_an_error_before_anything_is_paid(filled, table):
    with Ledger(filled) as ledger:
        target_of(ledger, never).query(FILLED[150:250], "use")
    name, column = table.split(".")
    with sqlite3.connect(filled) as file:
        blobs = [bytes(blob) for (blob,) in file.execute(f"SELECT {column} FROM {name}")]
    file.close()
    whole = filled.read_bytes()
    for blob in blobs:
        for position in (0, len(blob) // 2, len(blob) - 1):
            content = bytearray(whole)
            content[whole.index(blob) + position] ^= 4
            filled.write_bytes(content)
            with pytest.raises(LedgerError, match="does not match its checksum, so the ledger is damaged; restore it from"):
                read_all(filled)


def test_damage_anywhere_is_an_error_or_changes_no_number(filled):
    whole, truth = filled.read_bytes(), 2 * FILLED[:, 0]
    rng, noticed = np.random.default_rng(0), 0
    for _ in range(60):
        content = bytearray(whole)
        start = int(rng.integers(100, len(whole) - 2000))
        content[start : start + 2000] = rng.bytes(2000)
        filled.write_bytes(content)
        try:
            with Ledger(filled) as ledger:
                said = target_of(ledger).query(FILLED)
        except LedgerError:
            noticed += 1
        else:
            np.testing.assert_array_equal(said, truth)
    assert noticed >= 10


# --- processes -------------------------------------------------------------------------------------------------------
SHARED = """
    import os, sys, time
    import numpy as np
    from locum.core.target import Target

    path, log, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def answer(X):
        for row in X:
            os.write(file, f"{int(row[0])}\\n".encode())
        time.sleep(0.003)
        return np.cos(X[:, 0])

    target = Target(answer, name="shared", output="value", fingerprint="shared", ledger=path, batch_size=5)
    order = np.random.default_rng(seed).permutation(120)
    while not os.path.exists(path + ".go"):
        time.sleep(0.001)
    for part in np.array_split(order, 4):
        X = part.astype(float)[:, None]
        assert np.array_equal(target.query(X, "fit" if seed else "use"), np.cos(X[:, 0]))
    account = target.account()
    assert account.asked == account.paid + account.replayed == 120
    print(account.paid)
"""


def python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def test_a_ledger_that_another_process_makes_between_two_looks_at_it_is_one(path):
    class Slow:
        """Asks one thing, and another process makes the ledger before the next."""

        def __init__(self, inner):
            self.inner, self.asked = inner, 0

        def execute(self, *statement):
            found = self.inner.execute(*statement)
            self.asked += 1
            if self.asked == 1:
                rows = found.fetchall()
                Ledger(path).close()
                return SimpleNamespace(fetchone=lambda: rows[0])
            return found

    connection = connect(path)
    assert prepare(Slow(connection), path) == 2
    connection.close()


def test_three_processes_at_once_pay_each_row_exactly_once(path, tmp_path):
    log = tmp_path / "asked.txt"
    with ExitStack() as stack:
        running = [stack.enter_context(python(SHARED, path, log, seed)) for seed in range(3)]
        Path(f"{path}.go").touch()
        paid = [int(process.communicate(timeout=60)[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sorted(map(int, log.read_text().split())) == list(range(120))
    assert sum(paid) == 120
    with Ledger(path) as ledger:
        X, answers = ledger.rows()
        assert sorted(X.ravel().tolist()) == list(range(120))
        np.testing.assert_array_equal(answers, np.cos(X[:, 0]))
        account = ledger.account()
        assert (account.paid, account.replayed, account.in_doubt) == (120, 240, 0)
        assert account.by_purpose == {"fit": 120, "tune": 0, "score": 0, "use": 120}


def test_what_one_process_fits_another_cannot_score(path):
    ledger = Ledger(path)
    target = target_of(ledger)
    code = """
        import sys, numpy as np
        from locum.core.target import Target
        target = Target(lambda X: 2 * X[:, 0], name="model", output="value", fingerprint="model", ledger=sys.argv[1])
        target.query(np.array([[1.0], [2.0]]), "fit")
        target.query(np.array([[3.0]]), "use")
    """
    target.query(rows(1), "use")
    with python(code, path) as process:
        assert process.wait(timeout=60) == 0
    assert target.fresh(rows(1, 2, 3)).tolist() == [False, False, True]
    with pytest.raises(NotFresh):
        target.query(rows(1), "score")
    assert target_of(ledger, never).query(rows(3, 2), "use").tolist() == [6, 4]


def test_rows_being_asked_when_a_process_died_are_in_doubt_and_asked_again(path):
    code = """
        import os, signal, sys, numpy as np
        from locum.core.target import Target
        def answer(X):
            if X[0, 0] >= 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return 2 * X[:, 0]
        Target(answer, name="model", output="value", fingerprint="model", ledger=sys.argv[1], batch_size=2).query(
            np.arange(8.0)[:, None], "fit"
        )
    """
    with python(code, path) as process:
        assert process.wait(timeout=60) == -9
    ledger = Ledger(path)
    assert ledger.account().in_doubt == 2
    careful = target_of(ledger, never, in_doubt="refuse")
    assert careful.query(rows(0, 1, 2, 3)).tolist() == [0, 2, 4, 6]
    with pytest.raises(LedgerError, match=r"2 of these rows were being asked when a process died .*; check the bill"):
        careful.query(rows(*range(8)))

    def fails(X):
        raise ValueError("no")

    target = target_of(ledger, fails)
    with pytest.raises(TargetError):
        target.query(rows(4, 5))
    assert target.account().in_doubt == 2
    # They were asked since, and it is known what came of it: nobody doubts them a second time.
    target = target_of(ledger)
    assert target.query(rows(*range(8)), "use").tolist() == [2 * i for i in range(8)]
    assert target.account().in_doubt == 0
    assert ledger.account().in_doubt == 2
    assert careful.query(rows(*range(8))).tolist() == [2 * i for i in range(8)]


def test_while_another_process_asks_rows_to_fit_they_cannot_score(path, tmp_path):
    code = """
        import os, sys, time, numpy as np
        from locum.core.target import Target
        def answer(X):
            open(sys.argv[2], "w").close()
            until = time.monotonic() + 20
            while not os.path.exists(sys.argv[3]) and time.monotonic() < until:
                time.sleep(0.002)
            return 2 * X[:, 0]
        target = Target(answer, name="model", output="value", fingerprint="model", ledger=sys.argv[1])
        target.query(np.arange(3.0)[:, None], "fit")
    """
    begun, end = tmp_path / "begun", tmp_path / "end"
    with python(code, path, begun, end) as process:
        while not begun.exists():
            assert process.poll() is None
        target = target_of(path, never)
        try:
            with pytest.raises(NotFresh, match="2 of these rows are being asked for fitting right now; pick other rows"):
                target.query(rows(1, 2), "score")
            threading.Timer(0.05, end.touch).start()
            assert target.query(rows(2, 1), "use").tolist() == [4, 2]
        finally:
            end.touch()
        assert process.wait(timeout=60) == 0
    assert target.account().replayed == 2


def test_a_forked_child_uses_the_same_file_safely(path):
    ledger = Ledger(path)
    target = target_of(ledger)
    target.query(rows(1, 2))

    def child(queue):
        queue.put(target_of(ledger, never).query(rows(2, 1)).tolist() + target_of(ledger).query(rows(5)).tolist())

    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert queue.get() == [4, 2, 10]
    assert target_of(ledger, never).query(rows(5, 1)).tolist() == [10, 2]
    ledger.close()
    with Ledger(path) as again:
        assert len(again) == 3


def test_a_ledger_in_memory_cannot_leave_its_process():
    ledger = Ledger()
    with pytest.raises(TypeError, match="a ledger in memory cannot be sent to another process; give it a path"):
        pickle.dumps(ledger)
    child = os.fork()
    if child == 0:
        try:
            len(ledger)
        except LedgerError as error:
            os._exit(7 if "cannot be used by a forked process; give it a path" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_ledger_with_a_path_travels_by_its_path(filled):
    with Ledger(filled) as ledger:
        copy = pickle.loads(pickle.dumps(ledger))
        assert copy.path == filled
        assert len(copy) == 600
        copy.close()


def test_the_record_survives_being_copied_with_its_log(path, tmp_path):
    ledger = Ledger(path)
    target_of(ledger).query(rows(1, 2, 3))
    assert path.with_name("ledger.db-wal").exists()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for file in tmp_path.glob("ledger.db*"):
        shutil.copy(file, elsewhere)
    with Ledger(elsewhere / "ledger.db") as copy:
        assert copy.rows()[1].tolist() == [2, 4, 6]
    ledger.close()


def test_threads_share_a_ledger(path):
    paid = []

    def model(X):
        paid.extend(X.ravel().tolist())
        return double(X)

    ledger = Ledger(path)
    X = rows(*range(60))
    found: dict[int, list[float]] = {}

    def ask(i):
        found[i] = target_of(ledger, model, batch_size=7).query(np.roll(X, 11 * i)).tolist()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(found[i] == (2 * np.roll(X, 11 * i).ravel()).tolist() for i in range(4))
    assert sorted(paid) == list(range(60))
    account = ledger.account()
    assert (account.paid, account.replayed) == (60, 180)
    ledger.close()
