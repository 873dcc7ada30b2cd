"""How well readable stand-ins agree with a black box, beside what people use today, at equal queries.

Ten tables of 4 to 10,000 columns, 150 to 100,000 rows, of two classes, several, or values; three black boxes each, tuned and
trained on one part. Each method may ask one of them a fixed number of times, about rows of a second part (Locum may also
invent rows), and gives a tree of at most 16 leaves, or at most 8 rules, pieces or terms. All are measured on the same fresh
rows of a third part: by agreement, or by R2 for values. Seeds draw the parts, the black box and the queries anew.

Rivals: CART fitted to as many labelled rows, drawn at random; Trustee (Jacobs et al., CCS 2022) with the settings of its
documentation, which keeps three rows in ten for itself and never asks about them, so it is given more rows, until it asks as
often as the others; FIGS, RuleFit and boosted rules of imodels; and the optimal tree of depth four (STreeD, van der Linden et
al., NeurIPS 2023), given a minute. A method that cannot do a task comes last there.

Writes benchmarks/peers/agreement/result.json and prints one JSON line. Needs the environment of the peers: make peers.

    python benchmarks/peers/agreement.py [--quick] [--resume] [--data NAME ...] [--seeds N]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.base import is_classifier
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.model_selection import RandomizedSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import locum.explain as room
from locum import datasets
from locum.core.domain import Domain
from locum.core.measures import measure
from locum.core.surrogate import fit
from locum.datasets import Dataset, Part, Parts
from locum.targets import from_sklearn

HERE = Path(__file__).parent
PEERS_PYTHON = HERE.parents[1] / ".venv-peers" / "bin" / "python"
RESULT = HERE / "agreement" / "result.json"
DATA = (
    "wine", "breast_cancer", "german_credit", "power_plant", "bike_sharing", "nursery", "satellite", "protein", "arcene",
    "fatal_accidents",
)  # fmt: skip
MOST_ROWS = 10_000  # of a table, so that the largest do not take all the time
SEARCHED = 4  # settings tried for each black box, on a table's first split
SEARCH_ROWS = 2000
BOOTSTRAPS = 4000
LEVEL = 0.95
LEAVES, RULES = 16, 8

# One line a family: the class without its ending, what bounds its size, and the bound.
FAMILIES: dict[str, tuple[str, str, int]] = {
    "tree": ("Tree", "max_rules", LEAVES),
    "rule list": ("RuleList", "max_rules", RULES),
    "rule set": ("RuleSet", "max_rules", RULES),
    "additive": ("Additive", "max_statements", RULES),
    "sparse linear": ("SparseLinear", "max_terms", RULES),
}
PEERS: dict[str, int] = {
    "CART": LEAVES, "Trustee": LEAVES, "FIGS": RULES, "RuleFit": RULES, "boosted rules": RULES, "optimal tree": LEAVES,
}  # fmt: skip


@dataclass(frozen=True)
class BlackBox:
    """A kind of black box, and where its settings are searched."""

    make: Callable[[Domain, bool, int], Any]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Said:
    """What one method's model says of the fresh rows, and what it took."""

    answers: Any
    size: int
    asked: int
    seconds: float
    proven: bool = False


@dataclass(frozen=True)
class Setting:
    """One trained black box, with the rows to ask and the fresh rows, as a frame and as the numbers rivals take."""

    model: Any
    domain: Domain
    ask: Any
    fresh: Any
    truth: Any
    seed: int

    @property
    def classes(self) -> Any:
        """Of the black box; None where it gives values."""
        return self.model.classes_ if is_classifier(self.model) else None

    def table(self, rows: Any, *, complete: bool = False) -> Any:
        """Rows as numbers for methods that take nothing else: an indicator a category, and one for missing numbers.

        Those are NaN or, where rows must be complete, the median of the rows to ask.
        """
        Z = self.domain.encode(rows)
        medians = np.nanmedian(self.domain.encode(self.ask), axis=0) if complete else None
        parts = []
        for j, column in enumerate(self.domain.columns):
            if column.kind == "numeric":
                filled = Z[:, [j]] if medians is None else np.where(np.isnan(Z[:, [j]]), medians[j], Z[:, [j]])
                parts.append(filled)
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


