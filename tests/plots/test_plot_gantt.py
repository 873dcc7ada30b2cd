"""Gantt charts: a row a machine, bars where it does something, cut at the ends."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib
import pytest

from locum.core.errors import InvalidData
from locum.plots import plot_gantt

matplotlib.use("Agg")


def bar(machine, phase, start, end, step=0, lots=()):
    return SimpleNamespace(machine=machine, phase=phase, start=start, end=end, step=step, lots=lots)


BARS = [
    bar("Ma", "load", 0, 20, 1, ("x",)), bar("Ma", "process", 20, 200, 1, ("x",)), bar("Ma", "idle", 200, 900),
    bar("Mb", "maintenance", 60, 120), bar("Mb", "process", 500, 600, 5, ("y",)),
]  # fmt: skip


def extents(ax):
    boxes = [collection.get_paths()[0].get_extents() for collection in ax.collections]
    return sorted((round(box.ymin + 0.4), round(box.x0 * 60), round(box.x1 * 60)) for box in boxes)


def test_bars_are_where_the_machines_worked_and_idle_time_is_blank():
    ax = plot_gantt(BARS, begin=0, end=300, label=True)
    assert extents(ax) == [(0, 0, 20), (0, 20, 200), (1, 60, 120)]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["Ma", "Mb"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["maintenance", "step 1"]
    assert [text.get_text() for text in ax.texts] == ["x"]
    matplotlib.pyplot.close(ax.figure)


def test_bars_are_cut_at_the_ends():
    ax = plot_gantt(BARS, begin=100, end=550)
    assert extents(ax) == [(0, 100, 200), (1, 100, 120), (1, 500, 550)]
    assert ax.get_xlim() == pytest.approx((100 / 60, 550 / 60))
    matplotlib.pyplot.close(ax.figure)


def test_the_first_day_is_shown_unless_asked_otherwise():
    ax = plot_gantt(BARS)
    assert ax.get_xlim() == pytest.approx((0, 24))
    matplotlib.pyplot.close(ax.figure)


def test_nothing_to_draw_is_refused():
    with pytest.raises(InvalidData, match="a bar or more"):
        plot_gantt([])
    with pytest.raises(InvalidData, match="begin= before end="):
        plot_gantt(BARS, begin=10, end=5)
