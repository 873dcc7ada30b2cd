"""The demonstration: a real black box on real data, replaced by rules, with a bound and a page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from locum.cli._io import console, emit, working

__all__ = ["run"]

DATA = "bike_sharing"
MOST_STATEMENTS = 16
BUDGET = 800
SIZES = (1, 2, 4, 8, 16)
FAMILIES = ("tree", "rule set", "additive model", "sparse linear")  # the rule list would take as long as all of these


def run(output: Path, seed: int, json: bool) -> None:
    """Train, ask, fit, measure, show."""
    from locum.datasets import load
    from locum.explain.frontier import frontier
    from locum.targets import target

    begun = time.perf_counter()
    table = load(DATA)
    parts = table.split(seed)
    with working("training the black box", quiet=json):
        model = _black_box(parts.train, seed)
    box = target(model, name="gradient boosting")
    with working("asking it, and fitting stand-ins", quiet=json, target=box, rows=BUDGET + len(parts.score)) as progress:
        found = frontier(
            box, parts.ask.X, fresh=parts.score.X, domain=table.domain, families=FAMILIES, sizes=SIZES,
            budget=BUDGET, progress=progress, random_state=seed,
        )  # fmt: skip
    picked = found.point_at_most(MOST_STATEMENTS)
    card = found.card(picked.standin, box, title=table.title, data=f"{table.name}: {table.source}")
    card.save(output)
    seconds = time.perf_counter() - begun
    if json:
        emit({**found.to_dict(), "line": card.line(), "card": str(output.resolve()), "seconds": seconds})
        return
    out = console(out=True)
    size = f"{len(table):,} rows, {len(table.domain)} columns. The black box: gradient boosting, {model.n_iter_} trees."
    out.print(f"{table.title}\n{size}", markup=False, highlight=False)
    out.print(card)
    out.print(f"\n{card.line()}", markup=False, highlight=False)
    out.print(f"The card is in {output.resolve()}: open it in a browser. ({seconds:.0f} s)", markup=False, highlight=False)


def _black_box(train: Any, seed: int) -> Any:
    """Gradient boosting, tuned by a small random search as people do."""
    from scipy.stats import loguniform, randint
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import RandomizedSearchCV

    ranges = {"learning_rate": loguniform(0.03, 0.2), "max_leaf_nodes": randint(4, 24), "min_samples_leaf": randint(5, 40)}
    model = HistGradientBoostingRegressor(categorical_features="from_dtype", max_iter=200, random_state=seed)
    search = RandomizedSearchCV(model, ranges, n_iter=6, cv=3, random_state=seed)
    return search.fit(train.X, train.y).best_estimator_
