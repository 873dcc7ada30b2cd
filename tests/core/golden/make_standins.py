"""Writes the saved stand-ins of the current format, and what they answer: ``python tests/core/golden/make_standins.py``.

Run it when the format gets a new number, and keep the files of the old one: they must go on being read.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from locum.core.export import FORMAT
from locum.core.surrogate import StandIn, fit
from locum.core.target import Target
from locum.explain.additive import AdditiveRegressor
from locum.explain.tree import TreeClassifier


def rows(n: int, seed: int) -> pd.DataFrame:
    """People with an age, a pay that some keep to themselves, and a job."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": rng.uniform(18, 90, n).round(2), "pay": rng.lognormal(8, 0.5, n).round(2)})
    frame["job"] = rng.choice(["clerk", "nurse", "smith"], n)
    frame.loc[rng.random(n) < 0.1, "pay"] = np.nan
    return frame


def label(frame: pd.DataFrame) -> np.ndarray:
    """What the first target answers."""
    return np.where((frame["age"] > 40) & (frame["job"] != "smith"), "yes", "no")


def value(frame: pd.DataFrame) -> np.ndarray:
    """What the second target answers."""
    return 10.0 * (frame["age"].to_numpy() > 60) + frame["pay"].fillna(1000.0).to_numpy() / 1000


def made() -> dict[str, StandIn]:
    """Stand-ins by the names of their files."""
    data, fresh = rows(200, 0), rows(120, 1)
    labels, values = Target(label, name="who gets a loan"), Target(value, output="value", name="score")
    tree = fit(TreeClassifier(max_rules=4), labels, data, budget=150).check(labels, fresh)
    additive = fit(AdditiveRegressor(max_statements=8, iterations=30), values, data, budget=150).check(values, fresh)
    return {f"tree-{FORMAT}": tree, f"additive-{FORMAT}": additive}


if __name__ == "__main__":
    folder = Path(__file__).parent
    asked = rows(30, 2)
    asked.loc[:5, "age"] += 80
    for name, standin in made().items():
        standin.save(folder / f"{name}.locum")
        answers = {
            "rows": json.loads(asked.to_json(orient="records")),
            "answers": standin.predict(asked, outside="ignore").tolist(),
            "inside": standin.region.inside(asked).tolist(),
            "fidelity": [str(found) for found in standin.fidelity],
            "residuals": standin.residuals.tolist(),
        }
        (folder / f"{name}.json").write_text(json.dumps(answers, indent=1) + "\n")
