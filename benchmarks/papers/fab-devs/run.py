"""A small wafer fab as coupled discrete-event components: is it right, what do repairs do, and can its series be forecast?

First the simulator: queues against theory, Little's law, the bottleneck against its capacity, simultaneous events in any order.
Then throughput over replications, with repairs and without, by lot size. Then a data set of settings and seeds, and forecasters
of the lots that come out in the next day, from throughput alone and from all columns, by five-fold cross-validation over seeds:
intervals are over seeds, of which each has all settings.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, main, over_seeds
from scipy import stats
from sklearn.ensemble import HistGradientBoostingRegressor

from locum.emulate import (
    MeanForecast,
    Persistence,
    RecentMean,
    RecurrentForecaster,
    SeasonalNaive,
    SeriesForecaster,
    Trajectories,
    forecast_errors,
)
from locum.problems.fab_data import FabSeries, fab_grid, fab_series
from locum.problems.minifab import MiniFab, StepRepair, TimedRepair
from locum.problems.single_queue import SingleQueue

WEEK = 7 * 24 * 60
DT, HORIZON, SPANS, STRIDE = 120.0, 12, (1, 2, 4, 8, 16, 32), 6  # two hours, a day, up to 64 hours back
REPAIR = StepRepair(20, 180.0)
NAIVE = ("persistence", "mean", "recent mean", "season")
HELD = 72.0


# ---------------------------------------------------------------------- the simulator
def queues(runs: int, customers: int, seed: int) -> Iterator[Claim]:
    for load, service in ((0.5, "exponential"), (0.5, "constant"), (0.8, "exponential"), (0.8, "constant")):
        queue = SingleQueue(load, service)
        ratio = [(queue.times_in_system(customers, seed + i).mean() - 1) / queue.mean_wait for i in range(runs)]
        mean, low, high = over_seeds(ratio)
        kind = "M/M/1" if service == "exponential" else "M/D/1"
        yield Claim(f"mean wait of {kind} at a load of {load}", "how far the interval of simulated / theory, 99 %, is from 1",
                    *distance(*over_seeds(ratio, 0.99)), runs, "less", 0.005, "effect",
                    details={"ratio": [mean, low, high]})  # fmt: skip


def distance(_: float, low: float, high: float) -> tuple[float, float, float]:
    """Of an interval from one: 0 where it is inside."""
    off = max(low - 1, 1 - high, 0.0)
    return off, off, off


def size(value: float, low: float, high: float) -> tuple[float, float, float]:
    """Of a signed quantity and its interval."""
    return abs(value), max(low, -high, 0.0), max(abs(low), abs(high))


def laws(runs: int, seed: int) -> Iterator[Claim]:
    fab = MiniFab({"Pa": 36, "Pb": 21, "TW": 3}, repair=TimedRepair(), arrivals="poisson")
    found = [fab.run(12, seed + i).stats(2) for i in range(runs)]
    gaps = [one.work_in_progress / (one.throughput * one.turnaround / WEEK) - 1 for one in found]
    yield Claim("Little's law", "work in progress beyond rate times turnaround, as a share, mean over runs, size of",
                *size(*over_seeds(gaps)), runs, "less", 0.03)  # fmt: skip
    full = MiniFab({"Pa": 200}, process={1: 225, 2: 5, 3: 1, 4: 5, 5: 255, 6: 1}, setups=None,
                   repair=TimedRepair(), rule="last buffer first")  # fmt: skip
    ratio = [full.run(8, seed + i).stats(2).throughput / full.capacity()["diffusion"] for i in range(runs)]
    off = [abs(one - 1) for one in ratio]
    yield Claim("the bottleneck finishes its capacity", "gap of throughput to capacity, as a share", *over_seeds(off), runs,
                "less", 0.02, details={"ratio": float(np.mean(ratio))})  # fmt: skip
    busy = [MiniFab(setups=None).run(8, seed + i).stats(2).busy["Me"] / (84 * 105 / WEEK) for i in range(runs)]
    yield Claim("lithography is busy for the share that its times say", "gap to 84 lots of 105 minutes a week, as a share",
                *over_seeds([abs(one - 1) for one in busy]), runs, "less", 0.02)  # fmt: skip


def orders(runs: int, seed: int) -> Claim:
    fabs = [MiniFab(), MiniFab(repair=REPAIR, rule="least setup"), MiniFab(repair=TimedRepair(), rule="last buffer first")]
    same = [
        fab.run(1, seed + i).trace.digest() == fab.run(1, seed + i, order=i).trace.digest() for fab in fabs for i in range(runs)
    ]
    low = stats.binomtest(sum(same), len(same)).proportion_ci().low
    return Claim("simultaneous events may happen in any order", "share of runs with the same trace", float(np.mean(same)),
                 float(low), 1.0, len(same), threshold=0.999, decided_by="effect")  # fmt: skip


# ---------------------------------------------------------------------- repairs and lot size
def spread(runs: int, seed: int, quick: bool) -> Iterator[Claim]:
    """Lots a week over replications, by repair and lot size, at 66 starts a week."""
    rows: dict[str, np.ndarray] = {}
    fabs = fab_grid((66.0,), (None, REPAIR, TimedRepair()), (18, 24, 27))
    for fab in [one for one in fabs if not quick or one.lot_size == 24 or one.repair == REPAIR]:
        found = [fab.run(6, seed + i).stats(2) for i in range(runs)]
        rows[f"{fab.regime}, {fab.lot_size}"] = np.array([[one.throughput, one.turnaround] for one in found])
    details = {
        name: {"throughput": [float(x[:, 0].mean()), float(x[:, 0].std(ddof=1))],
               "turnaround": [float(x[:, 1].mean()), float(x[:, 1].std(ddof=1))]} for name, x in rows.items()
    }  # fmt: skip
    for regime in ("by steps", "by time"):
        yield Claim(f"repairs {regime} widen throughput", "its standard deviation in lots a week, more with repairs",
                    *wider(rows[f"{regime}, 24"][:, 0], rows["none, 24"][:, 0]), runs,
                    needed=regime == "by steps" and not quick, details=details if regime == "by steps" else {})  # fmt: skip
    longer = rows["by steps, 27"][:, 1] - rows["by steps, 18"][:, 1]
    yield Claim("larger lots take longer", "minutes of turnaround, lots of 27 less of 18 wafers", *over_seeds(longer), runs)
    yield Claim("larger lots make throughput less certain", "its standard deviation in lots a week, 27 less 18 wafers",
                *wider(rows["by steps, 27"][:, 0], rows["by steps, 18"][:, 0]), runs, needed=False)  # fmt: skip


def wider(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Difference of two standard deviations over the same seeds, with a bootstrap interval."""

    def statistic(a, b, axis=-1):
        return a.std(axis=axis, ddof=1) - b.std(axis=axis, ddof=1)

    found = stats.bootstrap((x, y), statistic, paired=True, rng=np.random.default_rng(0), method="percentile", vectorized=True)
    return float(statistic(x, y)), float(found.confidence_interval.low), float(found.confidence_interval.high)


