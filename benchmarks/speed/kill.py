"""What a process killed with -9 at a random moment loses, pays twice, or leaves in doubt.

A process asks a target that writes down each row it is asked, one line a row, flushed to disk, before it answers: that line is
the payment. The process is killed at a random moment and started again, until it ends by itself; then everything is counted:

lost         rows without an answer in the ledger at the end, or recorded at a kill and gone, or changed, later
paid twice   rows asked again although their answer was in the ledger
in doubt     rows that were being asked at a kill, as the ledger reports them; they may be asked again
unaccounted  rows asked again that the ledger did not report as in doubt
differing    runs whose numbers are not those of a run without a kill

Three ways take turns: one call at a time, calls in two threads, and two processes on one ledger of which one is killed while
the other goes on. Writes benchmarks/speed/kill/result.json and prints one JSON line; exits with 1 when anything but "in doubt"
is not zero, or fewer processes were killed than asked for.

    python benchmarks/speed/kill.py [--kills 200] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from locum.core.errors import BudgetExhausted
from locum.core.ledger import Ledger
from locum.core.target import Budget, Target

HERE = Path(__file__).parent / "kill"
WAYS = ("alone", "threads", "pair")
ROWS, BUDGET, BATCH = 100, 90, 7  # the last query asks for more rows than the budget has
ENDS_AFTER = 60.0  # seconds; nothing here takes that long


# --- the process that is killed --------------------------------------------------------------------------------------


def rows(start: int, stop: int) -> np.ndarray:
    """Rows that carry their number."""
    i = np.arange(start, stop, dtype=float)
    return np.column_stack([i, np.sin(i), i % 3])


def work(folder: Path, way: str) -> dict[str, Any]:
    """Ask for all purposes, with rows in common, until the budget ends."""
    file = os.open(folder / "asked.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def paid(X: np.ndarray) -> np.ndarray:
        for row in X:
            os.write(file, f"{int(row[0])}\n".encode())
            os.fsync(file)
        return np.cos(X).sum(axis=1)

    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(2)) if way == "threads" else None
        target = Target(
            paid,
            name="paid",
            output="value",
            fingerprint="paid",
            ledger=folder / "ledger.db",
            batch_size=BATCH,
            budget=Budget(calls=BUDGET),
            executor=pool,
            price=0.01,
        )
        found: dict[str, Any] = {}
        for purpose, start, stop in (("fit", 0, 40), ("tune", 20, 60), ("score", 60, 80), ("use", 10, 70)):
            found[purpose] = target.query(np.roll(rows(start, stop), 5, axis=0), purpose).tolist()
        try:
            target.query(rows(50, ROWS), "use")
        except BudgetExhausted as ended:
            found["answered"] = ended.answered
            found["last"] = target.query(rows(50, 50 + ended.answered), "use").tolist()
        account = target.account()
        found["account"] = [account.asked, account.by_purpose, round(account.money, 6)]
        return found


# --- killing it ------------------------------------------------------------------------------------------------------


class Run:
    """One process at work."""

    def __init__(self, folder: Path, way: str) -> None:
        command = [sys.executable, __file__, "--work", str(folder), "--way", way]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        if self.process.stdout.readline() != "begun\n":
            raise RuntimeError("the process did not begin")

    def kill(self) -> bool:
        """Kill it; whether it was still at work."""
        self.process.send_signal(signal.SIGKILL)
        killed = self.process.wait() == -signal.SIGKILL
        if killed:
            self.process.stdout.close()
        return killed

    def result(self) -> dict[str, Any]:
        """What it found."""
        with self.process as process:
            try:
                said, _ = process.communicate(timeout=ENDS_AFTER)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        if process.returncode:
            raise RuntimeError(f"the process ended with {process.returncode}")
        return json.loads(said)


def recorded(folder: Path) -> dict[int, float]:
    """What the ledger's files hold, read from a copy so that they stay as the kill left them."""
    if not (folder / "ledger.db").exists():
        return {}
    with tempfile.TemporaryDirectory() as copy:
        for file in folder.glob("ledger.db*"):
            shutil.copy(file, copy)
        with Ledger(Path(copy) / "ledger.db") as ledger:
            if not len(ledger):
                return {}
            X, answers = ledger.rows()
            return dict(zip(X[:, 0].astype(int).tolist(), answers.tolist(), strict=True))


def asked(folder: Path) -> list[int]:
    """The rows that were asked, in order."""
    log = folder / "asked.txt"
    return [int(line) for line in log.read_text().splitlines()] if log.exists() else []


def trial(folder: Path, way: str, rng: random.Random, reference: dict[str, Any]) -> dict[str, int]:
    """Kill and start again until the work is done; what was counted."""
    counts: Counter[str] = Counter()
    while True:
        before, position = recorded(folder), len(asked(folder))
        other = Run(folder, "pair") if way == "pair" else None
        run = Run(folder, way)
        # A quarter of the kills come while the ledger is being made or opened.
        time.sleep(rng.uniform(0, 0.03) if rng.random() < 0.25 else rng.uniform(0, 0.4))
        killed = run.kill()
        counts["kills"] += killed
        found = [one.result() for one in (other, None if killed else run) if one is not None]
        counts["differing"] += sum(one != reference for one in found)
        again = set(asked(folder)[position:]) & before.keys()
        counts["paid_twice"] += len(again)
        after = recorded(folder)
        counts["lost"] += sum(after.get(row) != answer for row, answer in before.items())
        if found:
            break
    with Ledger(folder / "ledger.db") as ledger:
        doubt = ledger.account().in_doubt
        counts["lost"] += sum(row not in after for row in range(BUDGET))
        counts["lost"] += len(ledger) != BUDGET
    repeated = len(asked(folder)) - len(set(asked(folder)))
    counts["in_doubt"] += doubt
    counts["asked_again"] += repeated
    counts["unaccounted"] += max(0, repeated - doubt)
    counts["trials"] += 1
    return dict(counts)


def campaign(kills: int, seed: int) -> dict[str, Any]:
    """Trials in turn, until so many processes were killed."""
    counts: Counter[str] = Counter(dict.fromkeys(("kills", "lost", "paid_twice", "unaccounted", "differing", "in_doubt"), 0))
    rng, start = random.Random(seed), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        reference = work(Path(folder), "alone")
    for way in _turns():
        with tempfile.TemporaryDirectory() as folder:
            counts.update(trial(Path(folder), way, rng, reference))
        if counts["kills"] >= kills:
            break
    return {**counts, "rows": ROWS, "budget": BUDGET, "seed": seed, "seconds": round(time.perf_counter() - start, 1)}


def _turns() -> Iterator[str]:
    while True:
        yield from WAYS


def holds(found: dict[str, Any], kills: int) -> bool:
    """Whether nothing was lost, paid twice, unaccounted for or different."""
    return found["kills"] >= kills and not any(found[what] for what in ("lost", "paid_twice", "unaccounted", "differing"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        print("begun", flush=True)
        print(json.dumps(work(arguments.work, arguments.way)))
        return 0
    found = campaign(arguments.kills, arguments.seed)
    found["holds"] = holds(found, arguments.kills)
    HERE.mkdir(exist_ok=True)
    (HERE / "result.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found))
    return 0 if found["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
