"""The picture of control shows each dictionary's agreement by the number of features changed, and that of no edit."""

from __future__ import annotations

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

from locum.core.errors import InvalidData  # noqa: E402
from locum.inside import Comparison, Control  # noqa: E402
from locum.plots import plot_control  # noqa: E402


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def control(seed):
    rng = np.random.default_rng(seed)
    agrees = rng.random((40, 3)) < [0.3, 0.6, 0.9]
    return Control("Pos", (2, 4, 16), agrees, rng.random(40) < 0.2, np.ones((40, 3)), np.ones((40, 3)), None, 0.95)


def test_lines_are_at_the_agreements_and_no_edit_is_dashed():
    one, other = control(0), control(1)
    ax = plot_control(Comparison({}, {}, {"labels": {"Pos": one}, "SAE": {"Pos": other}}), "Pos")
    for line, told in zip(ax.lines, (one, other), strict=False):
        np.testing.assert_array_equal(line.get_xdata(), [2, 4, 16])
        np.testing.assert_allclose(line.get_ydata(), told.agrees.mean(axis=0))
    assert ax.lines[2].get_linestyle() == "--"
    assert ax.lines[2].get_ydata()[0] == pytest.approx(one.unedited.mean())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["labels", "SAE", "no edit"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["2", "4", "16"]


def test_an_attribute_without_edits_is_refused():
    with pytest.raises(InvalidData, match="there are no edits of 'IO'; there are those of Pos"):
        plot_control(Comparison({}, {}, {"labels": {"Pos": control(0)}}), "IO")
    with pytest.raises(InvalidData, match="those of nothing"):
        plot_control(Comparison({}, {}, {}), "IO")