# ---------------------------------------------------------------------- forecasts
def runs_of(data: FabSeries) -> Trajectories:
    return Trajectories.of(list(data.series), dt=data.dt, parameters=data.parameters, names=data.names, units=data.units,
                           time_unit="min")  # fmt: skip


def models(data: Trajectories, target: str, seed: int, costly: bool) -> dict:
    boosting = HistGradientBoostingRegressor(max_iter=60, random_state=seed)
    settings = {"horizon": HORIZON, "spans": SPANS, "stride": STRIDE}
    out = {"persistence": Persistence(), "mean": MeanForecast(), "recent mean": RecentMean(SPANS[-1]),
           "season": SeasonalNaive(HORIZON)}  # fmt: skip
    for inputs in ("targets", "all"):
        out[f"linear, {inputs}"] = SeriesForecaster([target], inputs=inputs, **settings)
        if costly:
            out[f"network, {inputs}"] = RecurrentForecaster(
                [target], inputs=inputs, rows=SPANS[-1], epochs=30, patience=4, random_state=seed,
                horizon=HORIZON, stride=STRIDE,
            )  # fmt: skip
    if costly:
        out["boosting, all"] = SeriesForecaster([target], regressor=boosting, **settings)
    return {name: model.fit(data) for name, model in out.items()}


