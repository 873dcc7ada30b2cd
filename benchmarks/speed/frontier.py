"""A frontier on 10,000, 100,000 and 1,000,000 rows of 50 columns: seconds and the most memory, each in a process of its own.

The rows are normal, the black box is a formula with an interaction, everything is at its defaults: thirty models of five
families. Writes benchmarks/speed/frontier/result.json and prints one JSON line; exits with 1 where a million rows take 4 GiB or
more, or time grows faster than n log n.

    python benchmarks/speed/frontier.py [--rows 10000 100000 1000000]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "frontier"
COLUMNS, LIMIT_GIB = 50, 4.0


def box(Z: np.ndarray) -> np.ndarray:
    """Two classes; a sum, a product and a wave."""
    return (Z[:, 0] + Z[:, 1] * Z[:, 2] + np.sin(Z[:, 3]) > 0).astype(int)


def one(n: int) -> None:
    """Draw one frontier, and print what it took."""
    import locum

    X = np.random.default_rng(0).normal(size=(n, COLUMNS))
    start = time.perf_counter()
    found = locum.frontier(locum.target(box), X)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # GiB, the rows included
    best = found.best()[-1]
    asked = best.standin.price["calls"]
    print(json.dumps({"rows": n, "seconds": seconds, "gib": peak, "asked": asked, "models": len(found), "best": str(best)}))


def main() -> int:
    """Run, write, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--one", type=int)
    given = parser.parse_args()
    if given.one:
        one(given.one)
        return 0
    lines = []
    for n in given.rows:
        done = subprocess.run([sys.executable, __file__, "--one", str(n)], check=True, capture_output=True, text=True)
        lines.append(json.loads(done.stdout.splitlines()[-1]))
        print(lines[-1], file=sys.stderr, flush=True)
    first, last = lines[0], lines[-1]
    allowed = last["rows"] * math.log(last["rows"]) / (first["rows"] * math.log(first["rows"]))
    growth = last["seconds"] / first["seconds"]
    holds = last["gib"] < LIMIT_GIB and growth <= allowed
    record = {"holds": holds, "growth": growth, "growth_of_n_log_n": allowed, "runs": lines, "cpus": os.cpu_count()}
    HERE.mkdir(exist_ok=True)
    (HERE / "result.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: record[key] for key in ("holds", "growth", "growth_of_n_log_n")}))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
