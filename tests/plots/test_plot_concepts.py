"""The picture of concept detection shows each method's areas, concept by concept."""

from __future__ import annotations

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

from locum.core.errors import InvalidData  # noqa: E402
from locum.inside import detect_concepts  # noqa: E402
from locum.plots import plot_detection  # noqa: E402


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def told(seed, names=("cities", "colours", "tools")):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.array(names), 6)
    return detect_concepts(rng.random((18, 5)), labels, rng.random((18, 5)), labels)


def test_marks_are_at_the_areas_with_the_best_concept_of_the_first_method_at_the_top():
    one, other = told(0), told(1)
    ax = plot_detection({"groups": one, "neurons": other})
    order = np.argsort(one.area, kind="stable")
    marks = [line for line in ax.lines if len(line.get_xdata()) == 3]
    np.testing.assert_array_equal(marks[0].get_xdata(), np.sort(one.area))
    np.testing.assert_array_equal(marks[1].get_xdata(), other.area[order])
    assert [text.get_text() for text in ax.get_yticklabels()] == [one.concepts[i] for i in order]
    assert [text.get_text().split(":")[0] for text in ax.get_legend().get_texts()] == ["groups", "neurons"]


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InvalidData, match="at least one method"):
        plot_detection({})
    with pytest.raises(InvalidData, match="of the same concepts"):
        plot_detection({"one": told(0), "other": told(0, ("cities", "colours", "drinks"))})
