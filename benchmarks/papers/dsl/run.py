"""Design-based supervised learning: coverage with bad surrogates, naive use, width beside expert labels and PPI++.

    python benchmarks/papers/dsl/run.py [--quick] [--seed N] [--json]

A planted linear design with 10,000 data sets (vectorised), five harder ones with 2,000 (see designs.py), real bill titles of
the 107th Congress with expert topics where $LOCUM_DATA/text/USCongress.csv.gz is there, and the complaints of Pan and Chen
where $LOCUM_DATA/dsl is there.
"""

from __future__ import annotations

import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import designs
from claims import Claim, main, over_seeds

from locum.core.bounds import binomial
from locum.infer import DesignWarning, DSLRegressor, NoSolution, sample_labels

DATA = Path(os.environ.get("LOCUM_DATA", "."))
TRUTH = np.array([0.3, 0.8])
Z95 = stats.norm.isf(0.025)
# Topic code, words that a rule looks for in a title.
TOPICS = {
    "health": (3, r"health|medic|drug|disease|hospital|patient|nurs"),
    "defense": (16, r"defense|armed forces|veteran|military|national guard|navy"),
    "law": (12, r"crim|law enforcement|prison|firearm|child abuse|violen|court"),
    "transport": (10, r"transport|highway|aviation|rail|airport|vehicle|coast guard"),
    "lands": (21, r"land|park|wilderness|river|monument|indian|water"),
    "environment": (7, r"environment|clean|pollut|waste|species|conserv"),
}


