"""Pictures of audits and of interactions: a mark for each line, and edges from the strongest on."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

from locum.core.errors import InvalidData  # noqa: E402
from locum.core.fidelity import Fidelity  # noqa: E402
from locum.plots import plot_audit, plot_interactions  # noqa: E402


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def line(site, value, supported, **controls):
    told = {name: Fidelity("IIA", one, one - 0.02, one + 0.02, 0.95, 100) for name, one in controls.items()}
    iia = Fidelity("IIA", value, value - 0.02, value + 0.02, 0.95, 100)
    return SimpleNamespace(site=site, map="orthogonal", iia=iia, supported=supported, controls=told)


def test_each_line_has_its_interval_and_the_controls_that_it_has():
    told = SimpleNamespace(lines=(line("first", 0.9, True, untrained=0.5), line("last", 0.6, False, untrained=0.5, rival=0.7)))
    ax = plot_audit(told)
    spans = [one for one in ax.lines if len(one.get_xdata()) == 2]
    assert [np.round(one.get_xdata(), 2).tolist() for one in spans] == [[0.88, 0.92], [0.58, 0.62]]
    points = [(round(float(one.get_xdata()[0]), 2), int(one.get_ydata()[0])) for one in ax.lines if len(one.get_xdata()) == 1]
    assert points == [(0.9, 0), (0.5, 0), (0.6, 1), (0.5, 1), (0.7, 1)]
    assert [one.get_text() for one in ax.get_yticklabels()] == ["first, orthogonal", "last, orthogonal"]
    assert [one.get_text() for one in ax.get_legend().get_texts()] == ["network (filled: supported)", "untrained", "rival"]


def test_the_strongest_edges_are_drawn_and_every_direction_is_a_dot():
    edges = {"0": np.array([[0.0, 4.0, 1.0], [9.0, 0.1, 0.2]]), "2": np.array([[1.0, 2.0]])}
    ax = plot_interactions(edges, most=2, labels={"0": [0, 1], "2": [1], "output": []})
    drawn = [one for one in ax.lines if len(one.get_xdata()) == 2]
    assert [np.round(one.get_ydata(), 3).tolist() for one in drawn] == [[0.167, 0.75], [0.5, 0.25], [0.75, 0.5], [0.25, 0.5]]
    assert drawn[0].get_linewidth() == 2.0
    assert drawn[1].get_linewidth() == pytest.approx(2 * 2 / 3)
    assert sum(len(one.get_xdata()) == 1 for one in ax.lines) == 3 + 2 + 1
    assert [one.get_text() for one in ax.get_xticklabels()] == ["0", "2", "output"]


def test_nothing_to_draw_is_refused():
    with pytest.raises(InvalidData, match="at least one line"):
        plot_audit(SimpleNamespace(lines=()))
    with pytest.raises(InvalidData, match="edges from at least one layer"):
        plot_interactions({})
