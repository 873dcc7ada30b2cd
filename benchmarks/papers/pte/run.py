"""The share of a treatment effect that an early, censored outcome explains: bias and coverage, and three trials.

In two simulated worlds with a third of the times censored the truth comes from a million rows without any censoring. Then the
authors' own example, two comparisons of the colon trial that have an effect and one that has none, and twenty trials in
advanced gastric cancer, each left out in turn. Real data are looked for in the folder that LOCUM_DATA names; what is not there
is left out, and said so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, main, over_seeds

from locum.core.bounds import binomial
from locum.infer.pte import NoEffectError, SurrogatePTE, pte_curve

T0, T = 1.5, 4.0
MONTH, YEAR = 30.4375, 365.25
PAPERS_CODE = {"pte": 0.420, "alive_only": 0.32}  # the authors' R code on their example: mean of 20 random splits


def world(n: int, kind: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arm, progression and death: treatment delays progression, lengthens life after it, and delays death without it."""
    arm = np.repeat([0, 1], n // 2)
    exponential, weibull = rng.exponential(np.where(arm, 3.0, 1.8)), rng.weibull(1.4, n) * np.where(arm, 3.2, 2.2)
    progression = (exponential, weibull)[kind]
    other = rng.exponential(np.where(arm, 12.0, 10.0))
    after = rng.exponential(np.where(arm, 3.2, 2.4) * (0.5 + 0.4 * np.minimum(progression, 2.0)))
    return arm, progression, np.minimum(other, progression + after)


def shares(arm: np.ndarray, state: np.ndarray, answer: np.ndarray) -> float:
    """PTE where everything is seen and the early information is one of several states; state -1 is dead."""
    zero, one = (
        (np.bincount(state[k], minlength=state.max() + 1) / len(k), np.bincount(state[k], answer[k], state.max() + 1) / len(k))
        for k in (np.flatnonzero(arm == a) for a in (0, 1))
    )
    (p0, y0), (p1, y1) = zero, one
    use = (np.arange(len(p0)) > 0) & (p1 > 0)  # state 0 is the dead, whose g is 0
    multiplier = (y0.sum() - (p0 * y1 / np.where(use, p1, 1.0))[use].sum()) / (p0[use] ** 2 / p1[use]).sum()
    return 1.0 + multiplier * p0[use].sum() / (y1.sum() - y0.sum())


def states(progression: np.ndarray, death: np.ndarray, cells: int, *, see_death: bool = True) -> np.ndarray:
    """0 for the dead at T0, then a state a cell of progression times, then those without progression."""
    seen = np.where((progression <= T0) & (progression < death), progression, np.inf)
    state = np.where(np.isfinite(seen), 1 + np.minimum(seen / T0 * cells, cells - 1), cells + 1).astype(int)
    return np.where(see_death & (death <= T0), 0, state)


def truth(kind: int) -> float:
    arm, progression, death = world(1_000_000, kind, np.random.default_rng([2026, kind]))
    return shares(arm, states(progression, death, 300), (death > T).astype(float))


def censored(n: int, kind: int, seed: int) -> tuple[np.ndarray, ...]:
    """A trial: time, event, arm, surrogate time; and progression and death as they would be without censoring."""
    rng = np.random.default_rng([seed, n, kind])
    arm, progression, death = world(n, kind, rng)
    end = np.minimum(rng.exponential(np.where(arm, 16.0, 7.0)), rng.uniform(4.0, 9.0, n))  # controls leave earlier
    time = np.minimum(death, end)
    return time, death <= end, arm, np.where(progression < time, progression, np.nan), progression, death


def naive(*rows: np.ndarray) -> float:
    """The share on rows that are not what they are taken for; NaN where no effect is seen in them."""
    try:
        return float(SurrogatePTE(T0, T, n_splits=2, n_perturb=50).fit(*rows).pte_)
    except NoEffectError:
        return np.nan


def simulated(n: int, kind: int, seeds: range, true: float) -> dict[str, np.ndarray]:
    """Estimates and whether their intervals hold the truth, one entry a trial that has an effect; and naive variants."""
    names = ("pte", "held", "se", "plug_in", "complete", "as_death", "progression_only")
    out: dict[str, list[float]] = {name: [] for name in names}
    refused = 0
    for seed in seeds:
        time, event, arm, surrogate, progression, death = censored(n, kind, seed)
        try:
            found = SurrogatePTE(T0, T, n_splits=8, n_perturb=300).fit(time, event, arm, surrogate)
        except NoEffectError:
            refused += 1
            continue
        out["pte"].append(found.pte_)
        out["se"].append(found.pte_se_)
        out["held"].append(found.pte_ci_.lower <= true <= found.pte_ci_.upper)
        out["plug_in"].append(found.plug_in_)
        whole = event & (time <= T) | (time > T)  # as if those censored before T had never been there
        out["complete"].append(naive(time[whole], event[whole], arm[whole], surrogate[whole]))
        out["as_death"].append(naive(time, np.ones_like(event), arm, surrogate))
        blind = states(progression, death, 10, see_death=False)
        out["progression_only"].append(shares(arm, blind, (death > T).astype(float)))
    return {name: np.array(values, dtype=float) for name, values in out.items()} | {"refused": np.array(refused)}


def simulations(quick: bool, seed: int) -> Iterator[Claim]:
    repeats = 30 if quick else 300
    settings = [(2000, 0), (2000, 1), (1000, 0), (400, 0)]
    true = {kind: truth(kind) for kind in (0, 1)}
    runs = {(n, kind): simulated(n, kind, range(seed, seed + repeats), true[kind]) for n, kind in settings}
    details = {
        f"n={n}, {('exponential', 'Weibull')[kind]}": {
            "true": true[kind], "bias": float(run["pte"].mean() - true[kind]), "sd": float(run["pte"].std(ddof=1)),
            "median_se": float(np.median(run["se"])), "coverage": float(run["held"].mean()),
            "without_effect": int(run["refused"]), "trials": len(run["pte"]),
        }
        for (n, kind), run in runs.items()
    }  # fmt: skip
    for kind in (0, 1):
        run, name = runs[2000, kind], ("exponential", "Weibull")[kind]
        interval = binomial(run["held"].sum(), len(run["held"]))
        yield Claim(
            f"intervals hold the truth ({name} world)", "coverage of 95 % intervals at n=2,000", float(run["held"].mean()),
            interval.lower, interval.upper, len(run["held"]), threshold=0.91, decided_by="effect", details=details,
        )  # fmt: skip
    for kind in (0, 1):
        bias, lower, upper = over_seeds(runs[2000, kind]["pte"] - true[kind])
        size = (abs(bias), max(0.0, lower, -upper), max(upper, -lower))
        yield Claim(
            f"no bias ({('exponential', 'Weibull')[kind]} world)", "absolute bias of the share at n=2,000", *size, repeats,
            direction="less", threshold=0.03, decided_by="effect", details={"signed": bias, "true": true[kind]},
        )  # fmt: skip
    run = runs[2000, 0]
    variants = {
        "complete": "rows censored before t dropped",
        "as_death": "censoring taken for death",
        "progression_only": "death before t0 not used",
    }
    for name, said in variants.items():
        values = run[name][np.isfinite(run[name])] - true[0]
        bias, lower, upper = over_seeds(values)
        size = (abs(bias), max(0.0, lower, -upper), max(upper, -lower))
        yield Claim(
            f"a naive variant fails: {said}", "absolute bias at n=2,000", *size, len(values), threshold=0.03, needed=False,
            details={"signed": bias},
        )  # fmt: skip
    small = runs[400, 0]
    yield Claim("without halving the share is optimistic", "share in the rows g was learnt from, less that of halves, n=400",
                *over_seeds(small["plug_in"] - small["pte"]), len(small["pte"]), needed=False,
                details={"bias_without": float(small["plug_in"].mean() - true[0])})  # fmt: skip


# ---------------------------------------------------------------------- real trials
def table(name: str) -> dict[str, np.ndarray] | None:
    """Columns of a table in the data folder, or None with a line on where it comes from."""
    path = Path(os.environ.get("LOCUM_DATA", "")) / f"{name}.csv.gz"
    if not os.environ.get("LOCUM_DATA") or not path.exists():
        print(f"left out: {name}.csv.gz is not in the folder that LOCUM_DATA names", file=sys.stderr)
        return None
    rows = np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="utf-8")
    return {column: rows[column] for column in rows.dtype.names}