# --- tables ----------------------------------------------------------------------------------------------------------


def loaded(name: str) -> tuple[Domain, Callable[[int], Parts]]:
    """A table's domain, and its parts by seed."""
    if name != "arcene":
        table: Dataset = datasets.load(name)
        return table.domain, table.split
    import pandas
    from scipy.io import loadmat

    record = loadmat(Path(os.environ["LOCUM_DATA"]) / "skfeature" / "arcene.mat")
    X, y = pandas.DataFrame(record["X"].astype(float)), record["Y"].ravel()
    X.columns = [f"x{j}" for j in range(X.shape[1])]
    X = X.loc[:, X.nunique() > 1]  # of a column with one value nothing can be learnt

    def split(seed: int) -> Parts:
        order = np.random.default_rng([seed, 7]).permutation(len(y))
        cut = [order[: len(y) // 2], order[len(y) // 2 : 3 * len(y) // 4], order[3 * len(y) // 4 :]]
        return Parts(*(Part(X.iloc[rows].reset_index(drop=True), y[rows]) for rows in cut))

    return Domain.of(X), split


# --- black boxes -----------------------------------------------------------------------------------------------------


def boosting(domain: Domain, classes: bool, seed: int) -> Any:
    """Gradient boosting of trees, which takes categories and missing values as they are."""
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return kind(categorical_features="from_dtype", early_stopping=False, random_state=seed)


def as_numbers(domain: Domain) -> Any:
    """Indicators of categories; medians for missing numbers; standard scores."""
    names = [[column.name for column in domain.columns if column.kind == kind] for kind in ("categorical", "numeric")]
    return make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), names[0]),
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), names[1]),
    )


def forest(domain: Domain, classes: bool, seed: int) -> Any:
    """A random forest."""
    kind = RandomForestClassifier if classes else RandomForestRegressor
    return make_pipeline(as_numbers(domain), kind(300, random_state=seed))


def network(domain: Domain, classes: bool, seed: int) -> Any:
    """A network of two hidden layers."""
    settings = {"hidden_layer_sizes": (100, 50), "early_stopping": True, "max_iter": 200, "random_state": seed}
    if classes:
        return make_pipeline(as_numbers(domain), MLPClassifier(**settings))
    return make_pipeline(as_numbers(domain), TransformedTargetRegressor(MLPRegressor(**settings), transformer=StandardScaler()))


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
    "random forest": BlackBox(forest, {"max_features": stats.uniform(0.05, 0.85), "min_samples_leaf": stats.randint(1, 8)}),
    "network": BlackBox(network, {"alpha": stats.loguniform(1e-5, 1.0), "learning_rate_init": stats.loguniform(3e-4, 1e-2)}),
}


def tuned(box: BlackBox, domain: Domain, part: Any, classes: bool) -> dict[str, Any]:
    """The best of a few random settings in three-fold cross-validation."""
    model = box.make(domain, classes, 0)
    known = model.get_params()
    settings = {next(k for k in known if k == name or k.endswith("__" + name)): values for name, values in box.settings.items()}
    search = RandomizedSearchCV(model, settings, n_iter=SEARCHED, cv=3, random_state=0)
    best = search.fit(part.X.iloc[:SEARCH_ROWS], part.y[:SEARCH_ROWS]).best_params_
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in best.items()}