def folds(data: FabSeries, target: str, number: int, seed: int, costly: bool = True) -> tuple[dict, np.ndarray]:
    """Mean absolute error of each forecaster in each run, every run scored by models that saw nothing of its seed."""
    parts = np.array_split(np.array(sorted(set(data.seeds))), number)
    errors: dict[str, np.ndarray] = {}
    for k, part in enumerate(parts):
        inside = np.isin(data.seeds, part)
        fitted = models(runs_of(data.take(np.flatnonzero(~inside))), target, seed + k, costly)
        test = runs_of(data.take(np.flatnonzero(inside)))
        found = forecast_errors(fitted, test, target, horizon=HORIZON, history=SPANS[-1], stride=STRIDE)
        for name, row in zip(found.names, found.by_run, strict=True):
            errors.setdefault(name, np.empty(len(data)))[inside] = row
    return errors, np.array(data.seeds)


def gains(errors: dict, seeds: np.ndarray, rows: np.ndarray, name: str, over: str) -> list[float]:
    """By how much the error is lower, as a share, for each seed over all settings."""
    each = [rows & (seeds == seed) for seed in np.unique(seeds)]
    return [float(1 - errors[name][one].mean() / errors[over][one].mean()) for one in each]


def forecasts(data: FabSeries, number: int, seed: int) -> Iterator[Claim]:
    errors, seeds = folds(data, "finished", number, seed)
    regimes = np.array(data.regimes)
    repaired = regimes != "none"
    rival = min(NAIVE, key=lambda name: errors[name][repaired].mean())
    n = len(np.unique(seeds))
    lots = {f"{name}, {regime}": HORIZON * float(error[regimes == regime].mean())
            for name, error in errors.items() for regime in np.unique(regimes)}  # fmt: skip
    yield Claim("a network forecasts throughput better than the best naive rival",
                "share less error of the lots that come out in a day, all columns, with repairs",
                *over_seeds(gains(errors, seeds, repaired, "network, all", rival)), n, threshold=0.2, decided_by="effect",
                details={"rival": rival, "mean absolute error in lots": lots})  # fmt: skip
    for name in ("linear, all", "boosting, all", "network, targets", "linear, targets"):
        yield Claim(f"{name} columns against the best naive rival", "share less error, with repairs",
                    *over_seeds(gains(errors, seeds, repaired, name, rival)), n, needed=False)  # fmt: skip
    for kind in ("network", "linear"):
        yield Claim(f"all columns are better than throughput alone, {kind}", "share less error, with repairs",
                    *over_seeds(gains(errors, seeds, repaired, f"{kind}, all", f"{kind}, targets")), n,
                    needed=kind == "network")  # fmt: skip
    errors, seeds = folds(data, "turnaround", number, seed, costly=False)
    rival = min(NAIVE, key=lambda name: errors[name][repaired].mean())
    minutes = {name: float(error[repaired].mean()) for name, error in errors.items()}
    yield Claim("turnaround by linear, all columns", "share less error than the best naive rival, with repairs",
                *over_seeds(gains(errors, seeds, repaired, "linear, all", rival)), n, needed=False,
                details={"rival": rival, "mean absolute error in minutes": minutes})  # fmt: skip


