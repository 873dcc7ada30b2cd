"""How well readable stand-ins agree with a black box, beside what people use today, at equal queries and equal size.

A black box is tuned and trained on one part of a table. Each method may ask it a fixed number of times, about rows of a
second part (Locum may also invent rows), and gives a model with at most a fixed number of rules, leaves or terms. All are
measured on the same fresh rows of a third part. Seeds draw the parts, the black box and the queries anew.

Rivals: CART fitted to as many labelled rows, drawn at random; and Trustee (Jacobs et al., CCS 2022) with the settings of its
documentation, and once more with all its rows in each round. Trustee keeps three rows in ten for itself and never asks about
them, so it is given more rows, until it asks as often as the others.

Writes benchmarks/peers/agreement/result.json and prints one JSON line. Needs the environment of the peers: make peers.

    python benchmarks/peers/agreement.py [--quick] [--resume] [--data NAME ...] [--seeds N]
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from locum import datasets
from locum.core.domain import Domain
from locum.core.measures import measure
from locum.core.surrogate import fit
from locum.explain.additive import AdditiveClassifier
from locum.explain.rule_list import RuleListClassifier
from locum.explain.rule_set import RuleSetClassifier
from locum.explain.sparse_linear import SparseLinearClassifier
from locum.explain.tree import TreeClassifier
from locum.targets import from_sklearn

HERE = Path(__file__).parent
PEERS_PYTHON = HERE.parents[1] / ".venv-peers" / "bin" / "python"
RESULT = HERE / "agreement" / "result.json"
DATA = ("grid_stability", "satellite", "fatal_accidents")
MOST_ROWS = 10_000  # of a table, so that the largest do not take all the time
SEARCHED = 8  # settings tried for each black box, on a table's first split
SEARCH_ROWS = 3000
BOOTSTRAPS = 4000
LEVEL = 0.95

# One line a family: from the most rules, leaves or terms to a model that is not fitted.
FAMILIES: dict[str, Callable[[int], Any]] = {
    "tree": lambda size: TreeClassifier(max_rules=size),
    "rule list": lambda size: RuleListClassifier(max_rules=size),
    "rule set": lambda size: RuleSetClassifier(max_rules=size),
    "additive": lambda size: AdditiveClassifier(max_statements=size),
    "sparse linear": lambda size: SparseLinearClassifier(max_terms=size),
}


@dataclass(frozen=True)
class BlackBox:
    """A kind of black box, and where its settings are searched."""

    make: Callable[[Domain, int], Any]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Said:
    """What one method's model says of the fresh rows, and what it took."""

    labels: Any
    statements: int
    conditions: int | None
    asked: int
    seconds: float


@dataclass(frozen=True)
class Setting:
    """One trained black box, with the rows to ask and the fresh rows, as a frame and as the numbers rivals take."""

    model: Any
    domain: Domain
    ask: Any
    fresh: Any
    truth: Any
    classes: Any
    seed: int

    def table(self, rows: Any) -> Any:
        """Rows as numbers for methods that take nothing else: an indicator a category, missing numbers as NaN."""
        Z = self.domain.encode(rows)
        parts = []
        for j, column in enumerate(self.domain.columns):
            if column.kind == "numeric":
                parts.append(Z[:, [j]])
            else:
                parts.append((Z[:, [j]] == np.arange(len(column.levels))).astype(float))
                parts += [np.isnan(Z[:, [j]]).astype(float)] if column.missing else []
        return np.hstack(parts)

    def some(self, n: int) -> tuple[Any, int]:
        """Rows to ask at random, as many as bring n different ones, and how many different ones those are.

        A row that comes again costs nothing more, and says how often it occurs.
        """
        order = np.random.default_rng([self.seed, 1]).permutation(len(self.ask))
        codes = np.unique(self.domain.encode(self.ask)[order], axis=0, return_inverse=True)[1].ravel()
        new = np.zeros(len(codes), dtype=int)
        new[np.unique(codes, return_index=True)[1]] = 1
        kept = np.cumsum(new) <= n
        return self.ask.iloc[order[kept]].reset_index(drop=True), int(new[kept].sum())