def trained(
    box: BlackBox, best: dict[str, Any], domain: Domain, parts: Parts, classes: bool, seed: int
) -> tuple[Setting, float]:
    """A black box of this seed with its rows, and its score on the fresh ones."""
    sizes = [len(part) for part in (parts.train, parts.ask, parts.score)]
    share = min(1.0, MOST_ROWS / sum(sizes))
    train, ask, score = (
        (part.X.iloc[: int(share * n)], part.y[: int(share * n)])
        for part, n in zip((parts.train, parts.ask, parts.score), sizes, strict=True)
    )
    model = box.make(domain, classes, seed).set_params(**best).fit(*train)
    return Setting(model, domain, ask[0], score[0], model.predict(score[0]), seed), float(model.score(*score))


# --- methods ---------------------------------------------------------------------------------------------------------


def by_locum(family: str, budget: int, on: Setting) -> Said:
    """A stand-in that chooses its queries."""
    name, limit, size = FAMILIES[family]
    model = getattr(room, name + ("Regressor" if on.classes is None else "Classifier"))(**{limit: size})
    target = from_sklearn(on.model, domain=on.domain)
    target.query(on.fresh, "score")  # first, so that no row that scores is ever invented and asked about
    start = time.perf_counter()
    standin = fit(model, target, on.ask, budget=budget, domain=on.domain, random_state=on.seed)
    seconds = time.perf_counter() - start
    return Said(standin.predict(on.fresh, outside="ignore"), standin.program.statements, standin.price["calls"], seconds)


def by_cart(budget: int, on: Setting) -> Said:
    """A decision tree on the black box's answers to rows drawn at random."""
    rows, asked = on.some(budget)
    kind = DecisionTreeRegressor if on.classes is None else DecisionTreeClassifier
    start = time.perf_counter()
    tree = kind(max_leaf_nodes=LEAVES, random_state=on.seed).fit(on.table(rows), on.model.predict(rows))
    return Said(tree.predict(on.table(on.fresh)), int(tree.get_n_leaves()), asked, time.perf_counter() - start)


def by_peer(name: str, budget: int, on: Setting) -> Said:
    """A method of another library on recorded answers, in an environment of its own."""
    rows, _ = on.some(round(budget / 0.7) if name == "Trustee" else budget)
    task = "regression" if on.classes is None else "classification"
    settings = {"size": PEERS[name], "seed": on.seed, "task": task}
    answers = on.model.predict(rows)
    answers = answers if on.classes is None else np.searchsorted(on.classes, answers)
    tables = {"rows": on.table(rows, complete=True), "fresh": on.table(on.fresh, complete=True)}
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(source, **tables, answers=answers, settings=json.dumps(settings))
        command = [str(PEERS_PYTHON), str(HERE / "_peer.py"), name, str(source), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stderr.strip().splitlines()[-1][:300]}")
        found = np.load(out, allow_pickle=False)
        said = found["said"] if on.classes is None else on.classes[np.asarray(found["said"]).astype(int)]
        return Said(said, int(found["size"]), int(found["asked"]), float(found["seconds"]), bool(found["proven"]))


METHODS: dict[str, Callable[[int, Setting], Said]] = {
    **{family: partial(by_locum, family) for family in FAMILIES},
    "CART": by_cart,
    **{name: partial(by_peer, name) for name in PEERS if name != "CART"},
}


def attempted(method: Callable[[int, Setting], Said], budget: int, on: Setting) -> Said | str:
    """What a method says, or why it says nothing: a failure is a result, and the others go on."""
    try:
        return method(budget, on)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


