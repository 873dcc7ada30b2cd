"""Rows and settings that cannot be used are refused, with what was expected and what came."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.infer.pte import NoEffectError, SurrogatePTE, pte_curve


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    arm = np.repeat([0, 1], 200)
    progression = rng.exponential(1 + 2 * arm)
    death = progression + rng.exponential(1 + arm)
    time = np.minimum(death, rng.uniform(3.5, 9, 400))
    surrogate = np.where(progression < time, progression, np.nan)
    return {"time": time, "event": death <= time, "arm": arm, "surrogate_time": surrogate}


def fit(rows, **settings):
    return SurrogatePTE(**({"t0": 1.0, "t": 3.0, "n_splits": 2, "n_perturb": 50} | settings)).fit(**rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"t0": 3.0}, "t0 before t, got t0=3 and t=3"),
        ({"t0": -1.0}, "t0 to be a positive number, got -1.0"),
        ({"t": np.inf}, "t to be a positive number, got inf"),
        ({"outcome": "median"}, "outcome to be one of survival, restricted mean, got 'median'"),
        ({"ratio": "sum"}, "ratio to be one of pooled, halves"),
        ({"average": "mode"}, "average to be one of median, mean"),
        ({"interval": "delta"}, "interval to be one of percentile, fieller"),
        ({"interval": "fieller", "ratio": "halves"}, "use ratio='pooled'"),
        ({"n_splits": 0}, "n_splits to be a whole number of 1 or more, got 0"),
        ({"n_perturb": 10}, "n_perturb to be a whole number of 50 or more, got 10"),
        ({"random_state": -1}, "random_state to be a whole number of 0 or more"),
        ({"bandwidth": 0.0}, "bandwidth to be one of undersmooth, discrete or a positive number, got 0.0"),
        ({"bandwidth": "wide"}, "got 'wide'"),
        ({"trim": 1.0}, "share from 0 to below 1"),
        ({"level": 95}, "level between 0 and 1"),
        ({"t0": 0.05}, "at least 20 progressions before t0=0.05 in each arm"),
        ({"t0": 8.0, "t": 12.0}, "follow-up to t=12 in arm 0"),
    ],
)
def test_settings(rows, settings, message):
    with pytest.raises(InvalidData, match=message):
        fit(rows, **settings)


def with_changed(rows, name, row, value):
    column = np.array(rows[name], dtype=float)
    column[row] = value
    return rows | {name: column}


def test_rows(rows):
    progressed = int(np.flatnonzero(~np.isnan(rows["surrogate_time"]))[0])
    for changed, message in [
        (with_changed(rows, "time", 7, -1.0), "finite times of 0 or more, got -1 in row 7"),
        (with_changed(rows, "time", 7, np.nan), "finite times of 0 or more, got nan in row 7"),
        (with_changed(rows, "event", 3, 2), "event to be 0 or 1, got 2 in row 3"),
        (with_changed(rows, "arm", 3, 0.5), "arm to be 0 or 1, got 0.5 in row 3"),
        (with_changed(rows, "surrogate_time", progressed, 50.0), "no surrogate event after the end of follow-up, got 50"),
        (with_changed(rows, "surrogate_time", progressed, 0.0), f"or NaN where none was seen, got 0 in row {progressed}"),
        (with_changed(rows, "surrogate_time", progressed, np.inf), "got inf"),
        (rows | {"event": np.zeros(400)}, "every time is censored"),
        (rows | {"arm": np.ones(400)}, "rows in both arms, 0 and 1, got 0 in arm 0"),
        (rows | {"arm": np.ones(399)}, r"arm of shape \(400,\), got shape \(399,\)"),
        (rows | {"time": np.array(["a"] * 400)}, "time to be numbers"),
        (rows | {"strata": rows["arm"]}, "in every stratum, got 0 in arm 1 of stratum 0"),
        (rows | {"strata": np.array([None] * 400)}, "a stratum for every row"),
    ]:
        with pytest.raises(InvalidData, match=message):
            fit(changed)


def test_hardly_anybody_uncensored(rows):
    few = np.arange(400) % 200 < 3  # of each arm are followed to the end
    time = np.where(few, 6.0, np.minimum(rows["time"], 1.5))
    event = rows["event"] & (time == rows["time"])
    surrogate = np.where(few | (rows["surrogate_time"] > time), np.nan, rows["surrogate_time"])
    with pytest.raises(InvalidData, match=r"at least 0\.05 to be uncensored at t=3 in arm"):
        fit(rows | {"time": time, "event": event, "surrogate_time": surrogate})


def test_everybody_has_progressed(rows):
    time, event = rows["time"], rows["event"]
    changed = rows | {"time": time, "event": event, "surrogate_time": np.minimum(0.5 + 0.4 * np.linspace(0, 1, 400), time)}
    with pytest.raises(InvalidData, match="at least 10 rows of each arm alive at t0=1 without progression, got 0 in arm 0"):
        fit(changed)


def test_no_effect(rows):
    with pytest.raises(NoEffectError, match="expected a treatment effect to explain, got") as caught:
        fit(rows | {"arm": np.arange(400) % 2})
    interval = caught.value.interval
    assert interval.lower < 0 < interval.upper
    assert interval.lower < caught.value.delta < interval.upper
    assert isinstance(caught.value, ValueError)


def test_after_fitting(rows):
    fitted = fit(rows)
    with pytest.raises(InvalidData, match=r"expected follow-up to t0=1, got a censoring at 0\.5 in row 1"):
        fitted.transform([2.0, 0.5], [0, 0], [np.nan, np.nan])
    ended = [0.2, *[0.5] * 30]
    with pytest.raises(InvalidData, match="follow the trial up to t0 first"):
        fitted.score_trial(ended * 2, [1, *[0] * 30] * 2, [0] * 31 + [1] * 31, [np.nan] * 62)
    for grid in ([2.0, 1.0], [], [np.nan]):
        with pytest.raises(InvalidData, match="t0_grid to be ascending numbers"):
            pte_curve(fitted, grid)
    with pytest.raises(InvalidData, match="t0 before t"):
        pte_curve(fitted, [1.0, 3.0])
