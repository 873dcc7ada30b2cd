"""Squared errors for outcomes of actions left out, beside what is cheaper: regressions of the outcome on the action."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPRegressor

from locum.core.bounds import bootstrap_mean
from locum.core.fidelity import Fidelity

__all__ = ["RIVALS", "against_rivals"]

Array = NDArray[np.floating[Any]]

RIVALS = {
    "constant": lambda seed: DummyRegressor(),
    "linear": lambda seed: LinearRegression(),
    "network": lambda seed: MLPRegressor(hidden_layer_sizes=(64, 64), early_stopping=True, random_state=seed),
}


def against_rivals(
    said: Array, actions: Array, y: Array, seen: Array, outcomes: Array, level: float, random_state: int
) -> dict[str, Fidelity]:
    """Squared errors of predictions, of each rival, and the difference to the best rival.

    Parameters
    ----------
    said, y : ndarray of shape (m,)
    actions : ndarray of shape (m, k)
    seen : ndarray of shape (n, k)
    outcomes : ndarray of shape (n,)
        What rivals learn.
    level : float
    random_state : int
    """
    scale = outcomes.std()
    errors = {"extrapolator": (said - y) ** 2}
    for name, make in RIVALS.items():
        rival = make(random_state).fit(seen, (outcomes - outcomes.mean()) / scale)
        errors[name] = (outcomes.mean() + scale * rival.predict(actions) - y) ** 2
    best = min(RIVALS, key=lambda name: errors[name].mean())
    errors["gain"] = errors[best] - errors["extrapolator"]
    units = np.unique(actions, axis=0, return_inverse=True)[1].ravel()
    groups = units if units.max() + 1 < len(units) else None  # rows of one action err together
    found = {}
    for name, values in errors.items():
        interval = bootstrap_mean(values, level, groups=groups, random_state=random_state)
        found[name] = Fidelity(
            "mean squared error" if name != "gain" else f"mean squared error less than that of {best}",
            float(values.mean()), interval.lower, interval.upper, level, len(values), region="the actions given",
            how="rows left out", method=interval.method, groups=None if groups is None else int(groups.max()) + 1,
            greater_is_better=name == "gain",
        )  # fmt: skip
    return found
