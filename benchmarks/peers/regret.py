"""Best value at equal budget on BBOB and on real tasks, beside what people use today, and seconds a suggestion.

The default `Optimizer` beside BoTorch's log expected improvement, Optuna (Gaussian process and Parzen estimators), SMAC, HEBO,
Ax, a Sobol sequence and random points: the same function, instance, budget and number of first points (two a parameter and
two) for all that let one say so. Beside the 24 functions of BBOB, five designs of engineering with constraints, and the tuning
of five models on real data. A rank is that of the best value among all that ran a cell; the interval of a mean rank is a
bootstrap over functions. Seconds are those of one thread, for asking after 50, 200 and 1,000 random points.

Cells are kept in benchmarks/peers/regret/cells.jsonl and not run again: stop it and go on at will. Writes
benchmarks/peers/regret/result.json over all cells there are and prints one JSON line; exits with 1 unless Locum's mean rank is
the best and its suggestions take at most half of Ax's. Needs the environment of the optimisers: make optimizers.

    python benchmarks/peers/regret.py [--seeds 3] [--first 0] [--dimensions 5] [--budget 40] [--functions 1 ... | --tasks]
                                      [--only NAME ...] [--speed]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _optimizers import OPTIMIZERS
from _tasks import ENGINEERING, TUNING, task
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "papers"))
from claims import tidy

HERE = Path(__file__).parent / "regret"
ROOT = Path(__file__).parents[2]
PEERS_PYTHON = ROOT / ".venv-optimizers" / "bin" / "python"
VARIANTS = ("Locum, one process", "Locum, inputs warped")  # the two that the default averages, compared with it alone
OURS = ("Locum", "Sobol", "random", *VARIANTS)
SLOW = ("Ax", "SMAC", "HEBO")  # run for fewer seeds, and compared where they have them
FRESH = {
    "BBOB, 5 dimensions": 4,
    "engineering": 3,
    "tuning": 3,
}  # the first seed after those of the choice; 3 to 5 of the tasks confirmed it
TOLD, ASK = (50, 200, 1000), 5
Cell = dict[str, Any]


# ---------------------------------------------------------------------- running cells
def key(name: str, cell: Cell) -> str:
    """What tells a cell from another, without what it gave."""
    return json.dumps([name, {one: cell[one] for one in sorted(cell) if one not in ("values", "seconds", "suggested", "name")}])


def kept() -> dict[str, Cell]:
    """Cells that earlier runs have done."""
    path = HERE / "cells.jsonl"
    if not path.exists():
        return {}
    found = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]  # a line cut short is left
    return {key(one["name"], one): one for one in found}


def run(name: str, cells: list[Cell]) -> Iterator[Cell]:
    """Run cells in the environment of the optimiser, and keep each as soon as it is there."""
    python = sys.executable if name in OURS else str(PEERS_PYTHON)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    arguments = [python, str(Path(__file__).with_name("_optimizers.py")), name]
    # Errors go to a file: a pipe that nobody reads would fill, and the worker would wait for ever.
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, env=environment
        ) as worker,
    ):
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write("".join(json.dumps(cell) + "\n" for cell in cells))
        worker.stdin.close()
        for line in worker.stdout:
            if line.startswith("{"):
                found = {"name": name} | tidy(json.loads(line))
                with (HERE / "cells.jsonl").open("a") as file:
                    file.write(json.dumps(found) + "\n")
                yield found
        if worker.wait():
            said.seek(0)
            print(f"{name} stopped: {''.join(said.read().strip().splitlines()[-1:])}", file=sys.stderr)


# ---------------------------------------------------------------------- what is told
def lowest(cells: list[Cell]) -> dict[tuple[int, Any, int], dict[str, float]]:
    """Best value of each optimiser, by dimension, function and seed."""
    found: dict[tuple[int, Any, int], dict[str, float]] = defaultdict(dict)
    for one in cells:
        found[(one["dimension"], one["function"], one["seed"])][one["name"]] = min(one["values"])
    return found


def ranks(cells: list[Cell]) -> dict[str, Any]:
    """Mean rank of each optimiser, over the cells that all of them have."""
    found = lowest(cells)
    names = sorted({name for some in found.values() for name in some}, key=list(OPTIMIZERS).index)
    whole = {cell: some for cell, some in found.items() if len(some) == len(names)}
    if not whole or "Locum" not in names:
        return {"cells": 0}
    places = {cell: stats.rankdata([some[name] for name in names]) for cell, some in whole.items()}
    functions = sorted({cell[1] for cell in whole})
    by_function = np.array([np.mean([places[c] for c in places if c[1] == f], axis=0) for f in functions])
    rng = np.random.default_rng(0)
    draws = by_function[rng.integers(0, len(functions), (2000, len(functions)))].mean(axis=1)
    behind = draws - draws[:, [names.index("Locum")]]
    finals = np.array([[some[name] for name in names] for some in whole.values()])
    known = all(isinstance(cell[1], int) for cell in whole)  # where the optimum is, so that a value is a regret
    regrets = {"mean log10 regret": dict(zip(names, np.log10(np.maximum(finals, 1e-8)).mean(axis=0).tolist(), strict=True))}
    first = {f: names[int(row.argmin())] for f, row in zip(functions, by_function, strict=True)}
    return {
        "cells": len(whole),
        "functions": len(functions),
        "mean rank": dict(zip(names, by_function.mean(axis=0).tolist(), strict=True)),
        "interval": dict(zip(names, np.quantile(draws, [0.025, 0.975], axis=0).T.tolist(), strict=True)),
        "rank less Locum's": dict(zip(names, np.quantile(behind, [0.025, 0.5, 0.975], axis=0).T.tolist(), strict=True)),
        **(regrets if known else {}),
        "a peer is first on": {str(f): name for f, name in first.items() if name != "Locum"},
        "median seconds a run": {name: float(np.median([c["seconds"] for c in cells if c["name"] == name])) for name in names},
    }


def beside(cells: list[Cell], variant: str) -> dict[str, Any]:
    """In how many cells a variant ends lower than the default, by function."""
    both = {cell: some for cell, some in lowest(cells).items() if "Locum" in some and variant in some}
    told: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for (_, function, _), some in both.items():
        told[str(function)][int(np.sign(some[variant] - some["Locum"])) + 1] += 1
    return {
        "cells": len(both),
        "better, same, worse": dict(told),
        "in all": np.sum([*told.values(), [0, 0, 0]], axis=0).tolist(),
    }


def speed(cells: dict[str, Cell]) -> dict[str, dict[str, list[float]]]:
    """Median and quartiles of the seconds of a suggestion, by optimiser and by points told."""
    found: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for one in cells.values():
        if "suggested" in one:
            found[one["name"]][str(one["told"])] = np.quantile(one["suggested"], [0.5, 0.25, 0.75]).tolist()
    return dict(found)


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--dimensions", type=int, nargs="+", default=[5])
    asked.add_argument("--budget", type=int, default=40)
    asked.add_argument("--first", type=int, default=0, help="first seed")
    asked.add_argument("--functions", type=int, nargs="+", default=list(range(1, 25)))
    asked.add_argument("--tasks", action="store_true", help="engineering and tuning instead of functions")
    asked.add_argument("--only", nargs="+", default=[name for name in OPTIMIZERS if name not in VARIANTS])
    asked.add_argument("--speed", action="store_true", help="seconds a suggestion instead of regret")
    given = asked.parse_args()
    HERE.mkdir(exist_ok=True)
    done = kept()
    seeds = range(given.first, given.first + given.seeds)
    if given.speed:
        wanted = [{"dimension": 5, "seed": 0, "told": told, "ask": ASK} for told in TOLD]
    else:
        kinds = [(d, f) for d in given.dimensions for f in given.functions]
        kinds = [(task(name)[0], name) for name in (*ENGINEERING, *TUNING)] if given.tasks else kinds
        wanted = [{"function": f, "dimension": d, "seed": s, "budget": given.budget} for s in seeds for d, f in kinds]
    for name in given.only:
        cells = [cell for cell in wanted if key(name, cell) not in done]
        for count, found in enumerate(run(name, cells) if cells else (), start=1):
            done[key(name, found)] = found
            print(f"{name}: {count} of {len(cells)}", file=sys.stderr)
    ran, quick = [one for one in done.values() if one.get("budget") == given.budget], speed(done)
    compared: dict[str, list[Cell]] = defaultdict(list)
    for one in ran:
        which = one["function"]
        real = "engineering" if which in ENGINEERING else "tuning"
        compared[f"BBOB, {one['dimension']} dimensions" if isinstance(which, int) else real].append(one)
    variants = {one: {name: beside(cells, one) for name, cells in compared.items()} for one in VARIANTS}
    compared = {name: [one for one in cells if one["name"] not in VARIANTS] for name, cells in compared.items()}

    def among(counts: Callable[[str, Cell], bool]) -> dict[str, Any]:
        return {name: ranks([one for one in cells if counts(name, one)]) for name, cells in compared.items()}

    # The fair comparison leaves out the seeds by which the default was chosen.
    def fresh(name: str, one: Cell) -> bool:
        return bool(one["seed"] >= FRESH.get(name, 0))

    fair = among(lambda name, one: one["name"] not in SLOW and fresh(name, one))
    every = among(lambda _, one: one["name"] not in SLOW)
    dear = among(lambda name, one: one["name"] != "Ax" and fresh(name, one))
    dear = {name: found for name, found in dear.items() if "SMAC" in found.get("mean rank", ())}
    means = {
        f"{name}{words}": found["mean rank"]
        for words, some in (("", fair), (", with SMAC and HEBO", dear)) for name, found in some.items() if found["cells"]
    }  # fmt: skip
    best = bool(means) and all(some["Locum"] <= min(some.values()) for some in means.values())
    half = {"Ax", "Locum"} <= quick.keys() and all(quick["Locum"][n][0] <= 0.5 * quick["Ax"][n][0] for n in quick["Ax"])
    record = {
        "holds": best and half, "budget": given.budget, "best value, fresh seeds": fair, "best value, all seeds": every,
        "best value, with SMAC and HEBO: cells they have": dear,
        "beside the default": variants, "with Ax: BBOB, 5 dimensions, cells it has": ranks(compared["BBOB, 5 dimensions"]),
        "seconds a suggestion: median and quartiles": quick, "python": platform.python_version(), "cpus": os.cpu_count(),
    }  # fmt: skip
    (HERE / "result.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({"holds": best and half, "mean rank": means, "speed": quick}))
    return 0 if best and half else 1


if __name__ == "__main__":
    sys.exit(main())
