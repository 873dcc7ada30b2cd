"""Pictures of an early outcome: the right lines, bands and marks."""

from __future__ import annotations

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

from locum.infer.pte import PTECurve, SurvivalCurves, Transformation  # noqa: E402
from locum.plots._pte import plot_pte_curve, plot_survival, plot_transformation  # noqa: E402

TIMES = np.array([1.0, 2.0, 3.0])
CURVE = PTECurve(TIMES, np.array([0.4, 0.7, 0.9]), np.array([0.1, 0.3, 0.5]), TIMES / 5, np.array([0.7, 1.0, 1.2]), 5.0, 0.9)


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def test_survival_has_a_line_and_a_band_an_arm():
    value = np.array([[1.0, 0.8, 0.5], [1.0, 0.9, 0.7]])
    ax = plot_survival(SurvivalCurves(TIMES, value, value - 0.1, np.minimum(value + 0.1, 1), 0.95))
    np.testing.assert_allclose([line.get_ydata() for line in ax.lines], value)
    assert len(ax.collections) == 2
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["arm 0", "arm 1"]
    assert "95 %" in ax.get_ylabel()


def test_the_transformation_shows_both_kinds_of_survivors():
    value = np.array([0.2, 0.3, 0.4])
    ax = plot_transformation(Transformation(TIMES, value, value - 0.05, value + 0.1, 0.8, 0.7, 0.9, 0.95))
    np.testing.assert_allclose(ax.lines[0].get_ydata(), value)
    assert set(np.ravel(ax.lines[1].get_ydata())) == {0.8}
    assert ax.collections[0].get_paths()[0].get_extents().ymax == pytest.approx(0.5)


def test_the_curve_has_its_band_and_marks_the_earliest_time():
    ax = plot_pte_curve(CURVE, threshold=0.3)
    ends = np.array([segment[:, 1] for segment in ax.containers[0].lines[2][0].get_segments()])
    np.testing.assert_allclose(ends.T, [CURVE.lower, CURVE.upper])
    assert [text.get_text() for text in ax.texts] == ["from 2 on"]
    assert "90 % for all at once" in ax.get_ylabel()


def test_nothing_is_marked_where_the_band_never_passes():
    ax = matplotlib.pyplot.figure().add_subplot()
    assert plot_pte_curve(CURVE, ax, threshold=0.8) is ax
    assert not ax.texts
