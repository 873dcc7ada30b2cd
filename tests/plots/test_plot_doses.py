"""Doses: what is drawn is what was measured."""

from __future__ import annotations

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from locum.core.errors import InvalidData  # noqa: E402
from locum.core.fidelity import Fidelity  # noqa: E402
from locum.inside import DoseResponse  # noqa: E402
from locum.plots import plot_doses  # noqa: E402


def response(kind="Horror", share=(0.1, 0.2, 0.4)):
    rise = Fidelity("rise", 0.3, 0.2, 0.4, 0.95, 50)
    gain, overlap = np.array([0.08, 0.09, 0.05]), np.array([0.8, 1.0, 0.6])
    return DoseResponse(kind, (0.0, 1.0, 4.0), np.array(share), gain, overlap, rise, 50)


def test_each_edit_is_a_line_with_its_doses_beside_it():
    ax = plot_doses({"latent 7": response(), "mean vector": response(share=(0.1, 0.3, 0.5))})
    first, second = ax.get_lines()
    np.testing.assert_allclose(first.get_xdata(), [0.08, 0.09, 0.05])
    np.testing.assert_allclose(second.get_ydata(), [0.1, 0.3, 0.5])
    assert [one.get_text() for one in ax.texts] == ["0", "1", "4"] * 2
    assert [one.get_text() for one in ax.get_legend().get_texts()] == ["latent 7", "mean vector"]
    assert "Horror" in ax.get_ylabel()
    matplotlib.pyplot.close("all")


def test_responses_of_two_kinds_are_refused():
    with pytest.raises(InvalidData, match="one kind of items"):
        plot_doses({"a": response(), "b": response("War")})
    with pytest.raises(InvalidData, match="got none"):
        plot_doses({})
