"""What a ledger costs a row, and how fast it replays beside joblib.Memory and diskcache.

Overhead: batches of 10,000 new rows of 30 floats go through `Target.query`, once with a ledger in memory and once on disk; the
time beyond the model's own is divided by the rows. Replay: the same rows are asked again, in the same batches, in one run
with joblib.Memory and with diskcache (if it is installed), which store the answers of whole batches; the methods take turns, so
that a slow moment of the machine hits all. For a batch in another order, which only a ledger knows, its own time is given too.

Writes benchmarks/speed/ledger/result.json and prints one JSON line; exits with 1 when the overhead is above 20 microseconds
a row, or the ledger on disk replays less than 5 times as fast as joblib.Memory.

    python benchmarks/speed/ledger.py [--repeats 15]
"""

from __future__ import annotations

import argparse
import json
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from locum.core.ledger import Ledger
from locum.core.target import Target

HERE = Path(__file__).parent / "ledger"
ROWS, COLUMNS = 10_000, 30
MOST_OVERHEAD = 20.0  # microseconds a row
LEAST_RATIO = 5.0


def model(X: np.ndarray) -> np.ndarray:
    """Cheap, so that what is measured is not the model."""
    return X[:, 0] * 2.0


def batches(n: int, seed: int) -> list[np.ndarray]:
    """Batches of new rows."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(ROWS, COLUMNS)) for _ in range(n)]


def timed(call: Callable[[np.ndarray], np.ndarray], X: np.ndarray, truth: np.ndarray) -> float:
    """Microseconds a row; the answers are checked."""
    start = time.perf_counter()
    said = call(X)
    seconds = time.perf_counter() - start
    if not np.array_equal(said, truth):
        raise AssertionError("another answer")
    return seconds / len(X) * 1e6


def spread(times: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
    return {"median": round(middle, 4), "quartiles": [round(low, 4), round(high, 4)], "most": round(max(times), 4)}


def target(path: Path | None) -> Target:
    """A new target with a ledger of its own."""
    return Target(model, name="model", output="value", fingerprint="model", ledger=Ledger(path))


def overhead(path: Path | None, repeats: int) -> list[float]:
    """Microseconds a row beyond the model's own, for each batch of new rows."""
    asked, out = target(path), []
    for X in batches(repeats + 1, 0):
        truth = model(X)
        own = timed(model, X, truth)
        out.append(timed(lambda rows: asked.query(rows, "fit"), X, truth) - own)
    asked.ledger.close()
    return out[1:]  # the first opens files and loads code


def replays(folder: Path, repeats: int) -> dict[str, list[float]]:
    """Microseconds a row for rows that were asked before, by method; the methods take turns."""
    some = batches(5, 1)
    asked = {"memory": target(None), "disk": target(folder / "replay.db")}
    calls: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        **{name: one.query for name, one in asked.items()},
        "joblib": joblib.Memory(folder / "joblib", verbose=0).cache(model),
        **_diskcache(folder),
    }
    for X in some:
        for call in calls.values():
            call(X)
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = np.random.default_rng(2).permutation(ROWS)
    times["disk, rows in another order"] = []
    for repeat in range(repeats):
        X = some[repeat % len(some)]
        for name, call in calls.items():
            times[name].append(timed(call, X, model(X)))
        times["disk, rows in another order"].append(timed(asked["disk"].query, X[order], model(X[order])))
    for one in asked.values():
        one.ledger.close()
    return times


def _diskcache(folder: Path) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    try:
        import diskcache
    except ImportError:
        return {}
    cache = diskcache.Cache(str(folder / "diskcache"))

    def call(X: np.ndarray) -> np.ndarray:
        key = (X.tobytes(), X.shape)
        if key not in cache:
            cache[key] = model(X)
        return cache[key]

    return {"diskcache": call}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        new = {"memory": overhead(None, repeats), "disk": overhead(Path(folder) / "ledger.db", repeats)}
        again = replays(Path(folder), repeats)
    others = [name for name in again if name in ("joblib", "diskcache")]
    ratios = {name: statistics.median(again[name]) / statistics.median(again["disk"]) for name in others}
    worst = max(statistics.median(times) for times in new.values())
    found: dict[str, Any] = {
        "rows": ROWS,
        "columns": COLUMNS,
        "repeats": repeats,
        "overhead_us_per_row": {name: spread(times) for name, times in new.items()},
        "replay_us_per_row": {name: spread(times) for name, times in again.items()},
        "replay_times_as_fast_as": {name: round(ratio, 2) for name, ratio in ratios.items()},
        "holds": bool(worst <= MOST_OVERHEAD and ratios["joblib"] >= LEAST_RATIO),
        "versions": {
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "joblib": joblib.__version__,
            "machine": platform.machine(),
        },
    }
    HERE.mkdir(exist_ok=True)
    (HERE / "result.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found))
    return 0 if found["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
