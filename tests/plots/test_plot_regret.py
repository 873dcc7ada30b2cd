"""Pictures of optimisers: the right lines, bands and marks."""

from __future__ import annotations

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
pytest.importorskip("botorch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.optimize import Categorical, Optimizer, Real, Space, minimize  # noqa: E402
from locum.optimize.svh_psl import ParetoSetLearner  # noqa: E402
from locum.plots import plot_foretold, plot_pareto, plot_regret, plot_slice  # noqa: E402


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def test_regret_is_the_distance_to_the_best_with_a_band_where_there_are_runs():
    runs = np.array([[5.0, 3.0, 2.0], [4.0, 4.0, 3.0], [6.0, 2.0, 2.0]])
    ax = plot_regret({"one": runs, "other": [3.0, 2.0, 1.0]}, best=1.0)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [4, 2, 1])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [2, 1, 1e-12])
    assert len(ax.collections) == 1
    assert ax.get_yscale() == "log"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one, 3 runs", "other"]
    np.testing.assert_allclose(plot_regret({"up": -runs}, best=-1.0).lines[0].get_ydata(), [4, 2, 1])
    for wrong in ({}, {"one": []}, {"one": np.zeros((2, 2, 2))}):
        with pytest.raises(InvalidData, match="expected a trace"):
            plot_regret(wrong, best=0.0)


def test_a_slice_shows_what_is_believed_and_where_to_look_next():
    optimizer = Optimizer(Space([Real("x", 0.0, 2.0), Categorical("c", "ab")]), direction="minimize", initial=5)
    points = [{"x": x, "c": c} for x, c in ((0.1, "a"), (0.6, "a"), (1.1, "b"), (1.5, "a"), (1.9, "b"))]
    optimizer.tell(points, [point["x"] ** 2 for point in points])
    above, below = plot_slice(optimizer, "x", {"x": 0.0, "c": "a"})
    at, mean = above.lines[0].get_data()
    np.testing.assert_allclose(mean, optimizer.interval([{"x": x, "c": "a"} for x in at])[:, 1])
    assert mean[0] < mean[-1]
    np.testing.assert_allclose(above.lines[1].get_ydata(), optimizer.values)
    worth = below.lines[0].get_ydata()
    (asked,) = optimizer.ask()
    assert np.isfinite(worth).all()
    fresh = Optimizer(optimizer.space, direction="minimize", initial=5)
    fresh.tell(points, optimizer.values)
    assert fresh.worth([asked])[0] >= worth.max() - 1e-6  # what is asked for is worth most
    for wrong in ("c", "z"):
        with pytest.raises(InvalidData, match="name of a number"):
            plot_slice(optimizer, wrong)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_what_was_foretold_is_drawn_with_whether_it_held(direction):
    sign = 1.0 if direction == "minimize" else -1.0
    optimizer = Optimizer(Space([Real("x", 0.0, 2.0)]), direction=direction, initial=4)
    found = optimizer.run(lambda point: sign * (point["x"] - 0.7) ** 2, 9)
    assert np.isnan(found.foretold[:4]).all()
    low, middle, high = found.foretold[4:].T
    assert (low <= middle).all()
    assert (middle <= high).all()
    above, below = plot_foretold(found)
    shown = {one.get_label(): one for one in above.lines}
    marks = sorted([*shown["held"].get_xdata(), *shown["did not hold"].get_xdata()])
    assert marks == [5, 6, 7, 8, 9]
    held = (low <= found.values[4:]) & (found.values[4:] <= high)
    np.testing.assert_allclose(below.lines[0].get_ydata(), np.cumsum(held) / np.arange(1, 6))
    np.testing.assert_allclose(shown["held"].get_ydata(), found.values[4:][held])


def test_a_run_that_foretold_nothing_cannot_be_drawn():
    found = minimize(lambda point: point["x"], Space([Real("x", 0.0, 2.0)]), budget=4, initial=4)
    with pytest.raises(InvalidData, match="proposed no point"):
        plot_foretold(found)


def test_a_front_is_drawn_with_what_was_evaluated_and_what_was_learned():
    def two(X):
        return np.column_stack([X[:, 0] ** 2 + X[:, 1], (X[:, 0] - 1) ** 2 + X[:, 1]])

    learner = ParetoSetLearner([(0.0, 1.0), (0.0, 1.0)], names=("near 0", "near 1"), n_steps=20)
    learner.minimize(two, n_init=8, n_iter=1)
    ax = plot_pareto(learner, (1, 0))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("near 1", "near 0")
    points = {line.get_label(): line for line in ax.lines}
    front = learner.pareto_front_.objectives
    np.testing.assert_allclose(points["evaluated, on the front"].get_xydata(), front[:, [1, 0]])
    np.testing.assert_allclose(points["evaluated"].get_xydata(), learner.objectives[:, [1, 0]])
    for wrong in ((0, 0), (0, 2), (-1, 0)):
        with pytest.raises(InvalidData, match="two different positions"):
            plot_pareto(learner, wrong)
