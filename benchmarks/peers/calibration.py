"""Do intervals of the surrogates hold where it mattered: near the optimum, after a run that looked for it?

The default `Optimizer` minimises six functions whose optimum is known. Every surrogate is then fitted to the same evaluations,
warped as the loop warps them, beside BoTorch's `SingleTaskGP` as it comes, and foretells 200 fresh points within five percent
of each range of the optimum nearest to the best point found, and 200 anywhere. Told are the coverage of 90 % intervals at both,
apart for runs that ended near the optimum and for those that missed it, and the log score there above one normal distribution
for all values; intervals are Student's over runs (functions and seeds), never over points. Beside it, what the card of the run
says: the coverage of intervals foretold of points proposed; and the coverage of `Optimizer.interval`, which is as wide as those
show it must be.

Runs that are done are kept in ~/.cache/locum/calibration. Writes benchmarks/peers/calibration/result.json and prints one JSON
line; exits with 1 unless the default surrogate's coverage near the optimum is between 0.8 and 1.

    python benchmarks/peers/calibration.py [--seeds 5] [--budget 40] [--quick]
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from botorch.test_functions import Ackley, Branin, Hartmann, Levy, Rosenbrock
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "papers"))
from claims import Kept, over_seeds, tidy, versions

from locum.optimize import GaussianProcess, ModelAverage, Optimizer, PowerWarp, Space, Surrogate
from locum.optimize.bnn_surrogates import (
    DeepEnsemble,
    DeepKernelProcess,
    HamiltonianNetwork,
    InfiniteWidthProcess,
    LaplaceNetwork,
    StochasticGradientHamiltonianNetwork,
)

RESULT = Path(__file__).parent / "calibration" / "result.json"
NEAR, POINTS, LEVEL = 0.05, 200, 0.9
DEFAULT = "two processes, averaged (default)"
FUNCTIONS: dict[str, Callable[[], Any]] = {
    "Branin": Branin, "Hartmann 6": partial(Hartmann, 6), "Ackley 5": partial(Ackley, 5), "Levy 4": partial(Levy, 4),
    "Rosenbrock 4": partial(Rosenbrock, 4), "Hartmann 3": partial(Hartmann, 3),
}  # fmt: skip


class SingleTask(Surrogate):
    """BoTorch's process as it comes."""

    def _make(self, rows: Any, values: Any, *gradients: Any) -> Any:
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from gpytorch.mlls import ExactMarginalLogLikelihood

        model = SingleTaskGP(torch.as_tensor(rows), torch.as_tensor(values)[:, None])
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        return (model,)


SURROGATES: dict[str, Callable[[], Surrogate]] = {
    DEFAULT: ModelAverage,
    "Gaussian process": GaussianProcess,
    "Gaussian process, settings sampled": partial(GaussianProcess, hyperparameters="sampled"),
    "BoTorch SingleTaskGP": SingleTask,
    "infinite width": InfiniteWidthProcess,
    "deep kernel": partial(DeepKernelProcess, pretrain=300, steps=300),
    "Laplace, last layer": partial(LaplaceNetwork, steps=500),
    "deep ensemble": partial(DeepEnsemble, steps=500, learning_rate=3e-3),
    "HMC": partial(HamiltonianNetwork, burn=100, samples=100, step_size=0.02),
    "SGHMC": partial(StochasticGradientHamiltonianNetwork, steps=1500, burn=750),
}


def ran(name: str, seed: int, budget: int) -> tuple[Any, Optimizer, Callable[[Any], Any], dict[str, Any], Any]:
    """The function, a run on it, its answers for points, rows near the optimum and anywhere, and the optimum with the best."""
    function = FUNCTIONS[name]()
    low, high = function.bounds.double().numpy()
    optima = (function.optimizers.double().numpy() - low) / (high - low)
    space = Space.box([(0.0, 1.0)] * function.dim)

    def answer(points: Any) -> Any:
        return function(torch.as_tensor(low + space.encode(points) * (high - low))).numpy()

    optimizer = Optimizer(space, direction="minimize", random_state=seed)
    while len(optimizer.values) < budget:
        points = optimizer.ask()
        optimizer.tell(points, answer(points).tolist())
    best = space.encode(optimizer.points)[int(np.argmin(optimizer.values))]
    centre = optima[np.abs(optima - best).max(axis=1).argmin()]
    rng = np.random.default_rng([seed, len(name)])
    places = {
        "near": np.clip(centre + rng.uniform(-NEAR, NEAR, size=(POINTS, len(low))), 0, 1),
        "anywhere": rng.uniform(size=(POINTS, len(low))),
    }
    return function, optimizer, answer, places, (centre, best)


