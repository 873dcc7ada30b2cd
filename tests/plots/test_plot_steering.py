"""The picture of steering shows own and other concepts by strength."""

from __future__ import annotations

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

from locum.core.errors import InvalidData  # noqa: E402
from locum.core.fidelity import Fidelity  # noqa: E402
from locum.inside import SteeringEffect  # noqa: E402
from locum.plots import plot_error_curves, plot_steering  # noqa: E402


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def test_lines_are_the_rises_in_the_order_of_strengths():
    none = np.zeros((1, 1), dtype=int)
    effects = [SteeringEffect(4.0, {"a": 2.0, "b": -0.5}, 1.5, none), SteeringEffect(-2.0, {"a": -1.0, "b": 0.25}, 1.1, none)]
    ax = plot_steering({"a": effects, "b": effects})
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[-2, -1.0], [4, 2.0]])
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), [[-2, 0.25], [4, 0.5]])
    np.testing.assert_array_equal(ax.lines[2].get_xydata(), [[-2, 0.25], [4, -0.5]])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]


def test_nothing_is_refused():
    with pytest.raises(InvalidData, match="at least one concept"):
        plot_steering({"a": []})


def test_the_axis_of_prefixes_is_named():
    curve = {m: Fidelity("FVU", 0.5, 0.4, 0.6, 0.95, 10) for m in (4, 8)}
    assert plot_error_curves({"nested": curve}, xlabel="latents kept").get_xlabel() == "latents kept"
