"""Strips of pictures: what is drawn is what was given, and maps show where an answer comes from."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.plots import plot_views

matplotlib.use("Agg")


def test_views_stand_side_by_side_and_kinds_below_each_other():
    images = np.random.default_rng(0).random((2, 5, 8, 8))
    ax = plot_views(images, ("front", "top"))
    shown = ax.images[0].get_array()
    assert shown.shape == (18, 18, 3)
    assert np.array_equal(shown[:8, 10:, 0], images[1, 0])
    assert np.array_equal(shown[10:, :8], np.moveaxis(images[0, 1:4], 0, 2))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["front", "top"]
    matplotlib.pyplot.close(ax.figure)


def test_what_adds_is_red_and_what_takes_away_is_blue():
    maps = np.zeros((1, 8, 8))
    maps[0, 2, 2], maps[0, 5, 5] = 1.0, -1.0
    ax = plot_views(np.ones((1, 1, 8, 8)), ("top",), saliency=SimpleNamespace(maps=maps, by_view={"top": -0.0123}))
    shown = ax.images[0].get_array()[10:]
    assert shown[2, 2].tolist() == [1, 0, 0]
    assert shown[5, 5].tolist() == [0, 0, 1]
    assert shown[0, 0].tolist() == [1, 1, 1]
    assert [text.get_text() for text in ax.texts] == ["-0.0123"]
    matplotlib.pyplot.close(ax.figure)


def test_pictures_that_do_not_fit_are_refused():
    with pytest.raises(InvalidData, match=r"shape \(2, channels, size, size\), got shape \(1, 1, 8, 8\)"):
        plot_views(np.ones((1, 1, 8, 8)), ("top", "front"))
    with pytest.raises(InvalidData, match="expected maps for pictures"):
        plot_views(np.ones((1, 1, 8, 8)), ("top",), saliency=SimpleNamespace(maps=np.zeros((2, 8, 8)), by_view={}))