def stretched(name: str, seed: int, budget: int) -> dict[str, float]:
    """Coverage of intervals as wide as what the run foretold shows they must be."""
    _, optimizer, answer, places, _ = ran(name, seed, budget)
    out = {}
    for where, U in places.items():
        points = optimizer.space.decode(U)
        low, _, high = optimizer.interval(points, LEVEL).T
        truth = answer(points)
        out[where] = float(((low <= truth) & (truth <= high)).mean())
    return out


def run(name: str, seed: int, budget: int, quick: bool) -> dict[str, Any]:
    """One run, and what each surrogate makes of its evaluations."""
    function, optimizer, answer, places, (centre, best) = ran(name, seed, budget)
    space, result = optimizer.space, optimizer.result()
    rows, values = space.encode(optimizer.points), -np.array(optimizer.values)
    warp = PowerWarp().fit(values)
    warped, truth = warp(values), {where: warp(-answer(space.decode(U))) for where, U in places.items()}
    plain = stats.norm.logpdf(truth["near"], warped.mean(), warped.std())
    out: dict[str, Any] = {
        "regret": float(-values.max() - function.optimal_value), "distance": float(np.abs(centre - best).max()),
        "card": [result.fidelity[0].value, result.fidelity[0].n] if result.fidelity else None, "surrogates": {},
    }  # fmt: skip
    for one, make in list(SURROGATES.items())[: 3 if quick else None]:
        start = time.process_time()
        fitted = make().fit(rows, warped)
        row: dict[str, float] = {}
        for where, U in places.items():
            mean, sd = fitted.predict(U, return_std=True)
            inside = np.abs(truth[where] - mean) <= stats.norm.isf((1 - LEVEL) / 2) * sd
            row[where] = float(inside.mean())
            if where == "near":
                row["log score"] = float(np.median(stats.norm.logpdf(truth[where], mean, sd) - plain))
                row["width"] = float(np.median(sd) / warped.std())
        out["surrogates"][one] = row | {"seconds": time.process_time() - start}
    return out


def told(values: list[float]) -> dict[str, float]:
    """Mean over runs, with its interval."""
    return dict(zip(("mean", "lower", "upper"), over_seeds(values), strict=True))


def apart(values: list[float], reached: list[bool]) -> list[dict[str, float]]:
    """The same, of runs that ended near the optimum, and of the others."""
    return [told([one for one, here in zip(values, reached, strict=True) if here == there]) for there in (True, False)]


def main() -> int:
    """Run, write, print; 0 where the default's intervals hold near the optimum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="one function, one seed, three processes; nothing is written")
    asked = parser.parse_args()
    names, seeds = (["Branin"], 1) if asked.quick else (list(FUNCTIONS), asked.seeds)
    kept = Kept("calibration", asked.quick, [asked.budget, *SURROGATES])
    runs = [
        kept([name, seed], partial(run, name, seed, 20 if asked.quick else asked.budget, asked.quick))
        for seed in range(seeds)
        for name in names
    ]
    wide = [
        kept(["interval", name, seed], partial(stretched, name, seed, 20 if asked.quick else asked.budget))
        for seed in range(seeds)
        for name in names
    ]
    reached = [one["distance"] <= NEAR for one in runs]
    table = {
        one: {
            what: told([r["surrogates"][one][what] for r in runs])
            for what in ("near", "anywhere", "log score", "width", "seconds")
        }
        for one in runs[0]["surrogates"]
    }
    whole = {
        "benchmark": "peers/calibration", "holds": 0.8 <= table[DEFAULT]["near"]["mean"] <= 1.0, "runs": len(runs),
        "coverage": {one: {where: row[where] for where in ("near", "anywhere")} for one, row in table.items()},
        "runs that ended near the optimum": sum(reached),
        "coverage near the optimum, of runs that ended there and of others": {
            one: apart([r["surrogates"][one]["near"] for r in runs], reached) for one in runs[0]["surrogates"]
        },
        "coverage of the run's own intervals": {where: told([one[where] for one in wide]) for where in ("near", "anywhere")},
        "the same near the optimum, of runs that ended there and of others": apart([one["near"] for one in wide], reached),
        "coverage on the card of the run": told([r["card"][0] for r in runs if r["card"] is not None]),
    }  # fmt: skip
    if not asked.quick:
        cells = [f"{name}, {seed}" for seed in range(seeds) for name in names]
        record = whole | {"table": table, "cells": dict(zip(cells, runs, strict=True))}
        record |= {"python": platform.python_version(), "versions": versions()}
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(tidy(record), indent=1) + "\n", encoding="utf-8")
    print(json.dumps(tidy(whole)))
    return 0 if whole["holds"] else 1


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sys.exit(main())
