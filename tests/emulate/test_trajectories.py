"""Trajectories: windows within runs, splits, and what is wrong with times and rows said where it is."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from locum.core.errors import InvalidData
from locum.emulate import DynamicsReconstructor, KoopmanEmulator, Schema, SeriesForecaster, Trajectories


def numbered(*lengths):
    """Runs whose rows hold their run and their place in it."""
    return [np.column_stack([np.full(n, float(i)), np.arange(float(n))]) for i, n in enumerate(lengths)]


def test_windows_never_cross_runs():
    runs = Trajectories.of(numbered(5, 3, 7), dt=0.5)
    windows = runs.windows(4)
    assert windows.shape == (2 + 0 + 4, 4, 2)
    assert (windows[:, :, 0] == windows[:, :1, 0]).all()
    assert (np.diff(windows[:, :, 1], axis=1) == 1).all()
    stacked, starts = runs.stacked(), runs.window_starts(4)
    np.testing.assert_array_equal(np.stack([stacked[s : s + 4] for s in starts]), windows)
    np.testing.assert_array_equal(runs.windows(4, stride=2), np.stack([stacked[s : s + 4] for s in runs.window_starts(4, 2)]))


def test_splits_keep_runs_and_times_apart():
    runs = Trajectories.of(numbered(10, 20, 30), dt=0.1, parameters=[[0.0], [1.0], [2.0]])
    early, late = runs.split_time(0.5, gap=2)
    assert early.lengths == (5, 10, 15)
    assert late.lengths == (3, 8, 13)
    assert late.times(1)[0] == pytest.approx(1.2)
    one, other = runs.split_runs(0.67, random_state=3)
    assert len(one) == 2
    assert sorted([*one.parameters[:, 0], *other.parameters[:, 0]]) == [0, 1, 2]
    assert (one.states[0][:, 0] == one.parameters[0]).all()


def test_times_are_read_and_even():
    runs = Trajectories.of(np.zeros((4, 1)), times=[2.0, 2.5, 3.0, 3.5])
    assert runs.dt == 0.5
    np.testing.assert_allclose(runs.times(), [2.0, 2.5, 3.0, 3.5])
    assert Trajectories.of(runs) is runs
    assert Trajectories.of(np.zeros((3, 4, 2))).lengths == (4, 4, 4)


def test_gaps_are_split_or_filled_when_asked():
    X = np.arange(10.0)[:, None].repeat(2, axis=1)
    X[4, 1] = np.nan
    split = Trajectories.of(X, dt=0.5, parameters=[[7.0]], gaps="split")
    assert split.lengths == (4, 5)
    assert split.starts == (0.0, 2.5)
    assert split.parameters.tolist() == [[7.0], [7.0]]
    np.testing.assert_allclose(Trajectories.of(X, gaps="interpolate").states[0][:, 1], np.arange(10.0))


GAP = np.ones((6, 2))
GAP[2:4, 0] = np.nan


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Trajectories.of(np.zeros(5)), r"one column of shape \(T,\): use reshape"),
        (lambda: Trajectories.of(GAP), r"rows 2 to 3 of run 0 \(2 rows in all\): gaps='split'"),
        (lambda: Trajectories.of(GAP[2:], gaps="interpolate"), "begin and end with finite rows"),
        (lambda: Trajectories.of([np.zeros((3, 2)), np.zeros((3, 1))]), "1 in run 1 and 2 in run 0"),
        (lambda: Trajectories.of(np.zeros((3, 1)), times=[0, 2, 1]), "got 1 after 2 in row 2 of run 0"),
        (lambda: Trajectories.of(np.zeros((4, 1)), times=[0, 1, 2, 4]), "a step of 2 to row 3 of run 0 where others are 1"),
        (lambda: Trajectories.of(np.zeros((3, 1)), times=[0, 1, 2], dt=1.0), "times= or dt=, got both"),
        (lambda: Trajectories.of(np.zeros((3, 1)), dt=0), "dt= to be a positive number"),
        (lambda: Trajectories.of(np.zeros((3, 1)), parameters=[[1.0], [2.0]]), r"parameters of shape \(1, k\)"),
        (lambda: Trajectories.of(np.zeros((3, 2)), names=["x"]), "names= for 2 columns"),
        (lambda: Trajectories.of([]), "one run or more"),
        (lambda: Trajectories.of([["a"]]), "numbers of shape"),
        (lambda: Trajectories.of(np.zeros((5, 1))).windows(6), "a run of 6 rows or more, got at most 5"),
        (lambda: Trajectories.of(np.zeros((5, 1))).split_runs(), "leaves some on both sides"),
        (lambda: Trajectories.of(np.zeros((5, 1))).split_time(0.9), "run 0 of 5 rows"),
    ],
)
def test_bad_trajectories_are_refused(call, message):
    with pytest.raises(InvalidData, match=message):
        call()


# ---------------------------------------------------------------------- schema
def test_rows_of_one_kind_are_taken_and_arrays_get_the_time_between_rows():
    schema = Trajectories.of(np.zeros((5, 2)), dt=0.5, names=["u", "v"], units=["m", ""], time_unit="s").schema
    assert Schema.from_record(json.loads(json.dumps(asdict(schema)))) == schema
    assert schema.taken(np.ones((4, 2))).dt == 0.5
    runs = Trajectories.of(np.zeros((5, 2)), dt=0.5, units=["m", "kg"])  # names, and the unit of v, are not known to both
    assert schema.taken(runs) is runs


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"data": np.zeros((5, 3))}, "2 columns of states, got 3"),
        ({"names": ["u", "w"]}, "the columns u, v, got u, w"),
        ({"units": ["km", "m/s"]}, "u in m, got km: convert first"),
        ({"time_unit": "min"}, "times in s, got min"),
        ({"dt": 0.1, "time_unit": "s"}, "times 0.5 apart, got 0.1 s"),
    ],
)
def test_rows_of_another_kind_are_refused(other, words):
    schema = Schema(2, 0.5, ("u", "v"), ("m", "m/s"), "s")
    given = {"data": np.zeros((5, 2)), "dt": 0.5} | other
    with pytest.raises(InvalidData, match=words):
        schema.taken(Trajectories.of(given.pop("data"), **given))


@pytest.mark.parametrize(
    ("model", "ask"),
    [
        (KoopmanEmulator(4, max_updates=5), lambda m, runs: m.errors(runs, (2,))),
        (KoopmanEmulator(4, max_updates=5), lambda m, runs: m.latent_information(runs)),
        (KoopmanEmulator(4, max_updates=5), lambda m, runs: m.fidelity(runs)),
        (
            DynamicsReconstructor(latent_dim=4, hidden_dim=6, sequence_length=10, max_updates=50),
            lambda m, runs: m.fidelity(runs),
        ),
        (SeriesForecaster(["u"], horizon=2, spans=(1, 3), regressor=Ridge()), lambda m, runs: m.calibrate(runs, 0.5)),
    ],
    ids=["errors", "information", "fidelity", "reconstructor", "forecaster"],
)
def test_emulators_refuse_trajectories_in_other_units(model, ask):
    x = np.cumsum(np.random.default_rng(0).normal(size=(120, 2)), axis=0)
    one, other = (Trajectories.of(x, names=["u", "v"], units=[unit, "s"]) for unit in ("m", "km"))
    model.fit(one)
    with pytest.raises(InvalidData, match="u in m, got km"):
        ask(model, other)
