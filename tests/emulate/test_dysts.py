"""The forecasting benchmark: known forecasts, correlations with a placebo, and simulations chosen by error."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from locum.core.errors import InvalidData
from locum.emulate import (
    ForecastBenchmark,
    ForecastTable,
    ImportanceTrainer,
    LaggedMap,
    LaggedRegressor,
    MeanForecast,
    Persistence,
    SurrogatePretrainer,
)
from locum.emulate._dysts_features import features


class Wave:
    """A sine that lags foretell exactly, round a mean of 5."""

    def __init__(self, name="wave", exponent=0.5):
        self.name = name
        self.properties = SimpleNamespace(period=2.0, maximum_lyapunov=exponent, kaplan_yorke_dimension=None)

    def integrate(self, n, pts_per_period=100, *, ic=None, seed=None, bounded=True):
        phase = (0.0 if seed is None else float(seed)) if ic is None else np.arctan2(*(np.asarray(ic) - 5.0))
        t = phase + 2 * np.pi * np.arange(n) / pts_per_period
        return np.stack([np.sin(t), np.cos(t)], axis=1) + 5.0


def table(models, **settings):
    return ForecastBenchmark([Wave(), Wave("other")], granularity=20, periods=12, n_origins=2, **settings).run(models)


def test_what_foretells_exactly_scores_so_and_the_mean_as_by_hand():
    found = table({"lags": LaggedMap(2, ridge=0.0), "mean": MeanForecast()})
    assert found.by_system("lags").max() < 1e-3
    assert found.by_system("lags", "mase").max() < 1e-3
    np.testing.assert_allclose(found.by_system("lags", "vpt"), 40 * 2.0 / 20 * 0.5)
    t = 1.0 + 2 * np.pi * np.arange(200, 240) / 20
    expected = 200 * np.mean(np.abs(np.sin(t)) / (10 + np.sin(t)))
    assert found.errors[0, 0, 1, 0] == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(found.by_system("mean", "rmse"), 1.0, atol=0.02)
    assert "medians over 2 systems" in str(found)


def test_of_several_settings_the_best_on_the_training_series_is_used():
    found = table({"chosen": [LaggedMap(1), LaggedMap(2, ridge=0.0)], "poor": LaggedMap(1)})
    assert found.by_system("chosen").max() < 1e-3 < found.by_system("poor").min()


def test_any_regressor_can_be_lagged():
    found = table({"regressor": LaggedRegressor(LinearRegression(), lags=2)})
    assert found.by_system("regressor").max() < 1e-3
    with pytest.raises(InvalidData, match="3 finite rows or more of 1 columns"):
        LaggedRegressor(LinearRegression(), 3).fit(np.arange(20.0)[:, None]).forecast([[1.0]], 2)


def test_noise_is_on_the_past_alone_and_seeded():
    one, again, other = (table({"p": Persistence()}, noise=0.3, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.errors, again.errors)
    assert np.abs(one.errors - other.errors).max() > 0


def test_a_forecast_that_is_no_number_gets_the_worst():
    class Broken(Persistence):
        def forecast(self, history, n_steps):
            return np.full((n_steps, 1), np.nan)

    found = table({"broken": Broken()})
    assert found.errors[:, 0, 0, 0].tolist() == [200.0, 1e12, 1e12, 0.0]


def correlated(n=60):
    rng = np.random.default_rng(0)
    chaos, period = rng.uniform(0.1, 1, n), rng.uniform(0.5, 20, n)
    errors = np.zeros((4, n, 3, 2))
    errors[0, :, 0] = (chaos + 0.2 * rng.normal(size=n))[:, None]
    errors[0, :, 1] = errors[0, :, 0] + 1
    errors[0, :, 2] = rng.uniform(size=n)[:, None]
    known = {"maximum_lyapunov_per_period": chaos, "maximum_lyapunov": chaos / period}
    return ForecastTable(tuple(map(str, range(n))), ("good", "worse", "mean"), errors, known)


def test_correlations_find_what_was_planted_and_not_the_placebo():
    found = correlated()
    best = found.correlate(among=["good", "worse"])
    assert best.lower > 0.5
    assert best.n == 60
    placebo = found.correlate(among=["mean"])
    assert placebo.lower < 0 < placebo.upper
    np.testing.assert_array_equal(found.best(among=["good", "worse"]), found.by_system("good"))
    assert found.best("vpt").shape == (60,)


def test_simulations_begin_where_the_error_is():
    """A forecaster that is right but on one stretch of the wave."""

    class HalfRight(LaggedMap):
        def forecast(self, history, n_steps):
            said = super().forecast(history, n_steps)
            return said + (np.asarray(history)[-1, 0] > 5.9)

    X = Wave().integrate(1000, 100, seed=0)
    settings = {"rounds": 2, "runs": 15, "length": 30}
    chosen = ImportanceTrainer(Wave(), HalfRight(), **settings).fit(X)
    uniform = ImportanceTrainer(Wave(), HalfRight(), power=0.0, **settings).fit(X)
    wrong = X[:, 0] > 5.8
    assert wrong[chosen.starts_].mean() > 0.75
    assert wrong[uniform.starts_].mean() < 0.5
    assert chosen.starts_.max() < 1000 - 152
    assert chosen.simulated_ == 2 * 15 * 30
    right = ImportanceTrainer(Wave(), LaggedMap(), **settings).fit(X)
    np.testing.assert_allclose(right.forecast(X[:10], 20), X[10:30], atol=0.01)
    again = ImportanceTrainer(Wave(), HalfRight(), **settings).fit(X)
    np.testing.assert_array_equal(again.starts_, chosen.starts_)


# ---------------------------------------------------------------------- features for real series
SERIES = np.sin(np.arange(120) * 2 * np.pi / 12 + np.random.default_rng(0).uniform(0, 6, (20, 1)))


def test_features_by_hand():
    found = features(np.stack([SERIES[0], 3 * SERIES[0] + 7]))
    assert found.shape == (2, 27)
    np.testing.assert_allclose(found[:, 0], [0, 7], atol=1e-9)
    np.testing.assert_allclose(found[:, 1], [0.5**0.5, 3 * 0.5**0.5], atol=1e-9)
    shape = [2, 3, 11, 20, 21, 22]  # what scale and shift say nothing of
    np.testing.assert_allclose(found[0, shape], found[1, shape], atol=1e-6)
    assert np.isfinite(features(np.ones((2, 12)))).all()


def test_an_encoder_is_trained_at_the_time_scale_of_the_series():
    steps = []

    class Watched(Wave):
        def integrate(self, n, pts_per_period=100, **rest):
            steps.append(pts_per_period)
            return super().integrate(n, pts_per_period, **rest)

    settings = {"windows": 320, "epochs": 6, "window": 60, "learning_rate": 0.01}
    found = SurrogatePretrainer([Watched()], **settings).fit(SERIES)
    assert found.period_ == pytest.approx(12)
    assert steps == [12]
    assert found.history_.losses[-1] < 0.7 * found.history_.losses[0]
    assert found.transform(SERIES).shape == (20, 8 * 27)
    again = SurrogatePretrainer([Wave()], **settings).fit(SERIES)
    np.testing.assert_array_equal(again.transform(SERIES), found.transform(SERIES))
    random = SurrogatePretrainer([Watched()], timescale="random", **settings).fit(SERIES)
    assert 10 <= steps[-1] < 100
    assert np.abs(random.transform(SERIES) - found.transform(SERIES)).max() > 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ForecastBenchmark([]).run({"m": MeanForecast()}), "a system and a model at least, got 0 and 1"),
        (lambda: ForecastBenchmark([Wave()], granularity=2).run({"m": MeanForecast()}), "granularity= to be a whole"),
        (lambda: ForecastBenchmark([Wave()], noise=-1).run({"m": MeanForecast()}), "noise= of 0 or more"),
        (lambda: correlated().correlate("maximum_lyapunow"), "the nearest is maximum_lyapunov"),
        (lambda: SurrogatePretrainer([]).fit(SERIES), "a system at least"),
        (lambda: SurrogatePretrainer([Wave()]).fit(SERIES[0]), r"12 points or more, of shape \(n, T\)"),
        (lambda: SurrogatePretrainer([Wave()], timescale="both").fit(SERIES), "timescale= to be one of"),
        (lambda: correlated().by_system("best"), "expected model= to be one of good"),
        (lambda: ImportanceTrainer(Wave(), LaggedMap()).fit(Wave().integrate(100)), "more than 202 rows for margin"),
        (lambda: ImportanceTrainer(Wave(), LaggedMap(), power=-1).fit(Wave().integrate(300)), "power= and jitter="),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(InvalidData, match=message):
        call()
