"""The ledger's file: opening it safely, clear errors, and which of the processes that use it still live."""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from locum.core.errors import LedgerError

__all__ = ["Tally", "clear_errors", "close", "connect", "place", "prepare", "started"]

FORMAT = 1
_APPLICATION = 0x4C4F4355  # "LOCU"
_BUSY_SECONDS = 60.0
_PAGE_BYTES = 16384
_SCHEMA = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE session (id INTEGER PRIMARY KEY, pid INTEGER, started TEXT, place TEXT, opened REAL, replayed INTEGER DEFAULT 0);
CREATE TABLE block (id INTEGER PRIMARY KEY AUTOINCREMENT, n INTEGER, bits INTEGER, seconds REAL, money REAL, asked_at REAL,
                    session INTEGER, batch BLOB, keys BLOB, answers BLOB, rows BLOB);
CREATE INDEX whole ON block (batch) WHERE batch IS NOT NULL;
CREATE TABLE mark (id INTEGER PRIMARY KEY AUTOINCREMENT, bits INTEGER, numbers BLOB);
CREATE TABLE failure (id INTEGER PRIMARY KEY AUTOINCREMENT, message TEXT, asked_at REAL, session INTEGER, keys BLOB, rows BLOB);
CREATE TABLE claim (id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER, bits INTEGER, since REAL, keys BLOB);
CREATE TABLE doubt (id INTEGER PRIMARY KEY AUTOINCREMENT, n INTEGER, session INTEGER, since REAL, keys BLOB);
"""


def connect(path: Path | None) -> sqlite3.Connection:
    """A connection to a file that may be a ledger, or to memory."""
    if path is not None:
        _check_file(path)
    where = ":memory:" if path is None else path
    return sqlite3.connect(where, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def prepare(connection: sqlite3.Connection, path: Path | None) -> int:
    """See that it is a ledger, or make it one; the number of the session that begins."""
    _check_kind(connection, path)
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    if path is not None:
        _use_write_ahead(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    if not _check_kind(connection, path):
        for statement in _SCHEMA.split(";")[:-1]:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    pid = os.getpid()
    session = connection.execute(
        "INSERT INTO session (pid, started, place, opened) VALUES (?, ?, ?, ?)", (pid, started(pid), place(), time.time())
    ).lastrowid
    connection.execute("COMMIT")
    return session or 0


@dataclass
class Tally:
    """Rows that a session answered from the record, and that are not written down yet."""

    session: int = 0
    n: int = 0

    def write(self, connection: sqlite3.Connection) -> None:
        """Write them down."""
        if self.n:
            connection.execute("UPDATE session SET replayed = replayed + ? WHERE id = ?", (self.n, self.session))


def close(connection: sqlite3.Connection, pid: int, tally: Tally) -> None:
    """Close a connection that this process has opened, with what is left to write down."""
    if os.getpid() == pid:
        with suppress(sqlite3.Error):  # it is only a count, and nobody is left to be told
            tally.write(connection)
        connection.close()


def _check_file(path: Path) -> None:
    """See that a file that is there looks like a whole SQLite file."""
    if not path.parent.is_dir():
        raise LedgerError(f"cannot make the ledger {path}: there is no folder {path.parent}; make it first")
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        head = file.read(100)
    if not head.startswith(b"SQLite format 3\0"):
        raise LedgerError(f"{path} is not a ledger: it is no SQLite file; give another path")
    log = path.with_name(path.name + "-wal")
    page = int.from_bytes(head[16:18], "big")
    promised = int.from_bytes(head[28:32], "big") * (65536 if page == 1 else page)
    # Pages in the write-ahead log are not in the file yet, so only without a log is a short file a cut one. The log is looked
    # at before the size, since another process may be moving its pages into the file, and removes it last.
    logged = log.exists() and log.stat().st_size > 0
    if len(head) < 100 or (not logged and path.stat().st_size < promised):
        raise LedgerError(f"{path} is cut short ({path.stat().st_size} bytes of {promised}); restore it from a copy")


def _check_kind(connection: sqlite3.Connection, path: Path | None) -> bool:
    """Whether the file is a ledger; False for one that is still empty."""
    # In this order: another process makes tables and sets the number in one go, so whoever has seen tables sees the number too.
    tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != _APPLICATION:
        if application or tables:
            raise LedgerError(f"{path} is not a ledger but another program's SQLite file; give another path")
        return False
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > FORMAT:
        raise LedgerError(f"{path} has format {version}, this version reads up to {FORMAT}; update locum")
    return True


def _use_write_ahead(connection: sqlite3.Connection) -> None:
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # SQLite does not wait by itself where two processes make the same file at once.
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


@contextmanager
def clear_errors(path: Path | None) -> Iterator[None]:
    where = "the ledger in memory" if path is None else f"the ledger {path}"
    try:
        yield
    except sqlite3.DatabaseError as error:
        message = str(error)
        if "locked" in message:
            hint = f"another process has held it for {_BUSY_SECONDS:.0f} s; end that one, or use another path"
        elif any(word in message for word in ("unable to open", "readonly", "disk I/O")):
            hint = "it cannot be written there; choose a folder that can be written"
        elif "full" in message:
            hint = "the disk is full; make room and ask again, nothing recorded is lost"
        else:
            hint = "the file is damaged or no ledger; restore it from a copy, or give another path"
        raise LedgerError(f"cannot use {where}: {hint} (SQLite: {message})") from error
    except OSError as error:
        raise LedgerError(f"cannot use {where}: {error.strerror or error}; choose a path that can be written") from error


# ---------------------------------------------------------------------- processes
def place() -> str:
    """This machine since it started, and the space its process numbers are counted in."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = space = ""
    return f"{socket.gethostname()} {boot} {space}".strip()


def started(pid: int) -> str | None:
    """When a process started, as the system counts; None where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
    try:
        os.kill(pid, 0)  # systems without /proc: whether it runs is all there is to know
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "running"
