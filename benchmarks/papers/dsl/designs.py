"""Coverage of design-based intervals by the library itself in designs that are hard in one way each.

Every data set is drawn anew, 2,000 of each design; labels are drawn with known probabilities; the first stage is least squares
or logistic, cross-fitted once. The truth is the coefficient in a population of a million rows, where it is not planted.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pandas as pd
from claims import Claim
from scipy.special import expit

from locum.core.bounds import binomial
from locum.infer import DesignWarning, DSLRegressor, NoSolution

WITHIN = 0.015
Draw = Callable[[np.random.Generator, int], pd.DataFrame]


def usual(rng: np.random.Generator, n: int) -> pd.DataFrame:
    """A logistic outcome; the surrogate errs by x."""
    x = rng.normal(size=n)
    y = rng.random(n) < expit(0.3 + 0.8 * x)
    q = np.where(rng.random(n) < np.where(x > 0, 0.75, 0.95), y, ~y)
    return pd.DataFrame({"x": x, "Y": y * 1.0, "q": q * 1.0, "p": 1.0})


def rare(rng: np.random.Generator, n: int) -> pd.DataFrame:
    """One outcome in twenty; what the surrogate calls positive is drawn four times as often."""
    x = rng.normal(size=n)
    y = rng.random(n) < expit(-3.3 + 0.8 * x)
    q = np.where(rng.random(n) < np.where(y, 0.75, 0.97), y, ~y)
    return pd.DataFrame({"x": x, "Y": y * 1.0, "q": q * 1.0, "p": np.where(q, 4.0, 1.0)})


def clustered(rng: np.random.Generator, n: int) -> pd.DataFrame:
    """Groups of ten with an effect of their own on outcome, surrogate and x."""
    g = np.repeat(np.arange(n // 10), 10)
    u = rng.normal(size=(3, n // 10))
    x = rng.normal(size=n) + u[0, g]
    y = 1 + 0.5 * x + u[1, g] + rng.normal(size=n)
    return pd.DataFrame({"x": x, "Y": y, "q": y + 0.6 * x + u[2, g] + rng.normal(size=n), "p": 1.0, "g": g})


def misspecified(rng: np.random.Generator, n: int) -> pd.DataFrame:
    """A straight line through a curve with uneven noise; the first stage is a straight line too."""
    x = rng.normal(size=n)
    y = x + 0.5 * x**2 + rng.normal(size=n) * (0.3 + np.abs(x))
    return pd.DataFrame({"x": x, "Y": y, "q": np.sin(3 * y) + 0.5 * x, "p": np.where(x > 1, 3.0, 1.0)})


def predicted_covariate(rng: np.random.Generator, n: int) -> pd.DataFrame:
    """The experts label a covariate, which the surrogate gets wrong more often where the outcome is high."""
    z = rng.random(n) < 0.4
    y = 1 + 0.8 * z + rng.normal(size=n)
    q = np.where(rng.random(n) < np.where(y > 1.5, 0.75, 0.92), z, ~z)
    return pd.DataFrame({"x": z * 1.0, "Y": y, "q": q * 1.0, "p": 1.0})


DESIGNS: dict[str, tuple[Draw, str, dict]] = {
    "usual": (usual, "logit", {}),
    "rare labels, unequal probabilities": (rare, "logit", {}),
    "clustered": (clustered, "lm", {"groups": "g"}),
    "misspecified": (misspecified, "lm", {}),
    "predicted covariate": (predicted_covariate, "lm", {"predicted": ("x",)}),
}


@cache
def truth(name: str) -> float:
    """The coefficient of x that experts would find in the population."""
    draw, model, _ = DESIGNS[name]
    frame = draw(np.random.default_rng(99), 1_000_000)
    fitted = DSLRegressor(model, n_splits=1, learner="surrogate")
    return float(fitted.fit(frame, "Y ~ x", surrogates={"Y": "q"}, sampling_prob=1.0).params_["x"])


def covers(name: str, seed: int, n: int = 2000, share: float = 0.2) -> bool | None:
    """Whether one interval holds the truth; None where the equations have no solution."""
    draw, model, settings = DESIGNS[name]
    rng = np.random.default_rng([seed, len(name)])
    frame = draw(rng, n)
    pi = frame["p"] * share / frame["p"].mean()
    drawn = rng.random(n) < pi
    column = settings.get("predicted", ("Y",))[0]
    frame = frame.assign(**{column: np.where(drawn, frame[column], np.nan)}, pi=pi)
    m = DSLRegressor(model, (column,), n_splits=1, learner="linear", random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DesignWarning)
        try:
            m.fit(frame, "Y ~ x", surrogates={column: "q"}, sampling_prob="pi", groups=settings.get("groups"))
        except NoSolution:
            return None
    low, high = m.conf_int().loc["x"]
    return bool(low <= truth(name) <= high)


def claims(quick: bool, seed: int) -> Iterator[Claim]:
    """One claim for all designs: the coverage that is furthest from its level."""
    sets = 100 if quick else 2000
    found: dict[str, dict[str, float]] = {}
    for name in DESIGNS:
        hits = [covers(name, seed * 100_000 + r) for r in range(sets)]
        known = [hit for hit in hits if hit is not None]
        ends = binomial(sum(known), len(known))
        found[name] = {"coverage": float(np.mean(known)), "lower": ends.lower, "upper": ends.upper}
        found[name]["without_solution"] = len(hits) - len(known)
    worst = max(found.values(), key=lambda one: abs(one["coverage"] - 0.95))
    gaps = [abs(worst[end] - 0.95) for end in ("lower", "upper")]
    inside = worst["lower"] <= 0.95 <= worst["upper"]
    yield Claim(
        "within 1.5 points of the level in hard designs",
        f"largest distance of coverage from 0.95 over {len(found)} designs, {sets:,} data sets each",
        abs(worst["coverage"] - 0.95),
        0.0 if inside else min(gaps),
        max(gaps),
        sets,
        "less",
        0.05 if quick else WITHIN,
        "effect",
        details=found,
    )