# --- black boxes -----------------------------------------------------------------------------------------------------


def boosting(domain: Domain, seed: int) -> Any:
    """Gradient boosting of trees, which takes categories and missing values as they are."""
    return HistGradientBoostingClassifier(categorical_features="from_dtype", early_stopping=False, random_state=seed)


def forest(domain: Domain, seed: int) -> Any:
    """A random forest on indicators of categories."""
    names = [column.name for column in domain.columns if column.kind == "categorical"]
    codes = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), names), remainder="passthrough"
    )
    return make_pipeline(codes, RandomForestClassifier(300, random_state=seed))


BLACK_BOXES = {
    "gradient boosting": BlackBox(
        boosting,
        {
            "max_iter": stats.randint(100, 500),
            "learning_rate": stats.loguniform(0.02, 0.3),
            "max_leaf_nodes": stats.randint(8, 64),
            "min_samples_leaf": stats.randint(5, 60),
            "l2_regularization": stats.loguniform(1e-3, 10.0),
        },
    ),
    "random forest": BlackBox(
        forest,
        {
            "randomforestclassifier__max_features": stats.uniform(0.05, 0.85),
            "randomforestclassifier__min_samples_leaf": stats.randint(1, 8),
        },
    ),
}


def tuned(box: BlackBox, domain: Domain, part: Any) -> dict[str, Any]:
    """The best of a few random settings in three-fold cross-validation."""
    search = RandomizedSearchCV(box.make(domain, 0), box.settings, n_iter=SEARCHED, cv=3, random_state=0)
    best = search.fit(part.X.iloc[:SEARCH_ROWS], part.y[:SEARCH_ROWS]).best_params_
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in best.items()}


def trained(box: BlackBox, best: dict[str, Any], table: Any, seed: int) -> tuple[Setting, float]:
    """A black box of this seed with its rows, and its accuracy on the fresh ones."""
    shares = min(1.0, MOST_ROWS / len(table))
    parts = table.split(seed)
    train, ask, score = (
        (part.X.iloc[: int(shares * len(part))], part.y[: int(shares * len(part))])
        for part in (parts.train, parts.ask, parts.score)
    )
    model = box.make(table.domain, seed).set_params(**best).fit(*train)
    truth = model.predict(score[0])
    setting = Setting(model, table.domain, ask[0], score[0], truth, model.classes_, seed)
    return setting, float((truth == score[1]).mean())


# --- methods ---------------------------------------------------------------------------------------------------------


def by_locum(family: str, size: int, budget: int, on: Setting) -> Said:
    """A stand-in that chooses its queries."""
    target = from_sklearn(on.model, domain=on.domain)
    target.query(on.fresh, "score")  # first, so that no row that scores is ever invented and asked about
    start = time.perf_counter()
    standin = fit(FAMILIES[family](size), target, on.ask, budget=budget, domain=on.domain, random_state=on.seed)
    seconds = time.perf_counter() - start
    labels = standin.predict(on.fresh, outside="ignore")
    return Said(labels, standin.program.statements, standin.program.conditions, standin.price["calls"], seconds)


def by_cart(size: int, budget: int, on: Setting) -> Said:
    """A decision tree on the black box's labels of rows drawn at random."""
    rows, asked = on.some(budget)
    start = time.perf_counter()
    tree = DecisionTreeClassifier(max_leaf_nodes=size, random_state=on.seed).fit(on.table(rows), on.model.predict(rows))
    seconds = time.perf_counter() - start
    return Said(tree.predict(on.table(on.fresh)), int(tree.get_n_leaves()), None, asked, seconds)


def by_trustee(samples_size: float, size: int, budget: int, on: Setting) -> Said:
    """Trustee on recorded answers, in an environment of its own."""
    rows, _ = on.some(round(budget / 0.7))
    settings = {"leaves": size, "samples_size": samples_size, "num_iter": 50, "num_stability_iter": 10, "seed": on.seed}
    codes = np.searchsorted(on.classes, on.model.predict(rows))
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(source, rows=on.table(rows), answers=codes, fresh=on.table(on.fresh), settings=json.dumps(settings))
        command = [str(PEERS_PYTHON), str(HERE / "_trustee.py"), str(source), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"trustee failed: {done.stderr.strip()[-800:]}")
        found = np.load(out, allow_pickle=False)
        labels = on.classes[found["said"]]
        return Said(labels, int(found["leaves"]), None, int(found["asked"]), float(found["seconds"]))