def example() -> Iterator[Claim]:
    """data.rda of github.com/wx202/OptimalSurrogate-PFSforOS, written as CSV."""
    data = table("surrogate_trials/pfs_for_os")
    if data is None:
        return
    time, surrogate = data["xob"], np.where(data["sob"] <= data["xob"], data["sob"], np.nan)
    rows = (time, data["deltaob"], data["aob"], surrogate)
    found = SurrogatePTE(1.0, 5.0, ratio="halves", average="mean").fit(*rows)
    pooled = SurrogatePTE(1.0, 5.0).fit(*rows)
    gap, error = abs(found.pte_ - PAPERS_CODE["pte"]), 1.96 * found.split_sd_ * (2 / found.n_splits) ** 0.5
    details = {
        "halves": found.pte_, "pooled": pooled.pte_, "interval": [pooled.pte_ci_.lower, pooled.pte_ci_.upper],
        "se": pooled.pte_se_, "alive_only": pooled.pte_alive_only_, "split_sd": [found.split_sd_, pooled.split_sd_],
        "authors": PAPERS_CODE,
    }  # fmt: skip
    yield Claim(
        "the authors' example", "absolute difference from the share their code gives", gap, max(0.0, gap - error), gap + error,
        1, direction="less", threshold=0.01, decided_by="effect", details=details,
    )  # fmt: skip


