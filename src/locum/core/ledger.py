"""Ledger: the durable record of what a target was asked and what it answered."""

from __future__ import annotations

import enum
import json
import math
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, repeat
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from locum.core._content import Rows, join, opened, sealed, split_keys, unpack
from locum.core._file import Tally, clear_errors, close, connect, place, prepare, started
from locum.core.errors import LedgerError, NotFresh

__all__ = ["Account", "Claim", "Ledger", "Purpose"]


class Purpose(enum.Enum):
    """What a row is asked for. `bit` stands for it in the array that `Ledger.purposes` gives: 1, 2, 4, 8."""

    FIT = "fit"
    TUNE = "tune"
    SCORE = "score"
    USE = "use"

    @property
    def bit(self) -> int:
        """One bit of its own."""
        return 1 << list(Purpose).index(self)


FITTED = Purpose.FIT.bit | Purpose.TUNE.bit
LARGEST_BLOCK = 1 << 28  # bytes of rows and answers that are written as one; SQLite takes up to 10^9


@dataclass(frozen=True)
class Account:
    """What was asked, and what it cost.

    Of a target: since it was made, each row counted once, however often it was asked. Of a ledger: all targets that ever
    used it, added up.

    Parameters
    ----------
    asked : int
        Rows asked: paid, replayed and failed.
    paid : int
        Rows the model answered.
    replayed : int
        Rows answered from the record.
    failed : int
        Rows asked that have no answer.
    in_doubt : int
        Rows that were being asked when a process died, so that they may have been paid for without an answer.
    seconds : float
        Time the answers took, in seconds; a replayed row counts with the time it took when it was paid for.
    money : float
        What the answers cost, likewise.
    by_purpose : dict of str to int
        Rows by purpose; a row can have several.
    currency : str, default="USD"
    """

    asked: int
    paid: int
    replayed: int
    failed: int
    in_doubt: int
    seconds: float
    money: float
    by_purpose: dict[str, int]
    currency: str = "USD"

    def __str__(self) -> str:
        parts = [f"{self.asked:,} rows asked: {self.paid:,} paid, {self.replayed:,} replayed, {self.failed:,} failed"]
        parts += [f"{self.in_doubt:,} in doubt"] if self.in_doubt else []
        parts += [f"{self.seconds:.3g} s"]
        parts += [f"{self.money:,.2f} {self.currency}"] if self.money else []
        return ", ".join(parts)


@dataclass
class Claim:
    """Rows that one call is about to ask, so that no other does.

    Attributes
    ----------
    id : int
    keys : list of bytes
        The rows that are this call's to ask, in order.
    waiting : list of bytes
        The rows that somebody else is asking right now.
    doubtful : int
        How many of `keys` were being asked when a process died.
    """

    id: int
    keys: list[bytes]
    waiting: list[bytes]
    doubtful: int


class Vector:
    """A one-dimensional array that grows at its end; `values` shows it."""

    def __init__(self, dtype: Any) -> None:
        self._store = np.zeros(1024, dtype=dtype)
        self._size = 0

    @property
    def values(self) -> NDArray[Any]:
        """What it holds, as a view."""
        return self._store[: self._size]

    def grow(self, n: int, value: Any = 0) -> None:
        """Add `n` times the same value."""
        if self._size + n > len(self._store):
            larger = np.zeros(max(2 * len(self._store), self._size + n), dtype=self._store.dtype)
            larger[: self._size] = self.values
            self._store = larger
        self._store[self._size : self._size + n] = value
        self._size += n


class _Index:
    """What a ledger holds, in memory: rows are numbered from 0 in the order of their blocks, the same in every process."""

    def __init__(self) -> None:
        self.number: dict[bytes, int] = {}  # by key; read when the first key is looked up
        self.bits, self.block = Vector(np.uint8), Vector(np.int64)
        self.seconds, self.money = Vector(float), Vector(float)  # a row's share of its block's price
        self.first: dict[int, int] = {}  # number of the first row of each block
        self.failed: set[bytes] = set()
        self.read = {"block": 0, "keys": 0, "mark": 0, "failure": 0}  # up to which id

    def add_block(self, block: int, n: int, bits: int, seconds: float, money: float) -> None:
        self.first[block] = len(self.bits.values)
        for vector, value in (
            (self.bits, bits),
            (self.block, block),
            (self.seconds, seconds / n),
            (self.money, money / n),
        ):
            vector.grow(n, value)
        self.read["block"] = block

    def add_keys(self, block: int, keys: bytes) -> None:
        new = dict(zip(split_keys(opened(keys)), count(self.first[block]), strict=False))
        # Two answers to one row: only where a process was taken for dead and was not. The first holds.
        self.number.update(
            new if self.number.keys().isdisjoint(new) else {**new, **{k: self.number[k] for k in new if k in self.number}}
        )
        self.read["keys"] = block

    def add_mark(self, mark: int, bits: int, numbers: bytes) -> None:
        self.bits.values[np.frombuffer(opened(numbers), dtype=np.int64)] |= np.uint8(bits)
        self.read["mark"] = mark

    def add_failure(self, failure: int, keys: bytes) -> None:
        self.failed.update(split_keys(keys))
        self.read["failure"] = failure


