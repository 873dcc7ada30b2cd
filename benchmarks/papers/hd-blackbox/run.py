"""hd-blackbox (arXiv 2208.13405): a readable model on the few columns that matter follows a black box of thousands of columns.

Gene expression (colon, leukemia, Prostate-GE, lung_small): a perceptron on all genes, asked for probabilities alone; per seed
one stratified 4-fold, in which the rows of the fit train the black box, rank its columns and teach a forest, and the others
measure. madelon: a self-attention network on 500 columns, 20 of which have to do with the classes. UJIIndoorLoc (520 radio
signals, split by the user who measured): the paper's own table, measured where $LOCUM_DATA/ujiindoorloc holds it.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, main, over_seeds
from peers import peers

from locum.core.errors import InvalidData
from locum.core.target import Target
from locum.datasets._wide import load_wide
from locum.explain.hd_blackbox import DenseAutoencoder, HighDimExplainer, SANClassifier

GENES = ("colon", "leukemia", "Prostate-GE", "lung_small")
TOP, SEEDS = 50, 5
CELLS = 21_000_000  # asked for perturbing, at most
KS = (10, 25, 50, 100)
WHERE = (1, 5, 10, 20, 50, 100)


def measure(quick: bool, first: int) -> Iterator[Claim]:
    """All claims, the headline first."""
    seeds = range(first, first + (3 if quick else SEEDS))
    yield from genes([expression(seed, GENES[:2] if quick else GENES, 3 if quick else 4) for seed in seeds])
    yield from planted([madelon(seed, quick) for seed in seeds])
    try:
        load_wide("ujiindoorloc")
    except InvalidData as missing:
        print(f"skipped, UJIIndoorLoc: {missing}", file=sys.stderr)
        return
    yield from radio([signals(seed, quick) for seed in seeds])


def ask(model: Any) -> Target:
    return Target(model.predict_proba, name="black box", output="probability", classes=model.classes_)


def claim(name: str, measure: str, values: Any, threshold: float = 0.0, **rest: Any) -> Claim:
    return Claim(name, measure, *over_seeds(values), seeds=len(values), threshold=threshold, **rest)


def mean(runs: list[dict[str, Any]], *path: Any) -> list[float]:
    """One value a seed."""
    out = []
    for run in runs:
        value: Any = run
        for key in path:
            value = value[key]
        out.append(float(value))
    return out


# ---------------------------------------------------------------------- gene expression
def expression(seed: int, sets: tuple[str, ...], folds: int) -> dict[str, Any]:
    """Agreement and R2 of trees and forests on the best columns, on random ones and on all; and the shuffle of columns."""
    by_set: dict[str, float] = {}
    found: dict[str, list[float]] = {}
    overlap: dict[str, list[float]] = {"shuffled": [], "seeds": []}
    for name in sets:
        table = load_wide(name)
        parts = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(table.X, table.y))
        for f, (fit, held) in enumerate(parts):
            told = fold(table.X, table.y, fit, held, seed)
            for key, value in told.items():
                found.setdefault(key, []).append(value)
            for key in ("accuracy", "forest top", "forest all", "forest random"):
                by_set[f"{name}, {key}"] = by_set.get(f"{name}, {key}", 0.0) + told[key] / folds
            if f == 0:
                for key, value in shuffles(table.X[fit], table.y[fit], seed).items():
                    overlap[key].append(value)
    return {key: float(np.mean(values)) for key, values in (found | overlap).items()} | by_set


def perceptron(seed: int) -> Any:
    # Stopped after 60 passes, which is enough for rows so few.
    net = MLPClassifier((32,), alpha=1.0, max_iter=60, learning_rate_init=0.003, random_state=seed)
    return make_pipeline(StandardScaler(), net)


def trained(X: Any, y: Any, seed: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of passes that ended before the loss settled
        return perceptron(seed).fit(X, y)


def wide_explainer(target: Target, width: int, seed: int) -> HighDimExplainer:
    # The ledger keeps all rows, so the wider they are, the fewer are asked.
    return HighDimExplainer(target, k=TOP, max_queries=min(20_000, CELLS // width), random_state=seed)


def fold(X: Any, y: Any, fit: Any, held: Any, seed: int) -> dict[str, float]:
    model = trained(X[fit], y[fit], seed)
    out = {"accuracy": float((model.predict(X[held]) == y[held]).mean())}
    target = ask(model)
    hd = wide_explainer(target, X.shape[1], seed).fit(X[fit])
    P, Q = target.query(X[fit], "fit"), target.query(X[held], "score")
    random = np.random.default_rng(seed).permutation(X.shape[1])[:TOP]
    bottom = hd.ranking_.order[::-1][:TOP]
    chosen = {"top": hd.ranking_.order[:TOP], "random": random, "bottom": bottom, "all": np.arange(X.shape[1])}
    for kind, regression in (("tree", DecisionTreeRegressor), ("forest", forest)):
        for which, columns in chosen.items():
            imitation = regression(random_state=seed).fit(X[fit][:, columns], P)
            said = imitation.predict(X[held][:, columns])
            out[f"{kind} {which}"] = float((said.argmax(axis=1) == Q.argmax(axis=1)).mean())
            out[f"{kind} {which} r2"] = 1 - ((Q - said) ** 2).sum() / ((Q - P.mean(axis=0)) ** 2).sum()
    return out


def forest(random_state: int) -> Any:
    return ExtraTreesRegressor(100, random_state=random_state)


def shuffles(X: Any, y: Any, seed: int) -> dict[str, float]:
    """Overlap (Jaccard) of the best columns with those after a shuffle of the columns, and with those of another seed."""
    order = np.random.default_rng(seed).permutation(X.shape[1])

    def best(rows: Any, seed: int) -> set[int]:
        model = trained(rows, y, seed)
        return set(wide_explainer(ask(model), X.shape[1], seed).fit(rows).ranking_.order[:TOP].tolist())

    plain, other = best(X, seed), best(X, seed + 100)
    shuffled = {int(order[j]) for j in best(X[:, order], seed)}
    return {"shuffled": jaccard(plain, shuffled), "seeds": jaccard(plain, other)}


def jaccard(one: set[int], other: set[int]) -> float:
    return len(one & other) / len(one | other)


def genes(runs: list[dict[str, Any]]) -> Iterator[Claim]:
    level = "agreement with the black box lost by a forest on 50 columns rather than all, held-out rows"
    lost = [run["forest all"] - run["forest top"] for run in runs]
    summary = {key: float(np.mean(mean(runs, key))) for key in runs[0]}
    yield claim(
        "gene expression: 50 columns are as good as all", level, lost, 0.05, direction="less", details=summary,
    )  # fmt: skip
    yield claim(
        "gene expression: a single tree on 50 columns is as good as one on all", "agreement lost",
        [run["tree all"] - run["tree top"] for run in runs], 0.05, direction="less", needed=False,
    )  # fmt: skip
    yield claim(
        "gene expression: the 50 best columns beat 50 random ones", "difference in R2 of a forest, held-out rows",
        [run["forest top r2"] - run["forest random r2"] for run in runs],
    )  # fmt: skip
    yield claim(
        "gene expression: the order of columns does not matter", "overlap of the best 50 after a shuffle less between seeds",
        [run["shuffled"] - run["seeds"] for run in runs], -0.1,
    )  # fmt: skip


# ---------------------------------------------------------------------- planted columns
def madelon(seed: int, quick: bool) -> dict[str, Any]:
    """Share of the 20 best columns that are relevant, by way of ranking."""
    table = load_wide("madelon")
    order = np.random.default_rng(seed).permutation(len(table))
    fit, held = order[:2000], order[2000:]
    X, y = table.X, table.y
    nonsense = np.random.default_rng(seed).permutation(y[fit])
    epochs = 8 if quick else 32
    san = SANClassifier(epochs=epochs, random_state=seed).fit(X[fit], y[fit])
    blind = SANClassifier(epochs=epochs, random_state=seed).fit(X[fit], nonsense)
    trees = ExtraTreesClassifier(300, min_samples_leaf=2, max_features=100, random_state=seed).fit(X[fit], y[fit])
    out: dict[str, Any] = {"accuracy": float((san.predict(X[held]) == y[held]).mean())}
    out["accuracy of trees"] = float((trees.predict(X[held]) == y[held]).mean())

    def hits(score: Any) -> float:
        return float(table.relevant[np.argsort(-np.nan_to_num(score), kind="stable")[:20]].mean())

    probes = ["attention", "instance_attention", "ig"]
    for name, model, wanted in (("", san, probes), ("shuffled labels, ", blind, probes), ("trees, ", trees, [])):
        hd = HighDimExplainer(ask(model), model=model, probes=wanted, k=20, max_queries=20_000, random_state=seed).fit(X[fit])
        out |= {name + key: hits(values) for key, values in hd.ranking_.scores.items()}
        together = [stats.rankdata(-values) for key, values in hd.ranking_.scores.items() if key != "attention"]
        out[name + "fused"] = hits(-np.mean(together, axis=0))  # as by default, without the global attention
    return out


def planted(runs: list[dict[str, Any]]) -> Iterator[Claim]:
    summary = {key: float(np.mean(mean(runs, key))) for key in runs[0]}
    yield claim(
        "madelon: the fused ranking finds the columns that matter", "share of relevant columns among the 20 best (chance 0.04)",
        mean(runs, "fused"), 0.2, details=summary,
    )  # fmt: skip
    yield claim(
        "madelon: perturbing alone finds them in another black box, of trees", "share of relevant columns among the 20 best",
        mean(runs, "trees, sensitivity"), 0.5,
    )  # fmt: skip
    yield claim(
        "madelon: global attention finds them", "share of relevant columns among the 20 best (chance 0.04)",
        mean(runs, "attention"), 0.2, needed=False,
    )  # fmt: skip
    yield claim(
        "madelon: instance attention finds more with true labels than with shuffled ones", "difference in that share",
        [run["instance_attention"] - run["shuffled labels, instance_attention"] for run in runs], needed=False,
    )  # fmt: skip


# ---------------------------------------------------------------------- radio signals
def signals(seed: int, quick: bool) -> dict[str, Any]:
    """Everything on UJIIndoorLoc for one split of the users."""
    out: dict[str, Any] = {}
    rng = np.random.default_rng(seed)
    for target in ("building",) if quick else ("building", "building and floor"):
        table = load_wide("ujiindoorloc", target=target)
        users = rng.permutation(np.unique(table.groups[~table.held_out]))
        inside = np.isin(table.groups, users[:13]) & ~table.held_out
        fit = rng.permutation(np.flatnonzero(inside))[: 1500 if quick else 5000]
        outside = rng.permutation(np.flatnonzero(~inside & ~table.held_out))[: 600 if quick else 1500]
        rows = (table, fit, outside, np.flatnonzero(table.held_out))
        san = SANClassifier(epochs=6 if quick else 15, random_state=seed).fit(table.X[fit], table.y[fit])
        out[target] = follow(san, rows, seed, quick or target != "building")
        if target == "building and floor" and not quick:
            front = DenseAutoencoder(epochs=20, random_state=seed)
            code = make_pipeline(front, SANClassifier(epochs=25, random_state=seed)).fit(table.X[fit], table.y[fit])
            out["on a code"] = follow(code, rows, seed, True)
    return out


def follow(model: Any, rows: Any, seed: int, short: bool) -> dict[str, Any]:
    """How well the explainer follows one black box; the long form adds forests, rules, single answers and peers."""
    table, fit, outside, later = rows
    X, y, asked = table.X, table.y, fit[:2500]
    out: dict[str, Any] = {"accuracy by user": (model.predict(X[outside]) == y[outside]).mean()}
    out["accuracy later"] = (model.predict(X[later]) == y[later]).mean()
    target = ask(model)
    hd = HighDimExplainer(target, model=model, ks=KS, max_queries=20_000, random_state=seed).fit(X[asked], y[asked])
    out["k"] = hd.k_
    for found in hd.fidelity_by_k(X[outside], ks=KS):
        out[f"r2 {found.k}"], out[f"random r2 {found.k}"] = found.r2.value, found.random[0].value
        out[f"agreement {found.k}"], out[f"random agreement {found.k}"] = found.agreement.value, found.random[1].value
    out["later r2 100"] = hd.fidelity_by_k(X[later], ks=(100,))[0].r2.value
    kept = hd.faithfulness(X[outside[:200]], ks=WHERE, draws=3)
    for which in ("top", "random", "bottom"):
        for i, k in enumerate(WHERE):
            out[f"sufficiency {which} {k}"] = kept.sufficiency[which][i].value
            out[f"comprehensiveness {which} {k}"] = kept.comprehensiveness[which][i].value
    if short:
        return out
    for kind in ("forest", "xgb"):
        other = HighDimExplainer(target, model=model, k=100, surrogate=kind, max_queries=20_000, random_state=seed, folds=2)
        out[f"{kind} r2 100"] = other.fit(X[asked]).fidelity(X[outside]).r2.value
    full = HighDimExplainer(target, model=model, k=100, max_queries=20_000, random_state=seed).fit(X[asked])
    book = full.rules(X[outside], min_support=0.005)
    out["rules"], out["rules agreement"] = len(book), book.agreement.value
    changed = [one.counterfactual for one in full.explain(X[outside[:200]]) if one.counterfactual is not None]
    out["valid"] = np.mean([one.valid_on_black_box for one in changed])
    out["changes"] = np.mean([len(one.changes) for one in changed])
    return out | {"peers": beside(target, hd, X[asked], X[outside], seed)}


def beside(target: Target, hd: HighDimExplainer, X: Any, fresh: Any, seed: int) -> dict[str, dict[str, float]]:
    """R2 and agreement of one and the same tree on the 50 best columns of each ranking, and its seconds."""
    fresh = fresh[target.fresh(fresh)]  # two users may have measured the very same row
    P, Q = target.query(X, "fit"), target.query(fresh, "score")
    rankings: dict[str, Any] = {"this system": lambda: -np.argsort(hd.ranking_.order)}
    alone = {"gradients alone": "ig", "perturbing alone": "sensitivity"}
    rankings |= {name: lambda s=s: np.asarray(hd.ranking_.scores[s]) for name, s in alone.items()}
    rankings |= peers(X, P.argmax(axis=1), seed)
    out = {}
    for name, score in rankings.items():
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of solvers that stop early
            columns = np.argsort(-np.nan_to_num(score()), kind="stable")[:TOP]
        seconds = time.perf_counter() - start
        tree = DecisionTreeRegressor(max_leaf_nodes=64, min_samples_leaf=5, random_state=0).fit(X[:, columns], P)
        said = tree.predict(fresh[:, columns])
        out[name] = {
            "r2": float(1 - ((Q - said) ** 2).sum() / ((Q - Q.mean(axis=0)) ** 2).sum()),
            "agreement": float((said.argmax(axis=1) == Q.argmax(axis=1)).mean()),
            "seconds": seconds,
        }
    return out


def radio(runs: list[dict[str, Any]]) -> Iterator[Claim]:
    for target in [key for key in ("building", "building and floor", "on a code") if key in runs[0]]:
        summary = {key: float(np.mean(mean(runs, target, key))) for key in runs[0][target] if key != "peers"}
        level = {"decided_by": "effect", "needed": False}
        yield claim(
            f"UJIIndoorLoc, {target}: the black box is good", "accuracy on other users", mean(runs, target, "accuracy by user"),
            0.9, details=summary, **level,
        )  # fmt: skip
        yield claim(
            f"UJIIndoorLoc, {target}: a tree on 100 columns follows it", "R2 on other users", mean(runs, target, "r2 100"), 0.8,
            **level,
        )  # fmt: skip
        gain = [np.mean([run[target][f"r2 {k}"] - run[target][f"random r2 {k}"] for k in KS[1:]]) for run in runs]
        yield claim(
            f"UJIIndoorLoc, {target}: the best columns beat random ones", "gain in R2, mean of k = 25, 50 and 100", gain, 0.1,
            decided_by="effect", needed=target == "building",
        )  # fmt: skip
        pairs = [(f"sufficiency random {k}", f"sufficiency top {k}") for k in WHERE[2:]]
        gap = [np.mean([run[target][random] - run[target][top] for random, top in pairs]) for run in runs]
        yield claim(
            f"UJIIndoorLoc, {target}: the best columns suffice sooner than random ones",
            "sufficiency gap of random less that of the best, mean of k = 10 to 100", gap, needed=target == "building",
        )  # fmt: skip
    if "valid" not in runs[0]["building"]:
        return
    yield from reading(runs)


def reading(runs: list[dict[str, Any]]) -> Iterator[Claim]:
    """Rules, counterfactuals, ensembles and peers, on buildings."""
    yield claim(
        "UJIIndoorLoc: 30 rules agree", "agreement of at most 30 rules on other users",
        mean(runs, "building", "rules agreement"), 0.85,
        decided_by="effect", needed=False, details={"rules": max(mean(runs, "building", "rules"))},
    )  # fmt: skip
    yield claim(
        "UJIIndoorLoc: counterfactuals move the black box", "share of those returned that do; the others are marked",
        mean(runs, "building", "valid"), 0.9, decided_by="effect", needed=False,
    )  # fmt: skip
    for kind in ("forest", "xgb"):
        yield claim(
            f"UJIIndoorLoc: a {kind} follows better than a tree", "gain in R2 at 100 columns",
            [run["building"][f"{kind} r2 100"] - run["building"]["r2 100"] for run in runs], needed=False,
        )  # fmt: skip
    names = list(runs[0]["building"]["peers"])
    told = ("r2", "agreement", "seconds")
    table = {name: {key: float(np.mean(mean(runs, "building", "peers", name, key))) for key in told} for name in names}
    ours = ("this system", "gradients alone", "perturbing alone")
    best = max((name for name in names if name not in ours), key=lambda name: table[name]["r2"])
    yield claim(
        f"UJIIndoorLoc: this ranking beats the best peer ({best})", "gain in R2 of the same tree on 50 columns",
        [run["building"]["peers"]["this system"]["r2"] - run["building"]["peers"][best]["r2"] for run in runs],
        needed=False, details=table,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
