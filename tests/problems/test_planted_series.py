"""Planted time series: the truth is exactly where the class was put in, and nothing else tells the classes apart."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.problems.planted_series import PlantedSeries, freq_shapes, low_var, seq_comb_mv, seq_comb_uv

ALL = [freq_shapes, seq_comb_uv, seq_comb_mv, low_var]


@pytest.mark.parametrize("make", ALL, ids=lambda one: one.__name__)
def test_shapes_shares_and_seeds(make):
    problem = make()
    X, y, truth = problem.sample(80, seed=3)
    assert isinstance(problem, PlantedSeries)
    assert X.shape == truth.shape == (80, problem.length, problem.channels)
    assert np.bincount(y).tolist() == [20] * 4
    assert len(problem.classes) == 4
    again, other = problem.sample(80, seed=3), problem.sample(80, seed=4)
    assert (again.X == X).all()
    assert (again.truth == truth).all()
    assert not (other.X == X).any()


def test_spikes_have_their_shape_sign_and_period():
    X, y, truth = freq_shapes(noise=0.0).sample(200)
    assert (X[~truth] == 0).all()
    for x, c, where in zip(X[..., 0], y, truth[..., 0], strict=True):
        centres = np.flatnonzero(where)[1::3]
        sign = (-1, 1)[c % 2]
        for centre in centres:
            assert x[centre - 1 : centre + 2] == pytest.approx(sign * np.array([1.75, 2.0, 1.75]))
        assert set(np.diff(centres)) <= {(10, 17)[c // 2]}


def test_ramps_go_as_the_class_says_and_one_after_the_other():
    X, y, truth = seq_comb_uv().sample(200)
    assert not truth[y == 0].any()
    for x, c, where in zip(X[..., 0], y, truth[..., 0], strict=True):
        if c == 0:
            assert np.abs(x).max() < 1.5
            continue
        ends = np.flatnonzero(np.diff(np.concatenate([[0], where.astype(int), [0]])))
        assert 20 <= where.sum() <= 38
        assert len(ends) in (2, 4)  # two ramps, which may touch
        if len(ends) == 4:
            rise = [x[stop - 3 : stop].mean() - x[start : start + 3].mean() for start, stop in ends.reshape(2, 2)]
            assert tuple(np.sign(rise)) == ((-1, -1), (1, 1), (1, -1))[c - 1]


def test_ramps_on_several_channels_share_none():
    _, y, truth = seq_comb_mv().sample(100)
    per_channel = truth.sum(axis=1)
    assert ((per_channel > 0).sum(axis=1) == np.where(y == 0, 0, 2)).all()
    found = per_channel[per_channel > 0]
    assert (found.min(), found.max()) == (15, 29)
    assert (per_channel[y > 0] > 0).any(axis=0).all()


def test_the_quiet_stretch_is_on_its_channel_at_its_level():
    X, y, truth = low_var().sample(100)
    for x, c, where in zip(X, y, truth, strict=True):
        assert where[:, c // 2].sum() == where.sum()
        assert x[where].mean() == pytest.approx((-1.5, 1.5)[c % 2], abs=0.15)
        assert x[where].std() < 0.2 < 0.8 < x[~where].std()


def test_the_background_follows_its_recursion():
    """Without noise, mean and spread of a NARMA(2) sequence as a long run of the recursion, worked out here, has them."""
    X, y, _ = seq_comb_uv().sample(400)
    rng = np.random.default_rng(0)
    u = rng.uniform(0, 0.5, 40_000)
    series = [0.0, 0.0]
    for t in range(1, len(u) - 1):
        series.append(0.3 * series[-1] + 0.05 * series[-1] * (series[-1] + series[-2]) + 1.5 * u[t] * u[t - 1] + 0.1)
    background = X[y == 0]
    assert background.mean() == pytest.approx(np.mean(series[50:]), abs=0.005)
    assert background.std() == pytest.approx(np.std(series[50:]), abs=0.005)
    lagged = np.corrcoef(background[:, 1:, 0].ravel(), background[:, :-1, 0].ravel())[0, 1]
    assert lagged == pytest.approx(np.corrcoef(series[51:], series[50:-1])[0, 1], abs=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: freq_shapes(length=20), "expected length= of 40 or more time points, got 20"),
        (lambda: freq_shapes(noise=-1), "expected noise= of 0 or more"),
        (lambda: seq_comb_mv(channels=1), "use seq_comb_uv for one"),
        (lambda: low_var(length=True), "expected length="),
        (lambda: low_var().sample(0), "at least one series, got n=0"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(InvalidData, match=message):
        call()
