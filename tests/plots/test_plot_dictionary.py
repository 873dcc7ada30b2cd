"""Error curves of dictionaries: a line each, with its interval, and a ring where it was trained."""

from __future__ import annotations

import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

from locum.core.errors import InvalidData  # noqa: E402
from locum.core.fidelity import Fidelity  # noqa: E402
from locum.plots import plot_error_curves  # noqa: E402


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def curve(*values):
    return {2**i: Fidelity("FVU", v, v - 0.01, v + 0.02, 0.95, 50, greater_is_better=False) for i, v in enumerate(values)}


def test_a_curve_goes_through_its_points_and_is_marked_where_it_was_trained():
    ax = plot_error_curves({"pursuit": curve(0.5, 0.3, 0.2), "TopK": curve(0.6, 0.4, 0.5)}, trained={"TopK": 2})
    lines = [line for line in ax.lines if len(line.get_xdata()) > 1]
    assert [line.get_label() for line in lines] == ["pursuit", "TopK"]
    assert list(lines[1].get_xdata()) == [1, 2, 4]
    assert list(lines[1].get_ydata()) == [0.6, 0.4, 0.5]
    rings = [line for line in ax.lines if len(line.get_xdata()) == 1]
    assert [(list(ring.get_xdata()), list(ring.get_ydata())) for ring in rings] == [([2], [0.4])]
    assert len(ax.collections) == 2


def test_nothing_to_draw_is_refused():
    with pytest.raises(InvalidData, match="at least one curve"):
        plot_error_curves({})
