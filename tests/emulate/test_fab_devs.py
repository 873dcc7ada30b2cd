"""Forecasters of factory series: exact where the future follows, rivals by hand, bands that cover, a fab that has changed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingRegressor  # which has one output alone
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPRegressor

from locum.core.errors import InvalidData, OutsideRegion
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

SMALL = {"horizon": 4, "spans": (1, 2, 4), "stride": 2}


CHANCE = pytest.mark.filterwarnings("ignore:the history lies outside")  # now and then it does


def delayed(runs, seed=0, length=120, noise=0.0):
    """What comes out is what went in three rows before, as lots through a fab; a third column means nothing."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(runs):
        came = rng.poisson(2.0, length + 3).astype(float)
        left = came[:-3] + noise * rng.normal(size=length)
        out.append(np.column_stack([left, came[3:], rng.normal(size=length)]))
    return Trajectories.of(out, names=("out", "in", "noise"), dt=60.0)


# ---------------------------------------------------------------------- the stand-in
@CHANCE
def test_what_follows_from_other_columns_is_forecast_exactly_and_only_from_them():
    data = delayed(6)
    every = SeriesForecaster(["out"], horizon=3, spans=(1, 2, 3), stride=1, regressor=LinearRegression()).fit(data)
    test = delayed(3, seed=9)
    for t in (10, 50):
        np.testing.assert_allclose(every.forecast(test.states[0][:t], 3)[:, 0], test.states[0][t : t + 3, 0], atol=1e-8)
    alone = SeriesForecaster(["out"], inputs="targets", horizon=3, spans=(1, 2, 3), stride=1).fit(data)
    models = {"all": every, "alone": alone, "mean": MeanForecast().fit(data)}
    errors = forecast_errors(models, test, "out", horizon=3, history=3)
    assert errors.errors["all"].value < 1e-8
    assert errors.gain("all", over="alone").min() > 0.99
    assert abs(errors.gain("alone", over="mean").mean()) < 0.1, "there is nothing to learn from the past of what is random"


def test_inputs_and_targets_go_by_name_or_position():
    data = delayed(3)
    one = SeriesForecaster(["out"], inputs=["in"], **SMALL).fit(data)
    same = SeriesForecaster([0], inputs=[1], **SMALL).fit(data)
    history = data.states[0][:20]
    np.testing.assert_array_equal(one.forecast(history, 4), same.forecast(history, 4))
    changed = history.copy()
    changed[:, [0, 2]] += 5.0
    np.testing.assert_array_equal(one.forecast(changed, 4), one.forecast(history, 4))


@CHANCE
def test_several_targets_and_any_regressor():
    data = delayed(3)
    both = SeriesForecaster(["in", "out"], **SMALL).fit(data)
    said = both.forecast(data.states[0], 2)
    assert said.shape == (2, 2)
    alone = SeriesForecaster(["out"], **SMALL).fit(data).forecast(data.states[0], 2)
    np.testing.assert_allclose(said[:, 1], alone[:, 0], atol=0.2)
    boosted = SeriesForecaster(["out"], regressor=GradientBoostingRegressor(n_estimators=3, random_state=0), **SMALL).fit(data)
    assert boosted.forecast(data.states[0], 4).shape == (4, 1)
    one = SeriesForecaster(["out"], horizon=1, regressor=GradientBoostingRegressor(n_estimators=3, random_state=0)).fit(data)
    assert one.forecast(data.states[0], 1).shape == (1, 1)