class Ledger:
    """The durable record of a target's queries: nothing is paid twice, nothing paid is lost, and rows keep their purposes.

    One SQLite file in write-ahead mode, or memory. Processes on one machine, and threads, may share it. Before rows are
    asked they are *claimed*; answers are written in the transaction that ends the claim. So when a process dies, what was
    answered is kept, and what it was asking is known: those rows are *in doubt*.

    Parameters
    ----------
    path : path or None, default=None
        The file, made where there is none; None keeps the record in memory.

    Attributes
    ----------
    path : Path or None
    target : dict or None
        Name, fingerprint, output and answer format of the target the ledger belongs to; None until one has used it.

    Raises
    ------
    LedgerError
        The file is not a ledger, damaged, of a newer format, or cannot be written.

    Notes
    -----
    Cost: the rows and answers on disk, about 200 bytes of memory a row for the index, and two synchronous writes a batch
    (``synchronous=FULL``: a loss of power does not lose an answer either).

    Examples
    --------
    >>> from locum.core.target import Target
    >>> target = Target(lambda X: X.sum(axis=1), ledger=Ledger())
    >>> target.query([[1.0, 2.0], [3.0, 4.0]], "fit")
    array([3., 7.])
    >>> X, Y = target.ledger.rows("fit")
    >>> Y
    array([3., 7.])
    >>> target.ledger.purposes([[1.0, 2.0], [5.0, 6.0]])
    array([1, 0], dtype=uint8)
    """

    def __init__(self, path: Any = None) -> None:
        self.path = None if path is None else Path(path)
        self._lock = threading.RLock()
        self._connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """How many rows have an answer."""
        with self._reading():
            return len(self._index.bits.values)

    def __repr__(self) -> str:
        return f"Ledger({'' if self.path is None else repr(str(self.path))})"

    def __reduce__(self) -> Any:
        if self.path is None:
            raise TypeError("a ledger in memory cannot be sent to another process; give it a path")
        return (Ledger, (self.path,))

    def close(self) -> None:
        """Write what is left to write, and let go of the file."""
        with self._lock:
            if os.getpid() == self._pid:
                self._closing()

    # ------------------------------------------------------------------ what users ask
    @property
    def target(self) -> dict[str, Any] | None:
        """Name, fingerprint, output and answer format of the target the ledger belongs to."""
        with self._reading() as connection:
            found = connection.execute("SELECT value FROM fact WHERE name = 'target'").fetchone()
        return None if found is None else json.loads(found[0])

    def account(self) -> Account:
        """Everything the ledger's file, or memory, holds."""
        with self._reading() as connection:
            seconds, money = connection.execute("SELECT TOTAL(seconds), TOTAL(money) FROM block").fetchone()
            replayed = connection.execute("SELECT TOTAL(replayed) FROM session").fetchone()[0]
            doubt = connection.execute("SELECT TOTAL(n) FROM doubt").fetchone()[0]
            claims = connection.execute("SELECT session, LENGTH(keys) FROM claim").fetchall()
            dead = sum(size // 16 for session, size in claims if not self._alive(session))
            paid = len(self._index.bits.values)
            failed = len(self._index.failed - self._numbers().keys()) if self._index.failed else 0
            counts = {p.value: int(np.count_nonzero(self._index.bits.values & p.bit)) for p in Purpose}
            again = int(replayed) + self._tally.n
        currency = (self.target or {}).get("currency", "USD")
        return Account(paid + again + failed, paid, again, failed, int(doubt) + dead, seconds, money, counts, currency)

    def rows(self, purpose: Purpose | str | None = None) -> tuple[Any, NDArray[Any]]:
        """What was asked and answered, in the order of the record.

        Parameters
        ----------
        purpose : {"fit", "tune", "score", "use"} or None, default=None
            All rows where None.

        Returns
        -------
        X : rows, in the container they were asked in
        Y : ndarray of shape (n, ...)
        """
        X, Y = [], []
        with self._reading() as connection:
            bits = self._index.bits.values
            for block, n, rows, answers in connection.execute("SELECT id, n, rows, answers FROM block ORDER BY id"):
                start = self._index.first[block]
                wanted = np.ones(n, dtype=bool)
                if purpose is not None:
                    wanted = (bits[start : start + n] & Purpose(purpose).bit) != 0
                if wanted.any():
                    X.append(Rows(unpack(rows)).take(np.flatnonzero(wanted)))
                    Y.append(unpack(answers)[wanted])
        if not Y:
            raise LedgerError(f"the ledger holds no answered rows{'' if purpose is None else f' of purpose {purpose}'} yet")
        return join(X), np.concatenate(Y)

    def failures(self) -> list[tuple[Any, str]]:
        """The rows that were asked without success, with the message, batch by batch, in order."""
        with self._reading() as connection:
            found = connection.execute("SELECT rows, message FROM failure ORDER BY id").fetchall()
        return [(unpack(rows), message) for rows, message in found]

    def purposes(self, X: Any) -> NDArray[np.uint8]:
        """What each row was asked for, shape (n,): the bits of its purposes (`Purpose.bit`) added up, 0 for never."""
        numbers = self.find(Rows(X).keys)
        out = np.zeros(len(numbers), dtype=np.uint8)
        out[numbers >= 0] = self._index.bits.values[numbers[numbers >= 0]]
        return out

    # ------------------------------------------------------------------ what Target asks
    def attach(self, identity: dict[str, Any]) -> dict[str, Any]:
        """Make the ledger this target's, or see that it is; the identity with what the ledger knows beyond it."""
        with self._lock, self._writing() as connection:
            known = self.target
            if known is not None:
                _check_same_target(known, identity, self.path)
                identity = {**identity, **{key: value for key, value in known.items() if value is not None}}
            if identity != known:
                connection.execute("INSERT OR REPLACE INTO fact VALUES ('target', ?)", (json.dumps(identity),))
        return identity

    def find(self, keys: Iterable[bytes]) -> NDArray[np.int64]:
        """The number of each row in the record, -1 where it has no answer."""
        with self._reading():
            return np.fromiter(map(self._numbers().get, keys, repeat(-1)), dtype=np.int64)

    def find_batch(self, batch: bytes) -> NDArray[np.int64] | None:
        """The numbers of rows that were answered as one batch, found by the key of the whole; None where it was not."""
        with self._reading() as connection:
            found = connection.execute("SELECT id, n FROM block WHERE batch = ?", (batch,)).fetchone()
            return None if found is None else np.arange(found[1]) + self._index.first[found[0]]

    def bits(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Purposes of numbered rows."""
        with self._reading():
            return self._index.bits.values[numbers]

    def prices(self, numbers: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Block, seconds and money of numbered rows."""
        with self._lock:
            index = self._index
            return index.block.values[numbers], index.seconds.values[numbers], index.money.values[numbers]

    @property
    def seconds_per_row(self) -> float:
        """Mean time an answer took; NaN where there is none."""
        with self._reading():
            times = self._index.seconds.values
            return float(times.mean()) if times.size else math.nan

    def answers(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Answers to numbered rows, shape (len(numbers), ...)."""
        with self._reading() as connection:
            blocks, where = np.unique(self._index.block.values[numbers], return_inverse=True)
            found = []
            for start in range(0, len(blocks), 500):
                few = blocks[start : start + 500].tolist()
                marks = ",".join("?" * len(few))
                query = f"SELECT answers FROM block WHERE id IN ({marks}) ORDER BY id"
                found += [unpack(blob) for (blob,) in connection.execute(query, few)]
            first = np.array([self._index.first[block] for block in blocks.tolist()])
        if len(found) == 1:
            return found[0][numbers - first[0]]
        offsets = np.cumsum([0, *(len(part) for part in found[:-1])])
        return np.concatenate(found)[numbers - first[where] + offsets[where]]

    def mark(self, numbers: NDArray[np.int64], purpose: Purpose) -> None:
        """Give numbered rows one more purpose."""
        if not (self.bits(numbers) & purpose.bit == 0).any():
            return
        with self._lock:
            with self._writing() as connection:
                bits = self._index.bits.values[numbers]
                if purpose is Purpose.SCORE and (bits & FITTED).any():
                    raise NotFresh("another process fitted on some of these rows in the meantime; pick other rows")
                new = sealed(np.ascontiguousarray(numbers[bits & purpose.bit == 0], dtype=np.int64).tobytes())
                mark = connection.execute("INSERT INTO mark (bits, numbers) VALUES (?, ?)", (purpose.bit, new)).lastrowid
            self._index.add_mark(mark or 0, purpose.bit, new)

    def claim(self, keys: list[bytes], purpose: Purpose, in_doubt: str = "ask") -> Claim:
        """Take those rows that nobody has answered or is asking."""
        with self._lock, self._writing() as connection:
            numbers = self._numbers()
            missing = {key for key in keys if key not in numbers}
            busy: set[bytes] = set()
            doubtful = 0
            for claim, session, bits, blob in connection.execute("SELECT id, session, bits, keys FROM claim").fetchall():
                held = missing.intersection(split_keys(blob))
                if held and self._alive(session):
                    if purpose is Purpose.SCORE and bits & FITTED:
                        raise NotFresh(f"{len(held)} of these rows are being asked for fitting right now; pick other rows")
                    busy |= held
                elif held and in_doubt == "refuse":
                    raise LedgerError(_doubt_message(len(held)))
                elif held:
                    self._doubt(connection, claim, held)
                    doubtful += len(held)
            mine = [key for key in keys if key in missing and key not in busy]
            number = 0
            if mine:
                number = (
                    connection.execute(
                        "INSERT INTO claim (session, bits, since, keys) VALUES (?, ?, ?, ?)",
                        (self._session, purpose.bit, time.time(), b"".join(mine)),
                    ).lastrowid
                    or 0
                )
        return Claim(number, mine, [key for key in keys if key in busy], doubtful)

    def refuse_doubtful(self, keys: Iterable[bytes]) -> None:
        """Raise where any of these rows was being asked when a process died or a call was interrupted."""
        with self._reading() as connection:
            held = [blob for (blob,) in connection.execute("SELECT keys FROM doubt").fetchall()]
            claims = connection.execute("SELECT session, keys FROM claim").fetchall()
            held += [blob for session, blob in claims if not self._alive(session)]
        doubtful = set(split_keys(b"".join(held))).intersection(keys)
        if doubtful:
            raise LedgerError(_doubt_message(len(doubtful)))

    def record(
        self,
        claim: Claim,
        keys: list[bytes],
        purpose: Purpose,
        rows: bytes,
        answers: bytes,
        *,
        seconds: float,
        money: float,
        batch: bytes | None,
    ) -> int:
        """Write answers, and end the claim on their rows, in one transaction; the number of the first row."""
        with self._lock:
            with self._writing() as connection:
                entry = (len(keys), purpose.bit, seconds, money)
                block = connection.execute(
                    "INSERT INTO block (n, bits, seconds, money, asked_at, session, batch, keys, answers, rows) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*entry, time.time(), self._session, batch, sealed(b"".join(keys)), answers, rows),
                ).lastrowid
                self._settle(connection, claim.id, keys)
            self._index.add_block(block or 0, *entry)
            return self._index.first[block or 0]

    def fail(self, claim: Claim, keys: list[bytes], rows: bytes, message: str) -> None:
        """Write that rows were asked without success, and end the claim on them."""
        with self._lock:
            with self._writing() as connection:
                blob = b"".join(keys)
                failure = connection.execute(
                    "INSERT INTO failure (message, asked_at, session, keys, rows) VALUES (?, ?, ?, ?, ?)",
                    (message, time.time(), self._session, blob, rows),
                ).lastrowid
                self._settle(connection, claim.id, keys)
            self._index.add_failure(failure or 0, blob)

    def abandon(self, claim: Claim) -> None:
        """End a claim whose call was interrupted; its rows are in doubt."""
        with self._lock, self._writing() as connection:
            found = connection.execute("SELECT keys FROM claim WHERE id = ?", (claim.id,)).fetchone()
            if found is not None:
                self._doubt(connection, claim.id, set(split_keys(found[0])))

    def count_replayed(self, n: int) -> None:
        """Note that `n` rows were answered from the record; written with the next transaction."""
        with self._lock:
            self._tally.n += n

    # ------------------------------------------------------------------ claims and sessions
    def _settle(self, connection: sqlite3.Connection, claim: int, keys: Iterable[bytes]) -> None:
        found = connection.execute("SELECT keys FROM claim WHERE id = ?", (claim,)).fetchone()
        if found is None:
            return
        done = set(keys)
        left = [key for key in split_keys(found[0]) if key not in done]
        if left:
            connection.execute("UPDATE claim SET keys = ? WHERE id = ?", (b"".join(left), claim))
        else:
            connection.execute("DELETE FROM claim WHERE id = ?", (claim,))

    def _doubt(self, connection: sqlite3.Connection, claim: int, keys: set[bytes]) -> None:
        connection.execute(
            "INSERT INTO doubt (n, session, since, keys) SELECT ?, session, since, ? FROM claim WHERE id = ?",
            (len(keys), b"".join(sorted(keys)), claim),
        )
        self._settle(connection, claim, keys)

    def _alive(self, session: int) -> bool:
        if session == self._session:
            return True
        found = self._connection.execute("SELECT pid, started, place FROM session WHERE id = ?", (session,)).fetchone()
        return found is not None and found[2] == place() and found[1] == started(found[0]) is not None

    # ------------------------------------------------------------------ the file
    def _connect(self) -> None:
        self._pid = os.getpid()
        self._index = _Index()
        self._tally = Tally()
        self._version = -1
        with clear_errors(self.path):
            self._connection = connect(self.path)
            # Interpreter exit or a lost reference closes the file; a forked child leaves its parent's connection alone.
            self._closing = weakref.finalize(self, close, self._connection, self._pid, self._tally)
            try:
                self._session = self._tally.session = prepare(self._connection, self.path)
                with self._reading():
                    pass
            except BaseException:
                self._closing()
                raise

    def _here(self) -> sqlite3.Connection:
        """The connection, made anew in a forked process."""
        if os.getpid() != self._pid:
            if self.path is None:
                raise LedgerError("a ledger in memory cannot be used by a forked process; give it a path")
            self._lock = threading.RLock()
            self._connect()
        if not self._closing.alive:
            raise LedgerError(f"{self!r} is closed; open it again")
        return self._connection

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        connection = self._here()
        with self._lock, clear_errors(self.path):
            if not connection.in_transaction:
                version = connection.execute("PRAGMA data_version").fetchone()[0]
                if version != self._version:
                    connection.execute("BEGIN")
                    try:
                        self._read_on(connection)
                    finally:
                        connection.execute("COMMIT")
                    self._version = version
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        connection = self._here()
        with self._lock, clear_errors(self.path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._read_on(connection)
                yield connection
                self._tally.write(connection)
                connection.execute("COMMIT")
                self._tally.n = 0
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _numbers(self) -> dict[bytes, int]:
        """The number of each row by its key, read as far as the blocks are."""
        index = self._index
        if index.read["keys"] < index.read["block"]:
            query = "SELECT id, keys FROM block WHERE id > ? AND id <= ? ORDER BY id"
            for row in self._connection.execute(query, (index.read["keys"], index.read["block"])):
                index.add_keys(*row)
        return index.number

    def _read_on(self, connection: sqlite3.Connection) -> None:
        """Read into the index what others have written since."""
        index = self._index
        for row in connection.execute(
            "SELECT id, n, bits, seconds, money FROM block WHERE id > ? ORDER BY id", (index.read["block"],)
        ):
            index.add_block(*row)
        for row in connection.execute("SELECT id, bits, numbers FROM mark WHERE id > ? ORDER BY id", (index.read["mark"],)):
            index.add_mark(*row)
        for row in connection.execute("SELECT id, keys FROM failure WHERE id > ? ORDER BY id", (index.read["failure"],)):
            index.add_failure(*row)


def _check_same_target(known: dict[str, Any], given: dict[str, Any], path: Path | None) -> None:
    where = "this ledger" if path is None else f"the ledger {path}"
    remedy = "use another ledger for this one; or, if they are the same model, give fingerprint= the same value for both"
    for what in ("name", "fingerprint", "output"):
        old, new = known.get(what), given.get(what)
        if old is not None and new is not None and old != new:
            if what == "fingerprint":
                raise LedgerError(
                    f"{where} belongs to a target {known['name']!r} with fingerprint {old}, this one's is {new}: it computes "
                    f"something else; {remedy}"
                )
            raise LedgerError(f"{where} belongs to a target of {what} {old!r}, this one's is {new!r}; {remedy}")


def _doubt_message(n: int) -> str:
    return (
        f"{n} of these rows were being asked when a process died or a call was interrupted, so they may have been paid for "
        "without an answer; check the bill, then ask again with in_doubt='ask'"
    )