# --- figures ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """Everything that was said for one table and black box: by method, one entry a seed."""

    data: str
    box: str
    budget: int
    classes: bool
    truth: list[Any]
    said: dict[str, list[Said | str]] = field(default_factory=lambda: {method: [] for method in METHODS})

    def record(self) -> dict[str, Any]:
        """All figures of the cell, ready for JSON."""
        methods = {name: self._method(name) for name in self.said}
        differences = {f: {p: self._difference(f, p) for p in PEERS} for f in FAMILIES}
        kind = {"data": self.data, "black_box": self.box, "budget": self.budget}
        kind |= {"measure": "agreement" if self.classes else "r2"}
        return {**kind, "methods": methods, "differences": differences}

    def _answered(self, name: str) -> list[Any] | None:
        found = self.said[name]
        return None if any(isinstance(one, str) for one in found) else [one.answers for one in found]  # type: ignore[union-attr]

    def _method(self, name: str) -> dict[str, Any]:
        answers = self._answered(name)
        if answers is None:
            return {"failed": [one for one in self.said[name] if isinstance(one, str)]}
        seeds: list[Any] = self.said[name]
        what = measure("agreement" if self.classes else "r2")
        fidelity = [
            what.fidelity(truth, said, region=self.data).to_dict() for truth, said in zip(self.truth, answers, strict=True)
        ]
        return {
            "fidelity": [{key: one[key] for key in ("value", "lower", "upper", "n")} for one in fidelity],
            "value": float(np.mean([one["value"] for one in fidelity])),
            **{key: [getattr(one, key) for one in seeds] for key in ("size", "asked", "seconds", "proven")},
        }

    def _difference(self, family: str, peer: str) -> dict[str, float] | None:
        """Fidelity of a family less that of a peer, with a paired bootstrap over seeds and, within them, rows."""
        ours, theirs = self._answered(family), self._answered(peer)
        if ours is None or theirs is None:
            return None
        # By row, so that both measures are means: R2 as a gain over the constant, in shares of its loss.
        pairs = [self._scores(t, a) - self._scores(t, b) for t, a, b in zip(self.truth, ours, theirs, strict=True)]
        rng = np.random.default_rng(0)
        drawn = np.stack([pair[rng.integers(0, len(pair), (BOOTSTRAPS, len(pair)))].mean(axis=1) for pair in pairs])
        picked = rng.integers(0, len(pairs), (len(pairs), BOOTSTRAPS))
        means = np.take_along_axis(drawn, picked, axis=0).mean(axis=0)
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return {"value": float(np.mean([pair.mean() for pair in pairs])), "lower": float(low), "upper": float(high)}

    def _scores(self, truth: Any, said: Any) -> Any:
        return (said == truth).astype(float) if self.classes else 1 - (said - truth) ** 2 / truth.var()


def cells(asked: Any, report: dict[str, Any], known: set[tuple[Any, ...]]) -> Iterator[Cell]:
    """Run everything but the known cells; `report` is told of the black boxes."""
    for name in asked.data:
        domain, split = loaded(name)
        parts = [split(seed) for seed in range(asked.seeds)]
        classes = parts[0].train.y.dtype.kind != "f"
        for box in asked.black_boxes:
            if (name, box) in known:
                continue
            best = tuned(BLACK_BOXES[box], domain, parts[0].train, classes)
            made = [trained(BLACK_BOXES[box], best, domain, part, classes, seed) for seed, part in enumerate(parts)]
            report[f"{name}, {box}"] = {"settings": best, "score": [score for _, score in made]}
            cell = Cell(name, box, asked.budget, classes, [on.truth for on, _ in made])
            for on, _ in made:
                for method, run in METHODS.items():
                    cell.said[method].append(attempted(run, asked.budget, on))
            yield cell


def line(record: dict[str, Any]) -> str:
    """One cell as a line of a table."""
    shown = [f"{name} {found['value']:.3f}" if "value" in found else f"{name} -" for name, found in record["methods"].items()]
    return f"{record['data']}, {record['black_box']}: {'; '.join(shown)}"


def ranks(records: list[dict[str, Any]]) -> dict[str, float]:
    """Mean rank of each method over the cells, best first; those that failed share the last place."""
    values = [[record["methods"][name].get("value", -np.inf) for name in METHODS] for record in records]
    mean = stats.rankdata(-np.array(values), axis=1).mean(axis=0)
    return {name: round(float(mean[i]), 2) for i, name in sorted(enumerate(METHODS), key=lambda one: mean[one[0]])}