# ---------------------------------------------------------------------- a planted design, all data sets at once
def planted_coverage(sets: int, seed: int, n: int = 2000, share: float = 0.15) -> dict[str, np.ndarray]:
    """Whether the 95 % intervals of a slope hold the truth, of shape (sets,), for four ways of using the labels; and widths.

    The surrogate is off by an amount that leans on x. Five folds; g is least squares of Y on the surrogate and x, by fold. Rows
    with a high surrogate are labelled five times as often.
    """
    out: dict[str, list[np.ndarray]] = {}
    rng = np.random.default_rng([seed, 17])
    for block in np.array_split(np.arange(sets), max(1, sets // 100)):
        b = len(block)
        x = rng.normal(size=(b, n))
        y = TRUTH[0] + TRUTH[1] * x + rng.normal(size=(b, n)) * (0.5 + 0.5 * np.abs(x))
        q = y + 0.4 * x + rng.normal(size=(b, n))
        pi = np.where(q > 1.5, 5.0, 1.0)
        pi *= share * n / pi.sum(axis=1, keepdims=True)
        drawn = rng.random((b, n)) < pi
        g = _cross_fit(np.stack([np.ones_like(x), q, x], axis=2), y, drawn)
        for name, (weights, outcome) in {
            "DSL": (np.ones_like(x), g + drawn / pi * (y - g)),
            "surrogate": (np.ones_like(x), q),
            "expert": (drawn / pi, y),
            "ignored": (np.ones_like(x), g + drawn * n / drawn.sum(axis=1, keepdims=True) * (y - g)),
        }.items():
            beta, error, freedom = _slope(x, outcome, weights)
            out.setdefault(name, []).append(np.abs(beta - TRUTH[1]) <= stats.t.isf(0.025, freedom) * error)
            out.setdefault(f"{name} width", []).append(error)
            out.setdefault(f"{name} error", []).append(beta - TRUTH[1])
    return {name: np.concatenate(parts) for name, parts in out.items()}


def _cross_fit(F: np.ndarray, y: np.ndarray, drawn: np.ndarray, folds: int = 5) -> np.ndarray:
    g, fold = np.empty_like(y), np.arange(y.shape[1]) % folds  # rows are independent, so any order is a random one
    for k in range(folds):
        inside, train = fold == k, drawn[:, fold != k].astype(float)
        X = F[:, fold != k]
        gram = np.einsum("bni,bn,bnj->bij", X, train, X)
        beta = np.linalg.solve(gram, np.einsum("bni,bn->bi", X, train * y[:, fold != k])[..., None])[..., 0]
        g[:, inside] = np.einsum("bni,bi->bn", F[:, inside], beta)
    return g


def _slope(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted least squares with HC0 errors and their degrees of freedom, one regression a data set."""
    X = np.stack([np.ones_like(x), x], axis=2)
    inverse = np.linalg.inv(np.einsum("bni,bn,bnj->bij", X, w, X))
    beta = np.einsum("bij,bnj,bn->bi", inverse, X, w * y)
    influence = np.einsum("bij,bnj,bn->bni", inverse, X, w * (y - np.einsum("bni,bi->bn", X, beta)))
    squares = influence[:, :, 1] ** 2
    return beta[:, 1], np.sqrt(squares.sum(axis=1)), squares.sum(axis=1) ** 2 / (squares**2).sum(axis=1)


def library_agrees(seed: int) -> float:
    """Largest difference between the vectorised slope with the surrogate taken at its word and the library's."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=500)
    y, drawn = x + rng.normal(size=500), rng.random(500) < 0.3
    q = y + rng.normal(size=500)
    frame = pd.DataFrame({"x": x, "q": q, "Y": np.where(drawn, y, np.nan)})
    m = DSLRegressor("lm", learner="surrogate").fit(frame, "Y ~ x", surrogates={"Y": "q"}, sampling_prob="equal")
    beta, error, freedom = _slope(x[None], (q + drawn / drawn.mean() * (y - q))[None], np.ones((1, 500)))
    lower = beta[0] - stats.t.isf(0.025, freedom[0]) * error[0]
    return float(max(abs(beta[0] - m.params_["x"]), abs(error[0] - m.bse_["x"]), abs(lower - m.conf_int().loc["x", "lower"])))


# ---------------------------------------------------------------------- bills
def bills() -> pd.DataFrame | None:
    path = DATA / "text" / "USCongress.csv.gz"
    if not path.exists():
        return None
    table = pd.read_csv(path, sep=";", encoding="latin-1")
    length = np.log(table["text"].str.len())
    frame = pd.DataFrame({"senate": (table["h_or_sen"] == "S") * 1.0, "loglen": (length - length.mean()) / length.std()})
    return frame.assign(text=table["text"], major=table["major"])


def bill_pairs(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(topic, rows) with the expert label, and a keyword rule as surrogate; one more pair with a rule for another topic."""
    for name, (code, rule) in TOPICS.items():
        q = table["text"].str.contains(rule, flags=re.IGNORECASE).astype(float)
        yield name, table.assign(Y=(table["major"] == code) * 1.0, q=q)[["senate", "loglen", "Y", "q"]]
    useless = table["text"].str.contains(TOPICS["lands"][1], flags=re.IGNORECASE).astype(float)
    yield "health, a rule for lands", table.assign(Y=(table["major"] == 3) * 1.0, q=useless)[["senate", "loglen", "Y", "q"]]


def fit_once(
    frame: pd.DataFrame, n: int, seed: int, rates: dict | None = None, ignore: bool = False, **settings: object
) -> DSLRegressor:
    design = sample_labels(frame, n, strata="q", rates=rates, seed=seed)
    seen = frame.assign(Y=np.where(design.labeled, frame["Y"], np.nan), pi=design.sampling_prob)
    m = DSLRegressor("logit", n_splits=1, learner="linear", target="finite", random_state=seed % 2**31)
    m.set_params(**settings)
    return m.fit(seen, "Y ~ senate + loglen", surrogates={"Y": "q"}, sampling_prob="equal" if ignore else "pi")


def gold(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    m = DSLRegressor("logit", n_splits=1, learner="surrogate")
    m.fit(frame, "Y ~ senate + loglen", surrogates={"Y": "q"}, sampling_prob=1.0)
    so = m.compare().estimates["SO"]
    return m.params_.to_numpy(), np.abs(so.params - m.params_.to_numpy()) <= Z95 * so.bse


def _covers(m: DSLRegressor, truth: np.ndarray) -> np.ndarray:
    ends = m.conf_int().to_numpy()
    return (ends[:, 0] <= truth) & (truth <= ends[:, 1])


def on_bills(table: pd.DataFrame, n: int, repeats: int, seed: int) -> list[dict]:
    found = []
    for name, frame in bill_pairs(table):
        truth, naive = gold(frame)
        covered, ours, alone, lost = [], [], [], 0
        for r in range(repeats):
            try:
                m = fit_once(frame, n, seed + r)
                expert = m._regression.expert_only()
            except NoSolution:
                lost += 1
                continue
            covered.append(_covers(m, truth))
            ours.append(m.params_ - truth)
            alone.append(expert.params - truth)
        rmse = [float(np.sqrt(np.mean(np.square(errors), axis=0)).mean()) for errors in (ours, alone)]
        found.append(
            {
                "pair": name,
                "accuracy": float((frame["Y"] == frame["q"]).mean()),
                "coverage": np.mean(covered, axis=0).tolist(),
                "surrogate_only_covers": naive.tolist(),
                "rmse_ratio": rmse[0] / rmse[1],
                "without_solution": lost,
                "fits": len(covered),
            }
        )  # fmt: skip
    return found


def bill_claims(quick: bool, seed: int) -> Iterator[Claim]:
    table = bills()
    if table is None:
        return
    repeats = 40 if quick else 100
    found = on_bills(table, 500, repeats, seed)
    total = sum(one["fits"] for one in found) * 3
    hits = sum(sum(one["coverage"]) * one["fits"] for one in found)
    ends = binomial(hits, total)
    yield Claim(
        "intervals hold on real bills",
        "coverage of 95 % intervals over seven (topic, rule) pairs, 500 expert labels",
        hits / total,
        ends.lower,
        ends.upper,
        repeats,
        "greater",
        0.92,
        "effect",
        details={"pairs": found},
    )
    wrong = [not all(one["surrogate_only_covers"]) for one in found]
    ends = binomial(sum(wrong), len(wrong))
    yield Claim(
        "surrogate labels alone mislead on bills",
        "share of the pairs whose surrogate-only interval misses a coefficient",
        float(np.mean(wrong)),
        ends.lower,
        ends.upper,
        len(wrong),
        "greater",
        0.5,
        "effect",
    )
    ratios = [one["rmse_ratio"] for one in found]
    yield Claim(
        "errors no larger than with expert labels alone",
        "root mean squared error, ratio to expert labels only, mean over the pairs",
        *over_seeds(ratios),
        len(ratios),
        "less",
        1.0,
    )


def unequal_and_forecast(quick: bool, seed: int) -> Iterator[Claim]:
    table = bills()
    if table is None:
        return
    frame, repeats = dict(bill_pairs(table))["health"], 150 if quick else 300
    truth, _ = gold(frame)
    hits: dict[bool, list[bool]] = {False: [], True: []}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DesignWarning)
        for r in range(repeats):
            for ignore, out in hits.items():
                # The rule is kept from the first stage, so that only the probabilities can repair the design.
                m = fit_once(frame, 500, seed + 10_000 + r, {0.0: 1, 1.0: 5}, ignore, learner="surrogate")
                out.append(bool(_covers(m, truth)[0]))
        more = [
            bool(_covers(fit_once(frame, 1000, seed + 30_000 + r, {0.0: 1, 1.0: 5}, learner="surrogate"), truth)[0])
            for r in range(repeats)
        ]
    ends = binomial(sum(hits[False]), repeats)
    wrong = float(np.mean(hits[True]))
    yield Claim(
        "unequal probabilities are kept",
        "coverage where the rule's positives are drawn five times as often",
        float(np.mean(hits[False])),
        ends.lower,
        ends.upper,
        repeats,
        "greater",
        0.92,
        "effect",
        details={"coverage_when_ignored": wrong, "coverage_with_1000_labels": float(np.mean(more))},
    )
    ratios = []
    for r in range(20 if quick else 100):
        small, large = (fit_once(frame, n, seed + 20_000 + r, target="superpopulation") for n in (500, 1000))
        ratios.append(float((small.forecast(1000) / large.bse_).median()))
    centre, low, high = over_seeds(ratios)
    yield Claim(
        "standard errors are foretold",
        "forecast at twice the labels against what came, absolute log ratio",
        abs(float(np.log(centre))),
        0.0,
        max(abs(np.log(low)), abs(np.log(high))),
        len(ratios),
        "less",
        0.1,
    )


# ---------------------------------------------------------------------- published numbers, peers, speed
def panchen() -> Iterator[Claim]:
    path = DATA / "dsl" / "PanChen.csv.gz"
    if not path.exists():
        return
    formula = "SendOrNot ~ countyWrong + prefecWrong + connect2b + prevalence + regionj + groupIssue"
    m = DSLRegressor("logit", ["countyWrong"], learner="surrogate")
    m.fit(pd.read_csv(path), formula, surrogates={"countyWrong": "pred_countyWrong"}, sampling_prob="equal")
    both = m.compare().estimates
    got = [both["SO"].params[1], both["GSO"].params[1], both["DSL"].params[1], both["DSL"].bse[1]]
    worst = float(np.abs(np.array(got) - [-1.336, -0.269, -0.243, 0.237]).max())
    off = float((both["DSL"].params[1] - both["SO"].params[1]) / both["SO"].bse[1])
    shrink = (1 - both["DSL"].bse[[2, 3, 4, 5, 6]] / both["GSO"].bse[[2, 3, 4, 5, 6]]).tolist()
    yield Claim(
        "published numbers are met",
        "largest difference of four coefficients of Pan and Chen from the reference",
        worst,
        0.0,
        worst,
        1,
        "less",
        1e-3,
        "effect",
        details={"se_shrinks_by": shrink},
    )
    yield Claim(
        "the machine labels of Pan and Chen mislead",
        "distance of the surrogate-only coefficient in its own standard errors",
        off,
        off,
        off,
        1,
        "greater",
        4.0,
        "effect",
    )


def beside_ppi(quick: bool, seed: int) -> Iterator[Claim]:
    """Width beside ppi-python on the same rows, where the surrogate's error leans on x; time of the same logistic interval."""
    try:
        from ppi_py import ppi_logistic_ci, ppi_ols_ci
    except ImportError:
        return
    widths, speed = [], []
    for r in range(10 if quick else 50):
        rng = np.random.default_rng([seed, r, 5])
        x = rng.normal(size=5000)
        y = 1 + x + rng.normal(size=5000)
        q, drawn = y + 0.8 * np.sin(3 * x) + 0.5 * rng.normal(size=5000), rng.random(5000) < 0.15
        m = DSLRegressor("lm", learner="boosting", n_splits=1, random_state=r)
        frame = pd.DataFrame({"x": x, "q": q, "Y": np.where(drawn, y, np.nan)})
        m.fit(frame, "Y ~ x", surrogates={"Y": "q"}, sampling_prob="equal")
        X = np.column_stack([np.ones(5000), x])
        low, high = ppi_ols_ci(X[drawn], y[drawn], q[drawn], X[~drawn], q[~drawn], alpha=0.05)
        widths.append(float(np.log(2 * Z95 * m.bse_["x"] / (high[1] - low[1]))))
        if r < 10:
            speed.append(_log_speed(ppi_logistic_ci, X, (y > 1) * 1.0, (q > 1) * 1.0, drawn))
    centre, low, high = over_seeds(widths)
    ratio, slow, fast = np.exp(over_seeds(speed))
    yield Claim(
        "no wider than PPI++",
        "width against ppi-python, where the surrogate's error leans on x, ratio",
        float(np.exp(centre)),
        float(np.exp(low)),
        float(np.exp(high)),
        len(widths),
        "less",
        1.0,
        needed=False,
    )
    yield Claim(
        "PPI++ here is quicker",
        "time of ppi-python against ours for the same logistic interval, 5,000 rows, ratio",
        float(ratio),
        float(slow),
        float(fast),
        len(speed),
        "greater",
        1.0,
        needed=False,
    )


def _log_speed(theirs: Callable, X: np.ndarray, y: np.ndarray, q: np.ndarray, drawn: np.ndarray) -> float:
    """Log ratio of the seconds for one PPI++ interval, theirs against that of the library."""
    frame = pd.DataFrame({"x": X[:, 1], "q": q, "Y": np.where(drawn, y, np.nan)})
    m = DSLRegressor("logit", learner="surrogate").fit(frame, "Y ~ x", surrogates={"Y": "q"}, sampling_prob="equal")
    seconds = []
    for run in (
        lambda: theirs(X[drawn], y[drawn], q[drawn], X[~drawn], q[~drawn], alpha=0.05),
        m._regression.prediction_powered,
    ):
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of scikit-learn, at what the peer asks of it
            run()
        seconds.append(time.perf_counter() - start)
    return float(np.log(seconds[0] / seconds[1]))


def measure(quick: bool, seed: int) -> Iterator[Claim]:
    sets = 2000 if quick else 10_000
    found = planted_coverage(sets, seed)
    off = library_agrees(seed)
    if off > 1e-8:
        raise RuntimeError(f"the vectorised estimate and the library differ by {off:g}")
    ends = binomial(int(found["DSL"].sum()), sets)
    details = {name: float(found[name].mean()) for name in ("DSL", "surrogate", "expert", "ignored")}
    rmse = {name: float(np.sqrt((found[f"{name} error"] ** 2).mean())) for name in ("DSL", "surrogate", "expert")}
    yield Claim(
        "intervals keep their level",
        "coverage of 95 % intervals over planted data sets",
        details["DSL"],
        ends.lower,
        ends.upper,
        sets,
        "greater",
        0.935,
        "effect",
        details={"coverage": details, "rmse": rmse},
    )
    ends = binomial(int(found["surrogate"].sum()), sets)
    yield Claim(
        "surrogate labels alone mislead",
        "coverage of 95 % intervals from surrogate labels only",
        details["surrogate"],
        ends.lower,
        ends.upper,
        sets,
        "less",
        0.6,
    )
    ratio = over_seeds((found["DSL width"] / found["expert width"]).tolist())
    yield Claim(
        "intervals are shorter than with expert labels alone",
        "width against expert labels only, ratio",
        *ratio,
        sets,
        "less",
        1.0,
        details={"rmse": rmse["DSL"] / rmse["expert"]},
    )
    yield from designs.claims(quick, seed)
    yield from panchen()
    yield from bill_claims(quick, seed)
    yield from unequal_and_forecast(quick, seed)
    yield from beside_ppi(quick, seed)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
