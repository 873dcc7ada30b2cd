"""Seconds of the room `infer` on data of the size that it promises to take.

Design-based supervised learning on 100,000 rows with 20 coefficients and 5 folds, boosted trees as first stage, one drawing of
folds (10 s are promised on two cores); the share of a treatment effect on 2,000 patients with 500 perturbations and 20 halvings
(60 s). Medians of some runs, each on data of its own.

Writes benchmarks/speed/inference/result.json and prints one JSON line; exits with 1 where a promise is not kept.

    python benchmarks/speed/inference.py [--runs N]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from locum.infer import DesignWarning, DSLRegressor, SurrogatePTE

HERE = Path(__file__).parent / "inference"


def labels(seed: int) -> Callable[[], object]:
    """A linear regression on 19 columns, one row in twenty labelled."""
    rng = np.random.default_rng(seed)
    n, d = 100_000, 19
    X = rng.normal(size=(n, d))
    y = X @ np.linspace(-1, 1, d) + rng.normal(size=n)
    drawn = rng.random(n) < 0.05
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(d)])
    frame = frame.assign(q=y + rng.normal(size=n), Y=np.where(drawn, y, np.nan))
    formula = "Y ~ " + " + ".join(f"x{j}" for j in range(d))
    model = DSLRegressor("lm", learner="boosting", n_splits=1)

    def run() -> object:
        found = model.fit(frame, formula, surrogates={"Y": "q"}, sampling_prob="equal")
        return found.conf_int()

    return run


def trial(seed: int) -> Callable[[], object]:
    """Two arms of 1,000; progression is seen early and death late."""
    rng = np.random.default_rng(seed)
    arm = np.repeat([0, 1], 1000)
    progression = rng.exponential(1 + arm)
    death = progression + rng.exponential(1 + arm)
    time_ = np.minimum(death, 6 * rng.random(2000) + 3)
    seen = np.where(progression < time_, progression, np.nan)
    model = SurrogatePTE(1.0, 3.0, n_splits=20, n_perturb=500)
    return lambda: model.fit(time_, (death <= time_) * 1, arm, seen)


def median(make: Callable[[int], Callable[[], object]], runs: int) -> dict[str, object]:
    """Seconds of each run, and the median."""
    took = []
    for seed in range(runs):
        run = make(seed)
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DesignWarning)
            run()
        took.append(time.perf_counter() - start)
    return {"seconds": float(np.median(took)), "each": took}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    found = {
        "100,000 rows, 20 coefficients, 5 folds": {**median(labels, runs), "most": 10.0},
        "2,000 patients, 500 perturbations": {**median(trial, runs), "most": 60.0},
    }
    holds = all(one["seconds"] <= one["most"] for one in found.values())
    record = {"holds": holds, "machine": f"{platform.machine()}, {os.cpu_count()} cores", "found": found}
    HERE.mkdir(exist_ok=True)
    (HERE / "result.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))
    sys.exit(not holds)


if __name__ == "__main__":
    main()