def verdicts(records: list[dict[str, Any]]) -> dict[str, dict[str, list[int]]]:
    """Cells won, undecided and lost, by family and peer: the interval of the difference is above, across or below zero."""
    out: dict[str, dict[str, list[int]]] = {}
    for family in FAMILIES:
        out[family] = {}
        for peer in PEERS:
            known = [one for one in (record["differences"][family][peer] for record in records) if one is not None]
            won, lost = sum(one["lower"] > 0 for one in known), sum(one["upper"] < 0 for one in known)
            out[family][peer] = [won, len(known) - won - lost, lost]
    return out


def of_the_optimum(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Fidelity as a share of the optimal tree's, over the cells where that was proven to be one for every seed."""
    proven = [r["methods"] for r in records if all(r["methods"]["optimal tree"].get("proven", [False]))]
    shares = {
        name: round(float(np.mean([cell[name]["value"] / cell["optimal tree"]["value"] for cell in proven])), 4)
        for name in METHODS
        if proven and all("value" in cell[name] for cell in proven)
    }
    return {"cells": len(proven), "shares": shares}


def summary(records: list[dict[str, Any]], seeds: int) -> dict[str, Any]:
    """The line that is printed."""
    taken = {name: [t for r in records for t in r["methods"][name].get("seconds", [])] for name in METHODS}
    seconds = {name: round(float(np.median(every)), 2) for name, every in taken.items() if every}
    order = ranks(records)
    return {
        "benchmark": "peers/agreement",
        "cells_measured": len(records),
        "seeds": seeds,
        "holds": next(iter(order)) in FAMILIES,
        "mean_rank": order,
        "of_the_optimal_tree": of_the_optimum(records),
        "won_undecided_lost": verdicts(records),
        "median_seconds": seconds,
    }


def earlier(seeds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Cells and black boxes of a run that was stopped."""
    try:
        found = json.loads(RESULT.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [], {}
    return (found["cells"], found["black_boxes"]) if found["seeds"] == seeds else ([], {})


def main() -> int:
    """Run, write, print; 0 where a family of Locum has the best mean rank."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one table and black box, one seed; nothing is written")
    parser.add_argument("--resume", action="store_true", help="keep the cells of a run that was stopped, of the same code")
    parser.add_argument("--data", nargs="+", default=list(DATA))
    parser.add_argument("--black-boxes", nargs="+", default=list(BLACK_BOXES), choices=list(BLACK_BOXES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=int, default=1000)
    asked = parser.parse_args()
    if not PEERS_PYTHON.exists():
        print(f"the peers are not installed: expected {PEERS_PYTHON}; run make peers", file=sys.stderr)
        return 2
    if "arcene" in asked.data and not os.environ.get("LOCUM_DATA"):
        print("arcene is left out: set LOCUM_DATA to the folder that holds skfeature/arcene.mat", file=sys.stderr)
        asked.data.remove("arcene")
    if asked.quick:
        asked.data, asked.black_boxes, asked.seeds = asked.data[:1], asked.black_boxes[:1], 1
    records, boxes = earlier(asked.seeds) if asked.resume else ([], {})
    for cell in cells(asked, boxes, {(record["data"], record["black_box"]) for record in records}):
        records.append(cell.record())
        print(line(records[-1]), file=sys.stderr, flush=True)
        if not asked.quick:  # after each cell, so that a run that is stopped keeps what it measured
            whole = summary(records, asked.seeds)
            whole |= {"python": platform.python_version(), "black_boxes": boxes, "cells": records}
            RESULT.parent.mkdir(exist_ok=True)
            RESULT.write_text(json.dumps(whole) + "\n", encoding="utf-8")
    figures = summary(records, asked.seeds)
    print(json.dumps(figures))
    return 0 if figures["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
