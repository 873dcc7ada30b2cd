"""Pictures of optimisers: the right lines, bands and marks."""

from __future__ import annotations

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
pytest.importorskip("botorch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.optimize import Categorical, Optimizer, Real, Space  # noqa: E402
from locum.plots._regret import plot_regret, plot_slice  # noqa: E402


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
    np.testing.assert_allclose(mean, optimizer.foretell([{"x": x, "c": "a"} for x in at])[0])
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
