"""Pictures of time series with their maps show what the explanation holds."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.explain.timex import TimeXExplanation

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from locum.plots._series import plot_landmarks, plot_series  # noqa: E402


def explanation(n=9, length=7, channels=2):
    rng = np.random.default_rng(0)
    times = np.tile(np.arange(1.0, length + 1), (n, 1)).astype(np.float32)
    times[0, -2:] = -1e6
    p = rng.uniform(size=(n, length, channels))
    landmark = np.array([0] * 5 + [2] * 3 + [1])[:n]
    return TimeXExplanation(
        rng.normal(size=(n, length, channels)).astype(np.float32), times, p, p > 0.5, rng.normal(size=(n, 3)),
        np.zeros(n, dtype=int), np.arange(n) % 2, landmark, "draws", 0,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def test_a_series_is_drawn_over_its_map_without_padded_steps():
    found = explanation()
    ax = plot_series(found, 0)
    assert [line.get_xdata().tolist() for line in ax.get_lines()] == [[1, 2, 3, 4, 5]] * 2
    shown = [strip.get_array().ravel().tolist() for strip in ax.collections]
    assert shown == [found.saliency[0, :5, j].tolist() for j in (0, 1)]
    assert "class 0, landmark 0" in ax.get_title()
    assert len(plot_series(found, 4, ax=ax).collections) == 4


def test_strips_lie_below_the_series():
    found = explanation()
    ax = plot_series(found, 3)
    lowest = found.X[3].min()
    assert all(strip.get_datalim(ax.transData).y1 < lowest for strip in ax.collections)


def test_groups_of_landmarks_are_rows_the_largest_first():
    figure = plot_landmarks(explanation(), groups=2, members=4)
    axes = np.array(figure.axes).reshape(2, 4)
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["landmark 0\n5 series", "landmark 2\n3 series"]
    assert [bool(ax.get_lines()) for ax in axes[1]] == [True, True, True, False]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InvalidData, match="expected members="):
        plot_landmarks(explanation(), members=0)
    with pytest.raises(IndexError):
        plot_series(explanation(), 9)