def new_settings(data: FabSeries) -> Claim:
    """Trained without the starts of 72 a week, scored on them; same seeds on neither side."""
    early = np.unique(data.seeds)[: len(set(data.seeds)) * 2 // 3]
    known, held = data.hold_out("starts", HELD)
    train = runs_of(known.take(np.flatnonzero(np.isin(known.seeds, early))))
    test = held.take(np.flatnonzero(~np.isin(held.seeds, early)))
    fitted = {"linear": SeriesForecaster(["finished"], horizon=HORIZON, spans=SPANS, stride=STRIDE).fit(train),
              "recent mean": RecentMean(SPANS[-1]).fit(train)}  # fmt: skip
    found = forecast_errors(fitted, runs_of(test), "finished", horizon=HORIZON, history=SPANS[-1], stride=STRIDE)
    errors = dict(zip(found.names, found.by_run, strict=True))
    seeds = np.array(test.seeds)
    gained = gains(errors, seeds, np.ones(len(seeds), dtype=bool), "linear", "recent mean")
    return Claim("a rate of starts that was never seen", "share less error of linear, all columns, than the recent mean",
                 *over_seeds(gained), len(gained), needed=False)  # fmt: skip


def bands(data: FabSeries, seed: int, quick: bool) -> Iterator[Claim]:
    """Calibrated on runs with seeds of their own, so that runs can be exchanged; then a rate of repair that is new."""
    model = SeriesForecaster(["finished"], horizon=HORIZON, spans=SPANS, stride=STRIDE).fit(runs_of(data))
    fabs = fab_grid((60.0, 72.0, 84.0), (None, REPAIR, TimedRepair()), (24,))
    first, each = seed + 10_000, 4 if quick else 12

    def fresh(start: int) -> Trajectories:
        seeds = [range(start + 100 * i, start + 100 * i + each) for i in range(len(fabs))]
        return runs_of(joined([fab_series([fab], some, weeks=5, dt=DT) for fab, some in zip(fabs, seeds, strict=True)]))

    covered = model.calibrate(fresh(first), 0.9).coverage(fresh(first + 5000))
    yield Claim("bands of 90 % cover runs that are new", "how far the coverage is from 0.9",
                *size(covered.value - 0.9, covered.lower - 0.9, covered.upper - 0.9), covered.groups, "less", 0.04,
                "effect", not quick, details={"coverage": [covered.value, covered.lower, covered.upper]})  # fmt: skip
    worse = MiniFab(fabs[0].starts, repair=StepRepair(10, 600.0))
    shares = [model.share_outside(runs_of(fab_series([worse], [first + i], weeks=5, dt=DT))) for i in range(3 if quick else 10)]
    ordinary = model.share_outside(fresh(first + 9000))
    yield Claim("a rate of repair that is new is noticed", "share of windows called outside",
                *over_seeds(shares), len(shares), threshold=0.3, details={"of ordinary runs": ordinary})  # fmt: skip


def joined(parts: list[FabSeries]) -> FabSeries:
    def all_of(name):
        return tuple(one for part in parts for one in getattr(part, name))

    return FabSeries(all_of("series"), parts[0].dt, np.concatenate([part.parameters for part in parts]), all_of("regimes"),
                     all_of("fabs"), all_of("seeds"))  # fmt: skip


def speed(data: FabSeries) -> Claim:
    """A day ahead from each of many histories, against the simulator for as many days."""
    runs = runs_of(data)
    model = SeriesForecaster(["finished"], horizon=HORIZON, spans=SPANS, stride=STRIDE).fit(runs)
    past = runs.windows(SPANS[-1], 3)[:2000]
    ratios = []
    for i in range(5):
        start = time.perf_counter()
        MiniFab(repair=TimedRepair()).run(4, i)
        day = (time.perf_counter() - start) / 28
        start = time.perf_counter()
        model.forecast_windows(past)
        ratios.append(day / ((time.perf_counter() - start) / len(past)))
    return Claim("a forecast is faster than a simulated day", "times as fast, in batches of 2,000", *over_seeds(ratios), 5,
                 threshold=100.0, needed=False)  # fmt: skip


def measure(quick: bool, seed: int) -> Iterator[Claim]:
    fabs = fab_grid((60.0, 72.0, 84.0), (None, REPAIR, TimedRepair()), (24,) if quick else (18, 24, 27))
    data = fab_series(fabs, range(seed, seed + (6 if quick else 10)), weeks=6, dt=DT)
    yield from forecasts(data, 3 if quick else 5, seed)
    yield new_settings(data)
    yield from bands(data, seed, quick)
    yield speed(data)
    yield from spread(24 if quick else 60, seed, quick)
    yield from queues(5 if quick else 20, 4000 if quick else 20_000, seed)
    yield from laws(3 if quick else 10, seed)
    yield orders(1 if quick else 5, seed)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