PEERS: dict[str, Callable[[int, int, Setting], Said]] = {
    "CART": by_cart,
    "Trustee": lambda size, budget, on: by_trustee(0.3, size, budget, on),
    "Trustee, all rows": lambda size, budget, on: by_trustee(1.0, size, budget, on),
}
METHODS = {**{family: partial(by_locum, family) for family in FAMILIES}, **PEERS}


def attempted(method: Callable[[int, int, Setting], Said], size: int, budget: int, on: Setting) -> Said | str:
    """What a method says, or why it says nothing: a failure is a result, and the others go on."""
    try:
        return method(size, budget, on)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


# --- figures ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """Everything that was said for one table, black box, budget and size: by method, one entry a seed."""

    data: str
    box: str
    budget: int
    size: int
    truth: list[Any]
    said: dict[str, list[Said | str]]

    def agreed(self, method: str) -> list[Any] | None:
        """Where a method agrees with the black box, an array of bool a seed; None where it failed for one."""
        found = self.said[method]
        if any(isinstance(one, str) for one in found):
            return None
        return [one.labels == truth for one, truth in zip(found, self.truth, strict=True)]  # type: ignore[union-attr]

    def record(self) -> dict[str, Any]:
        """All figures of the cell, ready for JSON."""
        methods = {name: self._method(name) for name in self.said}
        differences = {f: {p: self._difference(f, p) for p in PEERS} for f in FAMILIES}
        asked = {"data": self.data, "black_box": self.box, "budget": self.budget, "size": self.size}
        return {**asked, "methods": methods, "differences": differences}

    def _method(self, name: str) -> dict[str, Any]:
        agreed = self.agreed(name)
        if agreed is None:
            return {"failed": [one for one in self.said[name] if isinstance(one, str)]}
        seeds: list[Any] = self.said[name]
        fidelity = [
            measure("agreement").fidelity(truth, one.labels, region=self.data).to_dict()
            for truth, one in zip(self.truth, seeds, strict=True)
        ]
        return {
            "agreement": float(np.mean([one.mean() for one in agreed])),
            "fidelity": fidelity,
            **{key: [asdict(one)[key] for one in seeds] for key in ("statements", "conditions", "asked", "seconds")},
        }

    def _difference(self, family: str, peer: str) -> dict[str, float] | None:
        """Agreement of a family less that of a peer, with a paired bootstrap over seeds and, within them, rows."""
        ours, theirs = self.agreed(family), self.agreed(peer)
        if ours is None or theirs is None:
            return None
        pairs = [one.astype(int) - other.astype(int) for one, other in zip(ours, theirs, strict=True)]
        rng = np.random.default_rng(0)
        shares = [[np.mean(pair == sign) for sign in (-1, 0, 1)] for pair in pairs]
        drawn = np.stack(
            [
                rng.multinomial(len(pair), share, BOOTSTRAPS) @ [-1, 0, 1] / len(pair)
                for pair, share in zip(pairs, shares, strict=True)
            ]
        )
        picked = rng.integers(0, len(pairs), (len(pairs), BOOTSTRAPS))
        means = np.take_along_axis(drawn, picked, axis=0).mean(axis=0)
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return {"value": float(np.mean([pair.mean() for pair in pairs])), "lower": float(low), "upper": float(high)}