def test_one_at_a_time_or_many_at_once_is_the_same_and_no_window_crosses_runs():
    data = delayed(3)
    network = MLPRegressor(hidden_layer_sizes=(8,), max_iter=20, early_stopping=False, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SeriesForecaster(["out"], regressor=network, **SMALL).fit(data)
        again = SeriesForecaster(["out"], regressor=network, **SMALL).fit(data)
    windows = data.windows(8)[:5]
    together = model.forecast_windows(windows)
    np.testing.assert_allclose(together, np.stack([model.forecast(one, 4) for one in windows]))
    np.testing.assert_array_equal(together, again.forecast_windows(windows))
    swapped = SeriesForecaster(["out"], **SMALL).fit(data.take([2, 0, 1]))
    np.testing.assert_allclose(
        swapped.forecast_windows(windows), SeriesForecaster(["out"], **SMALL).fit(data).forecast_windows(windows), atol=1e-8
    )


def test_a_recurrent_network_learns_what_follows_and_is_stopped_by_runs_of_its_own():
    settings = {"horizon": 3, "rows": 6, "hidden": 12, "epochs": 25, "lr": 0.02, "stride": 2}
    data, test = delayed(10), delayed(3, seed=9)
    every, alone = (RecurrentForecaster(["out"], inputs=one, **settings).fit(data) for one in ("all", "targets"))
    models = {"all": every, "alone": alone, "mean": MeanForecast().fit(data)}
    errors = forecast_errors(models, test, "out", horizon=3, history=6)
    assert errors.gain("all", over="mean").min() > 0.6
    assert errors.gain("alone", over="mean").max() < 0.2
    assert len(every.history_.validation) == len(every.history_.losses) <= 25
    windows = test.windows(9)[:4]
    again = RecurrentForecaster(["out"], **settings).fit(data)
    np.testing.assert_array_equal(again.forecast_windows(windows), every.forecast_windows(windows))
    np.testing.assert_allclose(every.forecast_windows(windows), every.forecast_windows(windows[:, 3:]), atol=1e-6)
    every.calibrate(delayed(9, 5, 40), 0.9)
    assert every.bands_.shape == (3, 1)
    with pytest.raises(InvalidData, match="share of 1 runs that leaves some on both sides"):
        RecurrentForecaster(["out"], **settings).fit(data.take([0]))
    with pytest.raises(InvalidData, match="lr= above 0"):
        RecurrentForecaster(["out"], lr=0.0).fit(data)


# ---------------------------------------------------------------------- rivals, by hand
def test_rivals_say_what_they_should():
    data = delayed(2)
    history = np.arange(12.0).reshape(6, 2).repeat(2, axis=1)[:, :3]
    np.testing.assert_array_equal(RecentMean(2).fit(data).forecast(history, 2), [history[-2:].mean(axis=0)] * 2)
    np.testing.assert_array_equal(SeasonalNaive(3).fit(data).forecast(history, 5), history[[3, 4, 5, 3, 4]])
    with pytest.raises(InvalidData, match="7 finite rows or more of 3 columns"):
        RecentMean(7).fit(data).forecast(history, 2)


def test_errors_are_of_the_mean_over_the_horizon_by_run():
    steps = Trajectories.of([np.arange(10.0)[:, None], 2 * np.arange(10.0)[:, None]])
    found = forecast_errors({"last": Persistence().fit(steps)}, steps, 0, horizon=3, history=2, stride=1)
    np.testing.assert_allclose(found.by_run, [[2.0, 4.0]])  # the mean of the next three lies two steps on
    assert found.errors["last"].value == pytest.approx(3.0)
    assert found.errors["last"].groups == 2
    assert str(found).startswith("last  mae 3")
    with pytest.raises(InvalidData, match="name= to be one of last"):
        found.gain("first", over="last")


# ---------------------------------------------------------------------- bands and a change
def test_bands_cover_runs_that_are_new():
    model = SeriesForecaster(["out", "in"], **SMALL).fit(delayed(8, noise=1.0))
    shares = []
    for seed in range(12):
        model.calibrate(delayed(19, 100 + seed, 30, noise=1.0), 0.8)
        shares.append(model.coverage(delayed(20, 200 + seed, 30, noise=1.0)).value)
    assert 0.78 < np.mean(shares) < 0.86
    past = delayed(1, 999).states[0]
    band = model.band(past, 3)
    said = model.forecast(past, 3)
    np.testing.assert_allclose(band.mean(axis=-1)[0], said[0])
    np.testing.assert_allclose(band.mean(axis=-1)[2], said.mean(axis=0))
    assert (band[..., 1] > band[..., 0]).all()
    first = model.coverage(delayed(20, 300, 30, noise=1.0), 1)
    assert first.groups == 20


def test_a_run_with_more_windows_weighs_no_more():
    model = SeriesForecaster(["out"], **SMALL).fit(delayed(8))
    loud = delayed(1, 7, 400, noise=30.0)
    calm = delayed(9, 8, 30)
    mixed = [*loud.states, *calm.states]
    quiet = model.calibrate(calm, 0.5).bands_.copy()
    assert (model.calibrate(mixed, 0.5).bands_ < 3 * quiet).all()


def test_a_factory_that_has_changed_is_noticed():
    model = SeriesForecaster(["out"], **SMALL).fit(delayed(8))
    same, other = delayed(4, 5), [run + np.array([6.0, 6.0, 0.0]) for run in delayed(4, 6).states]
    assert model.share_outside(same) < 0.15
    assert model.share_outside(other) > 0.8
    with pytest.warns(OutsideRegion, match="outside what the forecaster has learned from"):
        model.forecast(other[0], 2)


# ---------------------------------------------------------------------- what is refused
def test_settings_and_data_that_do_not_fit_are_refused():
    data = delayed(2)
    model = SeriesForecaster(["out"], **SMALL).fit(data)
    for call, message in [
        (lambda: SeriesForecaster(["speed"]).fit(data), r"\(out, in, noise\), got 'speed'"),
        (lambda: SeriesForecaster([7]).fit(data), "one of 3 columns, got 7"),
        (lambda: SeriesForecaster([]).fit(data), "a column or more"),
        (lambda: SeriesForecaster(["out"]).fit(np.zeros((99, 2))), "have no names"),
        (lambda: SeriesForecaster(["out"], inputs="some").fit(data), "inputs= to be one of targets, all"),
        (lambda: SeriesForecaster(["out"], spans=()).fit(data), "a row or more"),
        (lambda: SeriesForecaster(["out"], spans=(0,)).fit(data), "span= to be a whole number"),
        (lambda: SeriesForecaster(["out"], horizon=200).fit(data), "a run of 248 rows or more, got at most 120"),
        (lambda: model.forecast(data.states[0], 5), "at most horizon=4 steps, got 5"),
        (lambda: model.forecast(data.states[0][:3], 2), "4 finite rows or more of 3 columns"),
        (lambda: model.forecast(data.states[0][:, :2], 2), "4 finite rows or more of 3 columns"),
        (lambda: model.forecast_windows(np.zeros((2, 2, 3))), "of 4 rows or more"),
        (lambda: model.calibrate(data, 0.9), "expected 9 runs or more for level=0.9, got 2"),
        (lambda: model.calibrate(data, 1.5), "level= between 0 and 1"),
        (lambda: forecast_errors({}, data, "out"), "a forecaster or more"),
        (lambda: forecast_errors({"x": model}, data, "in", horizon=2, history=4), "forecaster of column 1"),
        (lambda: forecast_errors({"x": model}, data, "out", horizon=9, history=4), "and 9 rows"),
        (lambda: forecast_errors({"x": model}, [data.states[0], data.states[0][:9]], 0, horizon=4, history=6),
         "runs of 10 rows or more, got one of 9"),
    ]:  # fmt: skip
        with pytest.raises(InvalidData, match=message):
            call()
