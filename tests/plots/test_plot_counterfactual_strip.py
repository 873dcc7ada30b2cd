"""The pictures of a style explainer show its images and its figures."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.explain._projectedex_records import StyleAttribute, StyleAttributes, StyleCounterfactuals, StyleStrips

pyplot = pytest.importorskip("matplotlib.pyplot")
from locum.plots._counterfactual_strip import plot_counterfactuals, plot_style_strip  # noqa: E402


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


def strips(channels=1):
    attribute = StyleAttribute(0, "4x4, convolution 1, channel 0", 1, (1,), None)
    places = (attribute.place,)
    found = StyleAttributes((attribute,), (0, 1), np.zeros((2, 1)), np.zeros((1, 2, 2)), places, np.array([0]), 2, {}, 1.0)
    originals = np.stack([np.full((channels, 4, 4), value, dtype=np.float32) for value in (0.25, 0.5)])
    images = np.repeat(originals[:, None, None], 2, axis=2)
    told = np.array([[[0.1, 0.2]], [[0.3, 0.4]]])
    before = np.array([[0.11, 0.0], [0.33, 0.0]])
    return StyleStrips(originals, originals, images, told, before, np.array([[0.2], [0.9]]), (-1.0, 1.0), found)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_strip_begins_with_the_image_that_has_most_room(channels):
    ax = plot_style_strip(strips(channels))
    shown = np.asarray(ax.images[0].get_array())
    assert shown[0, 0].mean() == 0.5
    assert shown[5, 0].mean() == 0.25
    assert [text.get_text() for text in ax.texts] == ["0.33", "0.30", "0.40", "0.11", "0.10", "0.20"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["original", "-1", "+1"]


def counterfactuals(flipped):
    some = np.zeros((2, 1, 4, 4), dtype=np.float32)
    changed = some + np.float32(0.5)
    yes, numbers = np.ones(2, dtype=bool), np.full(2, 0.5)
    flips = np.array(flipped)
    told = (numbers, numbers, numbers, numbers, numbers)
    return StyleCounterfactuals(some, some, changed, 1, yes, flips, flips.astype(int), *told, None, None)


def test_only_flips_are_drawn_with_what_changed():
    ax = plot_counterfactuals(counterfactuals([False, True]))
    assert np.asarray(ax.images[0].get_array()).shape == (5, 20)
    assert [text.get_text() for text in ax.texts] == ["", "0.50", "0.50", "at most 0.50"]
    with pytest.raises(InvalidData, match="none did"):
        plot_counterfactuals(counterfactuals([False, False]))