def cells(
    names: list[str],
    boxes: list[str],
    seeds: range,
    budgets: list[int],
    sizes: list[int],
    report: dict[str, Any],
    known: set[tuple[Any, ...]],
) -> Iterator[Cell]:
    """Run everything but the known cells; `report` is told of the black boxes."""
    for name in names:
        table = datasets.load(name)
        for box in boxes:
            if all((name, box, budget, size) in known for budget in budgets for size in sizes):
                continue
            best = tuned(BLACK_BOXES[box], table.domain, table.split(0).train)
            made = [trained(BLACK_BOXES[box], best, table, seed) for seed in seeds]
            report[f"{name}, {box}"] = {"settings": best, "accuracy": [accuracy for _, accuracy in made]}
            for budget in budgets:
                for size in sizes:
                    if (name, box, budget, size) in known:
                        continue
                    said: dict[str, list[Said | str]] = {method: [] for method in METHODS}
                    for on, _ in made:
                        for method, run in METHODS.items():
                            said[method].append(attempted(run, size, budget, on))
                    yield Cell(name, box, budget, size, [on.truth for on, _ in made], said)


def line(record: dict[str, Any]) -> str:
    """One cell as a line of a table."""
    shown = [
        f"{name} {found['agreement']:.3f}" if "agreement" in found else f"{name} failed"
        for name, found in record["methods"].items()
    ]
    return f"{record['data']}, {record['black_box']}, {record['budget']} queries, size {record['size']}: {'; '.join(shown)}"


def verdicts(records: list[dict[str, Any]]) -> dict[str, dict[str, list[int]]]:
    """Cells won, undecided and lost, by family and peer: the interval of the difference is above, across or below zero."""
    out: dict[str, dict[str, list[int]]] = {}
    for family in FAMILIES:
        out[family] = {}
        for peer in PEERS:
            found = [record["differences"][family][peer] for record in records]
            known = [one for one in found if one is not None]
            won, lost = sum(one["lower"] > 0 for one in known), sum(one["upper"] < 0 for one in known)
            out[family][peer] = [won, len(known) - won - lost, lost]
    return out


def summary(records: list[dict[str, Any]], seeds: int) -> dict[str, Any]:
    """The line that is printed."""
    seconds = sum(sum(found.get("seconds", [])) for record in records for found in record["methods"].values())
    return {
        "benchmark": "peers/agreement",
        **{key: sorted({record[key] for record in records}) for key in ("data", "black_box", "budget", "size")},
        "seeds": seeds,
        "cells_measured": len(records),
        "won_undecided_lost": verdicts(records),
        "seconds_fitting": round(seconds, 1),
    }


def earlier(seeds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Cells and black boxes of a run that was stopped."""
    try:
        found = json.loads(RESULT.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [], {}
    return (found["cells"], found["black_boxes"]) if found["seeds"] == seeds else ([], {})


def main() -> int:
    """Run, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one of each, one seed; nothing is written")
    parser.add_argument("--resume", action="store_true", help="keep the cells of a run that was stopped, of the same code")
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=datasets.names())
    parser.add_argument("--black-boxes", nargs="+", default=list(BLACK_BOXES), choices=list(BLACK_BOXES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budgets", nargs="+", type=int, default=[300, 1000])
    parser.add_argument("--sizes", nargs="+", type=int, default=[8])
    asked = parser.parse_args()
    if not PEERS_PYTHON.exists():
        print(f"the peers are not installed: expected {PEERS_PYTHON}; run make peers", file=sys.stderr)
        return 2
    if asked.quick:
        asked.data, asked.black_boxes, asked.seeds = asked.data[:1], asked.black_boxes[:1], 1
        asked.budgets, asked.sizes = [300], [8]
    records, boxes = earlier(asked.seeds) if asked.resume else ([], {})
    known = {tuple(record[key] for key in ("data", "black_box", "budget", "size")) for record in records}
    figures = summary(records, asked.seeds)
    for cell in cells(asked.data, asked.black_boxes, range(asked.seeds), asked.budgets, asked.sizes, boxes, known):
        records.append(cell.record())
        print(line(records[-1]), file=sys.stderr, flush=True)
        figures = summary(records, asked.seeds)
        if not asked.quick:  # after each cell, so that a run that is stopped keeps what it measured
            whole = {**figures, "python": platform.python_version(), "black_boxes": boxes, "cells": records}
            RESULT.parent.mkdir(exist_ok=True)
            RESULT.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