def colon() -> Iterator[Claim]:
    data = table("survival/colon")
    if data is None:
        return
    order = np.argsort(data["id"], kind="stable")
    recurrence, death = (order[data["etype"][order] == k] for k in (1, 2))
    time, event, drug = data["time"][death] / YEAR, data["status"][death], data["rx"][death]
    surrogate = np.where(data["status"][recurrence] == 1, data["time"][recurrence] / YEAR, np.nan)
    details, steps = {}, []
    for one, zero in (("Lev+5FU", "Obs"), ("Lev+5FU", "Lev")):
        use = np.isin(drug, (one, zero))
        found = SurrogatePTE(1.0, 5.0).fit(time[use], event[use], drug[use] == one, surrogate[use])
        curve = pte_curve(found, [1.0, 2.0, 3.0])
        steps += list(np.diff(curve.pte))
        details[f"{one} against {zero}"] = {
            "effect": [found.delta_, found.delta_ci_.lower, found.delta_ci_.upper], "t0": curve.t0.tolist(),
            "pte": curve.pte.tolist(), "lower": curve.lower.tolist(), "upper": curve.upper.tolist(),
            "pte_interval_at_1": [found.pte_ci_.lower, found.pte_ci_.upper], "split_sd": found.split_sd_,
        }  # fmt: skip
    yield Claim(
        "colon: the share grows with t0 (1, 2, 3 years)", "least step of the share", min(steps), min(steps), max(steps), 1,
        decided_by="effect", details=details,
    )  # fmt: skip
    use = np.isin(drug, ("Lev", "Obs"))
    try:
        SurrogatePTE(1.0, 5.0).fit(time[use], event[use], drug[use] == "Lev", surrogate[use])
        refused, details = 0.0, {}
    except NoEffectError as error:
        refused, details = 1.0, {"effect": [error.delta, error.interval.lower, error.interval.upper]}
    yield Claim("colon: Lev against Obs has no effect to explain", "refused (1) or not (0)", refused, refused, refused, 1,
                threshold=0.5, details=details)  # fmt: skip


def survival(time: np.ndarray, event: np.ndarray, u: float) -> float:
    """Kaplan and Meier's estimate at u."""
    ends = np.unique(time[(event == 1) & (time <= u)])
    return float(np.prod([1 - ((time == e) & (event == 1)).sum() / (time >= e).sum() for e in ends]))


