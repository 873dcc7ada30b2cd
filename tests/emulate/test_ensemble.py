"""Ensembles: intervals that are Student's of one more member, what members get wrong alike, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator

from locum.core.errors import InvalidData
from locum.emulate import EmulatorEnsemble, Forecasts, KoopmanEmulator, KoopmanWarning, LaggedMap, Trajectories


class Wrong(Forecasts, BaseEstimator):
    """Says what comes next of a walk by ones, wrong by a number of its own, and by one that all members share."""

    def __init__(self, spread=1.0, shared=0.0, breaks=False, random_state=0):
        self.spread = spread
        self.shared = shared
        self.breaks = breaks
        self.random_state = random_state

    def fit(self, X):
        self.runs_ = len(X)
        return self

    def forecast(self, history, n_steps):
        last = np.asarray(history)[-1]
        rng = np.random.default_rng([self.random_state, int(1e6 * abs(last[0]))])
        said = last + np.arange(1, n_steps + 1)[:, None] + self.shared + self.spread * rng.normal(size=(n_steps, len(last)))
        return np.full_like(said, np.inf) if self.breaks and self.random_state == 1 else said


def walks(n, rows=40, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return Trajectories.of(
        [rng.uniform(0, 1, 2) + np.arange(rows)[:, None] + noise * rng.normal(size=(rows, 2)) for _ in range(n)], dt=0.5
    )


def test_intervals_are_those_of_one_more_member():
    model = EmulatorEnsemble(Wrong(), 4).fit(walks(2))
    history = walks(1).states[0][:3]
    each = model.forecasts(history, 6)
    assert each.shape == (4, 6, 2)
    assert len({one.tobytes() for one in each}) == 4
    np.testing.assert_allclose(model.forecast(history, 6), each.mean(axis=0))
    half = stats.t.ppf(0.95, 3) * np.sqrt(1.25) * each.std(axis=0, ddof=1)
    np.testing.assert_allclose(model.interval(history, 6)[..., 1] - each.mean(axis=0), half)
    assert (np.ptp(model.interval(history, 6, 0.5), axis=2) < np.ptp(model.interval(history, 6), axis=2)).all()


def test_they_cover_what_differs_as_members_do():
    model = EmulatorEnsemble(Wrong(spread=1.0), 5).fit(walks(2))
    found = model.coverage(walks(60, noise=1.0, seed=3), (1, 4), origins=10)
    for one in found.values():  # truth and last row have noise of 1 each, and members 1: the variance is 3 where members show 1
        assert 0.55 < one.value < 0.85
    calm = EmulatorEnsemble(Wrong(spread=1.0), 5).fit(walks(2)).coverage(walks(60, noise=0.01, seed=3), (1,), origins=10)[1]
    assert calm.value > 0.95  # a truth at the members' own mean


def test_what_members_get_wrong_alike_shows_in_coverage_and_is_mended_by_calibration():
    model = EmulatorEnsemble(Wrong(spread=0.1, shared=2.0), 3).fit(walks(2))
    assert model.coverage(walks(20, seed=1), (1, 5), origins=8)[5].value < 0.2
    model.calibrate(walks(39, seed=2), 5, origins=8)
    assert model.level_ == 0.9
    assert model.factors_.shape == (5, 2)
    fresh = model.coverage(walks(60, seed=4), (1, 5), origins=8)
    assert min(one.value for one in fresh.values()) > 0.8
    with pytest.raises(InvalidData, match="at most 5 steps"):
        model.interval(walks(1).states[0], 6)
    assert not hasattr(model.fit(walks(2)), "factors_")


def test_a_member_that_diverges_makes_intervals_infinite():
    model = EmulatorEnsemble(Wrong(breaks=True), 3).fit(walks(2))
    assert np.isinf(model.interval(walks(1).states[0], 2)).all()
    assert not np.isnan(model.interval(walks(1).states[0], 2)).any()
    assert model.coverage(walks(3), (2,), origins=3)[2].value == 1.0
    assert np.isinf(model.calibrate(walks(12), 2, origins=3).factors_).all()


def test_members_of_one_answer_have_no_width():
    model = EmulatorEnsemble(Wrong(spread=0.0), 2).fit(walks(2))
    assert np.ptp(model.interval(walks(1).states[0], 3), axis=2).max() < 1e-6
    assert model.coverage(walks(5), (1, 3), origins=4)[3].value == 1.0


@pytest.mark.filterwarnings("ignore::locum.emulate.KoopmanWarning")
def test_emulators_of_a_turn_part_little_and_the_same_seeds_give_the_same():
    t = 0.1 * np.arange(120)
    runs = Trajectories.of([np.stack([np.sin(t + a), np.cos(t + a)], axis=1) for a in range(4)], dt=0.1)
    settings = {"hidden": (16,), "neighbours": 2, "window": 8, "max_updates": 60, "lr": (1e-2, 1e-3)}
    one, two = (EmulatorEnsemble(KoopmanEmulator(4, **settings), 2, random_state=5).fit(runs) for _ in range(2))
    assert [member.random_state for member in one.members_] == [5, 6]
    ahead = one.interval(runs.states[0][:9], 10)
    np.testing.assert_array_equal(ahead, two.interval(runs.states[0][:9], 10))
    assert np.median(np.ptp(ahead, axis=2)) < 2.0
    assert set(one.coverage(runs, (1, 5), origins=5)) == {1, 5}
    assert issubclass(KoopmanWarning, UserWarning)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda m, x: EmulatorEnsemble(LaggedMap()).fit(x), "with random_state=, got LaggedMap"),
        (lambda m, x: EmulatorEnsemble(Wrong(), 1).fit(x), "members="),
        (lambda m, x: m.interval(x.states[0], 2, 1.0), "level="),
        (lambda m, x: m.coverage(walks(2, 5), (5,)), "6 rows or more, got 5"),
        (lambda m, x: m.calibrate(walks(8), 2), "9 runs or more for level=0.9, got 8"),
        (lambda m, x: m.calibrate(walks(9), 0), "horizon="),
        (lambda m, x: m.coverage(Trajectories.of(x.states[0], dt=1.0)), "times 0.5 apart, got 1"),
        (lambda m, x: m.coverage(np.zeros((30, 3))), "2 columns of states, got 3"),
    ],
)
def test_what_cannot_be_used_is_refused(act, words):
    data = walks(3)
    with pytest.raises(InvalidData, match=words):
        act(EmulatorEnsemble(Wrong(), 3).fit(data), data)