def difference(time: np.ndarray, event: np.ndarray, arm: np.ndarray, u: float) -> float:
    return survival(time[arm == 1], event[arm == 1], u) - survival(time[arm == 0], event[arm == 0], u)


def calibration(said: np.ndarray, true: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Weighted correlation of predicted and true effects, and the slope of the true on the predicted."""
    (a, b), (_, c) = np.cov(said, true, aweights=weight)
    return b / np.sqrt(a * c), b / a


def gastric(quick: bool, seed: int) -> Iterator[Claim]:
    data = table("surrogate_trials/surrosurv_gastadv")
    if data is None:
        return
    time, event, arm, trial = data["timeT"] / MONTH, data["statusT"], (data["trt"] > 0).astype(int), data["trialref"]
    progressed = (data["statusS"] == 1) & ~((data["timeS"] == data["timeT"]) & (event == 1))
    surrogate = np.where(progressed, data["timeS"] / MONTH, np.nan)
    free = np.minimum(data["timeS"], data["timeT"]) / MONTH
    ended = np.maximum(data["statusS"], event * (data["timeS"] >= data["timeT"]))
    names = np.unique(trial)
    true = np.array([difference(time[k], event[k], arm[k], 12.0) for k in (trial == name for name in names)])
    weight = np.array([(trial == name).sum() for name in names], dtype=float)
    for t0 in (6.0,) if quick else (3.0, 6.0):
        said = {"g": [], "progression-free survival at t0": [], "survival at t0": []}
        for name in names:
            out, rest = trial == name, trial != name
            model = SurrogatePTE(t0, 12.0, n_splits=1, n_perturb=50)
            try:
                model.fit(time[rest], event[rest], arm[rest], surrogate[rest], trial[rest])
            except NoEffectError:
                said["g"].append(np.nan)
            else:
                said["g"].append(model.score_trial(time[out], event[out], arm[out], surrogate[out]).delta_g)
            said["progression-free survival at t0"].append(difference(free[out], ended[out], arm[out], t0))
            said["survival at t0"].append(difference(time[out], event[out], arm[out], t0))
        predicted = {name: np.array(values) for name, values in said.items()}
        use = np.isfinite(predicted["g"])
        whole = SurrogatePTE(t0, 12.0).fit(time, event, arm, surrogate, trial)
        rng, gains, slopes = np.random.default_rng(seed), [], []
        for _ in range(2000):
            k = rng.choice(np.flatnonzero(use), use.sum())
            each = {name: calibration(values[k], true[k], weight[k])[1] for name, values in predicted.items()}
            slopes.append([each[name] for name in predicted])
            gains.append(min(abs(each[name] - 1) for name in predicted if name != "g") - abs(each["g"] - 1))
        point = {name: calibration(values[use], true[use], weight[use]) for name, values in predicted.items()}
        gain = min(abs(point[name][1] - 1) for name in point if name != "g") - abs(point["g"][1] - 1)
        ends = np.quantile(slopes, [0.025, 0.975], axis=0)
        details = {
            name: {"correlation": point[name][0], "slope": point[name][1], "slope_interval": ends[:, j].tolist()}
            for j, name in enumerate(predicted)
        } | {"trials": int(use.sum()), "pte": [whole.pte_, whole.pte_ci_.lower, whole.pte_ci_.upper],
             "root_mean_squared_error": {n: float(np.sqrt(np.average((v[use] - true[use]) ** 2, weights=weight[use])))
                                         for n, v in predicted.items()}}  # fmt: skip
        lower, upper = np.quantile(gains, [0.025, 0.975])
        yield Claim(
            f"gastric: effects of left-out trials are best calibrated by g, t0={t0:g} months",
            "nearer to slope 1 than the better of two raw effects, by", gain, float(lower), float(upper), int(use.sum()),
            needed=False, details=details,
        )  # fmt: skip


def measure(quick: bool, seed: int) -> Iterator[Claim]:
    yield from simulations(quick, seed)
    yield from example()
    yield from colon()
    yield from gastric(quick, seed)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
